"""An answer from question to citation, with a language model server that a test scripts."""

import socket
import threading
import time
from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User

from indexer.models import Membership, recipe_value
from inference import turns
from inference.models import Turn
from inference.pipeline import Done, Sources, answer
from ragplat.errors import BadInput, GeneratorUnavailable
from tests.fakes import DONE, ScriptedServer, said, used
from tests.integration.test_indexing import HARBOUR, corpus, indexed  # noqa: F401
from tests.rows import make_corpus

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

QUESTION = "How tall is the lighthouse?"
REPLY = [said("It is 31 metres tall [1]."), said("", "stop"), used(90, 9, cached=64), DONE]


@pytest.fixture
def harbour(corpus):  # noqa: F811
    indexed(corpus, "harbour.md", HARBOUR)
    return corpus


@pytest.fixture
def nobody_there(settings) -> str:
    """The address of a model server that is down."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.GENERATOR_URL = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    return settings.GENERATOR_URL


def done_of(events) -> Done:
    (*_, done) = events
    assert isinstance(done, Done)
    return done


def test_a_model_answers_from_the_chunks_and_its_markers_become_citations(harbour, settings):
    with ScriptedServer(REPLY, owner="vllm", context=4000) as server:
        settings.GENERATOR_URL = server.url
        done = done_of(answer(harbour, QUESTION))
    made, trace = done.answer, done.answer.trace
    assert made.text == "It is 31 metres tall [1]."
    assert made.sentences[0].support == "supported"
    assert "31 metres" in made.citations[0].quote
    assert (trace["prompt_tokens"], trace["cached_tokens"], trace["completion_tokens"]) == (90, 64, 9)
    assert (trace["generator"], trace["counted_by"]) == ("openai", "toy")
    assert "notice" not in trace
    body = server.requests[0]
    assert body["messages"] == [dict(message) for message in done.prompt.messages]
    assert len(body["cache_salt"]) == 32


def test_corpora_share_no_cache_of_the_model_server(harbour, settings):
    salts = []
    with ScriptedServer(REPLY, owner="vllm") as server:
        settings.GENERATOR_URL = server.url
        for one in (harbour, harbour, make_corpus("other")):
            recipe = replace(recipe_value(one.answer_recipe_id), mode="lexical")
            done_of(answer(one, QUESTION, recipe))
            salts.append(server.requests[-1]["cache_salt"])
    assert salts[0] == salts[1] != salts[2]


def test_what_the_recipe_says_of_sampling_reaches_the_server(harbour, settings):
    recipe = replace(
        recipe_value(harbour.answer_recipe_id),
        temperature=0.7, top_p=0.8, top_k=40, seed=3, stop=("END",), max_answer_tokens=99,
    )  # fmt: skip
    with ScriptedServer(REPLY) as server:
        settings.GENERATOR_URL = server.url
        done_of(answer(harbour, QUESTION, recipe))
    body = server.requests[0]
    sent = [body[name] for name in ("temperature", "top_p", "top_k", "seed", "stop", "max_tokens")]
    assert sent == [0.7, 0.8, 40, 3, ["END"], 99]


def test_a_server_that_is_down_is_stood_in_for_and_the_answer_says_so(harbour, nobody_there):
    events = list(answer(harbour, QUESTION))
    made = done_of(events).answer
    assert "31 metres" in made.text
    assert made.trace["generator"] == "extractive"
    assert nobody_there in made.trace["notice"]
    assert "cannot be reached" in made.trace["notice"]
    assert "quoted from the documents" in made.trace["notice"]
    assert len([event for event in events if isinstance(event, Sources)]) == 1


@pytest.mark.parametrize("script", [[None], ["data: {broken\n\n"], [said(" ", "stop"), DONE]])
def test_so_is_one_that_sends_garbage_before_the_first_word(harbour, settings, script):
    with ScriptedServer(script) as server:
        settings.GENERATOR_URL = server.url
        made = done_of(answer(harbour, QUESTION)).answer
    assert "31 metres" in made.text
    assert server.url in made.trace["notice"]


def test_a_recipe_that_names_the_model_server_wants_no_other(harbour, nobody_there):
    recipe = replace(recipe_value(harbour.answer_recipe_id), generator="openai")
    with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
        list(answer(harbour, QUESTION, recipe))


def test_what_was_written_before_the_server_broke_is_kept(harbour, settings):
    with ScriptedServer([said("It is 31 metres tall [1]."), None]) as server:
        settings.GENERATOR_URL = server.url
        made = done_of(answer(harbour, QUESTION)).answer
    assert made.text == "It is 31 metres tall [1]."
    assert made.finish_reason == "error"
    assert server.url in made.trace["error"]
    assert made.trace["generator"] == "openai"


def test_a_question_longer_than_the_model_can_read_is_refused_with_the_cure(harbour, settings):
    with ScriptedServer(REPLY, owner="vllm", context=700) as server:
        settings.GENERATOR_URL = server.url
        with pytest.raises(BadInput, match=r"the model can read 188.*max_answer_tokens"):
            list(answer(harbour, "why " * 300))


def test_an_answer_is_stopped_and_what_is_there_is_kept(harbour, settings):
    stopped = threading.Event()
    with ScriptedServer([said("It is 31 metres tall [1]. "), *([0.05, said("And so on. ")] * 200)]) as server:
        settings.GENERATOR_URL = server.url
        started = time.monotonic()
        events = []
        for event in answer(harbour, QUESTION, stopped=stopped):
            events.append(event)
            if "31 metres" in str(event) and not isinstance(event, Sources):
                stopped.set()
        assert time.monotonic() - started < 5
        assert server.hung_up.wait(1)
    made = done_of(events).answer
    assert made.finish_reason == "stopped"
    assert made.text.startswith("It is 31 metres tall [1].")
    assert "31 metres" in made.citations[0].quote


# In a conversation


def events_of(turn: Turn) -> list[dict]:
    async def followed():
        return [event async for event in turns.events(turn.pk)]

    return async_to_sync(followed)()


ENDLESS = [said("It is 31 metres tall [1]. "), *([0.05, said("And so on. ")] * 600)]


def wait_for_text(turn: Turn) -> None:
    deadline = time.monotonic() + 10
    while not any(event["type"] == "text" for event in turns._runs[turn.pk].events):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stop_ends_the_answer_of_a_turn(harbour, user, client, settings):
    Membership.objects.create(corpus=harbour, user=user)
    with ScriptedServer(ENDLESS) as server:
        settings.GENERATOR_URL = server.url
        turn = turns.ask(user, harbour, QUESTION)
        wait_for_text(turn)
        assert client.post(f"/turns/{turn.pk}/stop/").url.endswith(f"#turn-{turn.pk}")
        assert events_of(turn)[-1] == {"type": "done", "turn": turn.pk}
        assert server.hung_up.wait(1)
    turn.refresh_from_db()
    assert (turn.state, turn.finish_reason) == ("answered", "stopped")
    assert turn.text.startswith("It is 31 metres tall [1].")


def test_an_answer_that_nobody_watches_is_stopped(harbour, user, settings, monkeypatch):
    monkeypatch.setattr(turns, "UNWATCHED_SECONDS", 0.5)
    with ScriptedServer(ENDLESS) as server:
        settings.GENERATOR_URL = server.url
        turn = turns.ask(user, harbour, QUESTION)
        assert server.hung_up.wait(10)
        assert events_of(turn)[-1] == {"type": "done", "turn": turn.pk}
    turn.refresh_from_db()
    assert turn.finish_reason == "stopped"


def test_an_answer_that_somebody_watches_goes_on(harbour, user, settings, monkeypatch):
    monkeypatch.setattr(turns, "UNWATCHED_SECONDS", 0.2)
    script = [said("It is "), *([0.1, said("very ")] * 10), said("tall [1].", "stop"), DONE]
    with ScriptedServer(script) as server:
        settings.GENERATOR_URL = server.url
        turn = turns.ask(user, harbour, QUESTION)
        assert events_of(turn)[-1]["type"] == "done"
    turn.refresh_from_db()
    assert turn.finish_reason == "stop"
    assert turn.text.endswith("tall [1].")


def test_nobody_stops_the_answers_of_others(harbour, user, client, settings):
    Membership.objects.create(corpus=harbour, user=user)
    with ScriptedServer(ENDLESS) as server:
        settings.GENERATOR_URL = server.url
        turn = turns.ask(User.objects.create_user("bob"), harbour, QUESTION)
        assert client.post(f"/turns/{turn.pk}/stop/").status_code == 404
        wait_for_text(turn)
        turns.stop(turn.pk)
        events_of(turn)
