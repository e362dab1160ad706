"""Word, PowerPoint, Excel, HTML, EPUB and mail: nothing lost, nothing made up."""

import pytest

from indexer.parsers import parse
from indexer.parsers.base import Limits
from indexer.parsers.detect import detect
from indexer.parsers.html import read as read_html
from ragplat.errors import CorruptDocument, EmptyDocument, EncryptedDocument, LimitExceeded
from tests.fixtures.documents import W, docx, eml, epub, grid, para, pptx, shape, xlsx, zipped


@pytest.fixture
def read(tmp_path):
    def read_bytes(name, content, limits=None):
        path = tmp_path / name
        path.write_bytes(content)
        return parse(path, name, detect(path, name), limits or Limits())

    return read_bytes


# Word


def test_word_keeps_signs_tabs_and_breaks(read):
    body = para("R&amp;D: 1 &lt; 2 &gt; 0, *stars*") + (
        "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>"
    )
    assert read("a.docx", docx(body)).text == "R&D: 1 < 2 > 0, *stars*\n\na\tb\nc-d"


def test_word_headings_come_from_styles_and_what_they_inherit(read):
    body = (
        para("One", '<w:pStyle w:val="H1"/>')
        + para("Two", '<w:pStyle w:val="Sub"/>')
        + para("Three", '<w:outlineLvl w:val="2"/>')
        + para("# plain")
    )
    made = read("a.docx", docx(body))
    assert made.text == "# One\n\n## Two\n\n### Three\n\n\\# plain"
    assert (made.title, made.pages, made.markup) == ("One", (), "markdown")


def test_word_lists(read):
    def item(text, number, depth=0):
        return para(text, f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>')

    body = (
        item("a", 1) + item("b", 1, 1) + para("c", '<w:pStyle w:val="L"/>') + para("text") + item("x", 2) + item("y", 2)
    )
    assert read("a.docx", docx(body)).text == "- a\n  - b\n- c\n\ntext\n\n1. x\n2. y"


def test_word_tables_with_spans_and_tables_inside(read):
    def cell(content, span=1):
        return f'<w:tc><w:tcPr><w:gridSpan w:val="{span}"/></w:tcPr>{content}</w:tc>'

    inner = f"<w:tbl><w:tr>{cell(para('in'))}</w:tr></w:tbl>"
    body = (
        f"<w:tbl><w:tr>{cell(para('wide'), 2)}</w:tr>"
        f"<w:tr>{cell(para('P|L') + para('second'))}"
        f"<w:sdt><w:sdtContent>{cell(inner)}</w:sdtContent></w:sdt></w:tr></w:tbl>"
        f"<w:tbl><w:tr>{cell(para('a frame'))}</w:tr></w:tbl>"
    )
    made = read("a.docx", docx(body))
    assert made.text == "| wide |  |\n| --- | --- |\n| P\\|L second | in |\n\na frame"
    assert made.tables == 1


def test_word_tracked_changes_notes_and_what_is_left_out(read):
    body = (
        "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        '<w:r><w:footnoteReference w:id="7"/></w:r><w:r><w:drawing/></w:r><w:hyperlink><w:r><w:t> link</w:t></w:r>'
        "</w:hyperlink></w:p>"
    )
    notes = f'<w:footnotes {W}><w:footnote w:id="7">{para("the note")}</w:footnote></w:footnotes>'
    header = f"<w:hdr {W}>{para('Secret')}</w:hdr>"
    made = read("a.docx", docx(body, footnotes=notes, header1=header))
    assert made.text == "new[^1] link\n\n[^1]: the note"
    assert made.warnings == (
        "Left out: 1 pictures or drawings.",
        'Left out, a page header or footer: "Secret".',
    )


def test_word_text_boxes_are_read_once(read):
    box = f"<w:txbxContent>{para('in a box')}</w:txbxContent>"
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    body = (
        f"<w:p><w:r><w:t>before</w:t></w:r><w:r><mc:AlternateContent {mc}><mc:Choice><w:drawing>{box}</w:drawing>"
        f"</mc:Choice><mc:Fallback><w:pict>{box}</w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    assert read("a.docx", docx(body)).text == "before\n\nin a box"


# PowerPoint


def test_slides_are_pages_in_the_order_shown(read):
    slides = [
        shape("# First &amp; |", "title") + shape("one\n# two", "") + grid([["a|b", "c"], ["d", "e"]]),
        "",
        shape("Free\ntext") + shape("3", "sldNum"),
    ]
    made = read("a.pptx", pptx(slides, notes={1: "Say hello", 2: "Only notes"}))
    pages = [made.text[page.start : page.end] for page in made.pages]
    assert pages == [
        "## # First & |\n\n- one\n- # two\n\n| a\\|b | c |\n| --- | --- |\n| d | e |\n\nNotes: Say hello",
        "Notes: Only notes",
        "Free\n\ntext",
    ]
    assert (made.title, made.tables) == ("# First & |", 1)


def test_too_many_slides(read):
    with pytest.raises(LimitExceeded, match="has 3 slides; the limit is 2"):
        read("a.pptx", pptx(["", "", ""]), Limits(pages=2))


def test_slides_without_text_are_an_empty_document(read):
    with pytest.raises(EmptyDocument, match=r"2 pages, none with text. Left out: 1 pictures"):
        read("a.pptx", pptx(["<p:pic/>", ""]))


# Excel


def test_sheets_are_pages_with_their_names_and_headers(read):
    made = read(
        "a.xlsx", xlsx({"P&amp;L": [["R&amp;D", "x|y"], ["5 &gt; 3", "*s*"]], "Empty": [], "Two": [["h"], ["1"]]})
    )
    assert made.text == "## P&L\n\n| R&D | x\\|y |\n| --- | --- |\n| 5 > 3 | *s* |\n\n## Two\n\n| h |\n| --- |\n| 1 |"
    assert [made.text[page.start : page.end][:4] for page in made.pages] == ["## P", "", "## T"]
    assert (made.tables, made.blank_pages) == (2, (2,))


def test_a_broken_workbook(read):
    with pytest.raises(CorruptDocument, match="The workbook is damaged"):
        read("a.xlsx", zipped({"xl/workbook.xml": "<broken"}))


# HTML


def html(source):
    return "\n\n".join(read_html(source).blocks)


def test_html_structure():
    source = """<!doctype html><html><head><title>The &amp; title</title><style>p{}</style><script>var x</script>
    <body><nav>Home</nav><h1>Head <b>bold</b></h1><p>Para  with
    <a href="http://x.y">link</a> &lt;b&gt; 5*3 <code>x_y</code>.<p># not a heading
    <pre><code class="language-py">def f():\n    return 1\n# c</code></pre>
    <ul><li>one<ul><li>nested</ul><li>two</ul><ol><li>first<li>second</ol>
    <blockquote><p>quoted</p></blockquote><p>verse<br>line<br><br>new one</p>
    <img alt="a chart" src=x><p hidden>hidden</p>"""
    page = read_html(source)
    assert page.title == "The & title"
    assert page.blocks == [
        "# Head bold",
        "Para with link <b> 5*3 x_y.",
        "\\# not a heading",
        "```py\ndef f():\n    return 1\n# c\n```",
        "- one\n  - nested\n- two\n1. first\n2. second",
        "> quoted",
        "verse\nline",
        "new one",
        "a chart",
    ]


def test_html_tables_and_tables_for_layout():
    data = "<table><tr><th>A<th>B<tr><td>1|2<td>x<br>y<tr><td colspan=2>wide</table>"
    assert html(data) == "| A | B |\n| --- | --- |\n| 1\\|2 | x y |\n| wide |  |"
    layout = f"<table><tr><td>menu<td><p>{'word ' * 300}<p>second</table>"
    assert read_html(layout).blocks[0] == "menu"
    assert read_html(layout).blocks[2] == "second"
    nested = f"<table><tr><td>{data}</td></tr></table>"
    assert html(nested) == html(data)


def test_html_main_part(read):
    made = read("a.html", b"<header>site</header><main><h1>T</h1>text</main><footer>foot</footer>")
    assert made.text == "# T\n\ntext"
    assert made.warnings == ("8 characters outside the main part of the page were left out.",)


def test_html_names_its_encoding(read):
    source = '<meta charset="gb2312"><p>检索增强</p>'
    assert read("a.html", source.encode("gb18030")).text == "检索增强"
    assert read("b.html", source.encode("utf-8")).text == "检索增强"  # it lies


def test_html_with_an_element_that_never_ends(read):
    made = read("a.html", b"<p>text</p><nav>menu <p>lost")
    assert "unclosed <nav>" in made.warnings[0]


# EPUB


def test_chapters_in_reading_order(read):
    chapters = {
        "b.xhtml": "<html><body><h1>Start</h1><p>R&amp;D</p></body></html>",
        "a%20b.xhtml": "<html><head><title>Second</title></head><body><p>No heading.</p></body></html>",
    }
    parts = {name.replace("%20", " "): text for name, text in chapters.items()}
    book = epub(chapters)
    assert read("a.epub", book).text == "# Start\n\nR&D"  # the second is not in the file under that name
    made = read("b.epub", epub({name.replace(" ", ""): text for name, text in parts.items()}))
    assert made.text == "# Start\n\nR&D\n\n# Second\n\nNo heading."
    assert made.title == "A Book"


def test_protected_books(read):
    with pytest.raises(EncryptedDocument, match="rights management"):
        read("a.epub", zipped({"META-INF/container.xml": "<x/>", "META-INF/rights.xml": "<x/>"}))


# mail


def test_mail(read):
    made = read("a.eml", eml("Hello,\n\n# no heading\n", "<p>ignored</p>", attachment="repört.pdf"))
    assert made.text == (
        "# Grüße: 你好\n\nFrom: Ann <ann@example.org>\nTo: bob@example.org\nDate: Tue, 05 Mar 2024 10:00:00 +0100\n\n"
        "Hello,\n\n\\# no heading"
    )
    assert made.title == "Grüße: 你好"
    assert made.warnings == ("Attachments were not read: repört.pdf. Upload them on their own.",)


def test_mail_in_html_only(read):
    source = b'Subject: x\nFrom: a@b.c\nContent-Type: text/html; charset="utf-8"\n\n<h1>Hi</h1><p>caf\xc3\xa9'
    assert read("a.eml", source).text == "# x\n\nFrom: a@b.c\n\n# Hi\n\ncafé"


def test_mail_with_broken_headers(read):
    headers = b"Subject: =?utf-8?q?broken=\nFrom: <<>>,,;\nDate: not a date\nContent-Type: text/plain; charset=nonsense"
    made = read("a.eml", headers + b"\n\nBody \xff")
    assert "Body ÿ" in made.text


def test_a_text_named_eml(read):
    with pytest.raises(CorruptDocument, match="holds no e-mail"):
        read("a.eml", b"just a note without any headers\n")
