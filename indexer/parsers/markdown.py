"""Canonical text: writing headings, paragraphs and tables as Markdown, with page spans."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from indexer.parsers.base import Limits, check_characters
from ragplat.text import clean_title
from ragplat.types import Page

_HEADING_LIKE = re.compile(r"^(?=#{1,6}\s)", re.MULTILINE)
_BREAKS = re.compile(r"\r\n?|[\u2028\u2029]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """``text`` as it may be stored: "\\n" line ends, no NUL (PostgreSQL refuses it), no lone surrogate."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", _BREAKS.sub("\n", text))


def squeeze(text: str) -> str:
    """One line: every run of blanks, line breaks included, becomes a space; other control characters go."""
    kept = "".join(char for char in text if char.isspace() or unicodedata.category(char) != "Cc")
    return " ".join(kept.split())


def heading(level: int, text: str) -> str:
    return f"{'#' * min(max(level, 1), 6)} {squeeze(text)}"


def paragraph(text: str) -> str:
    """Running text. Only what would be read as a heading is escaped: other marks stay as the author wrote them."""
    return _HEADING_LIKE.sub(r"\\", text.strip())


def fence(code: str, language: str = "") -> str:
    """A code block; the fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{code.strip(chr(10))}\n{marks}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose header is the first row; short rows are filled up, empty rows left out."""
    width = max(len(row) for row in rows)
    cells = [[squeeze(cell).replace("|", r"\|") for cell in row] + [""] * (width - len(row)) for row in rows]
    head, *body = [row for row in cells if any(row)] or [[""] * width]
    lines = [head, ["---"] * width, *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def first_heading(text: str) -> str:
    """The text of the first Markdown heading outside code blocks, or ""."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        found = None if fenced else re.match(r"#{1,6}\s+(.+?)\s*#*$", line)
        if found:
            return clean_title(found[1])
    return ""


class Draft:
    """Collects blocks into one text, and where its pages lie in it."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[list[int]] = []  # number, start, end

    def page(self, number: int) -> None:
        """What is added from here on stands on page ``number``."""
        self._pages.append([number, self._length, self._length])

    def add(self, block: str) -> None:
        """Append a block after an empty line. Raises LimitExceeded when the text grows over its limit."""
        block = clean(block).strip("\n")
        if not block.strip():
            return
        gap = "\n\n" if self._parts else ""
        start = self._length + len(gap)
        self._parts += [gap, block]
        self._length = start + len(block)
        check_characters(self._length, self._limits)
        if self._pages:
            page = self._pages[-1]
            if page[1] == page[2]:
                page[1] = start
            page[2] = self._length

    def extend(self, blocks: Iterable[str]) -> None:
        for block in blocks:
            self.add(block)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def pages(self) -> tuple[Page, ...]:
        return tuple(Page(number=number, start=start, end=end) for number, start, end in self._pages)

    @property
    def blank_pages(self) -> tuple[int, ...]:
        return tuple(number for number, start, end in self._pages if start == end)
