"""Excel workbooks through kreuzberg: its cells, written as Markdown tables by us. The one file that uses kreuzberg."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from indexer.parsers.archive import Archive, core_properties
from indexer.parsers.base import Limits, check_pages
from indexer.parsers.detect import XLSX
from indexer.parsers.markdown import Draft, heading, squeeze, table
from ragplat.errors import CorruptDocument, EncryptedDocument
from ragplat.signature import signature
from ragplat.types import Parsed

_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d) 00:00:00")
_TIME_ONLY = re.compile(r"18(?:99-12-31|99-12-30) (\d\d:\d\d:\d\d)")


class Xlsx:
    """Excel workbooks: every sheet, hidden ones too, is a page with its name as heading and one table."""

    name = "xlsx"
    media_types = frozenset({XLSX})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1, kreuzberg=version("kreuzberg"))

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. Formulas give the value they had when the file was saved."""
        with Archive(path, limits) as archive:
            properties = core_properties(archive)
            comments = sum(name.startswith("xl/comments") for name in archive.names())
        result = _extract(path)
        names = result.metadata.get("sheet_names") or []
        check_pages(len(names), limits, "sheets")
        cells = {found.page_number: found.cells for found in result.tables}
        draft = Draft(limits)
        for number, sheet in enumerate(names, start=1):
            draft.page(number)
            if number in cells:
                draft.add(heading(2, sheet))
                draft.add(table([[_cell(cell) for cell in row] for row in cells[number]]))
        return Parsed(
            text=draft.text,
            pages=draft.pages,
            markup="markdown",
            title=properties.pop("title", ""),
            blank_pages=draft.blank_pages,
            tables=len(cells),
            warnings=(f"Left out: the comments on {comments} sheets.",) if comments else (),
            metadata=properties,
        )


def _extract(path: Path) -> Any:
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    try:
        return kreuzberg.extract_bytes_sync(path.read_bytes(), XLSX, config=config)
    except kreuzberg.KreuzbergError as error:
        if "password" in str(error).lower():
            raise EncryptedDocument() from error
        raise CorruptDocument(f"The workbook is damaged and cannot be read ({squeeze(str(error))[:300]}).") from error


def _cell(text: str) -> str:
    """Dates without a midnight nobody typed, times without the day Excel counts from."""
    for pattern in (_MIDNIGHT, _TIME_ONLY):
        if found := pattern.fullmatch(text):
            return found[1]
    return text
