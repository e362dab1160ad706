"""What kind of file this is: by content first, by extension where the content leaves it open (kinds of text)."""

import re
import zipfile
from pathlib import Path

from indexer.parsers.decode import is_text
from ragplat.errors import CorruptDocument, EmptyDocument, EncryptedDocument, UnsupportedFormat

_OFFICE = "application/vnd.openxmlformats-officedocument."
PDF = "application/pdf"
DOCX = _OFFICE + "wordprocessingml.document"
PPTX = _OFFICE + "presentationml.presentation"
XLSX = _OFFICE + "spreadsheetml.sheet"
EPUB = "application/epub+zip"
HTML = "text/html"
MARKDOWN = "text/markdown"
CSV = "text/csv"
JSON = "application/json"
TEXT = "text/plain"
EMAIL = "message/rfc822"
PNG, JPEG, TIFF = "image/png", "image/jpeg", "image/tiff"

NAMES = {  # as people call them
    PDF: "PDF", DOCX: "Word (DOCX)", PPTX: "PowerPoint (PPTX)", XLSX: "Excel (XLSX)", EPUB: "EPUB", HTML: "HTML",
    MARKDOWN: "Markdown", CSV: "CSV", JSON: "JSON", TEXT: "plain text", EMAIL: "e-mail (EML)",
    PNG: "PNG image", JPEG: "JPEG image", TIFF: "TIFF image",
}  # fmt: skip
_TEXT_EXTENSIONS = {
    "md": MARKDOWN, "markdown": MARKDOWN, "mdx": MARKDOWN, "csv": CSV, "tsv": CSV, "json": JSON,
    "html": HTML, "htm": HTML, "xhtml": HTML, "eml": EMAIL,
}  # fmt: skip
_BINARY_EXTENSIONS = {
    "pdf": PDF, "docx": DOCX, "pptx": PPTX, "xlsx": XLSX, "epub": EPUB, "png": PNG, "jpg": JPEG, "jpeg": JPEG,
    "tif": TIFF, "tiff": TIFF,
}  # fmt: skip
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
)
_FOREIGN = (  # known, and not ours: a name helps more than "unknown"
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"{\\rtf", "an RTF document: save it as DOCX"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "a WebP image, or sound or video"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"ID3", "a sound file"),
    (b"%!PS", "a PostScript document: save it as PDF"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEAD = 64 * 1024
_HTML_START = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S)
_MAIL_HEADER = re.compile(
    rb"^(from|to|cc|subject|date|received|message-id|return-path|mime-version|delivered-to):", re.I | re.M
)


def detect(path: Path, name: str) -> str:
    """The media type of the file at ``path``, which its owner calls ``name``.

    Raises UnsupportedFormat naming the kind of file and what is supported, EmptyDocument for a file without bytes,
    EncryptedDocument for a password-protected Office file, CorruptDocument where content and name disagree.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise EmptyDocument("The file is empty (0 bytes).")
    extension = Path(name).suffix.lower().lstrip(".")
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and (extension == "pdf" or not is_text(head[:1024]))):
        return PDF
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(_OLE):
        raise _ole_error(path)
    if is_text(head):
        return _text_kind(head, extension)
    for signature, kind in _FOREIGN:
        if head.startswith(signature):
            raise _unsupported(kind)
    if extension in _BINARY_EXTENSIONS:
        expected = NAMES[_BINARY_EXTENSIONS[extension]]
        raise CorruptDocument(f"The file is named .{extension}, but its content is not {expected}. Save it again.")
    raise _unsupported(f"binary data named .{extension}" if extension else "binary data of an unknown kind")


def _unsupported(kind: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"The file is {kind}. Supported are: {', '.join(NAMES.values())}.")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as container:
            names = set(container.namelist())
            declared = container.open("mimetype").read(100).decode("ascii", "replace") if "mimetype" in names else ""
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise CorruptDocument(f"The file is a damaged ZIP container ({error}). Save it again.") from error
    for part, media_type in (("word/document.xml", DOCX), ("ppt/presentation.xml", PPTX), ("xl/workbook.xml", XLSX)):
        if part in names:
            return media_type
    if declared.strip() == EPUB or "META-INF/container.xml" in names:
        return EPUB
    if "opendocument" in declared:
        raise _unsupported("an OpenDocument file: save it as DOCX, PPTX or XLSX")
    raise _unsupported("a ZIP archive: unpack it and upload the files inside")


def _ole_error(path: Path) -> UnsupportedFormat | EncryptedDocument:
    with path.open("rb") as file:
        directory = file.read(4 * 1024 * 1024)
    if "EncryptedPackage".encode("utf-16-le") in directory:
        return EncryptedDocument()
    return _unsupported("an old Office document (DOC, XLS, PPT or MSG): save it as DOCX, XLSX, PPTX or EML")


def _text_kind(head: bytes, extension: str) -> str:
    start = head[:4096].decode("utf-8", "replace").lstrip("\ufeff")
    if head.startswith(b"{\\rtf"):
        raise _unsupported("an RTF document: save it as DOCX")
    if head.startswith(b"%!PS"):
        raise _unsupported("a PostScript document: save it as PDF")
    if extension in _BINARY_EXTENSIONS:
        kind = "a web page" if _HTML_START.match(start) else "plain text"
        raise CorruptDocument(
            f"The file is named .{extension}, but holds {kind}: most likely a failed download. Get it again."
        )
    if extension in _TEXT_EXTENSIONS:
        return _TEXT_EXTENSIONS[extension]
    if _HTML_START.match(start):
        return HTML
    if not extension and len(set(_MAIL_HEADER.findall(head[:4096].split(b"\n\n")[0]))) >= 3:
        return EMAIL
    return TEXT
