"""The generator against a real vLLM: what a scripted server cannot show. The model's words are noise."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from indexer.models import recipe_value
from inference import prompts
from inference.generators import background
from inference.generators.base import Sampling
from inference.generators.openai import OpenAIGenerator
from inference.generators.server import connected
from inference.history import Past
from inference.pipeline import answer
from ragplat.errors import GeneratorUnavailable
from ragplat.types import Prompt
from tests.chunks import scored
from tests.integration.test_indexing import HARBOUR, corpus, indexed  # noqa: F401
from tests.vllm_server import CONTEXT, INSTALLED, VLLM

pytestmark = pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed beside this environment: make test")


BLOCK = 128  # tokens: what vLLM's cache on a processor knows, it knows by whole blocks


@pytest.fixture(scope="module")
def vllm(tmp_path_factory) -> Iterator[VLLM]:
    server = VLLM(tmp_path_factory.mktemp("vllm"))
    server.start()
    yield server
    server.stop()


def generator(vllm: VLLM, max_tokens: int = 40, **options) -> OpenAIGenerator:
    return OpenAIGenerator(vllm.url, "", "", Sampling(max_tokens=max_tokens, seed=1), **options)


def prompt(question: str, sources: int = 3) -> Prompt:
    chunks = [
        scored(n, f"The harbour has {n} cranes and a lighthouse. " * 3, document=n, rank=n)
        for n in range(1, sources + 1)
    ]
    return prompts.build(question, chunks, 10**6, lambda texts: [0] * len(texts), "en", strict=True)


def idle(vllm: VLLM, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if vllm.metric("num_requests_running") == vllm.metric("num_requests_waiting") == 0:
            return True
        time.sleep(0.05)
    return False


def test_an_answer_streams_and_tells_its_tokens(vllm):
    deltas = list(generator(vllm).generate(prompt("How many cranes are there?")))
    assert len(deltas) > 5
    assert deltas[-1].finish_reason in ("stop", "length")
    assert 0 < deltas[-1].completion_tokens <= 40
    assert deltas[-1].prompt_tokens > 100


def test_what_the_server_offers_is_asked(vllm):
    offer = background.run(connected(vllm.url, "").offer())
    assert (offer.models, offer.owner) == (("toy",), "vllm")
    assert generator(vllm).context() == CONTEXT


def test_tokens_are_counted_as_the_model_counts_them(vllm):
    one = generator(vllm, max_tokens=1)
    asked = prompt("How many cranes are there?")
    rules, told = one.count([message["content"] for message in asked.messages])
    used = list(one.generate(asked))[-1].prompt_tokens
    assert used - 2 * prompts.AROUND_MESSAGE <= rules + told <= used
    assert one.count(["", "ab", "é"]) == [0, 2, 2]  # a token for each byte


def test_questions_on_the_same_sources_are_read_once_from_where_they_differ(vllm):
    one = generator(vllm, max_tokens=2, tenant="a")
    first, second = (list(one.generate(prompt(f"What of the {what}?")))[-1] for what in ("cranes", "lighthouse"))
    assert second.cached_tokens >= 0.9 * min(first.prompt_tokens, second.prompt_tokens)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("embed")
def test_a_conversation_is_read_once(vllm, corpus, settings):  # noqa: F811
    """Five turns: each prompt begins with the one before, and the server says that it knows that part."""
    indexed(corpus, "harbour.md", HARBOUR)
    for place in range(4):
        indexed(corpus, f"pier{place}.md", f"# Pier {place}\n\nPier {place} is {place + 3} metres wide.\n")
    settings.GENERATOR_URL = vllm.url
    recipe = replace(recipe_value(corpus.answer_recipe_id), k=2, max_answer_tokens=16, condense=False, temperature=0)
    past: list[Past] = []
    size = 0
    for turn in range(5):
        question = f"How wide is pier {turn % 4}?"
        (*_, done) = answer(corpus, question, recipe, past)
        made, trace = done.answer, done.answer.trace
        assert trace["shown"]["history"] == turn
        if turn:
            assert trace["cached_tokens"] > size - BLOCK
        size = trace["prompt_tokens"]
        past.append(Past(question=question, answer=made.text, finish_reason=made.finish_reason, shown=trace["shown"]))


def test_a_schema_holds_even_a_model_of_noise(vllm):
    deltas = list(generator(vllm, 200, structured=True).generate(prompt("How many cranes are there?")))
    text = "".join(delta.text for delta in deltas)
    assert deltas[-1].finish_reason in ("stop", "length", "no_answer")
    assert text and '"sentences"' not in text and "{" not in text[:1]


def test_tenants_do_not_share_what_was_read(vllm):
    asked = prompt("A question of its own, so that nobody has asked it before?")
    cached = [list(generator(vllm, 2, tenant=tenant).generate(asked))[-1].cached_tokens for tenant in ("b", "c", "b")]
    assert not cached[0]
    assert not cached[1]
    assert cached[2] > 100


def test_closing_streams_leaves_the_engine_idle_within_a_second(vllm):
    streams = [generator(vllm, 1500).generate(prompt(f"Question {n}?")) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(next, streams))
    written = vllm.metric("generation_tokens")
    for stream in streams:
        stream.close()
    assert idle(vllm, 1.0)
    settled = vllm.metric("generation_tokens")
    assert settled - written < 8 * 1000  # they were cut off, not finished
    time.sleep(0.5)
    assert vllm.metric("generation_tokens") == settled


def test_a_batch_lets_people_go_first(vllm):
    deltas = list(generator(vllm, 2, batch=True).generate(prompt("Is a priority taken?")))
    assert deltas[-1].finish_reason in ("stop", "length")


def test_a_wrong_model_and_too_long_a_prompt_are_told(vllm):
    with pytest.raises(GeneratorUnavailable, match=r"404.*Correct the model"):
        list(OpenAIGenerator(vllm.url, "absent").generate(prompt("Why?")))
    with pytest.raises(GeneratorUnavailable, match=r"400.*lower context_tokens"):
        list(generator(vllm).generate(prompt("Why?", sources=100)))


def test_a_full_queue_is_waited_for(vllm):
    """More at once than the engine takes: all are answered in the end."""
    with ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(lambda n: list(generator(vllm, 8, batch=True).generate(prompt(f"Number {n}?")))[-1], range(64))
        )
    assert {answer.finish_reason for answer in answers} <= {"stop", "length"}


def test_a_server_that_comes_back_is_used_again(vllm):
    vllm.stop()
    with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
        list(generator(vllm).generate(prompt("Are you there?")))
    vllm.start()
    assert list(generator(vllm).generate(prompt("Are you there?")))[-1].completion_tokens
