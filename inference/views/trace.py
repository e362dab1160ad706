"""Why an answer is as it is: what was found for it, and how long all took."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from inference import history, rendering, turns
from inference.access import turn_for
from inference.history import Past
from inference.models import Turn


@require_GET
def turn_trace(request: HttpRequest, pk: int) -> HttpResponse:
    """Why this answer: each step, where each retriever put each chunk, how sentences were judged, what was sent."""
    found = turn_for(request.user, pk)
    trace = found.trace
    context = {
        "turn": found,
        "trace": trace,
        "chunks": _traced(found),
        "dropped": _by_step(trace.get("search", {}).get("dropped", [])),
        "steps": [_step(stage) for stage in trace.get("stages", [])],
        "total": _seconds(trace),
        "judged": [one | {"text": found.text[one["start"] : one["end"]]} for one in found.sentences],
        "sent": _sent(found),
    }
    template = "inference/_trace.html" if "HX-Request" in request.headers else "inference/trace.html"
    return render(request, template, context)


STEPS = {
    "condense": "Understood the question",
    "search": "Searched",
    "prompt": "Chose the sources",
    "generate": "Wrote",
    "cite": "Tied sentences to places",
    "verify": "Judged each sentence",
}


def _step(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage in words: what went in and came out, one by one."""
    return {
        "label": STEPS.get(stage["name"], stage["name"]),
        "given": _pairs(stage.get("input", {})),
        "made": _pairs(stage.get("output", {})),
        "seconds": stage.get("seconds"),
    }


def _pairs(values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name.replace("_", " "), value) for name, value in values.items() if value not in ("", None)]


def _traced(turn: Turn) -> list[dict[str, Any]]:
    """The chunks that were found, with the names their documents have now, and the markers that cite them."""
    chunks, dropped = turn.trace.get("chunks", []), set(turn.trace.get("dropped", []))
    documents = {one["document_id"] for one in chunks}
    names = dict(turn.conversation.corpus.documents.filter(pk__in=documents).values_list("pk", "name"))
    return [
        one
        | {
            "document": names.get(one["document_id"]),
            "numbers": sorted({cited["number"] for cited in turn.citations if cited["chunk_id"] == one["chunk_id"]}),
            "dropped": one["chunk_id"] in dropped,
            "viewer": rendering.link("document", one),
            "passage": rendering.link("document-passage", one),
        }
        for one in chunks
    ]


def _sent(turn: Turn) -> history.Sent | None:
    """What the model was sent, read from the documents as they are."""
    shown = turn.trace.get("shown")
    if not shown or turn.state != Turn.State.ANSWERED:
        return None
    this = Past(question=turn.question, answer=turn.text, finish_reason=turn.finish_reason, shown=shown)
    return history.sent(turn.conversation.corpus.active_index(), [*turns.history_of(turn), this])


def _by_step(dropped: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What each step of the search left out."""
    steps: dict[str, list[dict[str, Any]]] = {}
    for one in dropped:
        steps.setdefault(one["step"], []).append(one)
    return steps


def _seconds(trace: dict[str, Any]) -> float:
    return sum(stage.get("seconds", 0) for stage in trace.get("stages", []))
