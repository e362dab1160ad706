"""The bytes of a document: the original, and pictures of its pages with the passage boxed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.shortcuts import render
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET

from indexer import reading
from indexer.access import document_for
from indexer.documents import path_of
from indexer.models import Document
from indexer.parsers import sandbox
from ragplat.errors import BadInput, NotFound
from ragplat.parameters import whole_number

BLOCK = 1 << 18
WIDTHS = (600, 900, 1400, 2000)  # pixels; few sizes, so that browsers' caches hit


@require_GET
def original(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The file as it was uploaded, always as a download: a document never runs on our origin."""
    document = document_for(request.user, pk)
    path = path_of(document)
    if not path.exists():
        raise NotFound(f'The original of "{document.name}" is missing from the storage.')
    name = document.name.replace("\\", "/").rsplit("/", 1)[-1] or "document"
    headers = {
        "Content-Disposition": content_disposition_header(True, name),
        "Content-Length": str(document.size),
        "Cache-Control": "private, no-cache",
    }
    return StreamingHttpResponse(_blocks(path), content_type="application/octet-stream", headers=headers)


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    """A file block by block: a synchronous iterator would be read into memory whole before it is sent."""
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block


@require_GET
def page_image(request: HttpRequest, pk: int, page: int) -> HttpResponse:
    """A page as a PNG, `?width=` pixels wide."""
    document = _with_images(request, pk)
    width = whole_number(request.GET.get("width", "900"))
    if width not in WIDTHS:
        raise BadInput(f"There are no pictures of that width. Choose one of: {', '.join(map(str, WIDTHS))}.")
    tag = f'"{document.sha256[:20]}-{page}-{width}"'
    # Asked for anew each time, as a page of a deleted document must not be shown; answered by 304 when it is the same.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in request.headers.get("If-None-Match", ""):
        return HttpResponseNotModified(headers=headers)
    picture = sandbox.render_page(path_of(document), page, width)
    return HttpResponse(picture, content_type="image/png", headers=headers)


@require_GET
def page_boxes(request: HttpRequest, pk: int, page: int) -> HttpResponse:
    """The boxes over the passage `?start=&end=` on a page, as an SVG to lay over its picture."""
    document = _with_images(request, pk)
    passage = reading.passage_in(document, request.GET.get("start"), request.GET.get("end"))
    text = reading.on_page(document, passage, page) if passage else ""
    boxes = sandbox.find_boxes(path_of(document), page, text) if text.strip() else []
    shapes = [(box.left, box.top, box.right - box.left, box.bottom - box.top) for box in boxes]
    return render(request, "indexer/_boxes.html", {"shapes": shapes, "page": page})


def _with_images(request: HttpRequest, pk: int) -> Document:
    document = document_for(request.user, pk)
    if not reading.has_images(document):
        raise BadInput(f'"{document.name}" has no page images: its text is shown instead.')
    return document
