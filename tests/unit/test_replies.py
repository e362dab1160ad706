"""What a model writes, piece by piece: the same answer however it is cut, and nothing let out that is taken back."""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.generators.reply import Reply
from inference.generators.structured import Structured, answer_schema
from inference.prompts import GENERAL, REFUSALS


def chunk(text: str, finish: str | None = None):
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def read(pieces: list[str], finish: str = "stop", **options):
    """The whole text that comes out, and the last delta."""
    reply = Reply(**options)
    texts = [reply.add(chunk(piece)) for piece in pieces] + [reply.add(chunk("", finish))]
    assert not reply.problem(), reply.problem()
    last = reply.end()
    return "".join(texts) + last.text, last.finish_reason


def cut(text: str, places: list[int]) -> list[str]:
    marks = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(marks)]


places = st.lists(st.integers(0, 500), max_size=8)
said = st.sampled_from(
    [
        "It is tall [1].",
        "NO_ANSWER",
        "**NO_ANSWER**.",
        " NO_ANSWER\nA rainbow is refracted light.",
        "NO_ANSWER：光的折射。",
        "It is NOT so [1]. NO_",
        "It begins well [1]. NO_ANSWER and then?",
    ]
)


@given(said, places, st.booleans())
def test_markers_and_refusals_come_out_alike_however_they_are_cut(raw, places, strict):
    assert read(cut(raw, places), strict=strict) == read([raw], strict=strict)


def test_a_strict_refusal_drops_what_follows_on_it():
    assert read(["NO_ANSWER", " I looked everywhere."]) == (REFUSALS["en"], "no_answer")


def test_general_knowledge_says_that_it_is_none_of_the_documents():
    text, finish = read(["NO_ANSWER\n", "Light is refracted."], strict=False)
    assert text == f"{REFUSALS['en']}\n\n{GENERAL['en']}\n\nLight is refracted."
    assert finish == "general"
    assert read(["NO_ANSWER", "\n"], strict=False) == (REFUSALS["en"], "no_answer"), "it knew nothing either"
    assert read(["NO_ANSWER", "。折射"], strict=False, language="zh")[0].startswith(REFUSALS["zh"])


def test_general_knowledge_that_was_cut_says_so():
    assert read(["NO_ANSWER\nLight is"], "length", strict=False)[1] == "length"


# --- structured -------------------------------------------------------------------------------------------------------

ANSWER = {
    "answered": True,
    "sentences": [
        {"text": 'It is "31 m" tall.', "sources": [1, 3]},
        {"text": " It stands at the mole. ", "sources": []},
        {"text": "它建于一九〇二年。", "sources": [2]},
    ],
}
TEXT = 'It is "31 m" tall.[1][3] It stands at the mole.它建于一九〇二年。[2]'


@given(places, st.sampled_from([None, 2]))
@example([50], None)
def test_json_becomes_the_text_with_markers_however_it_is_cut(places, indent):
    raw = json.dumps(ANSWER, ensure_ascii=bool(indent), indent=indent)
    assert read(cut(raw, places), form=Structured()) == (TEXT, "stop")


@pytest.mark.parametrize(("strict", "finish"), [(True, "no_answer"), (False, "general")])
def test_json_that_says_it_is_no_answer(strict, finish):
    raw = json.dumps({"answered": False, "sentences": [{"text": "Light is refracted.", "sources": []}]})
    text, reason = read(cut(raw, [5, 20, 30, 60]), strict=strict, form=Structured())
    assert reason == finish
    assert text.startswith(REFUSALS["en"])
    assert ("refracted" in text) == (not strict)


def test_json_without_a_sentence_is_no_answer():
    raw = '{"answered": true, "sentences": []}'
    assert read(cut(raw, [3, 20]), form=Structured()) == (REFUSALS["en"], "no_answer")
    reply = Reply(form=Structured())
    reply.add(chunk(raw[:-2], "length"))
    assert "used up the whole answer length" in reply.problem()


@given(st.integers(1, len(json.dumps(ANSWER))))
def test_json_that_breaks_off_keeps_what_is_there(length):
    reply = Reply(form=Structured())
    out = reply.add(chunk(json.dumps(ANSWER)[:length], "length"))
    whole = out + reply.end().text
    assert whole.startswith(out)
    bare = whole.replace("[1]", "").replace("[3]", "").replace("[2]", "")
    assert TEXT.replace("[1]", "").replace("[3]", "").replace("[2]", "").startswith(bare)


@pytest.mark.parametrize("raw", ["It is tall [1].", "[1, 2]", '{"sentences": [1]}', '{"sentences": 7}', '"text"'])
def test_what_is_no_such_json_is_an_error_that_shows_it(raw):
    reply = Reply(form=Structured())
    reply.add(chunk(raw, "stop"))
    assert "did not write the JSON it was asked for" in reply.problem()
    assert raw[:10] in reply.problem()


@pytest.mark.parametrize("strict", [True, False])
def test_the_schema_leaves_no_room_for_a_source_that_is_not_there(strict):
    sources = answer_schema(3, strict)["properties"]["sentences"]["items"]["properties"]["sources"]
    assert (sources["items"]["minimum"], sources["items"]["maximum"]) == (1, 3)
    assert sources.get("minItems", 0) == strict


# --- what servers send ------------------------------------------------------------------------------------------------


def ended(text: str, finish: str = "stop", **fields):
    reply = Reply()
    out = reply.add(chunk(text, finish) | fields)
    problem = reply.problem()
    last = reply.end(problem)
    return out + last.text, last, problem


@pytest.mark.parametrize(
    ("text", "shown", "finish"),
    [
        ("It replies NO_ANSWER when nothing is found [1]. More [1].", None, "stop"),
        ("It is 640 metres long [1]. NO_ANSWER", "It is 640 metres long [1]. ", "stop"),
        ("It is not said. NO_ANSWER.", "It is not said. ", "no_answer"),
        ("It is not said.\nNO_ANSWER\nOr is it?", "It is not said.\n", "no_answer"),
    ],
)
def test_the_word_for_no_answer_within_an_answer(text, shown, finish):
    got, last, _ = ended(text)
    assert (got, last.finish_reason) == (shown or text, finish)


@pytest.mark.parametrize(
    "usage", [[1, 2], "many", {"prompt_tokens": "12"}, {"prompt_tokens": float("nan"), "prompt_tokens_details": [3]}]
)
def test_usage_of_another_form_is_no_usage(usage):
    text, last, problem = ended("Yes [1].", usage=usage)
    assert (text, last.prompt_tokens, last.cached_tokens, problem) == ("Yes [1].", None, None, "")


@pytest.mark.parametrize("finish", ["content_filter", "abort"])
def test_an_answer_that_the_server_ended_early_is_not_complete(finish):
    _, last, problem = ended("The breakwater is", finish)
    assert finish in problem
    assert last.finish_reason == "error"


def test_other_choices_are_not_mixed_in():
    reply = Reply()
    both = {"choices": [{"delta": {"content": "This [1]."}}, {"delta": {"content": "That."}}]}
    assert reply.add(both) == "This [1]."


def test_a_model_without_an_end_is_ended():
    reply = Reply()
    reply.add(chunk("word " * 50_000))
    assert "more than 200,000 characters" in reply.error


def test_numbers_that_no_source_can_have_are_left_out():
    sentence = {"text": "It is so.", "sources": [1, -1, 0, 10**9, "2", 1.5, True]}
    assert Structured().read(json.dumps({"sentences": [sentence]}), complete=True).text == "It is so.[1]"
