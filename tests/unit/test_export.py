"""A conversation as Markdown, read back by a Markdown parser: its structure is ours, whatever the texts hold."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from indexer.rendering import visible_text
from inference import export
from inference.models import Turn

READERS = [MarkdownIt("commonmark"), MarkdownIt("gfm-like", {"linkify": False, "html": True})]
MARKS = """# - + * ** _ __ ` ``` ~~~ > < <b> </b> <!-- --> <script> [ ] [1] [1]: (http://a.b) [1](http://a.b) ![ & &lt;
    &#35; \\ | |---| = === --- *** 1. 2) a b: word ."""
BLANKS = [" ", "    ", "\t", "\r", "\u2028", "\n", "\n\n", "\n    "]
NASTY = st.lists(st.sampled_from([*MARKS.split(), *BLANKS]), max_size=14).map("".join)
MADE = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def turn(text: str = "", question: str = "Why?", quotes: tuple[str, ...] = (), **fields) -> Turn:
    citations = [
        {
            "number": 1,
            "chunk_id": 1,
            "document_id": 1,
            "document": "a.md",
            "page": 2,
            "start": 0,
            "end": 1,
            "quote": one,
        }
        for one in quotes
    ]
    return Turn(
        question=question, text=text, citations=citations, created=MADE, state=fields.pop("state", "answered"), **fields
    )


def made(one: Turn, documents: frozenset[int] = frozenset({1}), taken: int = 0) -> str:
    return "\n\n".join(export._turn(one, set(documents), taken)[0])


def kinds(tokens) -> list[str]:
    """The kinds of all tokens, those inside of lines too."""
    return [kind for one in tokens for kind in (one.type, *kinds(one.children or []))]


def words(token) -> str:
    """What a reader sees of a line."""
    return "".join(one.content for one in token.children)


@settings(max_examples=300, deadline=None)
@given(NASTY, NASTY, NASTY)
@example("`a`` <b>", "x #", "> a")
@example("* a\n  ```\n<script>\n", "- a", "")
@example("[1]: http://a.b", "[1](x)", "1. a")
@example("| ` | <b> ` |", "a", "b")
@example("> a\n- ` <b> \n- ` x", "&lt;", "\\")
def test_no_text_breaks_the_structure(text, question, quote):
    one = turn(text, question, (quote,), finish_reason="stop")
    document = made(one)
    for reader in READERS:
        tokens = reader.parse(document)
        found = kinds(tokens)
        assert found.count("heading_open") == 1, document
        assert not {"html_block", "html_inline", "link_open", "image"}.intersection(found), document
        heading = tokens[next(n for n, one in enumerate(tokens) if one.type == "heading_open") + 1]
        assert words(heading).split() == question.split(), document
        assert "Sources:" in [words(one) for one in tokens if one.type == "inline" and one.level == 1], document
        if visible := visible_text(quote, "markdown"):
            assert [one.type for one in tokens[-5:]] == [
                "blockquote_open", "paragraph_open", "inline", "paragraph_close", "blockquote_close",
            ]  # fmt: skip
            assert words(tokens[-3]).split() == visible.split(), document


@settings(max_examples=300, deadline=None)
@given(NASTY)
@example("`a`<b>`b`")
@example("| a |\n|---|\n| b | c | d |")
def test_the_answer_reads_as_on_the_page(text):
    """The same words in the same order, and no others."""
    tokens = READERS[1].parse(made(turn(text, finish_reason="stop")))[6:]  # after heading and time
    lines = [one.content if one.type == "fence" else words(one) for one in tokens if one.type in ("inline", "fence")]
    # Emphasis within emphasis or within a word's punctuation is no emphasis to every reader: its stars are seen then.
    shown, meant = "".join(lines).replace("*", ""), visible_text(text, "markdown").replace("*", "")
    assert "".join(shown.split()) == "".join(meant.split())


def test_an_answer_keeps_its_lists_code_and_bold():
    table = "| a | b |\n|---|---|\n| `1` | 2 |\n"
    text = f"It is **tall**. [1]\n\n- one `a|b`\n  - two\n\n1. first\n\n```\nx = 1\n```\n\n{table}"
    document = made(turn(text, quotes=("q",), finish_reason="stop"))
    assert document == (
        "## Why?\n\n*Asked 2026-11-21 20:00 UTC*\n\nIt is **tall**. [1]\n\n- one `a|b`\n\n  - two\n\n1. first\n\n"
        "```\nx = 1\n```\n\n| a | b |\n|---|---|\n| `1` | 2 |\n\nSources:\n\n**[1]** a.md, page 2\n\n> q"
    )


def test_references_are_numbered_through_the_file():
    document = made(turn("It is tall. [1]", quotes=("q", "r"), finish_reason="stop"), taken=4)
    assert "It is tall. [5]" in document
    assert "**[5]** a.md, page 2\n\n> q\n\n> r" in document


def test_doubts_are_said():
    sentences = [{"start": 0, "end": 11, "support": "unsupported", "citations": [], "places": []}]
    document = made(turn("It is pink.", finish_reason="stop", sentences=sentences))
    assert "It is pink. (not borne out by any source)" in document


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "asked"}, "*The answer was still being written when this file was made.*"),
        ({"state": "failed", "reason": "No *server*."}, r"*No answer came: No \*server\*.*"),
        ({"text": "None.", "finish_reason": "no_answer"}, "None.\n\n*The documents do not answer this question.*"),
        ({"text": "It", "finish_reason": "stopped"}, "It\n\n*The answer was stopped here.*"),
        ({"text": "It", "finish_reason": "length"}, "It\n\n*The answer reached its longest length and stops here.*"),
        ({"text": "It", "finish_reason": "error", "reason": "Gone."}, "It\n\n*The answer was cut short: Gone.*"),
    ],
)
def test_what_is_no_complete_answer_says_so(fields, said):
    assert made(turn(**fields)).endswith(said)


def test_what_was_deleted_says_so():
    one = turn("[…]", quotes=("",), finish_reason="stop")
    one.citations[0] |= {"document": "", "page": None}
    assert made(one, frozenset()).endswith(
        "**[1]** A deleted document\n\n*What this answer took from it was deleted with it.*"
    )
    replaced = turn("It is tall. [1]", quotes=("tall",), finish_reason="stop")
    assert made(replaced, frozenset()).endswith(
        "> tall\n\n*A newer version has replaced this document. The quote is from the old one.*"
    )


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("How tall is it?", "how-tall-is-it-7.md"),
        ("../../etc/passwd", "etcpasswd-7.md"),
        ("灯塔有多高？", "灯塔有多高-7.md"),
        ('"\r\nX: y', "x-y-7.md"),
        ("???", "conversation-7.md"),
        ("con", "con-7.md"),
        ("a" * 300, f"{'a' * 60}-7.md"),
    ],
)
def test_file_names_are_safe(title, name):
    assert export.file_name(title, 7) == name
