"""The OpenAI generator against a real HTTP server that behaves well, badly, or not at all."""

import asyncio
import socket
import threading
import time

import pytest

from inference.generators import background, server
from inference.generators.base import Sampling
from inference.generators.openai import BATCH_PRIORITY, OpenAIGenerator
from inference.prompts import REFUSALS
from ragplat.errors import GeneratorUnavailable
from ragplat.types import Prompt
from tests.fakes import DONE, ScriptedServer, said, used

PROMPT = Prompt(
    question="What?",
    chunks=(),
    dropped=(),
    messages=({"role": "system", "content": "rules"}, {"role": "user", "content": "What?"}),
    version="answer-en@1",
    language="en",
)


def generator(server: ScriptedServer, **options) -> OpenAIGenerator:
    return OpenAIGenerator(server.url, **{"model": "toy", "first_token_seconds": 2.0, "token_seconds": 2.0} | options)


def run(server: ScriptedServer, **options) -> list:
    return list(generator(server, **options).generate(PROMPT))


def text_of(deltas: list) -> str:
    return "".join(delta.text for delta in deltas)


def test_streams_text_usage_and_finish_reason():
    script = [said("Par"), said("is [1]"), said(".", "stop"), used(12, 3, cached=8), DONE]
    with ScriptedServer(script) as server:
        deltas = run(server, sampling=Sampling(temperature=0.5, max_tokens=7))
    assert text_of(deltas) == "Paris [1]."
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert (deltas[-1].prompt_tokens, deltas[-1].cached_tokens, deltas[-1].completion_tokens) == (12, 8, 3)
    request = server.requests[0]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("toy", 0.5, 7)
    assert request["messages"] == [dict(message) for message in PROMPT.messages]


def test_text_arrives_before_the_end():
    with ScriptedServer([said("First "), 1.0, said("second.", "stop"), DONE]) as server:
        stream = generator(server).generate(PROMPT)
        started = time.monotonic()
        assert next(stream).text == "First "
        assert time.monotonic() - started < 0.9
        stream.close()


def test_length_is_told():
    with ScriptedServer([said("Cut", "length"), DONE]) as server:
        assert run(server)[-1].finish_reason == "length"


@pytest.mark.parametrize(
    "pieces",
    [["NO_ANSWER"], ["NO", "_ANS", "WER"], ["**NO_ANSWER**"], ["\n NO_ANSWER.", " I could not find it."]],
)
def test_the_agreed_token_becomes_a_refusal(pieces):
    with ScriptedServer([*map(said, pieces), said("", "stop"), DONE]) as server:
        deltas = run(server)
    assert text_of(deltas) == REFUSALS["en"]
    assert deltas[-1].finish_reason == "no_answer"


def test_a_refusal_after_words_keeps_the_words():
    with ScriptedServer([said("It is not said. NO_"), said("ANSWER", "stop"), DONE]) as server:
        deltas = run(server)
    assert text_of(deltas) == "It is not said. "
    assert deltas[-1].finish_reason == "no_answer"


def test_the_beginning_of_the_token_is_not_swallowed():
    with ScriptedServer([said("He said NO"), said("_ONE and NO", "stop"), DONE]) as server:
        deltas = run(server)
    assert text_of(deltas) == "He said NO_ONE and NO"
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, ["401", "API key"]),
        (404, ["404", '"toy"', "/v1"]),
        (400, ["400", "context_tokens"]),
        (429, ["429", "busy"]),
        (500, ["500", "out of memory"]),
    ],
)
def test_a_refused_request_says_what_to_do(status, words):
    with ScriptedServer(status=status, error="out of memory") as server, pytest.raises(GeneratorUnavailable) as error:
        run(server, api_key="sk-secret")
    for word in [*words, server.url]:
        assert word in error.value.message
    assert "sk-secret" not in error.value.message
    assert len(server.requests) == (3 if status in (429, 500) else 1), "passing troubles are tried again"


def test_a_server_that_is_down():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
        list(OpenAIGenerator(url, model="toy").generate(PROMPT))


def test_no_first_token_in_time():
    with ScriptedServer([3.0, said("late", "stop")]) as server:
        started = time.monotonic()
        with pytest.raises(GeneratorUnavailable, match=r"nothing for 0\.3 s"):
            run(server, first_token_seconds=0.3)
        assert time.monotonic() - started < 1.5


def test_keep_alives_do_not_move_the_deadline():
    with ScriptedServer([": ping\n\n", 0.1] * 20) as server:
        started = time.monotonic()
        with pytest.raises(GeneratorUnavailable, match=r"nothing for 0\.5 s"):
            run(server, first_token_seconds=0.5)
        assert time.monotonic() - started < 1.5


def test_a_stall_keeps_what_was_received():
    with ScriptedServer([said("Half an "), said("answer"), 3.0, said("late", "stop")]) as server:
        deltas = run(server, token_seconds=0.3)
    assert text_of(deltas) == "Half an answer"
    assert deltas[-1].finish_reason == "error"
    assert "nothing for 0.3 s" in deltas[-1].error
    assert server.url in deltas[-1].error


def test_a_slow_reader_is_no_stall():
    with ScriptedServer([said("One "), said("two.", "stop"), DONE]) as server:
        stream = generator(server, token_seconds=0.2).generate(PROMPT)
        text = next(stream).text
        time.sleep(0.5)
        rest = list(stream)
    assert text + text_of(rest) == "One two."
    assert rest[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    "trouble",
    [
        ["data: {broken\n\n"],
        ['data: "just a string"\n\n'],
        ["data: [1, 2]\n\n"],
        ['data: {"choices": [{"delta": "text"}]}\n\n'],
        ['data: {"choices": [{"delta": {"content": 7}}]}\n\n'],
        ['data: {"error": {"message": "CUDA out of memory"}}\n\n'],
        [None],
        [DONE],
        [],
    ],
)
def test_a_broken_stream_keeps_what_was_received(trouble):
    with ScriptedServer([said("Half an answer"), *trouble]) as server:
        deltas = run(server)
    assert text_of(deltas) == "Half an answer"
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "error"
    assert server.url in deltas[-1].error


@pytest.mark.parametrize("script", [["data: {broken\n\n"], [None], [], [DONE], ["<html>hello</html>"]])
def test_a_stream_broken_from_the_start_is_unavailable(script):
    with ScriptedServer(script) as server, pytest.raises(GeneratorUnavailable, match="127"):
        run(server)


@pytest.mark.parametrize(("finish", "words"), [("stop", "empty answer"), ("length", "max_answer_tokens")])
def test_an_empty_answer_is_no_answer(finish, words):
    with ScriptedServer([said(" ", finish), DONE]) as server, pytest.raises(GeneratorUnavailable, match=words):
        run(server)


def test_closing_the_stream_hangs_up():
    with ScriptedServer([said("word "), 0.05] * 200) as server:
        stream = generator(server).generate(PROMPT)
        next(stream)
        stream.close()
        assert server.hung_up.wait(1)
    assert _at_rest()


@pytest.mark.parametrize("script", [[said("word "), 0.05] * 200, [5.0]], ids=["writing", "silent"])
def test_an_answer_is_stopped_from_another_thread(script):
    stopped = threading.Event()
    with ScriptedServer(script) as server:
        threading.Timer(0.4, stopped.set).start()
        started = time.monotonic()
        deltas = list(generator(server, first_token_seconds=5).generate(PROMPT, stopped))
        assert time.monotonic() - started < 1
        assert all(delta.finish_reason is None for delta in deltas)
        assert _at_rest()


def _at_rest() -> bool:
    """Whether nothing is under way on the loop any more."""

    async def others() -> int:
        return len(asyncio.all_tasks()) - 1

    deadline = time.monotonic() + 2
    while background.run(others()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return background.run(others()) == 0


def test_answers_share_connections():
    with ScriptedServer([said("Yes.", "stop"), DONE]) as server:
        for _ in range(3):
            run(server)
        assert server.connections == 1


# What servers can do


def test_what_only_vllm_knows_is_only_told_to_vllm():
    chosen = Sampling(top_p=0.9, top_k=5, seed=7, stop=("END",))
    bodies = []
    for owner in ("vllm", "library"):
        with ScriptedServer([said("Yes.", "stop"), DONE], owner=owner) as server:
            run(server, sampling=chosen, tenant="harbour", batch=True)
        bodies.append(server.requests[0])
    for body in bodies:
        assert (body["top_p"], body["top_k"], body["seed"], body["stop"]) == (0.9, 5, 7, ["END"])
    assert (bodies[0]["cache_salt"], bodies[0]["priority"]) == ("harbour", BATCH_PRIORITY)
    assert not {"cache_salt", "priority"} & set(bodies[1])


def test_what_is_left_at_its_default_is_left_to_the_server():
    with ScriptedServer([said("Yes.", "stop"), DONE]) as server:
        run(server)
    assert not {"top_p", "top_k", "seed", "stop"} & set(server.requests[0])


def test_tokens_are_counted_by_the_model_where_its_server_counts():
    with ScriptedServer(owner="vllm", context=1234) as server:
        one = generator(server)
        assert one.count(["three little words", "", "two words"]) == [3, 0, 2]
        assert one.context() == 1234
    with ScriptedServer() as server:
        assert generator(server).count(["three little words"]) is None
        assert generator(server).context() is None


# Trouble that passes


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status):
    with ScriptedServer([said("Yes.", "stop"), DONE], passing=[status, status]) as server:
        assert text_of(run(server, first_token_seconds=10)) == "Yes."
    assert len(server.requests) == 3


def test_a_server_that_is_down_is_waited_for_once_and_used_again_once_it_is_healthy(monkeypatch):
    monkeypatch.setattr(server, "DOWN_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    one = OpenAIGenerator(f"http://127.0.0.1:{port}/v1", model="toy")
    with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
        list(one.generate(PROMPT))
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
            list(one.generate(PROMPT))
    assert time.monotonic() - started < 0.5
    with ScriptedServer([said("Yes.", "stop"), DONE], port=port):
        time.sleep(0.6)
        assert text_of(list(one.generate(PROMPT))) == "Yes."


def test_the_only_model_is_taken():
    with ScriptedServer([said("Yes.", "stop"), DONE], models=("only",)) as server:
        one = generator(server, model="")
        assert "name:openai|model:only" in one.signature()
        list(one.generate(PROMPT))
    assert server.requests[0]["model"] == "only"


@pytest.mark.parametrize(("models", "words"), [(("b", "a"), "a, b"), ((), "none")])
def test_several_models_are_listed(models, words):
    with ScriptedServer(models=models) as server, pytest.raises(GeneratorUnavailable, match=words):
        run(server, model="")


# A whole reply


def test_a_whole_reply():
    with ScriptedServer([said("How do "), said("I?", "stop"), used(3, 4), DONE]) as server:
        assert generator(server).complete([{"role": "user", "content": "x"}]) == "How do I?"
    assert server.requests[0]["messages"] == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([], "without finishing"),
        ([said(" ", "stop"), DONE], "empty answer"),
        ([said("cut", "length"), DONE], "longer than 512 tokens"),
        ([said("half"), None], "broke off"),
    ],
)
def test_a_reply_that_is_not_whole_is_none(script, words):
    with ScriptedServer(script) as server, pytest.raises(GeneratorUnavailable, match=words):
        generator(server).complete([{"role": "user", "content": "x"}])


@pytest.mark.parametrize("script", [[3.0], [said("word "), 0.1] * 30, [": ping\n\n", 0.1] * 30])
def test_a_reply_has_one_deadline_for_all_of_it(script):
    with ScriptedServer(script) as server:
        started = time.monotonic()
        with pytest.raises(GeneratorUnavailable, match=r"not done after 0\.4 s"):
            generator(server).complete([{"role": "user", "content": "x"}], seconds=0.4)
        assert time.monotonic() - started < 1.5
        assert len(server.requests) == 1
