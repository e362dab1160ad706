"""Taking files in from the browser: one by one with progress, or many from a plain form."""

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from indexer.access import corpus_for
from indexer.models import Corpus, Document, Membership
from indexer.upload import accept
from indexer.views.corpora import corpus_context
from ragplat.errors import BadInput, RagplatError
from ragplat.parameters import whole_numbers

MOST_STATES = 1000


@require_POST
def upload(request: HttpRequest, slug: str) -> HttpResponse:
    """Take files into a corpus. Each gets its own outcome: a refused one does not keep the others out.

    JSON for scripts, the corpus page for plain forms. The status is that of the refusal when nothing was taken.
    """
    corpus = corpus_for(request.user, slug, role=Membership.Role.EDITOR)
    files = request.FILES.getlist("files")
    if not files:
        raise BadInput("No file was chosen.")
    # Browsers send a file's name without its folder: scripts send the path beside it.
    paths = request.POST.getlist("path")
    names = paths if len(paths) == len(files) else [file.name for file in files]
    results = [_take(request, corpus, name, file) for name, file in zip(names, files, strict=True)]
    refused = [one["status"] for one in results if one["outcome"] == "refused"]
    status = refused[0] if len(refused) == len(results) else 200
    if "text/html" not in request.headers.get("Accept", "text/html"):
        return JsonResponse({"results": results}, status=status)
    return render(request, "indexer/corpus.html", corpus_context(request, corpus) | {"results": results}, status=status)


def _take(request: HttpRequest, corpus: Corpus, name: str, file: UploadedFile) -> dict:
    try:
        taken = accept(corpus, name, file, request.user)
    except RagplatError as error:
        return {"name": name, "outcome": "refused", "message": error.message, "status": error.status}
    return {
        "name": name,
        "outcome": taken.outcome,
        "message": taken.message,
        "document": taken.document.pk,
        "url": reverse("document", args=[taken.document.pk]),
    }


@require_GET
def states(request: HttpRequest, slug: str) -> JsonResponse:
    """How far these documents are: {"documents": {id: {state, label, reason, settled, stored, chunks}}}."""
    corpus = corpus_for(request.user, slug)
    ids = whole_numbers(request.GET.get("ids", ""), MOST_STATES)
    fields = ("state", "reason", "stored_count", "chunk_count")
    rows = corpus.documents.filter(pk__in=ids).only("pk", *fields)
    return JsonResponse(
        {
            "documents": {
                one.pk: {
                    "state": one.state,
                    "reason": one.reason,
                    "settled": one.state not in Document.UNDER_WAY,
                    "stored": one.stored_count,
                    "chunks": one.chunk_count,
                }
                for one in rows
            }
        }
    )
