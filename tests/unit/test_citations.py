"""From markers in a text to places in documents."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.citations import MARKER, resolve, verify
from inference.judges.base import Verdict
from ragplat.types import Prompt, ScoredChunk

PARIS = "Paris is the capital of France. It has 2,102,650 inhabitants.\nThe Louvre stands\nin Paris."
BERLIN = "Berlin is the capital of Germany. The wall fell in 1989. As Smith et al. [3] wrote, it was sudden."
BEIJING = "北京是中华人民共和国的首都。故宫位于北京\n市中心。人口约2,189万。"


def prompt_of(*texts: str, language: str = "en", context: str = "") -> Prompt:
    chunks = tuple(
        ScoredChunk(
            chunk_id=100 + i,
            document_id=7 + i,
            document=f"file-{i}.md",
            ordinal=i,
            start=1000 * i,
            end=1000 * i + len(text),
            page=i + 1,
            context=context,
            text=text,
            score=1.0,
            rank=i + 1,
        )
        for i, text in enumerate(texts)
    )
    return Prompt(question="?", chunks=chunks, dropped=(), messages=(), version="t@1", language=language)


PROMPT = prompt_of(PARIS, BERLIN)


def test_an_exact_sentence_is_tied_to_its_place():
    answer = resolve("Paris is the capital of France. [1] The wall fell in 1989 [2].", PROMPT)
    first, second = answer.sentences
    assert first.text == "Paris is the capital of France."
    assert answer.text[first.start : first.end] == "Paris is the capital of France. [1]"
    assert answer.text[second.start : second.end] == "The wall fell in 1989 [2]."
    assert [sentence.support for sentence in answer.sentences] == ["supported", "supported"]
    paris, wall = answer.citations
    assert (paris.number, paris.chunk_id, paris.document_id, paris.document) == (1, 100, 7, "file-0.md")
    assert (paris.page, paris.start, paris.end, paris.quote) == (1, 0, 31, "Paris is the capital of France.")
    assert (wall.start, wall.quote) == (1034, "The wall fell in 1989.")


def test_a_wrapped_line_is_found_and_quoted_as_it_stands():
    (citation,) = resolve("The Louvre stands in Paris. [1]", PROMPT).citations
    assert citation.quote == "The Louvre stands\nin Paris."


def test_words_within_words_are_others():
    source = "In all, 1998 people came. Of those, 98 people came twice."
    (sentence,) = resolve("98 people came. [1]", prompt_of(source)).sentences
    assert sentence.citations[0].quote == "98 people came"
    (sentence,) = resolve("98 people came. [1]", prompt_of("In all, 1998 people came.")).sentences
    assert (sentence.citations[0].quote, sentence.support) == ("In all, 1998 people came.", "partly")


def test_a_sentence_of_its_own_rather_than_words_within_another():
    source = "Nobody says that Paris is green. Paris is green. So be it."
    (sentence,) = resolve("Paris is green. [1]", prompt_of(source)).sentences
    assert (sentence.citations[0].start, sentence.support) == (33, "supported")
    (sentence,) = resolve("Paris is green [1]", prompt_of("Nobody says that Paris is green.")).sentences
    assert (sentence.citations[0].quote, sentence.support) == ("Paris is green", "partly")


def test_chinese_across_a_line_break():
    answer = resolve("故宫位于北京市中心。[1]人口约2,189万[1]。", prompt_of(BEIJING, language="zh"))
    assert [sentence.text for sentence in answer.sentences] == ["故宫位于北京市中心。", "人口约2,189万。"]
    assert [citation.quote for citation in answer.citations] == ["故宫位于北京\n市中心。", "人口约2,189万。"]
    assert {sentence.support for sentence in answer.sentences} == {"supported"}


def test_other_words_are_tied_to_the_sentence_sharing_most_terms():
    answer = resolve("The capital of Germany is Berlin [2].", PROMPT)
    assert answer.citations[0].quote == "Berlin is the capital of Germany."
    assert answer.sentences[0].support == "supported"


def test_a_claim_joined_from_two_sentences_cites_both():
    answer = resolve("France's capital Paris has 2102650 inhabitants [1].", PROMPT)
    assert answer.citations[0].quote == "Paris is the capital of France. It has 2,102,650 inhabitants."
    assert answer.sentences[0].support == "supported"


@pytest.mark.parametrize(
    ("text", "support"),
    [
        ("The wall fell in 1990 [2].", "partly"),  # a number that is not there
        ("The wall of London fell [2].", "partly"),  # a name that is not there
        ("Bananas grow in tropical climates [2].", "unsupported"),
        ("Paris is the capital of France.", "unsupported"),  # true, but nothing is cited
        ("Paris is the capital of France [2].", "partly"),  # the wrong source: it knows a capital only
    ],
)
def test_support(text, support):
    assert [sentence.support for sentence in resolve(text, PROMPT).sentences] == [support]


def test_a_name_in_the_heading_is_known():
    answer = resolve(
        "In FastAPI you declare it with types [1].", prompt_of("Declare it with types.", context="FastAPI")
    )
    assert answer.sentences[0].support == "supported"


@pytest.mark.parametrize(
    ("written", "tidy", "unknown"),
    [
        ("A b [1, 2].", "A b [1][2].", 0),
        ("A b [1][2].", "A b [1][2].", 0),
        ("A b [1-2].", "A b [1][2].", 0),
        ("A b【1】。", "A b[1]。", 0),
        ("A b [[2]].", "A b [2].", 0),
        ("A b [Source 1].", "A b [1].", 0),
        ("A b [来源1，2]。", "A b [1][2]。", 0),
        ("A b [3].", "A b.", 1),
        ("A b [0] c [1, 9].", "A b c [1].", 2),
        ("A b [1-400].", "A b [1][2].", 1),
        ("A b [9[9]1].", "A b.", 2),
        ("Call `items[3]` [1].", "Call `items[3]` [1].", 0),
        ("See [1](https://example.org) in [2024].", "See [1](https://example.org) in [2024].", 0),
    ],
)
def test_markers_are_made_alike_and_unknown_ones_removed(written, tidy, unknown):
    answer = resolve(written, PROMPT)
    assert (answer.text, answer.unknown_markers) == (tidy, unknown)


def test_brackets_copied_from_a_source_are_no_markers():
    answer = resolve("As Smith et al. [3] wrote, it was sudden. [2]", PROMPT)
    assert answer.text == "As Smith et al. [3] wrote, it was sudden. [2]"
    assert answer.unknown_markers == 0
    assert [citation.number for citation in answer.citations] == [2]
    assert answer.citations[0].quote == "As Smith et al. [3] wrote, it was sudden."


def test_what_claims_nothing_is_not_judged():
    text = (
        "# Capitals\n\nThere are two:\n\n- Paris is the capital of France [1]\n- Berlin is the capital of Germany [2]"
    )
    answer = resolve(text, PROMPT)
    assert [sentence.text for sentence in answer.sentences] == [
        "- Paris is the capital of France",
        "- Berlin is the capital of Germany",
    ]
    assert [sentence.support for sentence in answer.sentences] == ["supported", "supported"]
    assert resolve("The documents do not answer this question.", PROMPT, "no_answer").sentences == ()
    general = resolve("The documents do not answer this question.\n\nParis is large.", PROMPT, "general").sentences
    assert [(sentence.text, sentence.support) for sentence in general] == [("Paris is large.", "unsupported")]
    assert resolve("", PROMPT, "error").sentences == ()


def test_code_is_one_sentence():
    code = "```python\nx = items[0]\n\ny = 2\n```"
    answer = resolve(f"Do this:\n\n{code}\n[1]", prompt_of(f"Text before.\n\n{code}\n"))
    (sentence,) = answer.sentences
    assert (sentence.text, sentence.support, answer.citations[0].quote) == (code, "supported", code)


def test_each_place_once_in_order_of_appearance():
    answer = resolve(
        "The wall fell in 1989 [2]. Paris is the capital of France [1]. The wall fell in 1989 [2].", PROMPT
    )
    assert [citation.number for citation in answer.citations] == [2, 1]
    assert len(answer.sentences) == 3


def test_another_judge_is_asked_about_every_sentence():
    class Strict:
        name = "strict"
        asked = ()

        def signature(self):
            return "judge|name:strict"

        def judge(self, claims):
            self.asked = claims
            return [Verdict(support="partly", how=f"reason {i}") for i, _ in enumerate(claims)]

    judge, prompt = Strict(), prompt_of("Nothing.", PARIS, context="Capitals")
    answer = resolve("Paris is the capital of France. [2] Nobody says this. The Louvre stands in Paris [1][2].", prompt)
    assert [sentence.why for sentence in answer.sentences] == ["word for word", "it cites nothing", "word for word"]
    verified = verify(answer, prompt, judge)
    assert [(one.support, one.why) for one in verified.sentences] == [("partly", f"reason {i}") for i in range(3)]
    assert (verified.text, verified.citations) == (answer.text, answer.citations)
    first, nothing, louvre = judge.asked
    assert (first.text, first.language, nothing.places) == ("Paris is the capital of France.", "en", ())
    assert [place.quote for place in louvre.places] == ["Nothing.", "The Louvre stands\nin Paris."]
    assert (louvre.places[1].text, louvre.places[1].context, louvre.places[1].document) == (
        PARIS,
        "Capitals",
        "file-1.md",
    )


WORDS = st.sampled_from(
    ["Paris", "wall", "1989", "北京", "首都。", "e.g.", ".", "!", "\n", "\n\n- ", "`", "```\n", "# ", "|", ":"]
)
MARKS = st.one_of(
    st.integers(0, 12).map(lambda n: f"[{n}]"),
    st.sampled_from(["[1, 2]", "[2-9]", "【1】", "[[3]]", "[", "]", "[1", "[x]", "[1;2,3]", "[9[9]9]", "[^2]"]),
)
CHUNKS = st.lists(st.one_of(st.text(max_size=80), st.just(PARIS), st.just(BEIJING)), max_size=3)
ANSWERS = st.one_of(
    st.text(max_size=120),
    st.lists(st.one_of(WORDS, MARKS, st.text(max_size=8)), max_size=25).map(" ".join),
    st.lists(st.one_of(WORDS, MARKS), max_size=25).map("".join),
)


@given(ANSWERS, CHUNKS, st.sampled_from(["en", "zh"]))
def test_whatever_a_model_writes(text, texts, language):
    prompt = prompt_of(*texts, language=language)
    answer = resolve(text, prompt)
    last = 0
    for sentence in answer.sentences:
        assert last <= sentence.start < sentence.end <= len(answer.text)
        last = sentence.end
        shown = answer.text[sentence.start : sentence.end]
        assert _bare(shown, len(texts)) == _bare(sentence.text, len(texts))
        assert all(f"[{citation.number}]" in shown for citation in sentence.citations)
    for citation in answer.citations:
        chunk = prompt.chunks[citation.number - 1]
        assert chunk.start <= citation.start <= citation.end <= chunk.end
        assert citation.quote == chunk.text[citation.start - chunk.start : citation.end - chunk.start]
        assert citation.chunk_id == chunk.chunk_id
    if "`" not in text and not any("[" in text for text in texts):
        outside = {int(n) for match in MARKER.finditer(answer.text) for n in re.findall(r"\d+", match.group(1))}
        assert outside <= set(range(1, len(texts) + 1))
    assert resolve(answer.text, prompt) == resolve(answer.text, prompt)
    assert resolve(answer.text, prompt).text == answer.text


def _bare(text: str, known: int) -> str:
    """``text`` without known markers and white space."""
    return "".join(re.sub(r"\[(\d+)\]", lambda m: "" if 1 <= int(m.group(1)) <= known else m.group(), text).split())
