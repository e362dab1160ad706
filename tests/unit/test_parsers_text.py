"""Encodings, detection, plain text, CSV, JSON and the Markdown writer."""

import re
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parsers import parse
from indexer.parsers.base import Limits
from indexer.parsers.decode import decode, is_text
from indexer.parsers.detect import CSV, DOCX, EMAIL, EPUB, HTML, JSON, MARKDOWN, PDF, PNG, PPTX, TEXT, XLSX, detect
from indexer.parsers.markdown import Draft, clean, fence, first_heading, heading, paragraph, table
from ragplat.errors import CorruptDocument, EmptyDocument, EncryptedDocument, LimitExceeded, UnsupportedFormat
from tests.fixtures.documents import SAMPLES, docx, para, zipped


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, name, content):
    path = write(tmp_path, name, content)
    return parse(path, name, detect(path, name), Limits())


# encodings


CHINESE = "检索增强生成把文档切成小块，再用向量搜索。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_without_a_warning(encoding):
    text = "Zürich costs 5 €.\nSecond line.\n"
    data = text.encode(encoding)
    assert is_text(data)
    assert decode(data) == (text, ())


def test_chinese_in_gb18030_is_recognised():
    text, warnings = decode(CHINESE.encode("gb18030"))
    assert text == CHINESE
    assert "GB18030" in warnings[0]


@pytest.mark.parametrize("text", ["Größe und Straße", "déjà vu, ça va", "Ñandú – “quoted”", "Année 1998: été"])
def test_western_text_is_not_taken_for_chinese(text):
    read_text, warnings = decode(text.encode("cp1252"))
    assert read_text == text
    assert "Latin-1" in warnings[0]


@given(st.binary(max_size=300))
def test_any_bytes_give_storable_text(data):
    text, _ = decode(data)
    assert "\0" not in text and "\r" not in text
    text.encode()


@given(st.text(max_size=200))
def test_utf8_survives_but_for_line_ends_and_nul(text):
    assert decode(b"\xef\xbb\xbf" + text.encode())[0] == clean(text)


def test_clean_keeps_every_other_character():
    assert clean("a\r\nb\rc\0d\ud800e\x0cf\tg") == "a\nb\nc\ufffdd\ufffde\x0cf\tg"


# detection


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("letter.pdf", PDF),
        ("letter.docx", DOCX),
        ("talk.pptx", PPTX),
        ("book.xlsx", XLSX),
        ("book.epub", EPUB),
        ("page.html", HTML),
        ("note.md", MARKDOWN),
        ("note.txt", TEXT),
        ("note", TEXT),
        ("table.csv", CSV),
        ("data.json", JSON),
        ("mail.eml", EMAIL),
        ("scan.png", PNG),
    ],
)
def test_every_kind_is_detected(tmp_path, name, kind):
    path = write(tmp_path, name, SAMPLES[name])
    assert detect(path, name) == kind
    if kind not in (MARKDOWN, TEXT, CSV, JSON):
        assert detect(path, "no-extension") == kind


def test_content_goes_before_the_name(tmp_path):
    assert detect(write(tmp_path, "x", SAMPLES["letter.pdf"]), "letter.docx") == PDF
    assert detect(write(tmp_path, "y", b"junk\n\x00\x01\n" + SAMPLES["letter.pdf"]), "seed.fuzz") == PDF
    assert detect(write(tmp_path, "z", "How to write %PDF-1.4 files"), "note.txt") == TEXT


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.txt", b"", EmptyDocument, "0 bytes"),
        ("a.docx", b"MZ\x90\x00\x03\x00\x00\x00", UnsupportedFormat, "a Windows program. Supported are: PDF"),
        ("a.txt", b"text\x00\x01\x02\x03\x04\x05" * 9, UnsupportedFormat, "binary data named .txt"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, UnsupportedFormat, "old Office document"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            EncryptedDocument,
            "password",
        ),
        ("a.rtf", rb"{\rtf1 hello}", UnsupportedFormat, "RTF"),
        ("a.pdf", b"<!DOCTYPE html><html>404", CorruptDocument, "named .pdf, but holds a web page"),
        ("a.png", b"\x00\x01\x02 no picture", CorruptDocument, "named .png, but its content is not PNG"),
        ("a.docx", b"PK\x03\x04 cut off", CorruptDocument, "damaged ZIP"),
        ("a.zip", zipped({"a.txt": "x"}), UnsupportedFormat, "a ZIP archive"),
        ("a.odt", zipped({"mimetype": "application/vnd.oasis.opendocument.text"}), UnsupportedFormat, "OpenDocument"),
        ("a.gif", b"GIF89a\x00\x00\x00", UnsupportedFormat, "a GIF image"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, error, says):
    with pytest.raises(error, match=re.escape(says)):
        detect(write(tmp_path, name, content), name)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 30_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(LimitExceeded, match="29 MiB in 1 parts; the limits are 1 MiB"):
        parse(path, path.name, DOCX, Limits(unpacked_bytes=2**20))


# plain text and Markdown are their own canonical text


@given(st.text(min_size=1, max_size=300).filter(str.strip))
def test_text_and_markdown_stay_as_they_are(text):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        if is_text(path.read_bytes()):
            for kind in (TEXT, MARKDOWN):
                assert parse(path, "a", kind, Limits()).text == clean(text)


def test_markdown_title_and_tables(tmp_path):
    made = read(tmp_path, "a.md", "---\ntitle: 'From front matter'\n---\n# Heading\n\n|a|b|\n|--|--|\n|1|2|\n")
    assert (made.title, made.tables, made.markup) == ("From front matter", 1, "markdown")
    assert read(tmp_path, "b.md", "```\n# comment\n```\n\n## Real one ##\n").title == "Real one"
    assert read(tmp_path, "c.md", "no heading").title == ""


def test_blank_files_are_empty_documents(tmp_path):
    with pytest.raises(EmptyDocument, match="The file holds no text"):
        read(tmp_path, "a.txt", " \n\t\n")


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_becomes_a_table_with_a_header(tmp_path, delimiter):
    rows = [["Name", "City"], ["Ann", "Bern"], ["Bob", "Rome"]]
    made = read(tmp_path, "a.csv", "\r\n".join(delimiter.join(row) for row in rows))
    assert made.text == "| Name | City |\n| --- | --- |\n| Ann | Bern |\n| Bob | Rome |"
    assert (made.tables, made.markup) == (1, "markdown")


def test_csv_keeps_quotes_pipes_and_uneven_rows(tmp_path):
    made = read(tmp_path, "a.csv", 'a,b\n"x, ""y""\nz","p|q"\n\n1,2,3\n')
    assert made.text.splitlines()[2:] == ['| x, "y" z | p\\|q |  |', "| 1 | 2 | 3 |"]
    assert "Some rows have more or fewer cells" in made.warnings[0]


@given(st.lists(st.lists(st.text("ab|\n ,", max_size=4), min_size=1, max_size=4), min_size=1, max_size=5))
def test_every_row_of_a_table_has_every_cell(rows):
    lines = table(rows).split("\n")
    width = max(map(len, rows))
    assert all(len(re.findall(r"(?<!\\)\|", line)) == width + 1 for line in lines)
    assert len(lines) >= 2 and lines[1] == "|" + " --- |" * width


# JSON


def test_json_is_indented_and_readable(tmp_path):
    made = read(tmp_path, "a.json", r'{"name":"\u4f60\u597d","n":[1,2.5]}')
    assert made.text == '{\n  "name": "你好",\n  "n": [\n    1,\n    2.5\n  ]\n}'


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"price": 1.10}', '{"a": 1}\n{"a": 2}', "{broken", "[" * 100_000]
)
def test_json_that_would_lose_something_stays_as_it_is(tmp_path, text):
    assert read(tmp_path, "a.json", text).text == text


# the Markdown writer


def test_only_what_would_become_a_heading_is_escaped():
    assert paragraph("# no heading\n* 5 * 3_000 `x` #5") == "\\# no heading\n* 5 * 3_000 `x` #5"


def test_headings_are_one_line():
    assert heading(9, " Two\nlines\t \x07here ") == "###### Two lines here"
    assert first_heading("text\n### Deep `code` { #deep }\n") == "Deep code"


@given(st.text("`a\n", max_size=30))
def test_a_fence_is_longer_than_what_it_holds(code):
    block = fence(code, "py").split("\n")
    assert block[0].removesuffix("py") == block[-1]
    assert block[-1] not in block[1:-1]


@given(st.lists(st.one_of(st.none(), st.text("a b\n", max_size=8)), max_size=12))
def test_draft_pages_hold_what_was_added_on_them(steps):
    draft, expected = Draft(Limits()), []
    for step in steps:
        if step is None:
            draft.page(len(expected) + 1)
            expected.append([])
        elif expected:
            draft.add(step)
            if step.strip():
                expected[-1].append(step.strip("\n"))
    found = [draft.text[page.start : page.end] for page in draft.pages]
    assert found == ["\n\n".join(blocks) for blocks in expected]
    assert draft.blank_pages == tuple(n for n, blocks in enumerate(expected, start=1) if not blocks)


def test_docx_with_a_broken_part(tmp_path):
    with pytest.raises(CorruptDocument, match=r'"word/document.xml" of the file is not valid XML'):
        read(tmp_path, "a.docx", docx("<w:p>"))
    assert read(tmp_path, "b.docx", docx(para("fine"))).text == "fine"
