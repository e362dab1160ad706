"""The blocks a document is made of: headings, paragraphs, list items, tables, code, found line by line.

Not a Markdown renderer: it needs to know where blocks begin and end in the text, and to survive broken Markdown.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ragplat.text import clean_title
from ragplat.types import Parsed

Kind = Literal["heading", "paragraph", "item", "table", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of text from its first to its last non-blank character."""

    start: int
    end: int
    kind: Kind
    level: int = 0  # of a heading 1..6; else the indentation of its first line
    title: str = ""  # of a heading, without markup
    head: int = 0  # of a table: lines of its header, the ruler below included


_MAX_UNDERLINED = 120  # characters; a longer line over a ruler is a paragraph over a ruler
_MAX_ATX = 500  # characters, for a heading with a sign that says so
_FRONT_MATTER_LINES = 100

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦▪][ \t]|(\d{1,3})[.)][ \t])")
_UNDERLINE = re.compile(r" {0,3}(={3,}|-{3,})")
_RULER = frozenset("|:- \t")  # the line below a table's header
_COMMENT, _COMMENT_END = "<!--", "-->"

# Headings of plain text, only where a line stands alone and its form leaves little doubt.
_NUMBERED = re.compile(r"([1-9]\d?(?:\.\d{1,2}){0,4})\.?[ \t\u3000]+(?=[^\W\d_])")
_CHAPTER = re.compile(
    r"(?:chapter|part|section|appendix)[ \t]+(?:\d{1,3}|[IVXLC]{1,6}|[A-Z])\b"
    r"|第[一二三四五六七八九十百零〇\d]{1,5}[章节編编篇部]|[一二三四五六七八九十]{1,3}、",
    re.IGNORECASE,
)
_CAPITALS = re.compile(r"[A-Z][A-Z ,&'-]{3,59}")
_SENTENCE_END = tuple(".!?;:,。！？；：，、…")
_MAX_PLAIN_HEADING = 80
_NEAR = 8  # lines


def blocks(parsed: Parsed) -> list[Block]:
    """The blocks of a document, in order; every non-blank character is in exactly one."""
    return _Scanner(parsed.text, markdown=parsed.markup == "markdown").scan()


class _Scanner:
    """Reads blocks off the lines of a text. A reader gets a line's number and gives the block that starts there."""

    def __init__(self, text: str, markdown: bool):
        self.text = text
        self.spans: list[tuple[int, int]] = []
        start = 0
        for line in text.split("\n"):
            self.spans.append((start, start + len(line)))
            start += len(line) + 1
        self.lines = [text[start:end].rstrip() for start, end in self.spans]
        self.markdown = markdown
        self.last_comment_end = text.rfind(_COMMENT_END)
        self.never_closed: dict[str, int] = {}  # fence character: shortest fence known to stay open
        markdown_readers = [self._front_matter, self._comment, self._fence, self._atx, self._table]
        self.readers: list[Callable[[int], tuple[Block, int] | None]] = [
            *(markdown_readers if markdown else [self._plain_heading]),
            self._underlined,
            self._text,
        ]

    def scan(self) -> list[Block]:
        found = []
        number = 0
        while number < len(self.lines):
            if not self.lines[number]:
                number += 1
                continue
            block, number = next(result for read in self.readers if (result := read(number)))
            found.append(block)
        return found

    def _block(self, first: int, after: int, kind: Kind, **fields) -> tuple[Block, int]:
        """The block of lines first..after-1, and the number of the line to go on with."""
        start = self.spans[first][0] + self._indent(first)
        while not self.lines[after - 1]:
            after -= 1
        end = self.spans[after - 1][0] + len(self.lines[after - 1])
        return Block(start=start, end=end, kind=kind, **({"level": self._indent(first)} | fields)), after

    def _indent(self, number: int) -> int:
        return len(self.lines[number]) - len(self.lines[number].lstrip())

    def _front_matter(self, number: int) -> tuple[Block, int] | None:
        """YAML or TOML between two rulers at the very start: code, so that its lines are no headings."""
        ruler = self.lines[number]
        if number or ruler not in ("---", "+++") or self.lines[1:2] == [""]:
            return None
        for last in range(1, min(len(self.lines), _FRONT_MATTER_LINES)):
            if self.lines[last] == ruler:
                return self._block(0, last + 1, "code")
        return None

    def _comment(self, number: int) -> tuple[Block, int] | None:
        if not self.lines[number].lstrip().startswith(_COMMENT) or self.spans[number][0] > self.last_comment_end:
            return None
        end = self.text.find(_COMMENT_END, self.spans[number][0])
        last = number
        while self.spans[last][1] < end:
            last += 1
        return self._block(number, last + 1, "paragraph")

    def _fence(self, number: int) -> tuple[Block, int] | None:
        """Fenced code. A fence that never closes is taken for text, or the rest of the document would be code."""
        match = _FENCE.match(self.lines[number])
        if not match:
            return None
        char, length = match[1][0], len(match[1])
        inline = char == "`" and "`" in self.lines[number][match.end() :]
        if inline or length >= self.never_closed.get(char, length + 1):
            return None
        for last in range(number + 1, len(self.lines)):
            line = self.lines[last].strip()
            if len(line) >= length and line[0] == char and not line.strip(char):
                return self._block(number, last + 1, "code")
        self.never_closed[char] = length
        return None

    def _atx(self, number: int) -> tuple[Block, int] | None:
        line = self.lines[number]
        match = _ATX.match(line)
        if not match or len(line) > _MAX_ATX:
            return None
        return self._block(number, number + 1, "heading", level=len(match[1]), title=clean_title(line[match.end() :]))

    def _table(self, number: int) -> tuple[Block, int] | None:
        """A Markdown table, or at least two lines that begin with a bar."""
        ruled = self._starts_table(number)
        after = number + 2 if ruled else number
        while after < len(self.lines) and self._is_row(after, ruled):
            after += 1
        if not ruled and after < number + 2:
            return None
        return self._block(number, after, "table", head=2 if ruled else 0)

    def _is_row(self, number: int, ruled: bool) -> bool:
        line = self.lines[number]
        return "|" in line if ruled else line.lstrip().startswith("|")

    def _starts_table(self, number: int) -> bool:
        if number + 1 >= len(self.lines) or "|" not in self.lines[number]:
            return False
        ruler = self.lines[number + 1]
        return "-" in ruler and "|" in ruler and _RULER.issuperset(ruler)

    def _underlined(self, number: int) -> tuple[Block, int] | None:
        """A heading underlined with === or ---."""
        if (
            number + 1 >= len(self.lines)
            or len(self.lines[number]) > _MAX_UNDERLINED
            or _ITEM.match(self.lines[number])
        ):
            return None
        match = _UNDERLINE.fullmatch(self.lines[number + 1])
        if not match or not any(char.isalnum() for char in self.lines[number]):
            return None
        level = 1 if match[1][0] == "=" else 2
        return self._block(number, number + 2, "heading", level=level, title=clean_title(self.lines[number]))

    def _plain_heading(self, number: int) -> tuple[Block, int] | None:
        line = self.lines[number].strip()
        if len(line) > _MAX_PLAIN_HEADING or line.endswith(_SENTENCE_END):
            return None
        above = self.lines[number - 1] if number else ""
        below = self.lines[number + 1] if number + 1 < len(self.lines) else ""
        alone = not above and not below
        numbered = _NUMBERED.match(line)
        if numbered and self._is_numbered_heading(number, numbered, alone):
            level = numbered[1].count(".") + 1
        elif alone and (_CHAPTER.match(line) or _CAPITALS.fullmatch(line)):
            level = 1
        else:
            return None
        return self._block(number, number + 1, "heading", level=level, title=line)

    def _is_numbered_heading(self, number: int, match: re.Match[str], alone: bool) -> bool:
        """Tells "2.1 Training data" from an item of a numbered list and from a wrapped line with a number first."""
        words = match.string[match.end() :]
        if words[0].islower() or len(words.split()) > 12:
            return False
        if alone:
            depth = match[1].count(".")
            neighbours = (_NUMBERED.match(self._next_line(number, step).strip()) for step in (-1, 1))
            return all(other is None or other[1].count(".") != depth for other in neighbours)
        above = self.lines[number - 1] if number else ""
        return words.isupper() or ("." in match[1] and (not above or above.endswith(_SENTENCE_END)))

    def _next_line(self, number: int, step: int) -> str:
        """The nearest line with text in one direction, among a few."""
        for other in range(number + step, number + step * _NEAR, step):
            if 0 <= other < len(self.lines) and self.lines[other]:
                return self.lines[other]
        return ""

    def _text(self, number: int) -> tuple[Block, int]:
        """A paragraph or a list item: lines up to a blank one or the start of something else."""
        item = _ITEM.match(self.lines[number])
        after = number + 1
        while after < len(self.lines) and self.lines[after] and not self._interrupts(after, in_item=item is not None):
            after += 1
        return self._block(number, after, "item" if item else "paragraph")

    def _interrupts(self, number: int, in_item: bool) -> bool:
        line = self.lines[number]
        item = _ITEM.match(line)
        if item:  # a wrapped line may well begin with "12. "; a list begins with 1
            return in_item or item[1] in (None, "1")
        if not self.markdown:
            return self._plain_heading(number) is not None
        if _ATX.match(line) or _FENCE.match(line) or line.lstrip().startswith(("|", _COMMENT)):
            return True
        return self._starts_table(number)
