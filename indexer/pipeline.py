"""The way of a document: parse > chunk > embed > ready. Every step is kept: a killed worker resumes at the last one."""

import logging
import time
from contextlib import contextmanager, suppress

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from indexer import chunkers, embedder, store
from indexer.chunkers.base import join
from indexer.documents import path_of, supersede
from indexer.models import Document, Index, recipe_value
from indexer.parsers.base import Limits
from indexer.parsers.detect import detect
from ragplat.errors import CorruptDocument, DocumentError, EmptyDocument, LimitExceeded, NotFound, RagplatError
from ragplat.types import IndexRecipe, Page, Parsed

log = logging.getLogger(__name__)

State = Document.State
BATCH_CHUNKS = 64  # chunks embedded and stored in one transaction: a killed worker loses at most this much work
MAX_ATTEMPTS = 5  # starts without any progress before a document is given up


def index_document(document_id: int) -> None:
    """Bring a document from where it stands to `ready`, `empty` or `failed`.

    Raises what is passing (Unavailable, a lost database): the queue tries again. A document that was deleted, or is
    settled already, is left alone.
    """
    document = _begin(document_id)
    if document is None:
        return
    try:
        index = document.corpus.active_index()
        if document.state == State.PARSING:
            _parse(document, recipe_value(index.recipe_id))
        if document.state == State.CHUNKING:
            _chunk(document, index)
        if document.state == State.EMBEDDING:
            _embed(document, index)
            _finish(document, index)
    except (NotFound, ObjectDoesNotExist):
        log.info("%s was deleted while it was being indexed", document.name)
    except (OperationalError, InterfaceError) as error:
        with suppress(DatabaseError):  # it may be gone for good; the queue tries again either way
            _note_waiting(document, f"the database does not answer: {error}")
        raise
    except EmptyDocument as error:
        _settle(document, State.EMPTY, str(error), permanent=True)
    except RagplatError as error:
        if not error.permanent:
            _note_waiting(document, str(error))
            raise
        _settle(document, State.FAILED, str(error), permanent=isinstance(error, DocumentError))


def _begin(document_id: int) -> Document | None:
    """Count the attempt and load the document; None when there is nothing to do."""
    with transaction.atomic():
        held = Document.objects.select_for_update().filter(pk=document_id).first()
        if held is None or held.state not in Document.UNDER_WAY:
            return None
        if held.attempts >= MAX_ATTEMPTS:
            held.state = State.FAILED
            held.reason = (
                f"Given up while {State(held.state).label} after {held.attempts} attempts that came to nothing: "
                "the worker was killed each time, most likely by this file. Retry it, or make the file smaller."
            )
            held.save(update_fields=["state", "reason", "changed"])
            return None
        held.attempts += 1
        held.reason = ""
        if held.state == State.QUEUED:
            held.state = State.PARSING
        held.save(update_fields=["attempts", "reason", "state", "changed"])
    return held


def _parse(document: Document, recipe: IndexRecipe) -> None:
    from indexer.parsers.sandbox import parse_file

    with _timed(document, "parse"):
        path = path_of(document)
        if not path.exists():
            with transaction.atomic():
                store.hold(document.pk)  # raises NotFound where the document is gone too
            raise CorruptDocument(f"The bytes of this document are missing ({path}). Delete it and upload it again.")
        document.media_type = detect(path, document.name)
        parsed = parse_file(path, document.name, document.media_type, limits(), parser=recipe.parser)
    if len(parsed.text) > settings.MAX_CHARACTERS:
        raise LimitExceeded(
            f"The text has {len(parsed.text):,} characters, more than {settings.MAX_CHARACTERS:,}. Split the file, or "
            "raise RAGPLAT_MAX_CHARACTERS."
        )
    document.text = parsed.text
    document.markup = parsed.markup
    document.pages = [[page.number, page.start, page.end] for page in parsed.pages]
    document.title = parsed.title[:500]
    document.language = parsed.language
    document.coverage |= {
        "parser": parsed.parser,
        "pages": len(parsed.pages),
        "pages_without_text": list(parsed.blank_pages),
        "ocr_pages": list(parsed.ocr_pages),
        "characters": len(parsed.text),
        "tables": parsed.tables,
        "language": parsed.language,
        "warnings": list(parsed.warnings),
        "metadata": dict(parsed.metadata),
    }
    _advance(
        document,
        State.CHUNKING,
        ["media_type", "text", "markup", "pages", "title", "language", "coverage"],
    )


def limits() -> Limits:
    """The parsing limits of this installation."""
    return Limits(
        seconds=settings.PARSE_SECONDS,
        memory_bytes=settings.PARSE_MEMORY_MB * 2**20,
        pages=settings.MAX_PAGES,
        characters=settings.MAX_CHARACTERS,
    )


def _chunk(document: Document, index: Index) -> None:
    recipe = recipe_value(index.recipe_id)
    with _timed(document, "chunk"):
        chunker = chunkers.make(recipe.chunker, recipe.chunk_tokens, recipe.overlap_tokens)
        chunks = chunker.split(parsed_of(document), embedder.for_index(index).tokenizer)
    if not chunks:
        raise EmptyDocument()
    document.coverage["chunker"] = chunker.signature()
    document.chunk_count = len(chunks)
    document.stored_count = 0
    with transaction.atomic():
        store.hold(document.pk)
        store.write_chunks(index, document.pk, chunks)
        _advance(document, State.EMBEDDING, ["coverage", "chunk_count", "stored_count"])


def parsed_of(document: Document) -> Parsed:
    """The parsed form of a document, as it was kept."""
    return Parsed(
        text=document.text,
        pages=tuple(Page(number=n, start=start, end=end) for n, start, end in document.pages),
        markup=document.markup,
        title=document.title,
        language=document.language,
    )


def _embed(document: Document, index: Index) -> None:
    recipe = recipe_value(index.recipe_id)
    client = embedder.for_index(index)
    pending = store.pending_chunks(index, document.pk)
    with _timed(document, "embed"):
        for first in range(0, len(pending), BATCH_CHUNKS):
            batch = pending[first : first + BATCH_CHUNKS]
            texts = [join(context, text) for _, context, text in batch]
            vectors = client.embed_documents(texts, truncate=recipe.truncate)
            with transaction.atomic():
                store.hold(document.pk)
                store.write_vectors(index, document.pk, [chunk_id for chunk_id, _, _ in batch], vectors)
                document.stored_count = document.chunk_count - len(pending) + first + len(batch)
                _advance(document, State.EMBEDDING, ["stored_count"])


def _finish(document: Document, index: Index) -> None:
    """Make the document answer, and its earlier versions stop, in one transaction."""
    with transaction.atomic():
        store.hold(document.pk)
        chunks, vectors = store.counts(index, document.pk)
        if not chunks == vectors == document.chunk_count > 0:
            raise RagplatError(
                f"{chunks} chunks and {vectors} vectors are stored where {document.chunk_count} are expected."
            )
        document.stored_count = vectors
        replaced = supersede(document)
        if replaced:
            document.coverage["replaced"] = replaced
        _advance(document, State.READY, ["stored_count", "coverage"])
        store.log_change(index.pk, document.pk)
    log.info("%s: ready, %d chunks", document.name, chunks)


def _advance(document: Document, state: str, fields: list[str]) -> None:
    """Keep a step's result. Progress clears the count of fruitless attempts."""
    document.state, document.attempts = state, 1
    with transaction.atomic():
        store.hold(document.pk)
        document.save(update_fields=[*fields, "state", "attempts", "changed"])


def _settle(document: Document, state: str, reason: str, permanent: bool) -> None:
    log.warning("%s: %s: %s", document.name, state, reason)
    Document.objects.filter(pk=document.pk, state__in=Document.UNDER_WAY).update(
        state=state, reason=reason, permanent=permanent, coverage=document.coverage
    )


def _note_waiting(document: Document, reason: str) -> None:
    """What is passing is no fault of the document: say so, and do not count the attempt."""
    Document.objects.filter(pk=document.pk, state__in=Document.UNDER_WAY).update(
        reason=f"Waiting: {reason}", attempts=document.attempts - 1
    )


@contextmanager
def _timed(document: Document, step: str):
    started = time.perf_counter()
    yield
    seconds = document.coverage.setdefault("seconds", {})
    seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - started, 3)
