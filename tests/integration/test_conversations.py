"""A conversation with a language model: what it is sent with each question, and that it can be shown again."""

from dataclasses import replace
from itertools import pairwise

import pytest

from indexer import store
from indexer.models import recipe_value
from inference import history
from inference.history import Past
from inference.pipeline import Done, answer
from tests.fakes import DONE, ScriptedServer, said
from tests.integration.test_indexing import HARBOUR, corpus, indexed  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

REPLY = [said("It is so [1]."), said("", "stop"), DONE]


@pytest.fixture
def harbour(corpus):  # noqa: F811
    indexed(corpus, "harbour.md", HARBOUR)
    for pier in range(4):
        indexed(corpus, f"pier{pier}.md", f"# Pier {pier}\n\nPier {pier} is {pier + 3} metres wide.\n")
    return corpus


class Talk:
    """Questions one after the other to a scripted server, and all that it was sent."""

    def __init__(self, of, settings, server, **recipe):
        settings.GENERATOR_URL = server.url
        self.corpus, self.server = of, server
        self.recipe = replace(recipe_value(of.answer_recipe_id), k=2, condense=False, **recipe)
        self.past: list[Past] = []

    def ask(self, question: str) -> Done:
        (*_, done) = answer(self.corpus, question, self.recipe, self.past)
        made = done.answer
        kept = {"answer": made.text, "finish_reason": made.finish_reason, "shown": made.trace.get("shown")}
        self.past.append(Past(question=question, **kept))
        return done

    @property
    def sent(self) -> list[list[dict[str, str]]]:
        return [request["messages"] for request in self.server.requests]


@pytest.mark.parametrize("expand", ["none", "neighbours"])
def test_each_prompt_begins_with_the_one_before_and_can_be_shown_again(harbour, settings, expand):
    with ScriptedServer(REPLY) as server:
        talk = Talk(harbour, settings, server, expand=expand)
        for pier in (0, 1, 0, 2):
            talk.ask(f"How wide is pier {pier}?")
    for before, after in pairwise(talk.sent):
        assert after[: len(before)] == before
        assert after[len(before)] == {"role": "assistant", "content": "It is so [1]."}
    assert "[1]" in talk.sent[2][-1]["content"], "pier 0 was found again, and is named by its number"
    index = harbour.active_index()
    for turn in range(1, 5):
        shown = history.sent(index, talk.past[:turn])
        assert shown.exact
        assert [dict(message) for message in shown.messages] == talk.sent[turn - 1]


def test_markers_of_a_later_answer_may_cite_what_an_earlier_question_found(harbour, settings):
    with ScriptedServer(REPLY) as server:
        talk = Talk(harbour, settings, server)
        first = talk.ask("How tall is the lighthouse?")
        second = talk.ask("How wide is pier 3?")
    (cited,) = second.answer.citations
    assert cited.chunk_id == first.prompt.chunks[0].chunk_id
    assert second.prompt.earlier == len(first.prompt.chunks)


@pytest.mark.parametrize("removal", ["deleted", "disabled"])
def test_what_was_removed_is_not_shown_again(harbour, settings, removal):
    with ScriptedServer(REPLY) as server:
        talk = Talk(harbour, settings, server)
        talk.ask("How wide is pier 0?")
        if removal == "deleted":
            harbour.documents.get(name="pier0.md").delete()
        else:
            store.set_enabled([talk.past[0].shown["sources"][0][0], talk.past[0].shown["sources"][1][0]], False)
        done = talk.ask("How wide is pier 1?")
    assert done.answer.trace["shown"]["history"] == 0
    assert len(talk.sent[1]) == 2
    assert "3 metres" not in str(talk.sent[1])
    assert history.sent(harbour.active_index(), talk.past[:1]) is None


def test_a_refusal_is_told_to_the_model_in_its_own_words(harbour, settings):
    with ScriptedServer([said("NO_ANSWER", "stop"), DONE]) as server:
        talk = Talk(harbour, settings, server)
        talk.ask("Who built pier 0?")
        talk.ask("And who painted it?")
    assert talk.sent[1][2] == {"role": "assistant", "content": "NO_ANSWER"}


def test_a_conversation_longer_than_its_budget_begins_anew(harbour, settings):
    with ScriptedServer(REPLY) as server:
        talk = Talk(harbour, settings, server, history_tokens=150)
        turns = [talk.ask(f"How wide is pier {pier}?").prompt.history for pier in (0, 1, 2, 3)]
    assert turns[:2] == [0, 1]
    assert 0 in turns[2:]


def test_a_refused_question_is_not_what_a_follow_up_refers_to(harbour, settings):
    settings.GENERATOR_URL = ""
    past = [
        Past(question="How wide is pier 1?", answer="4 metres [1]."),
        Past(question="And who owns the moon?", answer="No.", finish_reason="no_answer"),
    ]
    (*_, done) = answer(harbour, "And what about pier 2?", history=past)
    assert "moon" not in done.prompt.question


def test_quoting_knows_no_conversation(harbour, settings):
    settings.GENERATOR_URL = ""
    past = [Past(question="How tall is the lighthouse?", answer="31 metres [1].")]
    (*_, done) = answer(harbour, "How wide is pier 1?", history=past)
    assert done.prompt.history == 0
    assert "shown" not in done.answer.trace


# --- how the model is asked to write ----------------------------------------------------------------------------------


def test_general_knowledge_is_said_to_be_that(harbour, settings):
    with ScriptedServer([said("NO_ANSWER\nLight is refracted [1]."), said("", "stop"), DONE]) as server:
        made = Talk(harbour, settings, server, strict=False).ask("Why is a rainbow round?").answer
    assert made.finish_reason == "general"
    assert made.text.startswith("The documents do not answer this question.\n\nFrom general knowledge")
    assert made.text.endswith("Light is refracted.")
    assert (made.citations, made.sentences, made.unknown_markers) == ((), (), 1), "no source is claimed for it"


def test_json_is_asked_for_where_the_server_holds_a_model_to_it(harbour, settings):
    reply = ['{"answered": true, "sentences": [{"text": "It is 31 ', 'metres tall.", "sources": [1]}]}']
    chunks = [said(text) for text in reply] + [said("", "stop"), DONE]
    with ScriptedServer(chunks, owner="vllm") as server:
        done = Talk(harbour, settings, server, structured=True).ask("How tall is the lighthouse?")
    assert done.answer.text == "It is 31 metres tall.[1]"
    assert server.requests[0]["response_format"]["type"] == "json_schema"
    assert '"sentences"' in server.requests[0]["messages"][0]["content"]


def test_markers_are_asked_for_where_it_is_not_known_to(harbour, settings):
    with ScriptedServer(REPLY, owner="somebody") as server:
        made = Talk(harbour, settings, server, structured=True).ask("How tall is the lighthouse?").answer
    assert made.text == "It is so [1]."
    assert "response_format" not in server.requests[0]
    assert "markers were asked for" in made.trace["notes"][0]


def test_every_stage_tells_what_went_in_and_came_out(harbour, settings):
    with ScriptedServer(REPLY) as server:
        trace = Talk(harbour, settings, server).ask("How tall is the lighthouse?").answer.trace
    assert [one["name"] for one in trace["stages"]] == [
        "condense", "search", "prompt", "generate", "cite", "verify",
    ]  # fmt: skip
    assert all(set(one) == {"name", "input", "output", "seconds"} for one in trace["stages"])
    assert "31 metres" not in str(trace), "a trace outlives the documents and has none of their words"
