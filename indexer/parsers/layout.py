"""From characters with places to lines, and from lines to headings and paragraphs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from indexer.parsers.markdown import heading, paragraph, squeeze
from indexer.parsers.ocr import OcrLine
from indexer.parsers.pages import Char
from ragplat.text import is_cjk

_BULLET = re.compile(r"^[•●▪■◦‣⁃∙·–]\s+(?=\S)")
_ENDS = tuple('.!?:;。！？：；”"»)')
_BIGGER = 1.15  # a heading is this many times larger than running text
_MOST_HEADINGS = 0.3  # of all characters; beyond, large type is just the style of the document


@dataclass(slots=True)
class Line:
    """A line of a page. The box is in shares of the page, ``size`` in points (0: unknown)."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float = 0.0
    bold: bool = False
    unreadable: int = 0  # characters whose font does not say what they are


def lines_of(chars: Sequence[Char]) -> list[Line]:
    """The lines of a page, in its order."""
    lines, current = [], []
    for char in [*chars, Char("\n", 0, 0, 0, 0)]:
        if char.text != "\n":
            current.append(char)
        elif current:
            lines.append(_line(current))
            current = []
    return lines


def _line(chars: list[Char]) -> Line:
    readable = [char for char in chars if not char.unreadable]
    text = squeeze(_dehyphenate("".join(char.text for char in readable)))
    if not text:
        text = _plausible("".join(char.text for char in chars))
    inked = [char for char in readable if char.text != " "] or chars
    sizes = sorted(char.size for char in inked)
    # small indices do not count, nor does a large initial, unless all are capitals: those come in two sizes
    size = sizes[int(0.8 * (len(sizes) - 1))] if any(char.text.islower() for char in inked) else sizes[-1]
    return Line(
        text=text,
        left=min(char.left for char in inked),
        top=min(char.top for char in inked),
        right=max(char.right for char in inked),
        bottom=max(char.bottom for char in inked),
        size=size,
        bold=all(char.bold for char in inked),
        unreadable=len(chars) - len(readable),
    )


def _plausible(text: str) -> str:
    """What a whole line in an unreadable font seems to say, if it seems to say anything.

    Fonts without a character table may still use the usual codes, as those of plots do; others are shifted and show by
    their control characters.
    """
    return squeeze(text) if text.isprintable() and text.isascii() and any(map(str.isalnum, text)) else ""


def _dehyphenate(text: str) -> str:
    """Join words split at the end of a line; "chain-of" + "thought" keeps its hyphen, having one already."""
    return re.sub(
        r"(\S*)\u00ad(?=(\S?))",
        lambda found: found[1] + ("-" if "-" in found[1] or not found[2].islower() else ""),
        text,
    )


def ocr_lines(found: Sequence[OcrLine], points_high: float) -> list[Line]:
    """Lines read by OCR in reading order.

    Their size is guessed from their height, which depends on the letters in them too, so that only a third more or
    less than usual on the page counts as another size.
    """
    usual = median(line.bottom - line.top for line in found) if found else 0.0
    lines = []
    for line in _reading_order(list(found)):
        height = line.bottom - line.top
        if abs(height - usual) < usual / 3:
            height = usual
        lines.append(Line(line.text, line.left, line.top, line.right, line.bottom, 0.7 * height * points_high))
    return lines


def _reading_order(lines: list[OcrLine]) -> list[OcrLine]:
    """Columns one after the other: cut at the widest empty band, across or down, and go on in both parts (XY cut)."""
    if len(lines) < 2:
        return lines
    down = _widest_gap([(line.top, line.bottom) for line in lines])
    across = _widest_gap([(line.left, line.right) for line in lines])
    height = median(line.bottom - line.top for line in lines)
    if across and across[1] >= 0.01 and (not down or down[1] < 1.5 * height or across[1] > 2 * down[1]):
        first = [line for line in lines if line.right <= across[0]]
    elif down:
        first = [line for line in lines if line.bottom <= down[0]]
    else:
        return sorted(lines, key=lambda line: (round((line.top + line.bottom) / 2 / max(height, 1e-6)), line.left))
    rest = [line for line in lines if line not in first]
    return _reading_order(first) + _reading_order(rest)


def _widest_gap(spans: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Where the widest stretch lies that no span touches (its middle), and how wide it is."""
    best: tuple[float, float] | None = None
    spans = sorted(spans)
    reach = spans[0][1]
    for start, end in spans[1:]:
        if start > reach and (best is None or start - reach > best[1]):
            best = ((start + reach) / 2, start - reach)
        reach = max(reach, end)
    return best


def heading_sizes(pages: Sequence[Sequence[Line]]) -> tuple[float, dict[float, int]]:
    """The size of running text in a document, and the heading level of each larger size."""
    counts: Counter[float] = Counter()
    titles: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            counts[_rounded(line.size)] += len(line.text)
            if _may_be_heading(line):
                titles[_rounded(line.size)] += len(line.text)
    body = counts.most_common(1)[0][0] if counts else 0.0
    large = {size: count for size, count in titles.items() if size >= _BIGGER * body > 0}
    if sum(large.values()) > _MOST_HEADINGS * sum(counts.values()):
        return body, {}
    return body, {size: min(level, 4) for level, size in enumerate(sorted(large, reverse=True), start=1)}


def _may_be_heading(line: Line) -> bool:
    """Short, with letters, and not running up the margin."""
    letters = sum(char.isalpha() for char in line.text)
    return letters >= 2 and len(line.text) <= 200 and (line.right - line.left >= line.bottom - line.top or letters < 4)


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def blocks(lines: Sequence[Line], body: float, levels: dict[float, int], page_ratio: float) -> list[str]:
    """Markdown blocks of one page: headings, paragraphs and list items.

    ``body`` and ``levels`` are those of ``heading_sizes``; ``page_ratio`` is height / width of the page. Lines keep
    their ends, as rows of tables and verses would be lost otherwise, except between Chinese or Japanese characters.
    """
    lines = [line for line in lines if line.text]
    gap = _usual_gap(lines)
    found: list[str] = []
    current: list[Line] = []
    for line in lines:
        if current and _starts_block(current, line, levels, body, gap, page_ratio):
            found.append(_write(current, levels, body))
            current = []
        current.append(line)
    if current:
        found.append(_write(current, levels, body))
    return found


def _usual_gap(lines: Sequence[Line]) -> float:
    """The usual empty space between two lines of a paragraph, in line heights; below 0 where they overlap."""
    pairs = [(a, b) for a, b in pairwise(lines) if _rounded(a.size) == _rounded(b.size) and b.top > a.top]
    return median([gap for a, b in pairs if (gap := _gap(a, b)) < 2] or [0.4])


def _gap(a: Line, b: Line) -> float:
    """The empty space from ``a`` down to ``b``, in heights of the lower of the two."""
    return (b.top - a.bottom) / max(min(a.bottom - a.top, b.bottom - b.top), 1e-6)


def _level(line: Line, levels: dict[float, int], body: float) -> int:
    """Heading level of a line by its type, 0 for running text."""
    if not _may_be_heading(line):
        return 0
    by_size = levels.get(_rounded(line.size), 0)
    if by_size:
        return by_size
    looks = line.bold and line.size >= 0.95 * body > 0 and len(line.text) <= 100
    return min(len(set(levels.values())) + 1, 6) if looks and not line.text.endswith((".", ",", ";", ":")) else 0


def _starts_block(
    current: list[Line], line: Line, levels: dict[float, int], body: float, gap: float, page_ratio: float
) -> bool:
    last = current[-1]
    level, before = _level(line, levels, body), _level(last, levels, body)
    if _same_row(last, line):
        return False
    if level != before or _BULLET.match(line.text) or not 1 / _BIGGER < (line.size or 1) / (last.size or 1) < _BIGGER:
        return True
    above = line.top < last.top  # the next column, or something set apart
    if level:
        return above or _gap(last, line) > 1
    if above:
        return last.text.endswith(_ENDS)
    height = min(line.bottom - line.top, last.bottom - last.top) * page_ratio  # in page widths
    indented = line.left - min(other.left for other in current) > 0.6 * height
    new = indented and last.text.endswith(_ENDS) and not _BULLET.match(current[0].text)
    return new or _gap(last, line) > gap + 0.4


def _same_row(a: Line, b: Line) -> bool:
    overlap = min(a.bottom, b.bottom) - max(a.top, b.top)
    return overlap > 0.5 * min(a.bottom - a.top, b.bottom - b.top) and b.left >= a.right - 0.01


def _write(lines: list[Line], levels: dict[float, int], body: float) -> str:
    text = lines[0].text
    for last, line in pairwise(lines):
        text += _join(last, line) + line.text
    level = _level(lines[0], levels, body)
    if level:
        return heading(level, text)
    if bullet := _BULLET.match(text):
        return "- " + text[bullet.end() :].replace("\n", "\n  ")
    return paragraph(text)


def _join(a: Line, b: Line) -> str:
    if _same_row(a, b):
        return "" if b.text[0] in ",.;:)" else " "
    return "" if is_cjk(a.text[-1]) and is_cjk(b.text[0]) else "\n"
