"""Atoms packed into pieces, one piece a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from indexer.chunkers.atoms import FREE, GLUED, SENTENCE, Atom, Cutter
from indexer.chunkers.base import page_at
from indexer.chunkers.sections import Section
from indexer.chunkers.tokens import TokenIndex
from ragplat.text import sentences
from ragplat.types import Page

# Price of a break at a page border, once a piece is half full: a citation points at one page. What fits a chunk whole,
# a paragraph or a section, may still run over the border: cutting it would cost more than a second page to look at.
PAGE = FREE - 1
MOST_OVERLAP_ATOMS = 8
OVER_AIM = 2  # price of going over the aim: a whole paragraph or list is worth it, half a sentence is not


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes a chunk."""

    start: int
    end: int
    path: tuple[str, ...]  # headings it stands under
    header: tuple[int, int] | None = None  # span of the header of the table it begins inside of


class Packer:
    """Packs the sections of one text into pieces of about ``aim`` tokens.

    ``overlap`` is about how many tokens of the sentences before are repeated at the start of a piece.
    """

    def __init__(self, text: str, tokens: TokenIndex, pages: Sequence[Page], aim: int, overlap: int):
        self.text = text
        self.tokens = tokens
        self.pages = pages
        self.aim = aim
        self.overlap = overlap
        self.cutter = Cutter(text, tokens)

    def pack_section(self, section: Section, most: int) -> list[Piece]:
        """A section as one piece if it has at most ``most`` (>= aim) tokens, else as several."""
        start, end = section.blocks[0].start, section.blocks[-1].end
        first_path = section.above if section.headings else section.path
        if self.tokens.count(start, end) <= most:
            return [Piece(start, end, first_path)]
        atoms = self.cutter.atoms(section.blocks, self.aim)
        pieces: list[Piece] = []
        first = 0
        while first < len(atoms):
            start = self._overlap_start(atoms, first, pieces[-1].start) if pieces else atoms[0].start
            last = self._last(atoms, first, start, most)
            path = section.path if pieces else first_path
            pieces.append(Piece(start, atoms[last].end, path, atoms[first].header))
            first = last + 1
        return pieces

    def merge(self, groups: list[list[Piece]]) -> list[Piece]:
        """The pieces of all sections, small neighbouring sections joined up to the aim.

        Two are joined if one of them is small and the second stands under all that the first stands under, so that the
        context of the joined piece is true for all of it.
        """
        merged: list[Piece] = []
        open_end = False  # the last of `merged` is made of whole sections
        for group, following in zip_longest(groups, groups[1:]):
            rest = group
            leads_on = following and len(following[0].path) > len(group[0].path)  # goes with its first subsection
            if open_end and self._joinable(merged[-1], group, either=not leads_on):
                merged[-1] = Piece(merged[-1].start, group[0].end, merged[-1].path)
                rest = group[1:]
            merged.extend(rest)
            open_end = len(group) == 1
        return merged

    def _joinable(self, piece: Piece, group: list[Piece], either: bool) -> bool:
        """Whether ``piece`` and the first of ``group`` make one piece: the first is small, or ``either`` of them."""
        following = group[0]
        size, added = self.tokens.count(piece.start, piece.end), self.tokens.count(following.start, following.end)
        small = self.aim // 4
        return (
            self.tokens.count(piece.start, following.end) <= self.aim
            and (size < small or (either and added < small and len(group) == 1))
            and following.path[: len(piece.path)] == piece.path
            and not (size >= self.aim // 2 and self._page_border(piece.end, following.start))
        )

    def _last(self, atoms: list[Atom], first: int, start: int, most: int) -> int:
        """The last atom of the piece that begins with atom ``first``, at ``start``: before the best break."""
        header = atoms[first].header
        if header:
            most -= min(self.tokens.count(*header), self.aim // 2)
        aim = min(self.aim, most)
        rest = self.tokens.count(start, atoms[-1].end)
        if rest <= aim:
            return len(atoms) - 1
        target = rest / 2 if rest <= 2 * aim else aim  # two halves rather than a whole and a scrap
        best, best_key = first, None
        for last in range(first, len(atoms)):
            size = self.tokens.count(start, atoms[last].end)
            if size > most and last > first:
                break
            price = self._price_after(atoms, last, size)
            key = (price == GLUED, size < target / 2, price + OVER_AIM * (size > aim), abs(size - target))
            if best_key is None or key < best_key:
                best, best_key = last, key
        return best

    def _price_after(self, atoms: list[Atom], last: int, size: int) -> int:
        if last + 1 == len(atoms):
            return FREE
        price = atoms[last + 1].price
        if price <= SENTENCE and 2 * size >= self.aim and self._page_border(atoms[last].end, atoms[last + 1].start):
            return PAGE
        return price

    def _overlap_start(self, atoms: list[Atom], first: int, earliest: int) -> int:
        """Where a piece starts that repeats the last sentences before atom ``first``, as prose on one page allows."""
        start, end = atoms[first].start, atoms[first - 1].end
        if atoms[first].kind != "paragraph" or self._page_border(end, start):
            return start
        found = start
        room = min(self.overlap * 3 // 2, self.aim - self.tokens.count(start, atoms[first].end))
        for atom in reversed(atoms[:first][-MOST_OVERLAP_ATOMS:]):
            if atom.kind != "paragraph":
                break
            for sentence_start, sentence_end in reversed(sentences(self.text[atom.start : atom.end])):
                candidate = atom.start + sentence_start
                if candidate <= earliest or self.tokens.count(candidate, end) > room:
                    return found
                if any(char.isalnum() for char in self.text[candidate : atom.start + sentence_end]):
                    found = candidate
        return found

    def _page_border(self, before: int, after: int) -> bool:
        return bool(self.pages) and page_at(self.pages, before - 1) != page_at(self.pages, after)
