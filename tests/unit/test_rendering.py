"""Canonical text as HTML: nothing of a document becomes markup of ours, and a passage is marked where it stands."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.rendering import Span, mark, render, visible_text

OURS = {
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "ul",
    "ol",
    "li",
    "pre",
    "blockquote",
    "hr",
    "div",
    "table",
    "tr",
    "th",
    "td",
}
OURS |= {"mark", "code", "strong", "em"}
SNIPPETS = [
    "# Head\n",
    "- item\n",
    "2. two\n",
    "1922. On",
    "| a | b |\n|---|---|\n",
    "|",
    "\\|",
    "```\n",
    "---\n",
    "> q\n",
]
SNIPPETS += [
    "**",
    "*",
    "`",
    "[x](http://y)",
    "\\*",
    "[1]",
    "<b>",
    "<script>",
    "&amp;",
    " word ",
    "中文。",
    "\n",
    "\n\n",
]
texts = st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=8), max_size=30).map("".join)


class Reader(HTMLParser):
    """What a browser would show, what of it is marked, and every element."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.shown, self.marked, self.open, self.tags = "", "", [], set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag != "hr":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data
        if "mark" in self.open:
            self.marked += data


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(texts, st.sampled_from(["markdown", "plain"]))
def test_only_our_elements_and_all_closed(text, markup):
    read = Reader(render(text, markup))
    assert read.tags <= OURS
    assert read.open == []
    assert squeezed(read.shown) == squeezed(visible_text(text, markup))


@given(texts, st.data())
def test_plain_text_is_shown_and_marked_to_the_character(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    read = Reader(render(text, "plain", spans=[mark(start, end)]))
    assert squeezed(read.shown) == squeezed(text)
    assert squeezed(read.marked) == squeezed(text[start:end])


@given(texts, st.data())
def test_a_mark_splits_what_is_shown_in_three_and_loses_nothing(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    before, inside, after = ([mark(0, start)], [mark(start, end)], [mark(end, len(text))])
    marked = [squeezed(Reader(render(text, "markdown", spans=spans)).marked) for spans in (before, inside, after)]
    assert "".join(marked) == squeezed(visible_text(text, "markdown"))


@given(texts, st.integers(0, 10_000))
def test_an_offset_changes_nothing_but_the_counting(text, offset):
    here = render(text, "markdown", spans=[mark(1, 5)])
    assert render(text, "markdown", offset=offset, spans=[mark(offset + 1, offset + 5)]) == here


MARKED = [
    ("# A heading { #id }\n\nText.", "A heading", "<h1><mark class=\"passage\">A heading</mark></h1>"),
    ("**two three**", "two", '<mark class="passage"><strong>two</strong></mark><strong> three</strong>'),
    ("- one\n- two", "two", '<li class="depth-0"><mark class="passage">two</mark></li>'),
    ("| a | b |\n|---|---|\n| c \\| d | e |", "e", '<td>c | d</td><td><mark class="passage">e</mark></td>'),
    ("```py\nx = 1 < 2\n```", "1 < 2", 'x = <mark class="passage">1 &lt; 2</mark></pre>'),
    ("built in\n1922. Then", "1922. Then", '<p>built in\n<mark class="passage">1922. Then</mark></p>'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "passage", "html"), MARKED)
def test_a_passage_is_marked_in(text, passage, html):
    start = text.rindex(passage)
    assert html in render(text, "markdown", spans=[mark(start, start + len(passage))])


def test_html_of_a_document_never_runs():
    html = render('<img src=x onerror="alert(1)"> <script>alert(1)</script> [x](javascript:alert(1))', "markdown")
    assert html == "<p> &lt;script&gt;alert(1)&lt;/script&gt; x</p>\n"


def test_markers_are_written_where_they_stand_and_not_in_code():
    html = render("Yes [1]. `a[1]` [9]", "markdown", marker=lambda n, place: f"<b>{n}@{place}</b>" if n < 9 else None)
    assert html == "<p>Yes <b>1@4</b>. <code>a[1]</code> [9]</p>\n"


def test_a_span_goes_around_its_markers_once_a_block():
    html = render(
        "One **two** [1] three.\n\nFour", "markdown", spans=[Span(0, 30, "<i>", "</i>")], marker=lambda n, p: "!"
    )
    assert html == "<p><i>One <strong>two</strong> ! three.</i></p>\n<p><i>Four</i></p>\n"


def test_a_page_of_unmatched_marks_costs_little():
    for noise in ("`", "**", "*a ", "[", "<a ", "# " + " #", "| "):
        render(noise * (30_000 // len(noise)), "markdown")
