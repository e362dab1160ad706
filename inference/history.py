"""What a prompt shows of the conversation before a question: questions, answers, and the sources they were given."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from indexer import store
from indexer.models import Index
from inference import prompts
from inference.prompts import NO_ANSWER, Asked
from ragplat.types import Prompt, ScoredChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A question that was answered, as the conversation keeps it."""

    question: str  # as it was typed
    answer: str
    finish_reason: str = "stop"
    shown: Mapping[str, Any] | None = None  # what `noted` made of its prompt; None where no model was asked


def noted(prompt: Prompt, found: Sequence[ScoredChunk], strict: bool, structured: bool) -> dict[str, Any]:
    """What a trace keeps of a prompt, so that the next one can begin with it: places, none of the documents' words."""
    ids = {chunk.chunk_id for chunk in found}
    return {
        "sha256": _hash(prompt.messages),
        "version": prompt.version,
        "strict": strict,
        "structured": structured,
        "question": prompt.question,
        "history": prompt.history,
        "sources": [[one.chunk_id, one.document_id, one.start, one.end] for one in prompt.chunks[prompt.earlier :]],
        "again": [n for n, one in enumerate(prompt.chunks[: prompt.earlier], start=1) if one.chunk_id in ids],
    }


def earlier(index: Index, past: Sequence[Past]) -> list[Asked]:
    """The conversation as the prompt of its last question showed it, with that question and its answer.

    Empty where a source was deleted, disabled or indexed anew since: what a person removed is not shown to a model
    again, nor what it wrote from it.
    """
    shown = [one.shown for one in past]
    if not past or not shown[-1]:
        return []
    run = shown[-1]["history"] + 1
    if run > len(past) or not all(shown[-run:]):
        return []
    places = [tuple(place) for one in shown[-run:] for place in one["sources"]]
    sources = _sources(index, places)
    if len(sources) < len(places):
        return []
    return [
        Asked(
            question=one["question"],
            sources=tuple(sources[tuple(place)] for place in one["sources"]),
            again=tuple(one["again"]),
            answer=NO_ANSWER if kept.finish_reason == "no_answer" else kept.answer,
        )
        for one, kept in zip(shown[-run:], past[-run:], strict=True)
    ]


class Sent(NamedTuple):
    """A prompt, put together again from the documents as they are."""

    messages: tuple[Mapping[str, str], ...]
    exact: bool  # byte for byte what was sent


def sent(index: Index, past: Sequence[Past]) -> Sent | None:
    """What the model was sent for the last question of ``past``; None where no model was asked or a source is gone."""
    asked = earlier(index, past)
    if not asked:
        return None
    shown = past[-1].shown
    messages = prompts.render(asked, shown["version"], shown["strict"], shown["structured"])
    return Sent(messages, exact=_hash(messages) == shown["sha256"])


def _hash(messages: Sequence[Mapping[str, str]]) -> str:
    return hashlib.sha256(json.dumps([dict(one) for one in messages]).encode()).hexdigest()


def _sources(index: Index, places: Sequence[tuple[int, int, int, int]]) -> dict[tuple[int, ...], ScoredChunk]:
    """The chunks at these places that are still there, as they were shown."""
    hits = store.hits(index, {chunk_id for chunk_id, *_ in places}) if places else {}
    found = {place: hits[place[0]]._asdict() for place in places if place[0] in hits}
    wider = [place for place in found if (found[place]["start"], found[place]["end"]) != place[2:]]
    if wider:  # what had brought its surroundings along
        texts = store.stretches([place[1:] for place in wider])
        contexts = store.contexts(index, [place[1:3] for place in wider])
        for place, (text, page) in zip(wider, texts, strict=True):
            _, document_id, start, end = place
            new = {"start": start, "end": end, "text": text or "", "page": page}
            found[place] |= new | {"context": contexts.get((document_id, start), "")}
    return {place: ScoredChunk(**fields, score=0.0, rank=0) for place, fields in found.items()}
