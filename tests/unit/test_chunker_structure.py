"""Where the structure chunker cuts, and what it tells about a chunk."""

import re
from itertools import pairwise

import pytest

from indexer.chunkers.base import Tokenizer, page_at
from indexer.chunkers.structure import StructureChunker
from indexer.chunkers.tokens import BLOCK, TokenIndex
from indexer.chunkers.whole import WholeChunker
from ragplat.errors import BadInput
from ragplat.types import Page, Parsed


class WordTokenizer:
    """One token a word, a Chinese character or a sign."""

    special_tokens = 2

    def __init__(self, max_tokens=64):
        self.max_tokens = max_tokens

    def offsets(self, text):
        return [match.span() for match in re.finditer(r"[一-鿿]|[^\W一-鿿]+|[^\w\s]", text)]


def split(text, tokens=40, overlap=0, most=64, markup="markdown", pages=(), title=""):
    parsed = Parsed(text=text, pages=pages, markup=markup, title=title)
    return StructureChunker(tokens, overlap).split(parsed, WordTokenizer(most))


def prose(words, name="w"):
    """A sentence of so many tokens."""
    return " ".join([name.capitalize(), *(f"{name}{number}" for number in range(words - 2))]) + "."


def test_small_sections_of_one_parent_are_joined():
    text = "# T\n\n## A\n\na\n\n## B\n\nb\n\n## C\n\nc\n"
    assert [chunk.text for chunk in split(text)] == [text.strip()]


def test_sections_of_a_fair_size_stay_apart():
    text = f"# T\n\n## A\n\n{prose(15)}\n\n## B\n\n{prose(15)}\n"
    assert [chunk.text[:6] for chunk in split(text)] == ["# T\n\n#", "## B\n\n"]


def test_a_section_is_not_joined_to_one_outside_its_parent():
    text = f"# T\n\n## A\n\n{prose(35)}\n\n### A1\n\nsmall\n\n# U\n\nsmall\n"
    assert [chunk.context for chunk in split(text)] == ["", "T > A", ""]


def test_a_heading_never_stands_alone():
    text = "\n\n".join(f"## Heading {number}\n\n{prose(60, f'n{number}x')}" for number in range(5))
    chunks = split(text)
    assert len(chunks) == 10
    assert all(re.search(r"n\dx\d", chunk.text) for chunk in chunks)


def test_context_is_title_and_path_without_what_the_text_begins_with():
    text = f"# Guide\n\n## Setup\n\n{prose(30)}\n\n{prose(30, 'v')}\n\n### Linux\n\n{prose(30)}"
    assert [chunk.context for chunk in split(text, title="Guide")] == ["", "Guide > Setup", "Guide > Setup"]
    assert [chunk.context for chunk in split(text, title="Book")] == [
        "Book",
        "Book > Guide > Setup",
        "Book > Guide > Setup",
    ]


def test_long_context_keeps_title_and_nearest_heading():
    text = "".join(f"{'#' * level} {name} one two\n\n" for level, name in enumerate(["A", "B", "C", "D"], 1))
    chunks = split(f"{text}{prose(60)}\n\n{prose(30)}", title="Title")
    assert chunks[-1].context == "Title > … > D one two"
    chunks = split(f"# {prose(50)}\n\n{prose(50)}\n\n{prose(30)}", title="T")
    assert chunks[-1].context.startswith("T > W w0")
    assert chunks[-1].context.endswith("…")


def test_list_items_stay_whole():
    text = "The list:\n\n" + "\n".join(f"- {prose(9, f'i{number}x')}" for number in range(12))
    chunks = split(text)
    assert len(chunks) > 2
    assert chunks[0].text.startswith("The list:\n\n- ")
    assert all(chunk.text.startswith("- ") and chunk.text.endswith(".") for chunk in chunks[1:])


def test_table_rows_stay_whole_and_get_their_header():
    rows = [f"| Item{number} | {number} pieces |" for number in range(20)]
    text = "# Stock\n\n| Name | Amount |\n|---|---|\n" + "\n".join(rows)
    chunks = split(text)
    assert len(chunks) > 3
    assert chunks[0].context == ""
    assert all(chunk.context == "Stock\n| Name | Amount |" for chunk in chunks[1:])
    kept = [line for chunk in chunks for line in chunk.text.split("\n") if "Item" in line]
    assert kept == rows


def test_wide_table_header_is_cut_at_a_column():
    header = "| " + " | ".join(f"column{number}" for number in range(30)) + " |"
    row = "| " + " | ".join("x" for _ in range(6)) + " |"
    chunks = split(f"{header}\n|---|\n" + "\n".join([row] * 20))
    assert chunks[-1].context.startswith("| column0 | column1 |")
    assert chunks[-1].context.endswith(" | …")


def test_code_that_fits_stays_whole():
    code = "```python\n" + "\n".join(f"line{number} = {number}" for number in range(9)) + "\n```"
    chunks = split(f"{prose(30)}\n\n{code}\n\n{prose(30)}")
    assert [code in chunk.text for chunk in chunks].count(True) == 1


def test_long_code_is_cut_at_lines_and_keeps_its_indentation():
    lines = [f"    call{number}(a, b)" for number in range(40)]
    text = "```\ndef f():\n" + "\n".join(lines) + "\n```"
    chunks = split(text)
    assert len(chunks) > 4
    assert all(line in lines for chunk in chunks[1:-1] for line in chunk.text.split("\n"))


def test_overlap_repeats_the_last_sentence_of_the_section():
    text = "# A\n\n" + " ".join(prose(9, f"s{number}x") for number in range(10)) + f"\n\n# B\n\n{prose(20)}"
    chunks = split(text, overlap=8)
    assert chunks[1].start < chunks[0].end
    assert chunks[0].text.endswith(chunks[1].text.split(".")[0] + ".")
    assert chunks[-1].text.startswith("# B")
    assert all(chunk.start >= before.end for before, chunk in pairwise(split(text)))


def test_no_overlap_into_tables_and_code():
    table = "|a|b|\n|-|-|\n" + "\n".join("| 1 | 2 |" for _ in range(20))
    code = "```\n" + "x = 1\n" * 20 + "```"
    chunks = split(f"{prose(30)} {prose(8)}\n\n{table}\n\n{prose(30)} {prose(8)}\n\n{code}", overlap=8)
    assert any(chunk.text.startswith("|a|b|") for chunk in chunks)
    assert any(chunk.text.startswith("```") for chunk in chunks)
    assert all(chunk.start >= before.end for before, chunk in pairwise(chunks))


def test_ends_at_the_aim_rather_than_over_it():
    text = "\n\n".join(map(prose, (30, 18, 30, 30)))
    assert split(text)[0].text == prose(30)


def test_goes_over_the_aim_to_end_a_paragraph():
    text = f"{prose(6)}\n\n" + " ".join(prose(6) for _ in range(7)) + f"\n\n{prose(39)}\n\n{prose(30)}"
    assert split(text)[0].text.endswith(" ".join(prose(6) for _ in range(7)))


def test_fills_a_chunk_to_half_before_it_looks_for_paragraph_ends():
    chunks = split(f"{prose(10)}\n\n" + " ".join(prose(7) for _ in range(12)))
    assert min(chunk.tokens for chunk in chunks) > 20


def test_prefers_paragraph_ends_to_sentence_ends():
    text = f"{prose(21)}\n\n" + " ".join(prose(7) for _ in range(9))
    assert split(text)[0].text == prose(21)


def test_a_long_heading_takes_some_text_with_it():
    heading = "## " + " ".join(f"h{number}" for number in range(24))
    assert "w0" in split(f"{heading}\n\n{prose(38)}")[0].text


def test_does_not_cut_inside_a_visible_sign():
    assert {chunk.text[0] for chunk in split("e\u0301" * 500)} == {"e"}
    assert {chunk.text[0] for chunk in split("\u2764\ufe0f" * 500)} == {"\u2764"}


def test_chinese_is_cut_at_sentence_ends():
    text = "这是一个关于检索的句子。" * 20
    chunks = split(text)
    assert len(chunks) > 4
    assert all(chunk.text.endswith("。") and len(chunk.text) % 12 == 0 for chunk in chunks)


def test_prefers_page_borders():
    first = f"{prose(12)}\n\n{prose(13)}"
    text = "\n\n".join([first, *(prose(12) for _ in range(5))])
    pages = (Page(number=1, start=0, end=len(first)), Page(number=2, start=len(first) + 2, end=len(text)))
    chunks = split(text, pages=pages)
    assert chunks[0].text == first
    assert [chunk.page for chunk in chunks] == [1, 2, 2]
    assert split(text)[0].end > len(first)


def test_page_at():
    pages = (Page(number=3, start=2, end=5), Page(number=4, start=7, end=9))
    assert [page_at(pages, offset) for offset in (0, 2, 4, 5, 6, 7, 8, 9, 99)] == [3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert page_at((), 5) is None


def test_unbroken_text_is_cut_by_characters():
    chunks = split("x" * 100_000)
    assert "".join(chunk.text for chunk in chunks) == "x" * 100_000
    assert max(len(chunk.text) for chunk in chunks) <= 40 * 10


@pytest.mark.parametrize(
    ("tokens", "overlap", "most", "message"),
    [(15, 0, 64, "at least 16"), (40, 21, 64, "0 to 20"), (40, -1, 64, "0 to 20"), (63, 0, 64, "takes 62 tokens")],
)
def test_senseless_values(tokens, overlap, most, message):
    with pytest.raises(BadInput, match=message):
        split("text", tokens, overlap, most)


def test_whole_keeps_the_text_at_any_length():
    text = " \n" + "word " * 500
    parsed = Parsed(text=text, pages=(Page(number=7, start=0, end=len(text)),), markup="plain", title="Title")
    (chunk,) = WholeChunker().split(parsed, WordTokenizer())
    assert (chunk.text, chunk.context, chunk.page, chunk.tokens) == (text.strip(), "", 7, 502)
    assert text[chunk.start : chunk.end] == chunk.text


@pytest.mark.parametrize("gap", ["\n", " ", ""])
def test_token_index_counts_as_one_tokenisation(gap):
    tokenizer: Tokenizer = WordTokenizer()
    text = gap.join(["中文字 word."] * (BLOCK // 8))
    index = TokenIndex(text, tokenizer)
    assert len(text) > BLOCK
    assert index.count(0, len(text)) == len(tokenizer.offsets(text))
    assert index.count(0, index.reach(0, 100)) == 100
