"""What a parser is, and the limits it works under."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ragplat.errors import LimitExceeded
from ragplat.types import Parsed

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one document may cost. Over a limit, parsing stops with LimitExceeded; nothing is cut short silently."""

    seconds: float = 300.0  # wall time
    memory_bytes: int = 2048 * MIB  # private memory of the parser process, libraries included
    pages: int = 5_000  # pages, slides or sheets
    characters: int = 20_000_000  # of canonical text
    unpacked_bytes: int = 1024 * MIB  # sum of the files inside a ZIP container (DOCX, PPTX, XLSX, EPUB)
    ocr_pages: int = 200  # pages read by OCR in one document; further ones are named in a warning


class Parser(Protocol):
    """Turns files of some media types into canonical text."""

    name: str
    media_types: frozenset[str]  # what it reads

    def signature(self) -> str:
        """A stable name for "parsed exactly like this"; changes whenever the text it makes may change."""

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """The text of the file at ``path``.

        ``name`` is the file's own name, for messages; ``media_type`` comes from ``detect``. Leaves ``language`` and
        ``parser`` empty: ``indexer.parsers.parse`` fills them for every parser alike. Raises DocumentError.
        """


def check_pages(count: int, limits: Limits, noun: str = "pages") -> None:
    """Raise LimitExceeded when a document of ``count`` pages is over the limit."""
    if count > limits.pages:
        raise LimitExceeded(
            f"The document has {count:,} {noun}; the limit is {limits.pages:,}. Split it, or raise the limit on pages."
        )


def check_characters(count: int, limits: Limits) -> None:
    """Raise LimitExceeded when ``count`` characters of text are over the limit."""
    if count > limits.characters:
        raise LimitExceeded(
            f"The document holds more than {limits.characters:,} characters of text, which is the limit. "
            "Split it, or raise the limit on characters."
        )
