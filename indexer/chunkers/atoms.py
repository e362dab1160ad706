"""Blocks cut into atoms: the stretches that chunks are packed from, each with the price of breaking before it."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from indexer.chunkers.blocks import Block, Kind
from indexer.chunkers.tokens import TokenIndex
from ragplat.text import sentences

# Prices of a break, from free to never.
FREE, ITEM, NESTED, LEAD_IN, SENTENCE, LINE, CLAUSE, WORD, GLUED = range(9)

_SPACE = re.compile(r"\s*")
_LINE = re.compile(r"[^\n]+")
_CLAUSE = re.compile(r"(?:[^,;:，；：、]|[,;:](?!\s))+[,;:，；：、]*|[,;:，；：、]+")
_CELL = re.compile(r"\|?[^|]+|\|")
_CLOSING = re.compile(r"[^\w\s]{1,20}|</\w{1,20}>")  # ends an enclosure: "///", ":::", "</div>"
_OPENING = re.compile(r"/{3,}\s*\w|:{3,}\s*\w|!!!\s|\?\?\?\+?\s|===\s+\"|<\w[^<>]{0,200}>$")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")  # inside one visible sign, as combining marks are
_LOOK_BACK = 8  # characters, for a place that does not cut a visible sign

Splitter = Callable[[int, int], Iterator[tuple[int, int, int]]]  # (start, end) -> parts (start, end, price)


@dataclass(frozen=True, slots=True)
class Atom:
    """A stretch that is never broken."""

    start: int
    end: int
    kind: Kind
    price: int  # of a break before it
    header: tuple[int, int] | None = None  # span of the header of the table it goes on with


class Cutter:
    """Cuts the blocks of one text into atoms."""

    def __init__(self, text: str, tokens: TokenIndex):
        self.text = text
        self.tokens = tokens

    def atoms(self, blocks: tuple[Block, ...], limit: int) -> list[Atom]:
        """Atoms of at most ``limit`` tokens for consecutive blocks: whole blocks where they fit, else parts of them."""
        found: list[Atom] = []
        before: Block | None = None
        glued = 0  # tokens of the headings just before, which go along with what follows
        for block in blocks:
            price = self._price(before, block) if before else FREE
            found.extend(self._cut_block(block, price, max(limit - glued, limit // 2)))
            glued = glued + self.tokens.count(block.start, block.end) if block.kind == "heading" else 0
            before = block
        return found

    def _price(self, before: Block, block: Block) -> int:
        """The price of a break between two neighbouring blocks."""
        if before.kind == "heading" or _CLOSING.fullmatch(self.text, block.start, block.end):
            return GLUED
        if self.text[before.end - 1] in ":：" or _OPENING.match(self.text, before.start, before.end):
            return LEAD_IN
        if before.kind == "item" and block.level > before.level:
            return LEAD_IN  # goes on inside the item
        if block.kind == "paragraph" and self.text[block.start].islower():
            return LEAD_IN  # goes on with a sentence that code or a formula interrupted
        if block.kind == "item":
            return NESTED if block.level or before.kind == "paragraph" else ITEM
        return NESTED if before.kind == "paragraph" and block.kind in ("table", "code") else FREE

    def _cut_block(self, block: Block, price: int, limit: int) -> Iterator[Atom]:
        if self.tokens.count(block.start, block.end) <= limit:
            yield Atom(block.start, block.end, block.kind, price)
        elif block.kind == "table":
            yield from self._cut_table(block, price, limit)
        else:
            splitters = [self._code_lines] if block.kind == "code" else [self._sentences, self._lines]
            for part in self._cut(block.start, block.end, price, limit, [*splitters, self._clauses]):
                yield Atom(part[0], part[1], block.kind, part[2])

    def _cut_table(self, block: Block, price: int, limit: int) -> Iterator[Atom]:
        """Rows; the header with its ruler goes with the first row, and its words with every later one."""
        rows = list(self._lines(block.start, block.end))
        header = rows[0][:2] if block.head else None
        if header:
            for part in self._cut(block.start, rows[block.head - 1][1], price, limit, [self._cells, self._clauses]):
                yield Atom(part[0], part[1], "table", part[2])
            limit = max(limit - self.tokens.count(*header), limit // 2)
        for number, (start, end, _) in enumerate(rows[block.head :]):
            row_price = ITEM if number else GLUED if header else price
            for part in self._cut(start, end, row_price, limit, [self._cells, self._clauses]):
                yield Atom(part[0], part[1], "table", part[2], header if number else None)

    def _cut(
        self, start: int, end: int, price: int, limit: int, splitters: list[Splitter]
    ) -> Iterator[tuple[int, int, int]]:
        """Parts of at most ``limit`` tokens, by the first splitter that gets them there; the first costs ``price``."""
        if self.tokens.count(start, end) <= limit:
            yield start, end, price
        elif splitters:
            for part_start, part_end, own_price in splitters[0](start, end):
                part_price = price if part_start == start else own_price
                yield from self._cut(part_start, part_end, part_price, limit, splitters[1:])
        else:
            yield from self._words(start, end, price, limit)

    def _sentences(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        for part_start, part_end in sentences(self.text[start:end]):
            yield start + part_start, start + part_end, SENTENCE

    def _lines(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        return self._parts(_LINE, start, end, LINE)

    def _clauses(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        return self._parts(_CLAUSE, start, end, CLAUSE)

    def _cells(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        return self._parts(_CELL, start, end, LINE)

    def _parts(self, pattern: re.Pattern[str], start: int, end: int, price: int) -> Iterator[tuple[int, int, int]]:
        for match in pattern.finditer(self.text, start, end):
            part_start, part_end = trimmed(self.text, *match.span())
            if part_start < part_end:
                yield part_start, part_end, price

    def _code_lines(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Lines of code: best broken at blank lines, then where a definition begins, never next to a fence."""
        before = start
        for number, (line_start, line_end, price) in enumerate(self._lines(start, end)):
            fence = self.text.startswith(("```", "~~~"), line_start)
            if number == 1 or (fence and line_end == end):
                price = GLUED
            elif self.text.count("\n", before, line_start) > 1:
                price = ITEM
            elif self.text[line_start - 1] == "\n" and self.text[line_start] not in ")]}":
                price = LEAD_IN
            yield line_start, line_end, price
            before = line_end

    def _words(self, start: int, end: int, price: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """Stretches of ``limit`` tokens, ending at white space if there is any in their second half."""
        while start < end:
            stop = min(self.tokens.reach(start, limit), end)
            if stop < end:
                stop = self._better_stop(start, stop)
            yield (*trimmed(self.text, start, stop), price)
            start = _SPACE.match(self.text, stop, end).end()
            price = WORD

    def _better_stop(self, start: int, stop: int) -> int:
        for place in range(stop, (start + stop) // 2, -1):
            if self.text[place].isspace():
                return place
        for place in range(stop, max(start, stop - _LOOK_BACK), -1):
            signs = self.text[place - 1 : place + 1]
            if not (unicodedata.combining(signs[1]) or _JOINERS.intersection(signs)):
                return place
        return stop


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its ends."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())
