"""The extractive generator: exact quotes, readable order, plain refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.analyzer import analyze
from inference.citations import resolve
from inference.generators.evidence import FEATURES, features, passages, probability
from inference.generators.extractive import ExtractiveGenerator
from inference.prompts import REFUSALS, build
from ragplat.types import ScoredChunk


def embed(texts: list[str]) -> np.ndarray:
    """Unit vectors over the terms seen: the share of words in common."""
    seen = sorted({term for text in texts for term in analyze(text, "en")}) or ["-"]
    vectors = np.array([[float(term in set(analyze(text, "en"))) for term in seen] for text in texts])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def prompt(question: str, *texts: str, language: str = "en", document: int | None = None, step: int = 10_000):
    chunks = [
        ScoredChunk(
            chunk_id=i,
            document_id=document or i,
            document=f"{document or i}.md",
            ordinal=i,
            start=step * i,
            end=step * i + len(text),
            page=None,
            context="",
            text=text,
            score=1 / i,
            rank=i,
        )
        for i, text in enumerate(texts, start=1)
    ]
    return build(question, chunks, 10**6, lambda texts: [len(text) for text in texts], language, strict=True)


def answer(asked, **options):
    deltas = list(ExtractiveGenerator(embed, **options).generate(asked))
    return resolve("".join(delta.text for delta in deltas), asked, deltas[-1].finish_reason)


NORMANS = (
    "The Normans were the people who in the 10th century gave their name to Normandy, a region in France. "
    "The Norse leader who swore fealty to King Charles III was Rollo. "
    "Their distinct identity emerged in the first half of the 10th century."
)
OTHER = "Bread is baked from flour, water and salt. Most bakeries open before sunrise."


def test_quotes_the_sentence_that_answers():
    found = answer(prompt("Who was the Norse leader who swore fealty to King Charles III?", OTHER, NORMANS))
    assert found.finish_reason == "stop"
    assert found.citations[0].quote == "The Norse leader who swore fealty to King Charles III was Rollo."
    assert found.citations[0].number == 2
    assert {sentence.support for sentence in found.sentences} == {"supported"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_refuses_what_is_not_there(language):
    found = answer(prompt("Who won the 1954 ice hockey cup in Krasnoyarsk?", OTHER, NORMANS, language=language))
    assert (found.text, found.finish_reason) == (REFUSALS[language], "no_answer")


def test_quotes_something_all_the_same_when_not_strict():
    found = answer(prompt("Who won the 1954 ice hockey cup in Krasnoyarsk?", OTHER, NORMANS), strict=False)
    assert found.finish_reason == "stop"
    assert found.citations


def test_chinese():
    text = "北京是中华人民共和国的首都。故宫位于北京\n市中心。面包由面粉和水制成。"
    found = answer(prompt("故宫位于哪里？", text, language="zh"))
    assert "故宫位于北京市中心。[1]" in found.text
    assert "故宫位于北京\n市中心。" in [citation.quote for citation in found.citations]


def test_overlapping_chunks_are_quoted_once():
    first = NORMANS
    asked = prompt("Who was the Norse leader who swore fealty?", first, first[101:], document=1, step=101)
    found = answer(asked)
    assert found.text.count("was Rollo.") == 1


def test_a_list_keeps_its_lead_in_line_and_marks_each_item():
    lead = "The server settings that you can change are:"
    text = f"Intro words here.\n\n{lead}\n\n- port number\n- host name\n\nMore text follows."
    found = answer(prompt("Which server settings can you change?", text))
    assert f"{lead}\n\n- port number [1]\n- host name [1]" in found.text
    quotes = [citation.quote for citation in found.citations]
    assert "- port number" in quotes
    assert {sentence.support for sentence in found.sentences} == {"supported"}


def test_code_answers_a_how_to_question():
    text = "To install the server, run:\n\n```bash\nmake setup\nmake up\n```\n\nUnrelated words follow here."
    found = answer(prompt("How do I install the server?", text))
    assert "To install the server, run:\n\n```bash\nmake setup\nmake up\n```" in found.text
    assert found.citations[0].quote == "```bash\nmake setup\nmake up\n```"
    assert not any("make up" in passage.text for passage in passages(prompt("Who made the server?", text)))


@pytest.mark.parametrize(
    ("question", "text", "language"),
    [
        (
            "What is Rollo?",
            "**Rollo** (a name) is a man. He met Rollo of Oslo. They sell Rollo. Rollo has a boat.",
            "en",
        ),
        ("什么是故宫？", "故宫是一座宫殿建筑群。很多人参观故宫博物院。他们喜欢故宫的屋顶。", "zh"),
        ("故宫是什么?", "很多人参观故宫博物院。故宫是一座宫殿建筑群。他们喜欢故宫的屋顶。", "zh"),
    ],
)
def test_a_definition_comes_before_other_mentions(question, text, language):
    asked = prompt(question, text, language=language)
    found = passages(asked)
    best = found[probability(features(asked, found, embed), language).argmax()]
    assert " is a man" in best.text or "是一座" in best.text


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("When did the old wall fall?", "The old wall fell in 1989.", "The old wall did fall with noise."),
        (
            "How many people saw the wall fall?",
            "Some 3,000 people saw the wall fall.",
            "Many people saw the wall fall.",
        ),
        ("Who saw the old wall fall?", "The old wall: Rollo saw it.", "The old wall was seen to fall by people."),
    ],
)
def test_the_kind_of_answer_asked_for(question, right, wrong):
    asked = prompt(question, f"{wrong} {right}")
    kinds = features(asked, passages(asked), embed)[:, FEATURES.index("other_kind")]
    assert kinds.tolist() == [1, 0]


def test_what_says_nothing_is_no_candidate():
    text = "# The server heading\n\n---\n\n[server](x.md)\n\n| server | port |\n\nShort.\n\nWhich server is this?"
    assert [passage.text for passage in passages(prompt("Which server?", text))] == ["| server | port |"]


TARIFFS = "| Ferry | Tariff |\n|---|---|\n| Northern line | 12 crowns |\n| Southern line | 9 crowns |"


def test_a_table_row_is_quoted_under_its_header():
    found = answer(prompt("What is the tariff of the southern line?", f"Words on ferries here.\n\n{TARIFFS}"))
    assert "| Ferry | Tariff | [1]\n|---|---|\n| Southern line | 9 crowns | [1]" in found.text
    assert [citation.quote for citation in found.citations][:2] == [
        "| Ferry | Tariff |",
        "| Southern line | 9 crowns |",
    ]
    assert {sentence.support for sentence in found.sentences} == {"supported"}


def test_rows_of_a_table_share_one_header():
    found = answer(prompt("What are the tariffs of the northern line and of the southern line?", TARIFFS))
    assert found.text == "\n".join(line if line.startswith("|--") else f"{line} [1]" for line in TARIFFS.splitlines())


@pytest.mark.parametrize("lead", ["Start it from the folder of the project.", "Start it with:"])
def test_code_comes_with_the_sentence_before_it(lead):
    text = f"The harbour program shows ships.\n\n## Running\n\n{lead}\n\n```\nmake up\n```\n\nIt takes seconds."
    asked = prompt("How do I run it?", text)
    found = passages(asked)
    best = found[probability(features(asked, found, embed), "en").argmax()]
    assert best.text == f"{lead}\n```\nmake up\n```"
    assert {sentence.support for sentence in answer(asked, strict=False).sentences} == {"supported"}


def test_a_code_block_cut_by_its_chunk_is_not_quoted():
    text = "Start the server with:\n\n```bash\nmake up\nmake the server start again"
    assert not any("make" in passage.text for passage in passages(prompt("How do I start the server?", text)))


def test_a_heading_that_runs_into_its_paragraph_is_no_part_of_the_quote():
    text = (
        "Earlier words stand in a paragraph that is as wide as a page of a report.\n"
        "Tides and Currents\n"
        "The Norse leader who swore fealty to the king after long talks by the\n"
        "river was Rollo, and he kept his word for the rest of his life."
    )
    found = answer(prompt("Who was the Norse leader who swore fealty to the king?", text))
    assert found.citations[0].quote.startswith("The Norse leader")


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("", "In the north of the land of the Franks\nNorse leaders were many, and one of them\nwas called Rollo."),
        ("He came to Normandy. ", "The\nNorse leader of that time, whom many had followed there, was called Rollo."),
    ],
)
def test_a_wrapped_line_is_no_heading(before, sentence):
    found = answer(prompt("What was the Norse leader called?", before + sentence), strict=False)
    assert sentence in [citation.quote for citation in found.citations]


@pytest.mark.parametrize(
    ("question", "refused"),
    [
        ("Which leader swore fealty to King Charles III?", False),
        ("Which Bolivian leader swore fealty to Saint Augustine in 1787?", True),
    ],
)
def test_a_near_miss_is_refused(question, refused):
    found = answer(prompt(question, NORMANS, OTHER))
    assert (found.finish_reason == "no_answer") == refused


def test_markers_of_the_source_do_not_become_ours():
    text = "The Norse leader who swore fealty was Rollo, as Smith [3] and others wrote."
    found = answer(prompt("Who was the Norse leader who swore fealty?", text))
    assert found.unknown_markers == 0
    assert [citation.quote for citation in found.citations] == [text]


LINES = st.lists(
    st.sampled_from(
        [
            NORMANS,
            OTHER,
            "故宫位于北京\n市中心。人口很多。",
            "- one item here\n- two items here",
            "Steps are these:",
            "```\nx = [1]\n```",
            "| a | b |",
            "| a thing | b thing |\n|---|---|\n| c thing | d thing |\n| e thing | f thing |",
            "A Heading Above\nand its words are here, running on for a while until they end.",
            "# Head",
            "See [2] and\nmore words there.",
            "",
            "Wrapped\n  text   goes on here.",
        ]
    ),
    max_size=6,
).map("\n\n".join)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.one_of(LINES, st.text(max_size=120)), max_size=4), st.sampled_from(["en", "zh"]))
def test_every_quote_is_in_its_chunk(texts, language):
    asked = prompt("How do I find the Norse leader 故宫?", *texts, language=language)
    deltas = list(ExtractiveGenerator(embed, strict=False).generate(asked))
    found = resolve("".join(delta.text for delta in deltas), asked, deltas[-1].finish_reason)
    for sentence in found.sentences:
        words = "".join(sentence.text.split())
        assert any(words in "".join(chunk.text.split()) for chunk in asked.chunks), sentence.text
