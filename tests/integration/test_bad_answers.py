"""Answers under bad conditions: what the person sees, what is stored, and that nothing is half-stored."""

import io
import json
import os
import re
import signal
import time
from urllib.error import HTTPError

import httpx
import pytest
from asgiref.sync import async_to_sync

from indexer import corpora, tasks
from indexer.models import Membership
from indexer.upload import accept
from inference import turns
from inference.generators import server
from inference.generators.openai import OpenAIGenerator
from inference.models import Turn
from inference.prompts import REFUSALS
from ragplat.errors import GeneratorUnavailable
from ragplat.types import Prompt
from tests.conftest import ROOT
from tests.fakes import DONE, ScriptedServer, said

QUESTION = "How tall is the lighthouse?"
TEXT = "# Harbour\n\nThe breakwater is 640 metres long.\n\n## Lighthouse\n\nThe lighthouse is 31 metres tall.\n"
FACT = "It is 31 metres tall [1]."
REPLY = [said(FACT), said("", "stop"), DONE]
MESSAGES = [{"role": "user", "content": "What?"}]
PROMPT = Prompt(question="What?", chunks=(), dropped=(), messages=tuple(MESSAGES), version="answer-en@1", language="en")


# A server that takes everything and answers nothing


@pytest.fixture
def short_waits(monkeypatch):
    for name in ("PROBE_SECONDS", "HEALTH_SECONDS", "DOWN_SECONDS"):
        monkeypatch.setattr(server, name, 0.4)


def fails_after(one: OpenAIGenerator, words: str) -> float:
    """Seconds until an answer fails."""
    started = time.monotonic()
    with pytest.raises(GeneratorUnavailable, match=words):
        list(one.generate(PROMPT))
    return time.monotonic() - started


def text_of(one: OpenAIGenerator) -> str:
    return "".join(delta.text for delta in one.generate(PROMPT))


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("known", [False, True], ids=["from the start", "later"])
def test_a_server_that_hangs_is_waited_for_once_and_used_again_once_it_answers(known):
    with ScriptedServer(REPLY) as hanging:
        one = OpenAIGenerator(hanging.url, model="toy", first_token_seconds=0.5)
        if known:
            assert text_of(one) == FACT
        hanging.silent = True
        assert fails_after(one, "in time|sent nothing") > 0.3
        assert sum(fails_after(one, "in time|sent nothing") for _ in range(10)) < 0.3
        time.sleep(0.5)
        assert fails_after(one, "in time|sent nothing") < 0.9, "one look at its health"
        hanging.silent = False
        time.sleep(0.5)
        assert text_of(one) == FACT


@pytest.mark.usefixtures("short_waits")
def test_a_slow_answer_of_a_healthy_server_keeps_nobody_from_asking_it():
    with ScriptedServer([3.0, *REPLY], owner="vllm") as busy:
        one = OpenAIGenerator(busy.url, model="toy", first_token_seconds=0.3)
        fails_after(one, "sent nothing")
        assert "/health" in busy.looks
        busy.script = REPLY
        assert text_of(one) == FACT


@pytest.mark.usefixtures("short_waits")
def test_the_answer_does_not_wait_again_where_the_rewriting_waited():
    with ScriptedServer(REPLY) as hanging:
        one = OpenAIGenerator(hanging.url, model="toy")
        assert text_of(one) == FACT
        hanging.silent = True
        with pytest.raises(GeneratorUnavailable, match="not done after"):
            one.complete(MESSAGES, seconds=0.3)
        assert fails_after(one, "not done after") < 0.2


@pytest.mark.usefixtures("short_waits")
def test_a_stall_in_the_middle_says_nothing_of_the_server():
    with ScriptedServer([said("Half an answer"), 3.0], owner="vllm") as stalling:
        one = OpenAIGenerator(stalling.url, model="toy", token_seconds=0.3)
        assert list(one.generate(PROMPT))[-1].finish_reason == "error"
        assert "/health" not in stalling.looks


# In a conversation


@pytest.fixture
def harbour(toy_platform, user):
    made = corpora.create("Harbour")
    Membership.objects.create(corpus=made, user=user)
    document = accept(made, "harbour.md", io.BytesIO(TEXT.encode())).document
    tasks.index_document(document_id=document.pk)
    return made


@pytest.fixture
def model_server(settings, monkeypatch):
    monkeypatch.setitem(OpenAIGenerator.__init__.__kwdefaults__, "first_token_seconds", 1.0)
    monkeypatch.setitem(OpenAIGenerator.__init__.__kwdefaults__, "token_seconds", 0.5)
    with ScriptedServer(REPLY) as made:
        settings.GENERATOR_URL = made.url
        yield made


def asked(client, question: str = QUESTION, **data) -> Turn:
    """The turn of a question typed on the page, once its answer has ended."""
    address = client.post("/ask/", {"corpus": "harbour", "question": question} | data).url
    return ended(int(address.rpartition("-")[2]))


def ended(pk: int) -> Turn:
    async def followed():
        return [event async for event in turns.events(pk)]

    last = async_to_sync(followed)()[-1]
    turn = Turn.objects.get(pk=pk)
    assert last["type"] == ("done" if turn.state == "answered" else "failed")
    return turn


def page(client, turn: Turn) -> str:
    html = client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert "data-events" not in html, "nothing is still to come"
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "trouble",
    [
        [3.0, said("late")],
        [None],
        [b"data: \xff\xfe\n\n"],
        ["data: {broken\n\n"],
        ["<html><h1>502 Bad Gateway</h1></html>"],
        [b"\x00\x01\x02"],
        ['data: {"error": {"message": "CUDA out of memory"}}\n\n'],
    ],
    ids=["hangs", "cut", "no UTF-8", "broken JSON", "a page", "bytes", "an error"],
)
def test_what_came_before_the_trouble_is_kept_and_the_trouble_told(client, harbour, model_server, trouble):
    model_server.script = [said(FACT), *trouble]
    turn = asked(client)
    assert (turn.state, turn.finish_reason, turn.text) == ("answered", "error", FACT)
    assert "31 metres" in turn.citations[0]["quote"]
    assert model_server.url in turn.reason
    assert "The answer was cut short" in page(client, turn)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("odd", ["\x00", "\ud83d", "\x1b[31m", "\u202e", "\ufffe"])
def test_odd_characters_of_a_model_lose_no_answer(client, harbour, model_server, odd):
    model_server.script = [said(f"It is 31{odd} metres tall [1]."), said(odd), said("", "stop"), DONE]
    turn = asked(client)
    assert (turn.state, turn.finish_reason) == ("answered", "stop"), turn.reason
    assert turn.text.startswith("It is 31") and "metres tall [1]." in turn.text
    assert "metres tall" in page(client, turn)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, "The model `toy` does not exist.", "Correct the model or the URL"),
        (404, "No\x00 such \ud800model.", "No such model. Correct the model"),
        (400, "This model's maximum context length is 512 tokens.", "lower context_tokens"),
        (401, "Wrong key.", "Correct the API key"),
    ],
    ids=["wrong model", "wrong model, oddly said", "context overflow", "wrong key"],
)
def test_a_server_that_refuses_is_stood_in_for_and_the_cure_told(client, harbour, model_server, status, error, words):
    model_server.status, model_server.error = status, error
    turn = asked(client)
    assert (turn.state, turn.finish_reason) == ("answered", "stop")
    assert "31 metres" in turn.text
    assert words in turn.trace["notice"]
    assert words in page(client, turn)


@pytest.mark.django_db(transaction=True)
def test_a_server_that_hangs_is_stood_in_for(client, harbour, model_server, short_waits, monkeypatch):
    monkeypatch.setattr(server, "DOWN_SECONDS", 60)
    model_server.silent = True
    first, second = asked(client), asked(client, "How long is the breakwater?")
    for turn in (first, second):
        assert turn.trace["generator"] == "extractive"
        assert "did not answer in time" in page(client, turn)
    assert sum(stage["seconds"] for stage in second.trace["stages"]) < 0.4


@pytest.mark.django_db(transaction=True)
def test_where_no_other_generator_will_do_the_reason_is_kept(client, harbour, model_server):
    recipe = harbour.answer_recipe
    named = type(recipe).objects.create(kind="answer", name="model", version=1, params={"generator": "openai"})
    harbour.answer_recipe = named
    harbour.save()
    model_server.status, model_server.error = 404, "The model `toy` does not exist."
    turn = asked(client)
    assert (turn.state, turn.text) == ("failed", "")
    assert "does not exist" in turn.reason
    assert "does not exist" in page(client, turn)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("answers", [True, False], ids=["with a model", "without"])
def test_nothing_to_find_is_said(client, user, toy_platform, model_server, settings, answers):
    Membership.objects.create(corpus=corpora.create("Harbour"), user=user)
    model_server.script = [said("NO_ANSWER", "stop"), DONE]
    settings.GENERATOR_URL = model_server.url if answers else ""
    turn = asked(client)
    assert (turn.state, turn.finish_reason, turn.text) == ("answered", "no_answer", REFUSALS["en"])
    assert turn.trace["chunks"] == turn.citations == []
    assert REFUSALS["en"] in page(client, turn)


@pytest.mark.django_db(transaction=True)
def test_a_model_that_knows_better_than_no_sources_is_not_believed(client, user, toy_platform, model_server):
    Membership.objects.create(corpus=corpora.create("Harbour"), user=user)
    turn = asked(client)
    assert turn.citations == []
    assert [sentence["support"] for sentence in turn.sentences] == ["unsupported"]
    assert "[1]" not in turn.text


@pytest.mark.django_db(transaction=True)
def test_a_hundred_thousand_characters_are_refused_and_nothing_is_stored(client, harbour, model_server):
    response = client.post("/ask/", {"corpus": "harbour", "question": "why " * 25_000})
    assert response.status_code == 400
    assert "at most 4,000" in response.content.decode()
    assert not Turn.objects.exists()
    assert not model_server.requests


@pytest.mark.django_db(transaction=True)
def test_two_tabs_on_one_conversation_get_each_its_own_answer(client, harbour, model_server):
    first = asked(client)
    model_server.script = [0.3, *REPLY]
    seen = {"corpus": "harbour", "conversation": first.conversation_id, "after": first.pk}
    wanted = ["How long is the breakwater?", "Who built the lighthouse?"]
    pages = [client.post("/ask/", seen | {"question": question}).url for question in wanted]
    both = [ended(int(address.rpartition("-")[2])) for address in pages]
    assert [turn.question for turn in both] == wanted
    for turn in both:
        assert (turn.state, turn.text, turn.conversation_id) == ("answered", FACT, first.conversation_id)
        earlier = [one["input"]["earlier"] for one in turn.trace["stages"] if one["name"] == "condense"]
        assert earlier == [1], "neither answer is part of the other's conversation"


# The database goes away in the middle of an answer


def signed_in(stack) -> httpx.Client:
    browser = httpx.Client(base_url=stack.url, follow_redirects=True, timeout=60, headers={"Accept": "text/html"})
    name, password = stack.login
    form = browser.get("/")
    fields = {"username": name, "password": password, "csrfmiddlewaretoken": token(form)}
    assert browser.post(str(form.url), data=fields).url.path == "/"
    return browser


def token(form: httpx.Response) -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text).group(1)


def wait_until(happened, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
def test_a_database_that_restarts_while_an_answer_is_written_loses_nothing(new_stack, how):
    with ScriptedServer([said("It is 31 metres "), 6.0, said("tall [1]."), said("", "stop"), DONE]) as model:
        new_stack.env["RAGPLAT_GENERATOR_URL"] = model.url
        process = new_stack.start("--no-demo")
        try:
            done = new_stack.manage("ingest", "harbour", str(ROOT / "tests" / "fixtures" / "demo"), "--wait")
            assert done.returncode == 0, done.stderr
            browser = signed_in(new_stack)
            fields = {"corpus": "harbour", "question": QUESTION, "csrfmiddlewaretoken": token(browser.get("/"))}
            address = str(browser.post("/ask/", data=fields).url)
            wait_until(lambda: model.requests)
            pid_file = new_stack.var_dir / "pg" / "postmaster.pid"
            os.kill(int(pid_file.read_text().split()[0]), how)
            wait_until(lambda: _status(browser, address) == 200)
            wait_until(lambda: "data-events" not in browser.get(address).text, 40)
            shown = browser.get(address).text
            browser.close()
            assert "31 metres tall" in re.sub(r"<[^>]+>", "", shown), shown[-3000:]
            assert "interrupted" not in shown
        finally:
            process.terminate()
            process.wait(30)


def _status(browser: httpx.Client, address: str) -> int:
    try:
        return browser.get(address).status_code
    except (httpx.HTTPError, HTTPError, json.JSONDecodeError):
        return 0
