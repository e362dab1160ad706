"""Blocks and sections of Markdown and plain text."""

import pytest

from indexer.chunkers.blocks import blocks, clean_title
from indexer.chunkers.sections import sections
from ragplat.types import Parsed


def read(text, markup="markdown"):
    return blocks(Parsed(text=text, pages=(), markup=markup))


def kinds(text, markup="markdown"):
    return [(block.kind, text[block.start : block.end]) for block in read(text, markup)]


def headings(text, markup="markdown"):
    return [(block.level, block.title) for block in read(text, markup) if block.kind == "heading"]


def test_markdown_blocks():
    text = "# A\ntext\nmore\n- one\n  goes on\n- two\n\n    inside\n\n|a|b|\n|-|-|\n|1|2|\nend"
    assert kinds(text) == [
        ("heading", "# A"),
        ("paragraph", "text\nmore"),
        ("item", "- one\n  goes on"),
        ("item", "- two"),
        ("paragraph", "inside"),
        ("table", "|a|b|\n|-|-|\n|1|2|"),
        ("paragraph", "end"),
    ]


def test_what_only_looks_like_a_heading():
    text = "---\ntitle: x\n# no\n---\n\n```sh\n# no\n\n## no\n```\n\n<!--\n# no\n-->\n\n#tag\n\n| a\n\nA\n\n---\n\nB"
    assert headings(text) == []
    assert [kind for kind, _ in kinds(text)][:3] == ["code", "code", "paragraph"]


def test_fence_closed_by_one_as_long():
    assert kinds("````\n```\n# no\n````\n# yes") == [("code", "````\n```\n# no\n````"), ("heading", "# yes")]


def test_fence_that_never_closes_is_text():
    assert headings("```\n# one\n\n~~~~\n# two") == [(1, "one"), (1, "two")]


def test_comment_that_never_closes_is_text():
    assert headings("<!-- a -->\n<!--\n# one") == [(1, "one")]


def test_underlined_headings():
    assert headings("One\n===\n\nTwo\n---\n\na\nb\n---\n\n- item\n---") == [(1, "One"), (2, "Two")]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("Path Parameters { #path }", "Path Parameters"),
        ("The `async` **keyword** ##", "The async keyword"),
        ("See [the docs](http://a.example) and ![i](x.png)", "See the docs and i"),
        ('<abbr title="x">API</abbr>', "API"),
        ("snake_case_name", "snake_case_name"),
    ],
)
def test_clean_title(line, title):
    assert clean_title(line) == title


def test_headings_of_plain_text():
    text = "Text.\n1 INTRODUCTION\nWords.\n2.1 Training data\nMore\n\nCHAPTER TWO\n\nx\n\n第一章 总则\n\n一、背景\n\ny"
    assert headings(text, "plain") == [
        (1, "1 INTRODUCTION"),
        (2, "2.1 Training data"),
        (1, "CHAPTER TWO"),
        (1, "第一章 总则"),
        (1, "一、背景"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1. Apples\n\n2. Pears\n\n3. Plums",
        "It was\n3.2 Million people",
        "# not Markdown",
        "0.42 Ounce",
        "A short line\n\nfollowed by text.",
        "5 people came.",
        "12 monkeys",
    ],
)
def test_no_headings_of_plain_text(text):
    assert headings(text, "plain") == []


def test_sections_know_their_headings():
    found = sections(read("intro\n\n# A\n## B\nb\n## C\nc\n# D\n#### E\n# F\nf\n# G"))
    assert [(section.above, section.path, len(section.headings), len(section.body)) for section in found] == [
        ((), (), 0, 1),
        ((), ("A", "B"), 2, 1),
        (("A",), ("A", "C"), 1, 1),
        ((), ("F",), 3, 1),
        ((), ("G",), 1, 0),
    ]
