"""Conversations: the list of them, one of them, and what can be done with it."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from indexer.access import visible_corpora
from inference import export, rendering, tree, turns
from inference.access import conversation_for, conversations_of
from inference.models import Conversation, Turn
from ragplat.errors import BadInput, NotFound
from ragplat.parameters import whole_number

LATEST_TURNS = 30  # shown at first; a link shows the others
PAGE = 50


@require_GET
def conversations(request: HttpRequest) -> HttpResponse:
    """A person's conversations, newest first; those of a corpus, or with some words in title or questions."""
    rows = conversations_of(request.user).select_related("corpus").order_by("-changed")
    words, slug = request.GET.get("q", "").strip(), request.GET.get("corpus", "")
    if words:
        asked = Turn.objects.filter(conversation=OuterRef("pk"), question__icontains=words)
        rows = rows.filter(Q(title__icontains=words) | Exists(asked))
    if slug:
        rows = rows.filter(corpus__slug=slug)
    mine = Conversation.objects.filter(user=request.user, corpus=OuterRef("pk"))
    context = {
        "section": "conversations",
        "page": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "corpora": visible_corpora(request.user).filter(Exists(mine)).order_by("title"),
        "query": words,
        "chosen": slug,
    }
    return render(request, "inference/conversations.html", context)


@require_GET
def conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """A conversation, as it is kept; answers still being written are followed from there.

    `?turn=ID` shows a path through that turn, and is remembered.
    """
    return conversation_page(request, conversation_for(request.user, pk), whole_number(request.GET.get("turn", "")))


def conversation_page(
    request: HttpRequest, conversation: Conversation, through: int | None, **context: Any
) -> HttpResponse:
    """One path of a conversation: the one shown last, or one through a turn. Raises NotFound without that turn."""
    known, path = _path(conversation, through)
    first = 0 if "all" in request.GET else max(0, len(path) - LATEST_TURNS)
    shown = list(conversation.turns.filter(pk__in=path[first:]))
    for one in shown:
        if one.state == Turn.State.ASKED:
            turns.look(one)
            turns.end_if_lost(one)
    rendering.prepare(conversation.corpus, known, shown)
    context |= {
        "conversation": conversation,
        "corpus": conversation.corpus,
        "turns": shown,
        "earlier": first,
        "latest": next((one for one in reversed(shown) if one.citations), None),
        "waiting": next((one for one in shown if one.state == Turn.State.ASKED), None),
    }
    return render(request, "inference/conversation.html", context)


def _path(conversation: Conversation, through: int | None = None) -> tuple[tree.Parents, list[int]]:
    """The tree of a conversation, and the ids of the path to show, which is remembered."""
    known = tree.parents(conversation.pk)
    if through is not None and through not in known:
        raise NotFound("There is no such answer. It may have been deleted.")
    end = tree.end_of_path(known, conversation, through)
    if through is not None and end != conversation.current_id:
        Conversation.objects.filter(pk=conversation.pk).update(current=end)  # without touching `changed`
    return known, tree.line(known, end)


@require_POST
def rename_conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """Give a conversation another title."""
    found = conversation_for(request.user, pk)
    title = " ".join(request.POST.get("title", "").split())
    if not title:
        raise BadInput("The title is empty. Type how the conversation is to be called.")
    if len(title) > Conversation.TITLE:
        raise BadInput(f"The title has {len(title):,} characters; at most {Conversation.TITLE} are taken.")
    Conversation.objects.filter(pk=pk).update(title=title)  # its place in the list stays
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return redirect("conversation", pk=found.pk)


@require_http_methods(["GET", "POST"])
def delete_conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a conversation after asking."""
    found = conversation_for(request.user, pk)
    if request.method == "GET":
        return render(request, "inference/conversation_delete.html", {"conversation": found})
    with transaction.atomic():
        Conversation.objects.select_for_update().filter(pk=found.pk).first()  # nobody asks in it meanwhile
        found.delete()
    messages.success(request, "The conversation was deleted.")
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Redirect": reverse("conversations")})
    return redirect("conversations")


@require_GET
def export_conversation(request: HttpRequest, pk: int) -> HttpResponse:
    """The path shown last as a Markdown file."""
    found = conversation_for(request.user, pk)
    _, path = _path(found)
    shown = found.turns.defer("trace").filter(pk__in=path).select_related("recipe")
    return markdown_file(export.conversation(found, shown), export.file_name(found.title, pk))


def markdown_file(text: str, name: str) -> HttpResponse:
    """A Markdown text as a download."""
    headers = {"Content-Disposition": content_disposition_header(True, name)}
    return HttpResponse(text, content_type="text/markdown; charset=utf-8", headers=headers)
