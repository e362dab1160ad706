"""A question on its way to its chunks: completed from the conversation, worded otherwise, answered from imagination."""

from dataclasses import replace

import pytest

from indexer.models import recipe_value
from inference import retrieval
from inference.history import Past
from inference.pipeline import Done, answer
from tests.integration.test_indexing import HARBOUR, corpus, indexed  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

HISTORY = [Past(question="How tall is the lighthouse?", answer="The lighthouse is 31 metres tall [1].")]


@pytest.fixture
def harbour(corpus):  # noqa: F811
    indexed(corpus, "harbour.md", HARBOUR)
    return corpus


def test_a_follow_up_is_completed_from_the_question_before(harbour):
    (*_, done) = answer(harbour, "And where is it?", history=HISTORY)
    assert isinstance(done, Done)
    made = done.answer.trace["rewriting"]["question"]
    assert "lighthouse" in made["text"]
    assert made["how"] == "rules"
    assert done.prompt.question == made["text"]
    assert "lighthous" in done.answer.trace["search"]["terms"]


def test_a_recipe_may_leave_questions_as_they_are(harbour):
    recipe = replace(recipe_value(harbour.answer_recipe_id), condense=False)
    (*_, done) = answer(harbour, "And where is it?", recipe, HISTORY)
    assert done.prompt.question == "And where is it?"


def test_wordings_and_passages_of_a_model_are_searched_too(harbour):
    recipe = replace(recipe_value(harbour.answer_recipe_id), variants=2, hyde=True)
    replies = iter(["1. length of the mole\n2. height of the beacon", "The beacon rises 31 metres above the sea."])
    trace = {"stages": []}
    question, found = retrieval.retrieve(harbour, "How high?", recipe, (), lambda messages: next(replies), trace)
    assert question == "How high?"
    assert trace["rewriting"]["variants"]["texts"] == ["length of the mole", "height of the beacon"]
    assert [leg.name for leg in found.trace.legs] == [
        "dense", "dense 2", "dense 3", "dense 4", "lexical", "lexical 2", "lexical 3",
    ]  # fmt: skip
    assert found.trace.legs[3].text == "The beacon rises 31 metres above the sea."
    assert "31 metres" in found.chunks[0].text


def test_without_a_model_the_trace_says_what_was_skipped(harbour):
    recipe = replace(recipe_value(harbour.answer_recipe_id), variants=2, hyde=True)
    (*_, done) = answer(harbour, "How tall is the lighthouse?", recipe)
    noted = done.answer.trace["rewriting"]
    assert "needs a language model" in noted["variants"]["how"]
    assert "needs a language model" in noted["passage"]["how"]
    assert "31 metres" in done.answer.text
