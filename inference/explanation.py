"""An answer for a program, and why it is as it is in lines for a terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ragplat.types import Answer

Trace = Mapping[str, Any]


def fields(made: Answer) -> dict[str, Any]:
    """An answer as the objects of JSON."""
    return {
        "answer": made.text,
        "finish_reason": made.finish_reason,
        "sentences": [asdict(sentence) for sentence in made.sentences],
        "citations": [asdict(citation) for citation in made.citations],
        "unknown_markers": made.unknown_markers,
        "trace": dict(made.trace),
    }


def explained(trace: Trace, names: Mapping[int, str]) -> Iterator[str]:
    """The trace of an answer, line by line. ``names``: of documents, by id."""
    search = trace.get("search", {})
    yield from _understood(trace.get("rewriting", {}))
    yield from _searched(search)
    yield from _chunks(trace, names)
    for one in search.get("dropped", []):
        yield f"left out by {one['step']}: chunk {one['chunk_id']}: {one['reason']}"
    for note in [*search.get("notes", []), *trace.get("notes", [])]:
        yield f"note: {note}"
    yield from _written(trace)
    for stage in trace.get("stages", []):
        into, out = _listed(stage.get("input", {})), _listed(stage.get("output", {}))
        yield f"{stage['seconds']:.3f} s {stage['name']}: {into} > {out}"


def _listed(values: Trace) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if not isinstance(value, Mapping))


def _understood(rewriting: Trace) -> Iterator[str]:
    if made := rewriting.get("question"):
        yield f"understood as: {made['text']} ({made['how']})"
    if made := rewriting.get("variants"):
        yield f"other wordings: {' · '.join(made['texts']) or 'none'} ({made['how']})"
    if made := rewriting.get("passage"):
        yield f"imagined answer: {made['text']} ({made['how']})"


def _searched(search: Trace) -> Iterator[str]:
    if not search:
        return
    yield f"search: {search['mode']}; {search['fusion']}"
    if search["terms"]:
        yield f"terms: {' '.join(search['terms'])}"
    for leg in search["legs"]:
        yield f"{leg['name']}: {len(leg['hits'])} candidates, {leg['how']}, {leg['seconds']:.3f} s"
    if search["reranker"]:
        yield f"reranker: {search['reranker']}"
    yield "seconds of the search: " + ", ".join(f"{name} {value:.3f}" for name, value in search["seconds"].items())


def _chunks(trace: Trace, names: Mapping[int, str]) -> Iterator[str]:
    chunks, no_room = trace.get("chunks", []), set(trace.get("dropped", []))
    yield f"chunks: {len(chunks)} found, {len(no_room)} without room in the prompt"
    for one in chunks:
        ranks = "  ".join(f"{leg} {_rank(one.get(leg))}" for leg in ("dense", "lexical", "reranked") if one.get(leg))
        page = f", page {one['page']}" if one["page"] else ""
        place = f"{names.get(one['document_id'], 'a document that is gone')}{page} [{one['start']}:{one['end']}]"
        note = "  (no room)" if one["chunk_id"] in no_room else ""
        yield f"{one['rank']:3}. {one['score']:.4f}  {ranks}  {place}{note}"


def _rank(found: Trace) -> str:
    return f"#{found['rank']} {found['score']:.4f}"


def _written(trace: Trace) -> Iterator[str]:
    if "prompt" in trace:
        yield f"prompt: {trace['prompt']}, counted in tokens of {trace['counted_by']}"
    if "generator" in trace:
        first = trace.get("seconds_to_first_text")
        yield f"generator: {trace['generator']}" + (f", first words after {first:.3f} s" if first is not None else "")
    if trace.get("prompt_tokens") is not None:
        known = f", {trace['cached_tokens']:,} of them known before" if trace.get("cached_tokens") else ""
        yield f"tokens: {trace['prompt_tokens']:,} read{known}, {trace['completion_tokens'] or 0:,} written"
