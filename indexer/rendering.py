"""Canonical text as HTML, with every offset kept: so that a passage can be marked exactly where it stands.

Markdown renderers forget where their text came from. This one knows headings, paragraphs, lists, quotes, tables, code,
bold, emphasis and links, which is what parsers write. HTML tags among the text are left out, and all else is escaped:
no HTML of a document reaches the page.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*(?:\{[ \t]*#[^}]*\}[ \t]*)?$")
_ITEM = re.compile(r"([ \t]*)([-*+•]|(\d{1,9})[.)])[ \t]+(?=\S)")
_RULE = re.compile(r"[ \t]*([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_QUOTE = re.compile(r"[ \t]{0,3}>[ \t]?")
_CELL = re.compile(r"(?:\\.|[^|\\])*")
_SEPARATOR = re.compile(r"[ \t]*\|?[ \t:|-]*-[ \t:|-]*$")
# Lengths are bounded, so that a page of unmatched marks costs little.
_TAGS = "a|abbr|b|br|code|details|dfn|div|em|figure|font|i|iframe|img|kbd|mark|p|small|span|strong|sub|summary|sup|u"
_INLINE = re.compile(
    r"(?P<escape>\\(?P<literal>[!-/:-@\[-`{-~]))"
    r"|(?P<marker>\[(?P<number>\d{1,4})\])"
    r"|(?P<tick>`+)(?P<code>.{1,1000}?)(?<!`)(?P=tick)(?!`)"
    r"|(?P<strong>\*\*(?=\S)(?P<bold>.{1,1000}?)(?<=\S)\*\*)"
    r"|(?P<em>(?<![\w*])\*(?=[^\s*])(?P<italic>[^*\n]{1,300}?)(?<=\S)\*(?![\w*]))"
    r"|(?P<link>!?\[(?P<label>[^\[\]\n]{0,500})\]\([^()\s]{0,2000}(?:\([^()\s]{0,200}\))?[^()\n]{0,300}\))"
    rf"|(?P<tag></?(?:{_TAGS})\b[^<>]{{0,500}}>)",
    re.DOTALL,
)

LONGEST_HEADING = 1_000  # characters; a longer line is a paragraph

Marker = Callable[[int, int], str | None]  # (n, place in the text) of a citation marker [n] to its HTML


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch to wrap in an element: ``opening`` and ``closing`` are trusted HTML; spans do not overlap."""

    start: int
    end: int
    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """A visible stretch of the text, the elements around it, and trusted HTML that stands in for it."""

    start: int
    end: int
    tags: tuple[str, ...] = ()
    html: str | None = None


@dataclass(slots=True)
class _Block:
    """A paragraph, heading, item...: the stretches of the text that are its content, one per line."""

    kind: str
    lines: list[tuple[int, int]]
    level: int = 0  # of a heading; indentation of an item
    number: int | None = None  # of an ordered item


def mark(start: int, end: int) -> Span:
    """The span that highlights a passage."""
    return Span(start, end, '<mark class="passage">', "</mark>")


def render(
    text: str,
    markup: str,
    *,
    offset: int = 0,
    spans: Sequence[Span] = (),
    marker: Marker | None = None,
) -> str:
    """HTML of a stretch of canonical text.

    ``offset`` is the place of ``text[0]`` in the document; ``spans`` count in the document's offsets. ``markup`` is
    "markdown" or "plain". ``marker`` writes the citation markers; where it gives None they stay text.
    """
    spans = [Span(s.start - offset, s.end - offset, s.opening, s.closing) for s in spans]
    return _Writer(text, markup == "markdown", sorted(spans, key=lambda s: s.start), marker).html()


def visible_text(text: str, markup: str) -> str:
    """What a reader sees of a stretch of canonical text: the markup taken off, blanks squeezed."""
    writer = _Writer(text, markup == "markdown", [], None)
    blocks = ("".join(p.html or text[p.start : p.end] for p in writer.content(b)) for b in writer.blocks())
    return " ".join(" ".join(blocks).split())


class _Writer:
    """Writes one text. Blocks are found line by line; within a block, inline marks by one expression."""

    def __init__(self, text: str, markdown: bool, spans: Sequence[Span], marker: Marker | None):
        self.text, self.markdown, self.spans, self.marker = text, markdown, spans, marker

    def html(self) -> str:
        return "".join(self._group(list(self.blocks())))

    # Blocks

    def _lines(self) -> Iterator[tuple[int, int]]:
        start = 0
        for line in self.text.split("\n"):
            yield start, start + len(line)
            start += len(line) + 1

    def blocks(self) -> Iterator[_Block]:
        """The blocks of the text, in order."""
        current: _Block | None = None
        fence = ""
        for start, end in self._lines():
            line = self.text[start:end]
            if fence:
                if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                    fence = ""
                    yield current
                    current = None
                else:
                    current.lines.append((start, end))
                continue
            opened = self.markdown and _FENCE.match(line)
            if opened:
                if current:
                    yield current
                fence, current = opened[1], _Block("code", [])
                continue
            found = self._block(start, end, line, current)
            if found is current and found is not None:
                continue
            if current:
                yield current
            current = found
        if current:
            yield current

    def _block(self, start: int, end: int, line: str, current: _Block | None) -> _Block | None:
        """The block this line begins; ``current`` when it goes on with that one; None for a blank line."""
        if not line.strip():
            return None
        if not self.markdown:
            return self._continued(current, "plain", start, end)
        if len(line) <= LONGEST_HEADING and (found := _HEADING.match(line)):
            return _Block("heading", [(start + found.start(2), start + found.end(2))], level=len(found[1]))
        if _RULE.match(line):
            return _Block("rule", [(start, end)])
        if line.lstrip().startswith("|"):
            return self._continued(current, "table", start, end)
        found = _ITEM.match(line)
        if found and not self._sentence_goes_on(found, current):
            number = int(found[3]) if found[3] else None
            depth = min(len(found[1].expandtabs(4)) // 2, 4)
            return _Block("item", [(start + found.end(), end)], level=depth, number=number)
        if found := _QUOTE.match(line):
            return self._continued(current, "quote", start + found.end(), end)
        if current and current.kind == "item":
            current.lines.append((start, end))
            return current
        return self._continued(current, "paragraph", start, end)

    @staticmethod
    def _sentence_goes_on(item: re.Match, current: _Block | None) -> bool:
        """Whether a line that begins with a number, such as "1922. Then", is part of the paragraph before it."""
        if item[3] in (None, "1") or current is None:
            return False
        return current.kind == "paragraph" or (current.kind == "item" and current.number is None)

    @staticmethod
    def _continued(current: _Block | None, kind: str, start: int, end: int) -> _Block:
        if current and current.kind == kind:
            current.lines.append((start, end))
            return current
        return _Block(kind, [(start, end)])

    # HTML of blocks

    def _group(self, blocks: list[_Block]) -> Iterator[str]:
        """Neighbouring items become one list."""
        index = 0
        while index < len(blocks):
            block = blocks[index]
            if block.kind != "item":
                yield self._one(block)
                index += 1
                continue
            ordered = block.number is not None
            last = index
            while (
                last < len(blocks)
                and blocks[last].kind == "item"
                and (blocks[last].level > block.level or (blocks[last].number is not None) == ordered)
            ):
                last += 1
            tag = "ol" if ordered else "ul"
            yield f"<{tag}>{''.join(self._item(item, ordered) for item in blocks[index:last])}</{tag}>\n"
            index = last

    def _item(self, block: _Block, ordered: bool) -> str:
        value = f' value="{block.number}"' if ordered and block.number is not None else ""
        kind = " bullet" if ordered and block.number is None else ""
        return f'<li class="depth-{block.level}{kind}"{value}>{self._inline(block)}</li>'

    def _one(self, block: _Block) -> str:
        if block.kind == "heading":
            return f"<h{block.level}>{self._inline(block)}</h{block.level}>\n"
        if block.kind == "rule":
            return "<hr>\n"
        if block.kind == "table":
            return self._table(block)
        if block.kind == "code":
            # Browsers drop the first line break after <pre>: give them one to drop.
            return f'<pre tabindex="0">\n{self._inline(block)}</pre>\n'
        if block.kind == "quote":
            return f"<blockquote><p>{self._inline(block)}</p></blockquote>\n"
        kind = ' class="plain"' if block.kind == "plain" else ""
        return f"<p{kind}>{self._inline(block)}</p>\n"

    def _table(self, block: _Block) -> str:
        rows = []
        header = len(block.lines) > 1 and self._is_separator(block.lines[1])
        for number, line in enumerate(block.lines):
            if header and number == 1:
                continue
            tag = "th" if header and number == 0 else "td"
            cells = (f"<{tag}>{self._spanned(self._pieces(*cell))}</{tag}>" for cell in self._cells(*line))
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return f'<div class="table-scroll" tabindex="0"><table>{"".join(rows)}</table></div>\n'

    def _is_separator(self, line: tuple[int, int]) -> bool:
        return bool(_SEPARATOR.match(self.text[line[0] : line[1]]))

    def _cells(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The stretches between the bars of a table row, without the blanks around them."""
        place = self.text.index("|", start, end) + 1
        while place < end:
            found = _CELL.match(self.text, place, end)
            inner = found[0].strip()
            first = place + found[0].index(inner) if inner else place
            if inner or found.end() < end:
                yield first, first + len(inner)
            place = found.end() + 1

    # Inline

    def content(self, block: _Block) -> Iterator[_Piece]:
        """The visible pieces of a block, in order."""
        if block.kind == "rule":
            return
        if block.kind == "table":
            for number, line in enumerate(block.lines):
                if number != 1 or not self._is_separator(line):
                    for cell in self._cells(*line):
                        yield from self._pieces(*cell)
                        yield _Piece(cell[1], cell[1], html=" ")
            return
        if block.kind in ("code", "plain"):
            for number, (start, end) in enumerate(block.lines):
                last = number == len(block.lines) - 1
                yield _Piece(start, end if last else min(end + 1, len(self.text)))
            return
        if self._contiguous(block):
            yield from self._pieces(block.lines[0][0], block.lines[-1][1])
            return
        for start, end in block.lines:
            yield from self._pieces(start, end)
            yield _Piece(end, min(end + 1, len(self.text)))

    @staticmethod
    def _contiguous(block: _Block) -> bool:
        """Whether its lines follow one another in the text, so that bold and code may go over a line break."""
        return all(after[0] == before[1] + 1 for before, after in zip(block.lines, block.lines[1:], strict=False))

    def _pieces(self, start: int, end: int, tags: tuple[str, ...] = ()) -> Iterator[_Piece]:
        place = start
        for found in _INLINE.finditer(self.text, start, end):
            inner = self._inner(found, tags)
            if inner is None:
                continue
            if place < found.start():
                yield _Piece(place, found.start(), tags)
            yield from inner
            place = found.end()
        if place < end:
            yield _Piece(place, end, tags)

    def _inner(self, found: re.Match, tags: tuple[str, ...]) -> Iterable[_Piece] | None:
        """The pieces an inline mark stands for; None when it is text after all."""
        if found["escape"]:
            return [_Piece(found.start("literal"), found.end("literal"), tags)]
        if found["marker"]:
            html = self.marker(int(found["number"]), found.start()) if self.marker else None
            return None if html is None else [_Piece(found.start(), found.end(), tags, html)]
        if found["tick"]:
            return [_Piece(found.start("code"), found.end("code"), (*tags, "code"))]
        if found["tag"]:
            return []
        if found["strong"]:
            return self._pieces(found.start("bold"), found.end("bold"), (*tags, "strong"))
        if found["em"]:
            return self._pieces(found.start("italic"), found.end("italic"), (*tags, "em"))
        return self._pieces(found.start("label"), found.end("label"), tags)

    def _inline(self, block: _Block) -> str:
        return self._spanned(self.content(block))

    def _spanned(self, pieces: Iterable[_Piece]) -> str:
        """Pieces as HTML, with one wrapper per span and block."""
        out: list[str] = []
        current: Span | None = None
        for piece in pieces:
            for start, end, span in self._cut(piece):
                if span is not current:
                    out.append(current.closing if current else "")
                    out.append(span.opening if span else "")
                    current = span
                shown = piece.html if piece.html is not None else escape(self.text[start:end], quote=False)
                opened = "".join(f"<{tag}>" for tag in piece.tags)
                out.append(opened + shown + "".join(f"</{tag}>" for tag in reversed(piece.tags)))
        out.append(current.closing if current else "")
        return "".join(out)

    def _cut(self, piece: _Piece) -> Iterator[tuple[int, int, Span | None]]:
        """A piece in parts that lie within one span or none; what is replaced as a whole is not cut."""
        place = piece.start
        for span in self.spans:
            if span.end <= place or span.start >= piece.end:
                continue
            if piece.html is not None:
                yield piece.start, piece.end, span
                return
            if place < span.start:
                yield place, span.start, None
                place = span.start
            stop = min(span.end, piece.end)
            yield place, stop, span
            place = stop
        if place < piece.end:
            yield place, piece.end, None
