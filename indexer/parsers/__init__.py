"""From a file to canonical text. ``sandbox.parse_file`` is the way in; ``parse`` here is what runs inside it."""

from dataclasses import replace
from pathlib import Path

from indexer.parsers import detect as kinds
from indexer.parsers.base import Limits, Parser, check_characters
from ragplat.errors import EmptyDocument, UnsupportedFormat
from ragplat.registry import Registry
from ragplat.text import detect_language
from ragplat.types import Parsed

PARSERS = Registry(
    "parser",
    {
        "docx": "indexer.parsers.docx:Docx",
        "epub": "indexer.parsers.epub:Epub",
        "html": "indexer.parsers.html:Html",
        "mail": "indexer.parsers.mail:Mail",
        "pdf": "indexer.parsers.pdf:Pdf",
        "plain": "indexer.parsers.plain:PlainText",
        "pptx": "indexer.parsers.pptx:Pptx",
        "xlsx": "indexer.parsers.xlsx:Xlsx",
    },
)
PARSER_FOR = {  # "auto"
    kinds.PDF: "pdf",
    kinds.PNG: "pdf",
    kinds.JPEG: "pdf",
    kinds.TIFF: "pdf",
    kinds.DOCX: "docx",
    kinds.PPTX: "pptx",
    kinds.XLSX: "xlsx",
    kinds.EPUB: "epub",
    kinds.HTML: "html",
    kinds.EMAIL: "mail",
    kinds.TEXT: "plain",
    kinds.MARKDOWN: "plain",
    kinds.CSV: "plain",
    kinds.JSON: "plain",
}


def parser_for(media_type: str, name: str = "auto") -> Parser:
    """The parser called ``name``, or the usual one for ``media_type``.

    Raises BadInput for an unknown name, UnsupportedFormat when the parser does not read this media type.
    """
    if name == "auto":
        if media_type not in PARSER_FOR:
            raise UnsupportedFormat(
                f'No parser reads "{media_type}". Supported are: {", ".join(kinds.NAMES.values())}.'
            )
        name = PARSER_FOR[media_type]
    parser: Parser = PARSERS.get(name)()
    if media_type not in parser.media_types:
        readable = ", ".join(sorted(kinds.NAMES.get(kind, kind) for kind in parser.media_types))
        raise UnsupportedFormat(f'The parser "{name}" reads only {readable}, not "{media_type}".')
    return parser


def parse(path: Path, name: str, media_type: str, limits: Limits, parser: str = "auto") -> Parsed:
    """Parse in this very process; use ``sandbox.parse_file`` for files of others. Raises DocumentError."""
    chosen = parser_for(media_type, parser)
    parsed = chosen.parse(path, name, media_type, limits)
    check_characters(len(parsed.text), limits)
    if not parsed.text.strip():
        raise EmptyDocument(_why_empty(parsed))
    return replace(parsed, language=detect_language(parsed.text), parser=chosen.signature())


def _why_empty(parsed: Parsed) -> str:
    pages = len(parsed.pages)
    reason = "The file holds no text" if not pages else f"{pages} {'page' if pages == 1 else 'pages'}, none with text"
    return ". ".join([reason, *(warning.rstrip(".") for warning in parsed.warnings)]) + "."
