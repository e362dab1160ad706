"""PDF pages: characters to lines, lines to blocks, passages to boxes."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.parsers import parse
from indexer.parsers.base import Limits
from indexer.parsers.boxes import boxes, locate
from indexer.parsers.detect import PDF
from indexer.parsers.layout import Line, blocks, heading_sizes, lines_of, ocr_lines
from indexer.parsers.ocr import OcrLine
from indexer.parsers.pages import Char, open_pages, page_count, page_size, render
from ragplat.errors import BadInput, CorruptDocument, LimitExceeded
from tests.fixtures.documents import encoded, picture
from tests.pdf import make_pdf

A4 = 842 / 595


def line(text, top, left=0.1, right=0.9, size=10.0, height=0.012, **rest):
    return Line(text, left, top, right, top + height, size, **rest)


def written(lines):
    body, levels = heading_sizes([lines])
    return blocks(lines, body, levels, A4)


def chars(*lines):
    """Characters on a grid: every sign 0.01 wide, lines 0.02 apart."""
    found = []
    for row, text in enumerate(lines):
        found += [Char(sign, 0.01 * i, 0.02 * row, 0.01 * (i + 1), 0.02 * row + 0.01) for i, sign in enumerate(text)]
        found.append(Char("\n", 0, 0, 0, 0))
    return found


# lines and blocks


def test_lines_keep_their_order_and_join_split_words():
    found = lines_of(chars("adip\u00adiscing elit", "a chain-of\u00adthought", "pre\u00adFix", "", "  end  "))
    assert [item.text for item in found] == ["adipiscing elit", "a chain-of-thought", "pre-Fix", "end"]


def test_unreadable_characters_are_counted_and_left_out():
    bad = [char._replace(unreadable=True) for char in chars("$FW\x037KLQN")]
    mixed = [*chars("f")[:1], *[char._replace(unreadable=True) for char in chars("z")[:1]], Char("\n", 0, 0, 0, 0)]
    plot = [char._replace(unreadable=True) for char in chars("0 5 10")[:-1]]
    found = lines_of([*bad[:-1], Char("\n", 0, 0, 0, 0), *mixed, *plot])
    assert [(item.text, item.unreadable) for item in found] == [("", 9), ("f", 1), ("0 5 10", 6)]


def test_headings_by_size_and_by_bold_type():
    lines = [
        line("The Title", 0.05, size=20),
        line("1 INTRODUCTION", 0.10, size=14),
        line("Running text that is long enough to set the size of the body, and then some more of it.", 0.13),
        line("Bold heading", 0.17, bold=True),
        line("Bold sentence, not a heading.", 0.20, bold=True),
        line("12.5", 0.3, size=20),
    ]
    assert written(lines) == [
        "# The Title",
        "## 1 INTRODUCTION",
        lines[2].text,
        "### Bold heading",
        "Bold sentence, not a heading.",
        "12.5",
    ]


def test_a_heading_over_two_lines_is_one():
    lines = [line("A Title That", 0.05, size=20, height=0.02), line("Goes On", 0.076, size=20, height=0.02)]
    lines += [line("body " * 30, 0.2 + 0.015 * n) for n in range(3)]
    assert written(lines)[0] == "# A Title That Goes On"


def test_stamps_up_the_margin_are_no_headings():
    stamp = Line("arXiv:2210.03629", 0.01, 0.3, 0.03, 0.7, 20.0)
    assert written([stamp, *(line("body text " * 8, 0.1 + 0.015 * n) for n in range(4))])[0] == "arXiv:2210.03629"


def test_paragraphs_split_at_gaps_and_at_indents():
    lines = [
        line("first line", 0.100),
        line("second line.", 0.115),
        line("indented, a new one", 0.130, left=0.13),
        line("goes on", 0.145),
        line("after a gap", 0.190),
    ]
    assert written(lines) == ["first line\nsecond line.", "indented, a new one\ngoes on", "after a gap"]


def test_a_sentence_goes_on_in_the_next_column():
    lines = [line("it runs", 0.8, right=0.45), line("on here.", 0.1, left=0.55), line("New.", 0.05, left=0.8)]
    assert written(lines) == ["it runs\non here.", "New."]


def test_rows_bullets_and_chinese():
    lines = [
        line("Zhao", 0.10, right=0.2),
        line(", Yu", 0.1002, left=0.205, right=0.3),
        line("• one", 0.15),
        line("more of one", 0.165, left=0.13),
        line("• two", 0.18),
        line("检索增强生成", 0.30),
        line("把文档切块", 0.315),
        line("# 1", 0.40),
    ]
    assert written(lines) == ["Zhao, Yu", "- one\n  more of one", "- two", "检索增强生成把文档切块", "\\# 1"]


def test_ocr_lines_are_read_column_by_column():
    left = [OcrLine(f"left {n}", 0.05, 0.2 + 0.03 * n, 0.45, 0.22 + 0.03 * n) for n in range(8)]
    right = [OcrLine(f"right {n}", 0.55, 0.2 + 0.03 * n, 0.95, 0.22 + 0.03 * n) for n in range(8)]
    title = OcrLine("Title over both", 0.1, 0.05, 0.9, 0.08)
    mixed = [*left, *right, title]
    random.Random(3).shuffle(mixed)
    assert [item.text for item in ocr_lines(mixed, 800)] == [item.text for item in (title, *left, *right)]


# files


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.pdf"
    path.write_bytes(make_pdf([["Hello (world)", "and 100% more"], [], ["Last page."]]))
    return path


def test_a_pdf_gives_its_own_text_page_by_page(paper):
    made = parse(paper, "paper.pdf", PDF, Limits())
    assert [made.text[page.start : page.end] for page in made.pages] == [
        "Hello (world)\nand 100% more",
        "",
        "Last page.",
    ]
    assert (made.blank_pages, made.ocr_pages, made.markup) == ((2,), (), "markdown")


def test_pages_and_pictures(paper):
    assert page_count(paper) == 3
    assert page_size(paper, 1) == (612, 792)
    with Image.open(io.BytesIO(render(paper, 1, 300))) as image:
        assert (image.format, image.size) == ("PNG", (300, 389))
        darkest, lightest = image.convert("L").getextrema()
        assert darkest < 128 and lightest == 255
    with pytest.raises(BadInput, match="no page 4; the document has 3"):
        render(paper, 4, 300)


def test_too_many_pages(paper):
    with pytest.raises(LimitExceeded, match="has 3 pages; the limit is 2"):
        parse(paper, "paper.pdf", PDF, Limits(pages=2))


def test_a_pdf_without_pages_is_not_taken_for_a_protected_one(tmp_path):
    path = tmp_path / "none.pdf"
    path.write_bytes(make_pdf([]))
    with pytest.raises(CorruptDocument, match="no pages"):
        parse(path, "none.pdf", PDF, Limits())


def test_boxes_lie_over_the_ink(paper):
    """The check against pdfium itself: inside the box is ink, in a band above and below it is none."""
    (found,) = boxes(paper, 1, "and 100% more")
    with open_pages(paper) as pages:
        image = pages.picture(1, 1000).convert("L")
    box = (found.left * image.width, found.top * image.height, found.right * image.width, found.bottom * image.height)
    ink = image.point(lambda value: 255 if value < 128 else 0)
    lower = ink.crop((0, round(box[1]) + 1, image.width, image.height))
    left, _, right, _ = lower.getbbox()
    assert abs(left - box[0]) < 5 and abs(right - box[2]) < 5
    assert ink.crop((0, round(box[3]) + 1, image.width, image.height)).getbbox() is None


def test_boxes_on_a_rotated_and_cropped_page(tmp_path):
    path = tmp_path / "turned.pdf"
    source = make_pdf([["Turned"]])
    path.write_bytes(source.replace(b"/MediaBox [0 0 612 792]", b"/Rotate 90 /MediaBox [50 0 612 792]"))
    (found,) = boxes(path, 1, "Turned")
    with open_pages(path) as pages:
        image = pages.picture(1, 1000).convert("L")
    left, top, right, bottom = image.point(lambda value: 255 if value < 128 else 0).getbbox()
    assert found.bottom - found.top > found.right - found.left  # it stands upright
    assert found.left * image.width - 5 < left and right < found.right * image.width + 5
    assert found.top * image.height - 5 < top and bottom < found.bottom * image.height + 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_images_are_documents_of_one_page(tmp_path, kind):
    path = tmp_path / "scan"
    path.write_bytes(encoded(picture([]), kind))
    assert page_count(path) == 1
    assert page_size(path, 1) == (1000, 400)
    with Image.open(io.BytesIO(render(path, 1, 500))) as image:
        assert image.size == (500, 200)


def test_a_damaged_image(tmp_path):
    path = tmp_path / "scan.png"
    path.write_bytes(encoded(picture(["x"]), "PNG")[:300])
    with pytest.raises(CorruptDocument, match="image is damaged"):
        render(path, 1, 500)


# boxes

TEXT = (
    "Retrieval augmented gen\u00aderation splits docu",
    "ments into small chunks. It has 2 steps",
    "and ﬁnds “them” again.",
)


def rows(found):
    return [(round(box.top, 2), round(box.left, 2), round(box.right, 2)) for box in found]


def test_a_passage_gets_one_box_a_line():
    found = locate(chars(*TEXT), "splits documents into", 3)
    assert rows(found) == [(0.0, 0.32, 0.43), (0.02, 0.0, 0.1)]
    assert {box.page for box in found} == {3}


@pytest.mark.parametrize(
    "passage",
    [
        "augmented generation splits",
        "## Augmented **generation** splits",
        "augmented gener-\nation | splits",
        "AUGMENTED GENERATION SPLITS",
    ],
)
def test_marks_hyphens_and_case_do_not_matter(passage):
    assert rows(locate(chars(*TEXT), passage, 1)) == [(0.0, 0.1, 0.38)]


def test_letters_under_each_other_on_two_lines_are_two_boxes():
    assert len(locate(chars("a", "b"), "a b", 1)) == 2


def test_ligatures_are_letters():
    assert rows(locate(chars(*TEXT), "finds them again", 1)) == [(0.04, 0.04, 0.21)]


def test_another_reading_order_is_found_in_pieces():
    found = locate(chars(*TEXT), "ments into small chunks. It has XX steps Retrieval augmented generation", 1)
    assert [round(box.top, 2) for box in found] == [0.0, 0.02]


def test_what_is_not_there_has_no_boxes():
    page = chars(*TEXT)
    assert locate(page, "nothing of this kind stands on the page at all", 1) == []
    assert locate(page, "", 1) == locate(page, " -- ", 1) == locate([], "x", 1) == []


@given(st.integers(0, 80), st.integers(5, 60))
def test_every_stretch_of_a_page_is_found_whole(start, length):
    page = chars(*TEXT)
    passage = "".join(char.text for char in page)[start : start + length]
    found = locate(page, passage, 1)
    wanted = sum(char.isalnum() for char in passage)
    covered = sum(box.right - box.left for box in found) / 0.01
    assert bool(found) == bool(wanted)
    assert covered >= wanted - 1e-6
    assert covered <= len(passage) + 40  # no far-off places besides, bar an earlier twin
