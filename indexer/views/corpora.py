"""The list of corpora, and one corpus with its documents."""

from django.core.paginator import Paginator
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from indexer import corpora as corpus_actions
from indexer.access import corpus_for, visible_corpora
from indexer.forms import CorpusForm
from indexer.models import Corpus, Document, Membership
from ragplat.errors import BadInput
from ragplat.parameters import whole_numbers

State = Document.State
PAGE = 50
SORTS = {
    "name": ("name", "id"),
    "-name": ("-name", "-id"),
    "state": ("state", "name"),
    "-state": ("-state", "name"),
    "chunks": ("chunk_count", "name"),
    "-chunks": ("-chunk_count", "name"),
    "size": ("size", "name"),
    "-size": ("-size", "name"),
    "changed": ("changed", "id"),
    "-changed": ("-changed", "-id"),
}
COLUMNS = [("name", "Name"), ("state", "State"), ("chunks", "Chunks"), ("size", "Size"), ("changed", "Changed")]
GROUPS = {
    "ready": ("Ready", (State.READY,)),
    "working": ("Under way", Document.UNDER_WAY),
    "failed": ("Failed", (State.FAILED,)),
    "empty": ("Empty", (State.EMPTY,)),
}


@require_GET
def corpora(request: HttpRequest) -> HttpResponse:
    """Every corpus the person may read, with what is in it."""
    return render(
        request,
        "indexer/corpora.html",
        {"section": "corpora", "corpora": with_counts(visible_corpora(request.user)).order_by("title")},
    )


def with_counts(corpora: QuerySet[Corpus]) -> QuerySet[Corpus]:
    """Corpora with what their cards show: documents by state, chunks, bytes, last change. One query."""
    return corpora.annotate(
        total=Count("documents"),
        ready=Count("documents", filter=Q(documents__state=State.READY)),
        working=Count("documents", filter=Q(documents__state__in=Document.UNDER_WAY)),
        failed=Count("documents", filter=Q(documents__state=State.FAILED)),
        empty=Count("documents", filter=Q(documents__state=State.EMPTY)),
        chunks_total=Sum("documents__chunk_count", default=0, filter=Q(documents__state=State.READY)),
        bytes_total=Sum("documents__size", default=0),
        last_change=Max("documents__changed"),
    )


@require_http_methods(["GET", "POST"])
def create_corpus(request: HttpRequest) -> HttpResponse:
    """Make a corpus and go to it."""
    form = CorpusForm(request.POST or None, label_suffix="")
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                corpus = corpus_actions.create(user=request.user, **form.cleaned_data)
                return redirect("corpus", slug=corpus.slug)
            except BadInput as error:
                form.add_error(None, error.message)
    return render(request, "indexer/corpus_create.html", {"section": "corpora", "form": form}, status=status)


@require_GET
def corpus(request: HttpRequest, slug: str) -> HttpResponse:
    """One corpus: upload, and the table of its documents."""
    found = corpus_for(request.user, slug)
    template = "indexer/_documents.html" if request.headers.get("HX-Target") == "documents" else "indexer/corpus.html"
    return render(request, template, corpus_context(request, found))


def corpus_context(request: HttpRequest, corpus: Corpus) -> dict:
    """What the corpus page shows: the documents asked for by filter, sort and page."""
    query, group = request.GET.get("q", "").strip(), request.GET.get("state", "")
    sort = request.GET.get("sort", "name")
    sort = sort if sort in SORTS else "name"
    rows = corpus.documents.defer("text", "pages").order_by(*SORTS[sort])
    if query:
        rows = rows.filter(Q(name__icontains=query) | Q(title__icontains=query))
    if group in GROUPS:
        rows = rows.filter(state__in=GROUPS[group][1])
    counted = with_counts(Corpus.objects.filter(pk=corpus.pk)).get()
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return {
        "section": "corpora",
        "corpus": counted,
        "page": page,
        "documents": page.object_list,
        "polled": [one.pk for one in page.object_list if one.state in Document.UNDER_WAY],
        "query": query,
        "group": group,
        "sort": sort,
        "groups": [(name, label, getattr(counted, name)) for name, (label, _) in GROUPS.items()],
        "columns": [_column(name, label, sort) for name, label in COLUMNS],
        "may_edit": visible_corpora(request.user, Membership.Role.EDITOR).filter(pk=corpus.pk).exists(),
    }


def _column(name: str, label: str, sort: str) -> dict:
    """A table head: where a click leads, and how it is sorted now."""
    descending = sort == name
    return {
        "label": label,
        "name": name,
        "next": f"-{name}" if descending else name,
        "sorted": {name: "ascending", f"-{name}": "descending"}.get(sort, ""),
    }


@require_GET
def live(request: HttpRequest, slug: str) -> HttpResponse:
    """The rows that were under way when the page asked last, and whether to ask again."""
    found = corpus_for(request.user, slug)
    ids = whole_numbers(request.GET.get("ids", ""), PAGE)
    rows = list(found.documents.filter(pk__in=ids).defer("text", "pages"))
    context = {
        "corpus": with_counts(Corpus.objects.filter(pk=found.pk)).get(),
        "documents": rows,
        "polled": [one.pk for one in rows if one.state in Document.UNDER_WAY],
        "may_edit": visible_corpora(request.user, Membership.Role.EDITOR).filter(pk=found.pk).exists(),
    }
    response = render(request, "indexer/_live.html", context)
    if ids and not context["polled"]:
        response["HX-Trigger"] = "refresh"  # all are settled: the list, its filters and their counts are shown anew
    return response
