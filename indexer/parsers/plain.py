"""Plain text, Markdown, JSON and CSV, without a library: the canonical text of text files is their own text."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from indexer.parsers.base import Limits, check_characters
from indexer.parsers.decode import decode, is_text
from indexer.parsers.detect import CSV, JSON, MARKDOWN, TEXT
from indexer.parsers.markdown import clean, first_heading, table
from ragplat.errors import CorruptDocument
from ragplat.signature import signature
from ragplat.types import Parsed

_FRONT_MATTER = re.compile(r"---\n(.*?)\n(?:---|\.\.\.)\n", re.DOTALL)
_TITLE = re.compile(r"^title:\s*(['\"]?)(.+?)\1\s*$", re.MULTILINE)
_TABLE_ROW = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)+\|?\s*$", re.MULTILINE)
_SNIFF = 16 * 1024


class PlainText:
    """Text, Markdown, JSON and CSV files."""

    name = "plain"
    media_types = frozenset({TEXT, MARKDOWN, JSON, CSV})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. CSV becomes a Markdown table and JSON is indented; the others stay as they are."""
        data = path.read_bytes()
        if not is_text(data):
            raise CorruptDocument("The file is named as text, but holds binary data.")
        text, warnings = decode(data)
        check_characters(len(text), limits)
        if media_type == CSV:
            return _csv(text, warnings)
        if media_type == JSON:
            return _json(text, warnings)
        if media_type == MARKDOWN:
            found = len(_TABLE_ROW.findall(text))
            return Parsed(text=text, pages=(), markup="markdown", title=_title(text), tables=found, warnings=warnings)
        return Parsed(text=text, pages=(), markup="plain", warnings=warnings)


def _title(text: str) -> str:
    front = _FRONT_MATTER.match(text)
    named = _TITLE.search(front[1]) if front else None
    return named[2] if named else first_heading(text[front.end() :] if front else text)


def _csv(text: str, warnings: tuple[str, ...]) -> Parsed:
    """A Markdown table, so that its header row is known as one. The delimiter is guessed from the first lines."""
    try:
        dialect: Any = csv.Sniffer().sniff(text[:_SNIFF], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    before = csv.field_size_limit(max(len(text), 1))  # the limit is the whole process's: it is put back
    try:
        rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CorruptDocument(f"The file is not valid CSV: {error}.") from error
    finally:
        csv.field_size_limit(before)
    if not rows:
        return Parsed(text="", pages=(), markup="plain", warnings=warnings)
    if len({len(row) for row in rows}) > 1:
        warnings += ("Some rows have more or fewer cells than others; short rows were filled up.",)
    return Parsed(text=table(rows), pages=(), markup="markdown", tables=1, warnings=warnings)


def _json(text: str, warnings: tuple[str, ...]) -> Parsed:
    """Indented and with characters instead of \\u escapes, so that it can be read and searched.

    Where that would lose something (names used twice, numbers out of range, or no valid JSON) it stays as it is.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_same)
        laid_out = clean(json.dumps(value, indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return Parsed(text=text, pages=(), markup="plain", warnings=warnings)
    return Parsed(text=laid_out, pages=(), markup="plain", warnings=warnings)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name is used twice in one object")
    return dict(pairs)


def _same(literal: str) -> float:
    if repr(float(literal)) != literal:
        raise ValueError("this number would be written differently")
    return float(literal)
