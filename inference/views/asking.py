"""Asking: the start page, a question, another one beside it."""

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from indexer.access import corpus_for, visible_corpora
from indexer.models import Corpus, Document
from inference import rendering, tree, turns
from inference.access import conversation_for, turn_for
from inference.views.conversations import conversation_page
from ragplat.errors import BadInput
from ragplat.middleware import marked, wants_page
from ragplat.parameters import whole_number

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
    return render(request, "inference/start.html", context)


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
    pk, after = (whole_number(request.POST.get(name, "")) for name in ("conversation", "after"))
    going_on = None if pk is None else conversation_for(request.user, pk)
    question = request.POST.get("question", "")
    try:
        before = None if after is None else turn_for(request.user, after)
        made = turns.ask(request.user, corpus, question, going_on, before)
    except BadInput as error:
        if not wants_page(request):
            raise
        if going_on:
            page = conversation_page(request, going_on, after, question=question, error=error.message)
        else:
            page = _start_page(request, corpus.slug, question, error.message)
        return marked(page, error)
    request.session["corpus"] = corpus.slug
    if "HX-Request" not in request.headers:
        return redirect(rendering.address(made))
    if going_on is None:
        return HttpResponse(headers={"HX-Redirect": rendering.address(made)})
    rendering.prepare(corpus, tree.parents(made.conversation_id), [made])
    # Another tab went on meanwhile: what it asked is on another path now.
    return render(request, "inference/_turn.html", {"turn": made, "beside": made.versions})


@require_POST
def ask_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a turn's question once more, or in the words that are sent, as an alternative to it."""
    found = turn_for(request.user, pk)
    question = request.POST.get("question", found.question)
    try:
        made = turns.ask_again(found, question)
    except BadInput as error:
        if not wants_page(request):
            raise
        context = {"editing": found.pk, "edited": question, "edit_error": error.message}
        return marked(conversation_page(request, found.conversation, found.pk, **context), error)
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Redirect": rendering.address(made)})
    return redirect(rendering.address(made))
