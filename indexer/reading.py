"""A document as a person reads it: its text in parts, the surroundings of a passage, its pages."""

from bisect import bisect_right
from dataclasses import dataclass

from indexer.models import Document
from indexer.parsers.detect import PDF, PPTX, XLSX
from indexer.rendering import mark, render

PART = 30_000  # characters of text on one page of the viewer
AROUND = 1_500  # characters shown before and after a passage
LOOK_BACK = 2_000  # how far a cut may move to fall between paragraphs or lines

WORDS = {PPTX: "slide", XLSX: "sheet"}  # what a page of these is called


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document's text that somebody was pointed at; never empty."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a long text, as HTML."""

    number: int  # from 1
    count: int
    html: str


def passage_in(document: Document, start: str | None, end: str | None) -> Passage | None:
    """The passage an address names, cut to the text; None when it names none."""
    if not (start and end and start.isascii() and end.isascii() and start.isdigit() and end.isdigit()):
        return None
    first, last = min(int(start[:12]), len(document.text)), min(int(end[:12]), len(document.text))
    return Passage(first, last) if first < last else None


def has_images(document: Document) -> bool:
    """Whether its pages can be shown as they look."""
    return document.media_type == PDF or document.media_type.startswith("image/")


def page_word(document: Document) -> str:
    return WORDS.get(document.media_type, "page")


def page_at(document: Document, place: int) -> int | None:
    """The number of the page a place in the text is on; None for documents without pages."""
    if not document.pages:
        return None
    found = bisect_right(document.pages, place, key=lambda page: page[1])
    return document.pages[max(found - 1, 0)][0]


def on_page(document: Document, passage: Passage, number: int) -> str:
    """The text of a passage, as far as it is on this page."""
    for page, start, end in document.pages:
        if page == number:
            return document.text[max(start, passage.start) : min(end, passage.end)]
    return ""


def part_of(document: Document, number: int | None, passage: Passage | None) -> Part:
    """One part of the text as HTML: the one asked for, else the one with the passage, else the first."""
    count = max(1, -(-len(document.text) // PART))
    if number is None and passage:
        number = bisect_right(range(count), passage.start, key=lambda n: _cut(document.text, n * PART))
    number = min(max(number or 1, 1), count)
    start = _cut(document.text, (number - 1) * PART)
    end = len(document.text) if number == count else _cut(document.text, number * PART)
    if passage and start <= passage.start < end < passage.end:
        end = _line_end(document.text, passage.end)
    return Part(number, count, _html(document, start, end, passage))


def surroundings(document: Document, passage: Passage) -> str:
    """A passage as HTML with what stands around it."""
    start = _cut(document.text, max(0, passage.start - AROUND))
    end = _line_end(document.text, min(len(document.text), passage.end + AROUND))
    return _html(document, start, end, passage)


def _cut(text: str, place: int) -> int:
    """The beginning of the paragraph at or before a place, or of the line; the place itself when both are far away."""
    if place <= 0:
        return 0
    for separator in ("\n\n", "\n"):
        at = text.rfind(separator, max(0, place - LOOK_BACK), place)
        if at >= 0:
            return at + len(separator)
    return place


def _line_end(text: str, place: int) -> int:
    at = text.find("\n", place, place + LOOK_BACK)
    return place if at < 0 else at


def _html(document: Document, start: int, end: int, passage: Passage | None) -> str:
    """A stretch of the text, with a heading where a page begins."""
    spans = [mark(passage.start, passage.end)] if passage else []
    inside = [page for page in document.pages if page[1] < end and page[2] > start]
    pieces, place = [], start
    for number, first, last in inside:
        if place < first:
            pieces.append(_render(document, place, first, spans))
        if first >= start:
            pieces.append(f'<p class="page-break" id="text-{number}">{page_word(document).capitalize()} {number}</p>')
        pieces.append(_render(document, max(first, start), min(last, end), spans))
        place = min(last, end)
    if place < end:
        pieces.append(_render(document, place, end, spans))
    return "".join(pieces)


def _render(document: Document, start: int, end: int, spans: list) -> str:
    return render(document.text[start:end], document.markup, offset=start, spans=spans)
