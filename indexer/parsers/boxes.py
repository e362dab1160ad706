"""Where on a page a passage stands: aligning its characters with those of the page."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from indexer.parsers.layout import lines_of
from indexer.parsers.ocr import OCR_WIDTH, read_lines
from indexer.parsers.pages import Char, open_pages
from indexer.parsers.pdf import needs_ocr
from ragplat.errors import BadInput
from ragplat.types import Box

_SEED = 12  # characters that must agree before two places are compared further; fewer happen to agree
_ENOUGH = 0.5  # share of the passage that must be found


def boxes(path: Path, page: int, passage: str) -> list[Box]:
    """The rectangles, one a line, around ``passage`` on page ``page`` (from 1) of a PDF or image file.

    For a passage that runs over several pages ask for each page with the part on it. The page's own text is searched
    first, then, on pages the parser reads by OCR, what OCR reads (which takes seconds). Empty when less than half of
    the passage is found. Raises DocumentError, BadInput.
    """
    with open_pages(path) as pages:
        if not 1 <= page <= len(pages):
            raise BadInput(f"There is no page {page}; the document has {len(pages)}.")
        chars = pages.characters(page)
        found = locate([char for char in chars if not char.unreadable], passage, page)
        if found or not _key(passage) or not needs_ocr(pages, page, lines_of(chars)):
            return found
        return locate(_spread(read_lines(pages.picture(page, OCR_WIDTH))), passage, page)


def _spread(lines: Sequence[tuple[str, float, float, float, float]]) -> list[Char]:
    """Characters of OCR lines, as if all in a line were equally wide."""
    chars = []
    for text, left, top, right, bottom in lines:
        step = (right - left) / len(text)
        chars += [Char(sign, left + i * step, top, left + (i + 1) * step, bottom) for i, sign in enumerate(text)]
        chars.append(Char("\n", 0, 0, 0, 0))
    return chars


def _key(text: str) -> str:
    """Letters and digits only, case and ligatures folded: what is left of a text by Markdown, hyphens and layout."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def locate(chars: Sequence[Char], passage: str, page: int) -> list[Box]:
    """``boxes`` on characters already read. First exact, else in pieces, so that order and gaps may differ."""
    wanted = _key(passage)
    owners: list[int] = []  # for each sign of the page's key, the character it comes from
    signs: list[str] = []
    for index, char in enumerate(chars):
        for sign in _key(char.text):
            owners.append(index)
            signs.append(sign)
    text = "".join(signs)
    if not wanted or not text:
        return []
    start = text.find(wanted)
    runs = [(start, len(wanted))] if start >= 0 else _pieces(text, wanted)
    if sum(length for _, length in runs) < _ENOUGH * len(wanted):
        return []
    marked = sorted({owners[place] for start, length in runs for place in range(start, start + length)})
    return _lines(chars, marked, page)


def _pieces(text: str, wanted: str) -> list[tuple[int, int]]:
    """Stretches (start, length) of ``text`` that together spell most of ``wanted``, in any order."""
    seed = min(_SEED, len(wanted))
    places: dict[str, list[int]] = {}
    for place in range(len(text) - seed + 1):
        places.setdefault(text[place : place + seed], []).append(place)
    runs: list[tuple[int, int]] = []
    done = last = 0
    while done + seed <= len(wanted):
        candidates = [
            (_common(text, place, wanted, done), place) for place in places.get(wanted[done : done + seed], ())
        ]
        if not candidates:
            done += 1
            continue
        # the longest, and among equals the one that goes on nearest after the last
        length, place = max(candidates, key=lambda found: (found[0], -abs(found[1] - last)))
        runs.append((place, length))
        done, last = done + length, place + length
    return runs


def _common(a: str, i: int, b: str, j: int) -> int:
    length = 0
    while i + length < len(a) and j + length < len(b) and a[i + length] == b[j + length]:
        length += 1
    return length


def _lines(chars: Sequence[Char], marked: Sequence[int], page: int) -> list[Box]:
    """One box for each stretch of marked characters on one line."""
    found: list[list[float]] = []
    last = -2
    for index in marked:
        char = chars[index]
        between = chars[last + 1 : index] if last >= 0 else ()
        joined = bool(found) and all(not other.text.isalnum() and other.text != "\n" for other in between)
        if joined and _same_line(chars[last], char):
            box = found[-1]
            box[:] = [
                min(box[0], char.left), min(box[1], char.top), max(box[2], char.right), max(box[3], char.bottom)
            ]  # fmt: skip
        else:
            found.append([char.left, char.top, char.right, char.bottom])
        last = index
    return [
        Box(page=page, left=_share(box[0]), top=_share(box[1]), right=_share(box[2]), bottom=_share(box[3]))
        for box in found
    ]


def _same_line(a: Char, b: Char) -> bool:
    """Side by side, or one above the other in text that runs up or down; not so where a word goes on in a new line."""
    beside = min(a.bottom, b.bottom) - max(a.top, b.top) > 0.3 * min(a.bottom - a.top, b.bottom - b.top)
    stacked = min(a.right, b.right) - max(a.left, b.left) > 0.3 * min(a.right - a.left, b.right - b.left)
    return beside or stacked


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
