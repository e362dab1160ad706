"""HTML to Markdown with the standard library: headings, paragraphs, lists, tables, code; no scripts, no navigation.

Links and emphasis keep their text only: addresses and stars would be embedded, searched and quoted as if said.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from indexer.parsers.base import Limits
from indexer.parsers.decode import decode
from indexer.parsers.detect import HTML
from indexer.parsers.markdown import Draft, fence, heading, paragraph, squeeze, table
from ragplat.signature import signature
from ragplat.types import Parsed

_SKIP = {
    "script", "style", "template", "noscript", "svg", "math", "nav", "button", "select", "textarea", "iframe",
    "object", "canvas", "audio", "video",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "aside", "figure", "figcaption", "address", "form",
    "fieldset", "details", "summary", "dl", "dt", "dd", "hr", "center", "body", "html", "caption", "hgroup", "legend",
}  # fmt: skip
_VOID = {"br", "hr", "img", "input", "meta", "link", "wbr", "col", "area", "base", "embed", "source", "track"}
_LONG_CELL = 1000  # characters; a table with a longer cell is there for layout
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([\w-]+)", re.I)


class Html:
    """Web pages."""

    name = "html"
    media_types = frozenset({HTML})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. A page with a ``<main>`` element gives only what is inside it."""
        source, warnings = decode_html(path.read_bytes())
        page = read(source)
        draft = Draft(limits)
        draft.extend(page.blocks)
        if page.unclosed:
            warnings += (f"What follows an unclosed <{page.unclosed}> element was left out.",)
        if page.outside:
            warnings += (f"{page.outside:,} characters outside the main part of the page were left out.",)
        return Parsed(
            text=draft.text, pages=(), markup="markdown", title=page.title, tables=page.tables, warnings=warnings
        )


def decode_html(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The source of a page, by the encoding it names, else as any text file."""
    named = _CHARSET.search(data[:4096])
    if named:
        try:
            return data.decode(named[1].decode("ascii")).lstrip("\ufeff"), ()
        except (LookupError, UnicodeDecodeError):
            pass  # many pages name the wrong one
    return decode(data)


@dataclass(frozen=True, slots=True)
class Page:
    """What ``read`` found."""

    title: str
    blocks: list[str]  # Markdown
    tables: int
    outside: int  # characters left out because they are not in <main>
    unclosed: str  # element whose content was to be skipped and never ends; "" for none


def read(source: str) -> Page:
    """The content of an HTML page or fragment."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    reader.end_block()
    everything, inside = reader.cells[0].blocks, reader.main
    title = squeeze("".join(reader.title))
    if not title:
        title = next((block.lstrip("# ") for block in everything if block.startswith("# ")), "")
    outside = sum(map(len, everything)) - sum(map(len, inside)) if inside else 0
    unclosed = reader.skipping[0] if reader.skipping else ""
    return Page(title, inside or everything, reader.tables, outside, unclosed)


class _Cell:
    """A place blocks go to: the page, or a table cell."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.lists: list[list] = []  # open lists: [kind, number of the next item]
        self.item = ""  # bullet waiting for the text of its item
        self.quotes = 0


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.cells = [_Cell()]
        self.rows: list[list[list[tuple[_Cell, int]]]] = []  # open tables: rows of cells with their column span
        self.words: list[str] = []
        self.title: list[str] = []
        self.main: list[str] = []
        self.tables = 0
        self._main_from: int | None = None
        self.skipping: list[str] = []  # open elements inside a skipped one
        self._level = 0
        self._code: str | None = None  # language of the open <pre>
        self._in_title = False

    # what is being written

    def end_block(self) -> None:
        """Finish the running text as a paragraph, heading or list item."""
        text = "".join(self.words)
        self.words = []
        cell = self.cells[-1]
        lines = [squeeze(line) for line in text.split("\n")]
        body = "\n".join(lines).strip("\n")
        if not body.strip():
            return
        if self._level:
            self._emit(heading(self._level, body))
            return
        for part in re.split(r"\n{2,}", body):
            self._emit(self._indented(cell, paragraph(part)))

    def _indented(self, cell: _Cell, text: str) -> str:
        if not cell.lists:
            return text
        depth = "  " * (len(cell.lists) - 1)
        bullet, cell.item = cell.item, ""
        first = depth + (bullet or "  ")
        return first + text.replace("\n", "\n" + " " * len(first))

    def _emit(self, block: str) -> None:
        cell = self.cells[-1]
        if cell.quotes:
            block = "\n".join("> " + line for line in block.split("\n"))
        is_item = bool(cell.lists) and re.match(r"\s*(- |\d+\. )", block)
        if is_item and cell.blocks and re.match(r"\s*(- |\d+\. )", cell.blocks[-1]):
            cell.blocks[-1] += "\n" + block  # items of a list are one block
        else:
            cell.blocks.append(block)

    # events

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "title":
            self._in_title = not self.title
        if self.skipping or tag in _SKIP or "hidden" in values:
            if tag not in _VOID:
                self.skipping.append(tag)
            return
        if self._code is not None:
            self._open_in_code(tag, values)
            return
        if tag in _BLOCKS or tag in ("ul", "ol", "li", "blockquote", "pre", "table", "tr", "td", "th"):
            self.end_block()
        self._open(tag, values)

    def _open(self, tag: str, values: dict[str, str | None]) -> None:
        cell = self.cells[-1]
        if tag == "br":
            self.words.append("\n" if not self._level else " ")
        elif tag == "img":
            self.words.append(f" {values.get('alt') or ''} ")
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self.end_block()
            self._level = int(tag[1])
        elif tag in ("ul", "ol"):
            cell.lists.append([tag, 1])
        elif tag == "li":
            kind = cell.lists[-1] if cell.lists else ["ul", 1]
            cell.lists = cell.lists or [kind]
            cell.item = "- " if kind[0] == "ul" else f"{kind[1]}. "
            kind[1] += 1
        elif tag == "blockquote":
            cell.quotes += 1
        elif tag == "pre":
            self._code = _language(values)
        elif tag == "main" and self._main_from is None and len(self.cells) == 1:
            self._main_from = len(cell.blocks)
        else:
            self._open_table(tag, values)

    def _open_in_code(self, tag: str, values: dict[str, str | None]) -> None:
        if tag == "br":
            self.words.append("\n")
        elif tag == "code" and not self._code:
            self._code = _language(values)

    def _open_table(self, tag: str, values: dict[str, str | None]) -> None:
        if tag == "table":
            self.rows.append([])
        elif tag == "tr" and self.rows:
            self._close_cell()
            self.rows[-1].append([])
        elif tag in ("td", "th") and self.rows:
            self._close_cell()
            if not self.rows[-1]:
                self.rows[-1].append([])
            span = values.get("colspan") or "1"
            new = _Cell()
            self.rows[-1][-1].append((new, min(int(span), 50) if span.isdecimal() else 1))
            self.cells.append(new)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if self.skipping:
            if tag in self.skipping:
                del self.skipping[len(self.skipping) - 1 - self.skipping[::-1].index(tag) :]
            return
        if self._code is not None and tag != "pre":
            return
        cell = self.cells[-1]
        if tag == "pre" and self._code is not None:
            code, language = "".join(self.words), self._code
            self.words, self._code = [], None
            if code.strip():
                self._emit(fence(code, language))
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self.end_block()
            self._level = 0
        elif tag in _BLOCKS or tag in ("ul", "ol", "li", "blockquote", "tr", "td", "th", "table"):
            self.end_block()
        if tag in ("ul", "ol") and cell.lists:
            cell.lists.pop()
        elif tag == "blockquote":
            cell.quotes = max(0, cell.quotes - 1)
        elif tag in ("td", "th", "tr"):
            self._close_cell()
        elif tag == "table" and self.rows:
            self._close_cell()
            self._close_table()
        elif tag == "main" and self._main_from is not None and len(self.cells) == 1:
            self.main = self.main or cell.blocks[self._main_from :]

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        if self.skipping or self._in_title:
            return
        self.words.append(data if self._code is not None else re.sub(r"\s+", " ", data))

    # tables

    def _close_cell(self) -> None:
        """Leave the innermost open cell, if it belongs to the innermost open table."""
        if self.rows and self.rows[-1] and any(cell is self.cells[-1] for cell, _ in self.rows[-1][-1]):
            self.end_block()
            self.cells.pop()

    def _close_table(self) -> None:
        rows = [row for row in self.rows.pop() if row]
        texts = [[("\n".join(cell.blocks), span) for cell, span in row] for row in rows]
        longest = max((len(text) for row in texts for text, _ in row), default=0)
        grid = [[part for text, span in row for part in (text, *[""] * (span - 1))] for row in texts]
        if len(grid) < 2 or max(map(len, grid)) < 2 or longest > _LONG_CELL:
            for row in rows:
                for cell, _ in row:
                    self.cells[-1].blocks += cell.blocks
        elif longest:
            self.tables += 1
            self.cells[-1].blocks.append(table(grid))


def _language(values: dict[str, str | None]) -> str:
    found = re.search(r"(?:language|lang)-([\w+#-]+)", values.get("class") or "")
    return found[1] if found else ""
