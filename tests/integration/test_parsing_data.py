"""Every sample file ends as text or as an error a person understands."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.parsers import sandbox
from indexer.parsers.base import MIB, Limits
from indexer.parsers.detect import detect
from ragplat.errors import (
    CorruptDocument,
    DocumentError,
    EmptyDocument,
    EncryptedDocument,
    LimitExceeded,
    UnsupportedFormat,
)

pytestmark = pytest.mark.data

LIMITS = Limits(seconds=60, memory_bytes=1536 * MIB)
READ_BY_OCR = {"react_paper.pdf", "non_text_searchable.pdf", "grayscale-image.pdf"}  # a sample: it takes seconds a page
NOT_TEXT = {  # file > error and what it says
    "libreoffice-writer-password.pdf": (EncryptedDocument, "password"),
    "unreadablemetadata.pdf": (CorruptDocument, "damaged"),
    "grayscale-image.pdf": (EmptyDocument, "1 page, none with text. OCR found nothing either."),
    "cmyk-image.pdf": (EmptyDocument, "1 pages with pictures of text were not read by OCR"),
    "imagemagick-ASCII85Decode.pdf": (EmptyDocument, "not read by OCR"),
    "imagemagick-CCITTFaxDecode.pdf": (EmptyDocument, "not read by OCR"),
    "imagemagick-lzw.pdf": (EmptyDocument, "not read by OCR"),
}
SAYS = {  # file > what must be in its text
    "react_paper.pdf": [
        "# REAC T: SYNERGIZING REASONING AND ACTING IN LANGUAGE MODELS\n\n",
        "## 1 INTRODUCTION\n\nA unique feature of human intelligence",
        "Consider the example of cooking up a dish",  # hyphenated at the end of a line
        "Act 1: Search[Apple Remote]",  # by OCR: its font says nothing about its characters
        "## REFERENCES",
    ],
    "multicolumn.pdf": [
        "Lorem ipsum dolor sit amet, consectetuer adipiscing elit.",
        "Austria 8.9 83,879 Vienna German",
    ],
    "google-doc-document.pdf": ["Although never is often better than *right* now.", "let's do more of those!"],
    "sample_pdf_2.pdf": ["This is a header. Page 2 of 4", "This is footer number 2"],
    "pdfkit.pdf": ["Header", "Foo: bar\nABC: DEF"],
    "habibi.pdf": ["habibi حَبيبي"],
    "non_text_searchable.pdf": ["an image rather than a text document"],
    "GeoTopo-komprimiert.pdf": ["1.1 Topologische Räume", "Prof. Dr. Herrlich"],
    "sample_docx_3.docx": ["| Industry | AI Use Case | Impact |\n| --- | --- | --- |\n| Healthcare |"],
    "sample_pptx.pptx": ["## Title of First Slide\n\n- This is a bullet point\n- This is another bullet point"],
    "multiple_tables.xlsx": ["| col_a | col_b |  |  |  |", "col_c | col_d"],
    "paul_graham_superlinear.html": ["\n\nYou can't understand the world without understanding the concept"],
    "what_is_haystack.html": ["# What is Haystack?\n\nHaystack is the open source Python framework"],
}


@pytest.fixture(scope="module", autouse=True)
def _ended():
    yield
    sandbox.shutdown()


def samples(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent != folder)


def read(path: Path, limits: Limits = LIMITS):
    return sandbox.parse_file(path, path.name, detect(path, path.name), limits)


@pytest.mark.parametrize("folder", ["docs_office", "docs_pypdf_samples"])
def test_every_sample_is_read(data_dir, folder):
    files = samples(data_dir / folder)
    assert len(files) >= 24
    wrong = []
    for path in files:
        try:
            made = read(path, replace(LIMITS, ocr_pages=path.name in READ_BY_OCR))
        except DocumentError as error:
            expected, says = NOT_TEXT.get(path.name, (None, ""))
            if type(error) is not expected or says not in str(error):
                wrong.append(f"{path.name}: {error!r}")
            continue
        missing = [text for text in SAYS.get(path.name, ()) if text not in made.text]
        if missing or path.name in NOT_TEXT or not made.text.strip():
            wrong.append(f"{path.name}: lacks {missing}")
    assert not wrong, "\n".join(wrong)


def test_pages_are_where_they_say(data_dir):
    made = read(data_dir / "docs_office/pdf/sample_pdf_1.pdf")
    pages = [made.text[page.start : page.end] for page in made.pages]
    assert pages[0].startswith("# A sample PDF file")
    assert "Page 2 of Sample PDF" in pages[1] and pages[2] == "" and "the page 3 is empty" in pages[3]
    assert made.blank_pages == (3,)


def test_text_files_are_their_own_text(data_dir):
    for path in (data_dir / "docs_tree_fastapi").rglob("*.md"):
        if path.stat().st_ino % 8 == 0:  # a sample
            assert read(path).text == path.read_text(encoding="utf-8"), path.name


def test_what_a_pdf_says_is_found_on_its_page(data_dir):
    """Sentences of the parsed text lead back to boxes on the very page."""
    path = data_dir / "docs_office/pdf/react_paper.pdf"
    made = read(path, Limits(ocr_pages=0))
    for number in (1, 3, 12, 31):
        page = made.pages[number - 1]
        text = made.text[page.start : page.end]
        passage = text[len(text) // 3 : len(text) // 3 + 300]
        found = sandbox.find_boxes(path, number, passage)
        assert 2 <= len(found) <= 30, (number, passage)
        assert all(box.page == number and 0 <= box.left < box.right <= 1 for box in found)
        assert sandbox.find_boxes(path, 17, passage) == []


SLOW = "docs_qpdf__fuzz__qpdf_extra__69977b.fuzz"  # a JPEG that takes 11 s to unpack, and then is broken
EXPECTED = {  # category > errors allowed; None: may be read
    "pdf-encrypted-empty-user-password": {None, EmptyDocument},
    "pdf-no-pages": {CorruptDocument},
    "empty-file": {EmptyDocument},
    "pdf-embedded-file": {None},
    "pdf-encrypted-needs-password": {EncryptedDocument, None},
    "pdf-bad-mediabox": {None, CorruptDocument, EmptyDocument},
    "pdf-parser-raises-or-hangs": {None, CorruptDocument, EmptyDocument},
    "fuzzer-output": {None, CorruptDocument, EmptyDocument, UnsupportedFormat, LimitExceeded},
}
OPEN_WITHOUT = {  # only attachments are encrypted in these, or pdfium opens them with no password
    "docs_qpdf__qpdf__qtest__qpdf__enc-XI-R6,V5,U=attachment,encrypted-attachments.pdf",
    "docs_qpdf__qpdf__qtest__qpdf__nontrivial-crypt-filter.pdf",
    "docs_qpdf__qpdf__qtest__qpdf__unfilterable-with-crypt.pdf",
}


def test_hostile_files_end_as_text_or_as_a_clear_error(data_dir):
    folder = data_dir / "docs_hostile"
    rows = [line.split("\t") for line in (folder / "index.tsv").read_text().splitlines()[1:]]
    assert len(rows) > 60
    wrong = []
    for name, category in rows:
        try:
            read(folder / name, replace(LIMITS, seconds=5) if name == SLOW else LIMITS)
            outcome = None
        except DocumentError as error:
            outcome = type(error)
            if not re.match(r"[A-Z0-9].{15,400}[.]$", str(error), re.DOTALL):
                wrong.append(f"{name}: not a sentence: {error}")
        password = category == "pdf-encrypted-needs-password"
        if outcome not in EXPECTED[category] or (password and (outcome is None) != (name in OPEN_WITHOUT)):
            wrong.append(f"{name} ({category}): {outcome}")
    assert not wrong, "\n".join(wrong)
