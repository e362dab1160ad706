"""One document: the viewer, a passage of it, and what may be done with it."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from indexer import documents as document_actions
from indexer import reading
from indexer.access import document_for, visible_corpora
from indexer.models import Document, Membership
from indexer.parsers.detect import NAMES
from ragplat.parameters import whole_number

STEPS = ("parse", "chunk", "embed")
IMAGES = 20  # page images on one page of the viewer; browsers load each when it comes into sight


@require_GET
def document(request: HttpRequest, pk: int) -> HttpResponse:
    """The viewer: page images or text, with the passage of `?start=&end=` marked, and the coverage report."""
    found = document_for(request.user, pk)
    passage = reading.passage_in(found, request.GET.get("start"), request.GET.get("end"))
    images = reading.has_images(found) and bool(found.pages)
    tab = "text" if not images or request.GET.get("view") == "text" else "pages"
    context = {
        "section": "corpora",
        "document": found,
        "corpus": found.corpus,
        "passage": passage,
        "tab": tab,
        "images": images,
        "facts": facts(found),
        "may_edit": may_edit(request, found),
    }
    if tab == "pages":
        context |= _pages(found, passage, _number(request, "page"))
    else:
        context["part"] = reading.part_of(found, _number(request, "part"), passage)
    return render(request, "indexer/document.html", context)


def _number(request: HttpRequest, name: str) -> int | None:
    number = whole_number(request.GET.get(name, ""))
    return None if number is None else min(number, 10**9)


def _pages(document: Document, passage: reading.Passage | None, asked: int | None) -> dict:
    """The page images around a page: which to show, and which of them hold the passage."""
    last = document.pages[-1][0]
    current = asked or (reading.page_at(document, passage.start) if passage else 1)
    current = min(max(current, 1), last)
    first = (current - 1) // IMAGES * IMAGES + 1
    marked = {page for page, _, _ in document.pages if passage and reading.on_page(document, passage, page).strip()}
    return {
        "current": current,
        "last": last,
        "numbers": [(n, n in marked) for n in range(first, min(first + IMAGES, last + 1))],
        "before": first - 1 if first > 1 else None,
        "after": first + IMAGES if first + IMAGES <= last else None,
    }


@require_GET
def passage(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel beside an answer: the page image or the text around a passage. A plain link opens the viewer."""
    found = document_for(request.user, pk)
    if "HX-Request" not in request.headers:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return redirect(reverse("document", args=[pk]) + query)
    where = reading.passage_in(found, request.GET.get("start"), request.GET.get("end"))
    context = {"document": found, "passage": where}
    if where:
        page = reading.page_at(found, where.start)
        context |= {"page": page, "page_word": reading.page_word(found), "images": page and reading.has_images(found)}
        context["html"] = reading.surroundings(found, where)
    return render(request, "indexer/_passage.html", context)


def facts(document: Document) -> list[tuple[str, str]]:
    """The coverage report in words."""
    coverage = document.coverage
    pages, seconds = coverage.get("pages") or 0, coverage.get("seconds", {})
    rows = [
        ("Format", NAMES.get(document.media_type, document.media_type)),
        ("Title", document.title),
        (f"{reading.page_word(document).capitalize()}s", f"{pages:,}" if pages else ""),
        ("Without text", _listed(coverage.get("pages_without_text"))),
        ("Read by OCR", _listed(coverage.get("ocr_pages"))),
        ("Characters", f"{coverage['characters']:,}" if coverage.get("characters") else ""),
        ("Tables", f"{coverage['tables']:,}" if coverage.get("tables") else ""),
        ("Language", document.language),
        ("Chunks", f"{document.chunk_count:,}" if document.chunk_count else ""),
        ("Time taken", " · ".join(f"{step} {seconds[step]:.1f} s" for step in STEPS if step in seconds)),
    ]
    return [(name, value) for name, value in rows if value]


def _listed(pages: list[int] | None, most: int = 8) -> str:
    """Page numbers in words: "2, 5, 9 and 12 more"."""
    if not pages:
        return ""
    shown = ", ".join(str(page) for page in pages[:most])
    return f"page {shown}" if len(pages) <= most else f"page {shown} and {len(pages) - most:,} more"


def may_edit(request: HttpRequest, document: Document) -> bool:
    return visible_corpora(request.user, Membership.Role.EDITOR).filter(pk=document.corpus_id).exists()


@require_POST
def retry_document(request: HttpRequest, pk: int) -> HttpResponse:
    """Queue a document that failed or was empty once more."""
    found = document_for(request.user, pk, role=Membership.Role.EDITOR)
    document_actions.retry(found)
    messages.success(request, f'"{found.name}" is in the queue again.')
    return _back_to_corpus(request, found)


@require_http_methods(["GET", "POST"])
def delete_document(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a document after asking; it stops answering at once."""
    found = document_for(request.user, pk, role=Membership.Role.EDITOR)
    if request.method == "GET":
        return render(request, "indexer/document_delete.html", {"section": "corpora", "document": found})
    found.delete()
    messages.success(request, f'"{found.name}" was deleted.')
    return _back_to_corpus(request, found)


def _back_to_corpus(request: HttpRequest, document: Document) -> HttpResponse:
    """To where the person was; the documents table keeps its filter and page."""
    response = redirect("corpus", slug=document.corpus.slug)
    if "HX-Request" in request.headers:
        # htmx would follow a redirect inside its own request and lose the address.
        current = request.headers.get("HX-Current-URL", "")
        target = current if f"/corpora/{document.corpus.slug}/" in current else response.url
        response = HttpResponse(status=204, headers={"HX-Redirect": target})
    return response
