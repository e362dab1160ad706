"""What every generator must do, run on each of them."""

import hashlib
from contextlib import contextmanager

import numpy as np
import pytest

from indexer.analyzer import analyze
from inference.citations import resolve
from inference.generators import registry
from inference.prompts import REFUSALS, build
from ragplat.errors import BadInput
from ragplat.types import ScoredChunk
from tests.fakes import DONE, ScriptedServer, said

TEXTS = ["The Norse leader was Rollo. He came from Norway.", "The wall fell in 1989. Many were surprised."]


def hashing_embed(texts: list[str]) -> np.ndarray:
    """Unit vectors of hashed terms: texts sharing words are near."""
    vectors = np.zeros((len(texts), 256))
    for row, text in zip(vectors, texts, strict=True):
        for term in analyze(text, "en"):
            row[hashlib.sha256(term.encode()).digest()[0]] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@contextmanager
def extractive():
    yield registry.get("extractive")(embed=hashing_embed)


@contextmanager
def echo():
    yield registry.get("echo")()


@contextmanager
def openai():
    with ScriptedServer([said("The Norse leader "), said("was Rollo [1]."), said("", "stop"), DONE]) as server:
        yield registry.get("openai")(base_url=server.url, model="toy")


@contextmanager
def openai_refusing():
    with ScriptedServer([said("NO_ANSWER", "stop"), DONE]) as server:
        yield registry.get("openai")(base_url=server.url, model="toy")


GENERATORS = [extractive, echo, openai]
REFUSING = [extractive, echo, openai_refusing]


def prompt(question: str, texts: list[str], language: str = "en"):
    chunks = [
        ScoredChunk(
            chunk_id=i,
            document_id=i,
            document=f"{i}.txt",
            ordinal=0,
            start=0,
            end=len(text),
            page=None,
            context="",
            text=text,
            score=1.0,
            rank=i,
        )
        for i, text in enumerate(texts, start=1)
    ]
    return build(question, chunks, 1000, lambda texts: [len(text) for text in texts], language, strict=True)


def test_the_suite_covers_every_generator():
    assert registry.names() == sorted(make.__name__ for make in GENERATORS)


@pytest.mark.parametrize("make", GENERATORS)
def test_the_last_delta_and_only_that_carries_the_finish_reason(make):
    with make() as generator:
        deltas = list(generator.generate(prompt("Who was the Norse leader?", TEXTS)))
    assert all(delta.finish_reason is None for delta in deltas[:-1])
    assert deltas[-1].finish_reason == "stop"
    assert "".join(delta.text for delta in deltas).strip()


@pytest.mark.parametrize("make", GENERATORS)
def test_every_marker_points_at_a_chunk(make):
    asked = prompt("Who was the Norse leader?", TEXTS)
    with make() as generator:
        answer = resolve("".join(delta.text for delta in generator.generate(asked)), asked)
    assert answer.unknown_markers == 0
    assert answer.citations


@pytest.mark.parametrize("make", REFUSING)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_sources_it_says_so_in_the_language_of_the_prompt(make, language):
    with make() as generator:
        deltas = list(generator.generate(prompt("Who was the Norse leader?", [], language)))
    assert "".join(delta.text for delta in deltas) == REFUSALS[language]
    assert deltas[-1].finish_reason == "no_answer"


@pytest.mark.parametrize("make", GENERATORS)
def test_it_can_be_closed_at_any_time_and_used_again(make):
    asked = prompt("Who was the Norse leader?", TEXTS)
    with make() as generator:
        unread = generator.generate(asked)
        unread.close()
        begun = generator.generate(asked)
        first = next(begun)
        begun.close()
        again = list(generator.generate(asked))
    assert again[0].text == first.text


@pytest.mark.parametrize("make", GENERATORS)
def test_name_and_signature(make):
    with make() as generator:
        assert generator.name in registry
        assert generator.signature() == generator.signature()
        assert generator.signature().startswith(f"generator|name:{generator.name}|")


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(BadInput, match="echo, extractive, openai"):
        registry.get("oracle")
