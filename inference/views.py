"""The pages where questions are asked and answers read. Everything shown comes from the rows of the conversation."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from indexer import store
from indexer.access import corpus_for, visible_corpora
from indexer.models import Corpus, Document
from indexer.rendering import visible_text
from inference import rendering, turns
from inference.access import conversation_for, conversations_of, turn_for
from inference.models import Conversation, Turn
from ragplat.errors import BadInput
from ragplat.parameters import whole_number

LATEST_TURNS = 30  # shown at first; a link shows the others
CLOSEST = 3  # passages offered when the documents do not answer
EXAMPLES = {"en": "What is said about {}?", "zh": "关于“{}”，文档里怎么说？"}


@require_GET
def start(request: HttpRequest) -> HttpResponse:
    """A new question: corpus picker, question box, examples."""
    return _start_page(request, request.GET.get("corpus") or request.session.get("corpus"))


def _start_page(request: HttpRequest, slug: str | None, question: str = "", error: str = "") -> HttpResponse:
    choices = list(
        visible_corpora(request.user)
        .annotate(ready=Count("documents", filter=Q(documents__state=Document.State.READY)))
        .order_by("title")
    )
    chosen = next((one for one in choices if one.slug == slug), None)
    chosen = chosen or next((one for one in choices if one.ready), None) or next(iter(choices), None)
    context = {
        "corpora": choices,
        "corpus": chosen,
        "examples": examples(chosen) if chosen and chosen.ready else [],
        "question": question,
        "error": error,
    }
    return render(request, "inference/start.html", context, status=400 if error else 200)


def examples(corpus: Corpus) -> list[str]:
    """A few questions to begin with, from the titles of the longest documents."""
    ready = corpus.documents.filter(state=Document.State.READY).exclude(title="")
    titles = ready.order_by("-chunk_count").values_list("title", flat=True)[:12]
    wording = EXAMPLES.get(corpus.language, EXAMPLES["en"])
    return [wording.format(title) for title in dict.fromkeys(titles) if len(title) <= 60][:3]


@require_POST
def ask(request: HttpRequest) -> HttpResponse:
    """Take a question. Scripts get the new turn to append; plain forms go to the conversation."""
    corpus = corpus_for(request.user, request.POST.get("corpus", ""))
    pk = whole_number(request.POST.get("conversation", ""))
    going_on = None if pk is None else conversation_for(request.user, pk)
    question = request.POST.get("question", "")
    try:
        made = turns.ask(request.user, corpus, question, going_on)
    except BadInput as error:
        if "text/html" not in request.headers.get("Accept", "text/html"):
            raise
        if going_on:
            return _conversation_page(request, going_on, question=question, error=error.message)
        return _start_page(request, corpus.slug, question=question, error=error.message)
    request.session["corpus"] = corpus.slug
    address = f"{reverse('conversation', args=[made.conversation_id])}#turn-{made.pk}"
    if "HX-Request" not in request.headers:
        return redirect(address)
    if going_on is None:
        return HttpResponse(headers={"HX-Redirect": address})
    return render(request, "inference/_turn.html", {"turn": made})


@require_GET
def conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """A conversation, as it is kept; answers still being written are followed from there."""
    return _conversation_page(request, conversation_for(request.user, pk))


def _conversation_page(
    request: HttpRequest, conversation: Conversation, question: str = "", error: str = ""
) -> HttpResponse:
    total = conversation.turns.count()
    first = 0 if "all" in request.GET else max(0, total - LATEST_TURNS)
    shown = list(conversation.turns.all()[first:])
    for one in shown:
        turns.look(one.pk)
    prepare(conversation.corpus, shown)
    context = {
        "conversation": conversation,
        "corpus": conversation.corpus,
        "turns": shown,
        "earlier": first,
        "latest": next((one for one in reversed(shown) if one.citations), None),
        "waiting": next((one for one in shown if one.state == Turn.State.ASKED), None),
        "question": question,
        "error": error,
    }
    return render(request, "inference/conversation.html", context, status=400 if error else 200)


def prepare(corpus: Corpus, shown: Iterable[Turn]) -> None:
    """Give turns what their templates show: `html`, `doubts`, `sources`, `closest`. Two queries, however many turns."""
    shown = list(shown)
    cited = {one["document_id"] for turn in shown for one in turn.citations}
    documents = set(corpus.documents.filter(pk__in=cited).values_list("pk", flat=True)) if cited else set()
    refused = [turn for turn in shown if turn.finish_reason == "no_answer"]
    wanted = {one["chunk_id"] for turn in refused for one in turn.trace.get("chunks", [])[:CLOSEST]}
    hits = store.hits(corpus.active_index(), wanted) if wanted else {}
    for turn in shown:
        turn.html = rendering.answer_html(turn, documents)
        turn.doubts = {one["support"] for one in turn.sentences}
        turn.sources = rendering.sources(turn, documents)
        turn.closest = [_closest(hits[one["chunk_id"]]) for one in _ranked(turn, refused) if one["chunk_id"] in hits]


def _ranked(turn: Turn, refused: list[Turn]) -> list[dict[str, Any]]:
    return turn.trace.get("chunks", [])[:CLOSEST] if turn in refused else []


def _closest(hit: store.Hit) -> dict[str, Any]:
    place = hit._asdict()
    return place | {
        "text": visible_text(hit.text, "markdown"),
        "viewer": rendering.link("document", place),
        "passage": rendering.link("document-passage", place),
    }


@require_GET
def conversations(request: HttpRequest) -> HttpResponse:
    """All of a person's conversations, newest first."""
    rows = conversations_of(request.user).select_related("corpus").order_by("-changed")
    page = Paginator(rows, 50).get_page(request.GET.get("page"))
    return render(request, "inference/conversations.html", {"section": "conversations", "page": page})


@require_http_methods(["GET", "POST"])
def delete_conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a conversation after asking."""
    found = conversation_for(request.user, pk)
    if request.method == "GET":
        return render(request, "inference/conversation_delete.html", {"conversation": found})
    found.delete()
    messages.success(request, "The conversation was deleted.")
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Redirect": reverse("conversations")})
    return redirect("conversations")


@require_GET
def turn(request: HttpRequest, pk: int) -> HttpResponse:
    """One turn, as the conversation page shows it: what a finished stream is replaced by."""
    found = turn_for(request.user, pk)
    if "HX-Request" not in request.headers:
        return redirect(f"{reverse('conversation', args=[found.conversation_id])}#turn-{found.pk}")
    prepare(found.conversation.corpus, [found])
    return render(request, "inference/_turn.html", {"turn": found})


@require_POST
def stop_turn(request: HttpRequest, pk: int) -> HttpResponse:
    """End an answer that is being written; what is there is kept."""
    found = turn_for(request.user, pk)
    turns.stop(found.pk)
    if "HX-Request" in request.headers:
        return HttpResponse(status=204)
    return redirect(f"{reverse('conversation', args=[found.conversation_id])}#turn-{found.pk}")


@require_GET
def turn_sources(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel's list of what an answer cites."""
    found = turn_for(request.user, pk)
    prepare(found.conversation.corpus, [found])
    return render(request, "inference/_sources.html", {"turn": found})


@require_GET
def turn_trace(request: HttpRequest, pk: int) -> HttpResponse:
    """Why this answer: where each retriever put each chunk, which were shown and cited, and how long all took."""
    found = turn_for(request.user, pk)
    trace = found.trace
    context = {
        "turn": found,
        "trace": trace,
        "chunks": _traced(found),
        "dropped": _by_step(trace.get("search", {}).get("dropped", [])),
        "total": _seconds(trace),
    }
    template = "inference/_trace.html" if "HX-Request" in request.headers else "inference/trace.html"
    return render(request, template, context)


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


def _by_step(dropped: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What each step of the search left out."""
    steps: dict[str, list[dict[str, Any]]] = {}
    for one in dropped:
        steps.setdefault(one["step"], []).append(one)
    return steps


def _seconds(trace: dict[str, Any]) -> float:
    return sum(stage.get("seconds", 0) for stage in trace.get("stages", []))


async def turn_events(request: HttpRequest, pk: int) -> HttpResponse:
    """The making of an answer as server-sent events, from the beginning."""
    user = await request.auser()
    found = await sync_to_async(turn_for)(user, pk)
    response = StreamingHttpResponse(_event_lines(found.pk), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _event_lines(turn_id: int) -> AsyncIterator[str]:
    async for event in turns.events(turn_id):
        yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
