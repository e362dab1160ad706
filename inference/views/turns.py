"""One turn: its answer while it is made and afterwards, its sources, and what the person thinks of it."""

import json
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from inference import export, rendering, tree, turns
from inference.access import turn_for
from inference.models import Turn
from inference.views.conversations import markdown_file
from ragplat.database import give_back_connections
from ragplat.errors import BadInput


@require_GET
def turn(request: HttpRequest, pk: int) -> HttpResponse:
    """One turn, as the conversation page shows it: what a finished stream is replaced by."""
    found = turn_for(request.user, pk)
    if "HX-Request" not in request.headers:
        return redirect(rendering.address(found))
    return _turn_part(request, found, "_turn")


def _turn_part(request: HttpRequest, found: Turn, template: str) -> HttpResponse:
    rendering.prepare(found.conversation.corpus, tree.parents(found.conversation_id), [found])
    return render(request, f"inference/{template}.html", {"turn": found})


@require_POST
def stop_turn(request: HttpRequest, pk: int) -> HttpResponse:
    """End an answer that is being written; what is there is kept."""
    found = turn_for(request.user, pk)
    turns.stop(found.pk)
    if "HX-Request" in request.headers:
        return HttpResponse(status=204)
    return redirect(rendering.address(found))


@require_POST
def rate_turn(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep what the person thinks of an answer: `rating` up, down or none, for a bad one its `fault`, a `comment`."""
    found = turn_for(request.user, pk)
    if found.state != Turn.State.ANSWERED:
        raise BadInput("There is no answer to rate.")
    rating, fault = request.POST.get("rating", ""), request.POST.get("fault", found.fault)
    comment = request.POST.get("comment", found.comment).replace("\r\n", "\n").strip()
    if rating not in ("", *Turn.Rating.values):
        raise BadInput(f'The rating is "{rating[:40]}". Allowed: {", ".join(Turn.Rating.values)}, or nothing.')
    if fault not in ("", *Turn.Fault.values):
        raise BadInput(f'The reason is "{fault[:40]}". Allowed: {", ".join(Turn.Fault.values)}, or nothing.')
    if len(comment) > Turn.COMMENT:
        raise BadInput(f"The comment has {len(comment):,} characters; at most {Turn.COMMENT:,} are taken.")
    found.rating = rating
    found.fault = fault if rating == Turn.Rating.DOWN else ""
    found.comment = comment if rating else ""
    found.save(update_fields=["rating", "fault", "comment"])
    if "HX-Request" not in request.headers:
        return redirect(rendering.address(found))
    return render(request, "inference/_rating.html", {"turn": found, "rated": True, "saved": "comment" in request.POST})


@require_GET
def turn_sources(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel's list of what an answer cites."""
    return _turn_part(request, turn_for(request.user, pk), "_sources")


@require_GET
def export_turn(request: HttpRequest, pk: int) -> HttpResponse:
    """One question and its answer with its sources as Markdown."""
    found = turn_for(request.user, pk)
    return markdown_file(export.single(found), export.file_name(found.question, pk))


@require_GET
async def turn_events(request: HttpRequest, pk: int) -> HttpResponse:
    """The making of an answer as server-sent events, from the beginning."""
    user = await request.auser()
    found = await sync_to_async(turn_for)(user, pk)
    await sync_to_async(give_back_connections)()  # the request's own, which the stream would hold to its end
    response = StreamingHttpResponse(_event_lines(found.pk), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _event_lines(turn_id: int) -> AsyncIterator[str]:
    async for event in turns.events(turn_id):
        yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
