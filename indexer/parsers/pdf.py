"""PDF files and images of pages: the file's own text where it has one, OCR where it has none.

The text is pypdfium2's, not kreuzberg's Markdown, which on the sample files dropped page headers and footers, left out
lines, made list items of wrapped lines and changed characters ("those!" became "thosefi").
"""

from importlib.metadata import version
from pathlib import Path

from indexer.parsers.base import Limits, check_characters, check_pages
from indexer.parsers.detect import JPEG, PDF, PNG, TIFF
from indexer.parsers.layout import Line, blocks, heading_sizes, lines_of, ocr_lines
from indexer.parsers.markdown import Draft, first_heading, squeeze
from indexer.parsers.ocr import OCR_WIDTH, OcrLine, read_lines
from indexer.parsers.pages import Pages, open_pages
from ragplat.errors import CorruptDocument
from ragplat.signature import signature
from ragplat.types import Parsed

_FEW = 100  # characters; a page with fewer and a full-page image is a scan with a stamp on it
_UNREADABLE = 0.1  # share of characters without meaning that makes a page worth reading by OCR: more than formulas have


class Pdf:
    """PDF files, and PNG, JPEG and TIFF images of pages."""

    name = "pdf"
    media_types = frozenset({PDF, PNG, JPEG, TIFF})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1, pdfium=version("pypdfium2"), rapidocr=version("rapidocr"))

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. Pages without text, and parts in fonts that cannot be read, go through OCR."""
        with open_pages(path) as pages:
            check_pages(len(pages), limits)
            reading = _Reading(limits)
            for number in range(1, len(pages) + 1):
                reading.add(pages, number)
            properties = pages.properties()
            warnings = [*pages.warnings(), *reading.warnings()]
        draft = reading.written()
        title = squeeze(properties.pop("title", ""))
        return Parsed(
            text=draft.text,
            pages=draft.pages,
            markup="markdown",
            title=title if title.lower() not in ("", "untitled") else first_heading(draft.text),
            ocr_pages=tuple(reading.by_ocr),
            blank_pages=draft.blank_pages,
            warnings=tuple(warnings),
            metadata={field: squeeze(value) for field, value in properties.items()},
        )


class _Reading:
    """The lines of the pages read so far, and what went wrong on them."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._lines: list[list[Line]] = []
        self._ratios: list[float] = []  # height / width
        self._characters = 0
        self._damaged: list[CorruptDocument] = []
        self._unread: list[int] = []  # pages that needed OCR after its limit was reached
        self._lost = 0  # characters in unreadable fonts that OCR did not replace
        self.by_ocr: list[int] = []

    def add(self, pages: Pages, number: int) -> None:
        lines: list[Line] = []
        ratio = 1.0
        try:
            width, height = pages.size(number)
            ratio = height / width
            lines = lines_of(pages.characters(number))
            if needs_ocr(pages, number, lines):
                lines = self._read_by_ocr(pages, number, lines, height)
        except CorruptDocument as error:
            if len(pages) == 1:
                raise
            self._damaged.append(error)
        self._lost += sum(line.unreadable for line in lines)
        self._lines.append(lines)
        self._ratios.append(ratio)
        self._characters += sum(len(line.text) for line in lines)
        check_characters(self._characters, self._limits)

    def _read_by_ocr(self, pages: Pages, number: int, lines: list[Line], height: float) -> list[Line]:
        """``lines`` with what OCR read between them, where the first unreadable line stood."""
        if len(self.by_ocr) >= self._limits.ocr_pages:
            self._unread.append(number)
            return lines
        own = [line for line in lines if _is_own(line)]
        found = [line for line in read_lines(pages.picture(number, OCR_WIDTH)) if not _covered(line, own)]
        if not found:
            return lines
        self.by_ocr.append(number)
        place = next((index for index, line in enumerate(lines) if line.unreadable), len(lines))
        return [*filter(_is_own, lines[:place]), *ocr_lines(found, height), *filter(_is_own, lines[place:])]

    def written(self) -> Draft:
        body, levels = heading_sizes(self._lines)
        draft = Draft(self._limits)
        for number, (lines, ratio) in enumerate(zip(self._lines, self._ratios, strict=True), start=1):
            draft.page(number)
            draft.extend(blocks(lines, body, levels, ratio))
        return draft

    def warnings(self) -> list[str]:
        if self._damaged and len(self._damaged) == len(self._lines):
            raise CorruptDocument(f"None of the {len(self._lines)} pages can be read. {self._damaged[0]}")
        said = [str(error) for error in self._damaged[:20]]
        if len(self._damaged) > 20:
            said.append(f"{len(self._damaged) - 20} more pages are damaged and could not be read.")
        if not self._characters and not self._unread:
            said.append("OCR found nothing either.")
        if self._unread:
            said.append(
                f"{len(self._unread)} pages with pictures of text were not read by OCR, as the limit is "
                f"{self._limits.ocr_pages} pages; the first of them is page {self._unread[0]}."
            )
        if self._lost:
            said.append(
                f"{self._lost:,} characters are in fonts that do not say what they stand for: they are missing or may "
                "be wrong."
            )
        return said


def needs_ocr(pages: Pages, number: int, lines: list[Line]) -> bool:
    """Whether page ``number``, whose own text is ``lines``, has text that only its picture shows."""
    characters = sum(len(line.text) for line in lines)
    unreadable = sum(line.unreadable for line in lines)
    if not characters or (unreadable >= _FEW and unreadable >= _UNREADABLE * characters):
        return True
    return characters < _FEW and pages.has_scan(number)


def _is_own(line: Line) -> bool:
    return bool(line.text) and not line.unreadable


def _covered(line: OcrLine, own: list[Line]) -> bool:
    """Whether the page's own text already has this line."""
    x, y = (line.left + line.right) / 2, (line.top + line.bottom) / 2
    return any(known.left <= x <= known.right and known.top <= y <= known.bottom for known in own)
