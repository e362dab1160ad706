"""The way of a document: parse > chunk > embed > ready. Every step is kept: a killed worker resumes at the last one."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from indexer import chunkers, embedder, store
from indexer.chunkers.base import join
from indexer.documents import path_of, supersede
from indexer.models import Document, Index, IndexedDocument, recipe_value
from indexer.parsers.base import Limits
from indexer.parsers.detect import detect
from ragplat.errors import CorruptDocument, DocumentError, EmptyDocument, LimitExceeded, NotFound, RagplatError
from ragplat.text import read_date
from ragplat.types import Chunk, IndexRecipe, Page, Parsed

log = logging.getLogger(__name__)

State = Document.State
BATCH_CHUNKS = 64  # chunks embedded and stored in one transaction: a killed worker loses at most this much work
DATES = ("date", "modified", "created")  # of a file's metadata, the one that counts first
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
        while document.state != State.READY:
            _into_active(document)
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


def _into_active(document: Document) -> None:
    """Through all steps, into the index that is active now. Where another one takes its place, the text is kept."""
    index = document.corpus.active_index()
    if document.state == State.PARSING:
        _parse(document, recipe_value(index.recipe_id))
    if document.state == State.EMBEDDING and store.counts(index, document.pk)[0] != document.chunk_count:
        document.state = State.CHUNKING  # its chunks are those of an index that was active before
    try:
        if document.state == State.CHUNKING:
            _chunk(document, index)
        _embed(document, index)
        _finish(document, index)
    except _Moved:
        document.state = State.CHUNKING


class _Moved(Exception):
    """The index has another state than the work on it needs: it was swapped, or dropped."""


def _begin(document_id: int) -> Document | None:
    """Count the attempt and load the document; None when there is nothing to do."""
    with transaction.atomic():
        held = Document.objects.select_for_update().filter(pk=document_id).first()
        if held is None or held.state not in Document.UNDER_WAY:
            return None
        if held.attempts >= MAX_ATTEMPTS:
            reason = (
                f"Given up while {State(held.state).label} after {held.attempts} attempts that came to nothing: "
                "the worker was killed each time, most likely by this file. Retry it, or make the file smaller."
            )
            _settle(held, State.FAILED, reason, permanent=False)
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
    document.dated = next(filter(None, (read_date(parsed.metadata.get(key, "")) for key in DATES)), document.dated)
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
        ["media_type", "text", "markup", "pages", "title", "language", "dated", "coverage"],
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
    with _timed(document, "chunk"):
        chunks, document.coverage["chunker"] = _cut(document, index)
    document.chunk_count = len(chunks)
    document.stored_count = 0
    with transaction.atomic():
        _hold(index, document, Index.State.ACTIVE)
        store.write_chunks(index, document.pk, chunks)
        _advance(document, State.EMBEDDING, ["coverage", "chunk_count", "stored_count"])


def _cut(document: Document, index: Index) -> tuple[list[Chunk], str]:
    """A document's chunks as an index's recipe wants them, and the chunker's signature."""
    recipe = recipe_value(index.recipe_id)
    chunker = chunkers.make(recipe.chunker, recipe.chunk_tokens, recipe.overlap_tokens)
    chunks = chunker.split(parsed_of(document), embedder.for_index(index).tokenizer)
    if not chunks:
        raise EmptyDocument()
    return chunks, chunker.signature()


def _hold(index: Index, document: Document, *states: str) -> None:
    """Keep an index in one of these states, and a document from being deleted, until the transaction ends."""
    if store.hold_index(index) not in states:
        raise _Moved
    store.hold(document.pk)


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
    def note(left: int) -> None:
        document.stored_count = document.chunk_count - left
        _advance(document, State.EMBEDDING, ["stored_count"])

    with _timed(document, "embed"):
        _embed_pending(document, index, [Index.State.ACTIVE], note)


def _embed_pending(document: Document, index: Index, states: Sequence[str], note: Callable[[int], None]) -> None:
    """Store the vectors that are missing, batch by batch; ``note`` gets the number still missing, in a transaction."""
    recipe = recipe_value(index.recipe_id)
    client = embedder.for_index(index)
    pending = store.pending_chunks(index, document.pk)
    for first in range(0, len(pending), BATCH_CHUNKS):
        batch = pending[first : first + BATCH_CHUNKS]
        texts = [join(context, text) for _, context, text in batch]
        vectors = client.embed_documents(texts, truncate=recipe.truncate)
        with transaction.atomic():
            _hold(index, document, *states)
            store.write_vectors(index, document.pk, [chunk_id for chunk_id, _, _ in batch], vectors)
            note(len(pending) - first - len(batch))


def _finish(document: Document, index: Index) -> None:
    """Make the document answer, and its earlier versions stop, in one transaction."""
    with transaction.atomic():
        _hold(index, document, Index.State.ACTIVE)
        document.stored_count = _complete(document, index, document.chunk_count)
        replaced = supersede(document)
        if replaced:
            document.coverage["replaced"] = replaced
        _advance(document, State.READY, ["stored_count", "coverage"])
        store.log_change(index.pk, document.pk)
    log.info("%s: ready, %d chunks", document.name, document.stored_count)


def _complete(document: Document, index: Index, expected: int) -> int:
    """Note that a document is in an index, if it is: the number of its chunks, each with its vector."""
    chunks, vectors = store.counts(index, document.pk)
    if not chunks == vectors == expected > 0:
        raise RagplatError(f"{chunks} chunks and {vectors} vectors are stored where {expected} are expected.")
    _note_indexed(document, index, chunks=chunks, reason="")
    return chunks


def _note_indexed(document: Document, index: Index, **what) -> None:
    IndexedDocument.objects.update_or_create(index=index, document=document, defaults=what)


def extend_index(index_id: int, document_id: int) -> None:
    """Bring a document that is ready into an index that is built beside the active one, from the text that was kept.

    What is there already is not made again. A document that cannot be indexed with that recipe is noted with the
    reason. Raises what is passing: the queue tries again. Does nothing when the document or the index is gone.
    """
    index = Index.objects.select_related("corpus").filter(pk=index_id, state__in=Index.SHADOW).first()
    document = Document.objects.filter(pk=document_id, state=State.READY).first()
    if index is None or document is None or document.indexed.filter(index=index).exists():
        return
    try:
        _extend(document, index)
    except (NotFound, ObjectDoesNotExist, _Moved):
        log.info("%s was deleted, or the index %s swapped or dropped, before it was in there", document.name, index_id)
    except (OperationalError, InterfaceError):
        raise
    except RagplatError as error:
        if not error.permanent:
            raise
        _note_unfit(document, index, str(error))
    except Exception as error:
        # A fault of ours: the index must not wait for this document for ever.
        _note_unfit(document, index, unexpected(error))
        raise


def _extend(document: Document, index: Index) -> None:
    active = index.corpus.active_index()
    chunks, _ = _cut(document, index)
    with transaction.atomic():
        _hold(index, document, *Index.SHADOW)
        if store.cuts(index, document.pk) != [(c.start, c.end, c.context, c.text) for c in chunks]:
            store.write_chunks(index, document.pk, chunks)
        if _same_vectors(index, active):
            store.copy_known_vectors(index, active, document.pk)
    _embed_pending(document, index, Index.SHADOW, note=lambda left: None)
    with transaction.atomic():
        _hold(index, document, *Index.SHADOW)
        _complete(document, index, len(chunks))
        store.log_change(index.pk, document.pk)


def _same_vectors(one: Index, other: Index) -> bool:
    """Whether two indexes have the same vector for the same words."""
    recipes = [recipe_value(index.recipe_id) for index in (one, other)]
    makers = {(recipe.embedder, recipe.max_tokens, recipe.truncate) for recipe in recipes}
    return one.fingerprint == other.fingerprint and len(makers) == 1


def _note_unfit(document: Document, index: Index, reason: str) -> None:
    log.warning("%s cannot be brought into the index %s: %s", document.name, index.pk, reason)
    with suppress(NotFound, _Moved), transaction.atomic():
        _hold(index, document, *Index.SHADOW)
        store.write_chunks(index, document.pk, [])
        _note_indexed(document, index, chunks=0, reason=reason)


def _advance(document: Document, state: str, fields: list[str]) -> None:
    """Keep a step's result. Progress clears the count of fruitless attempts."""
    document.state, document.attempts = state, 1
    with transaction.atomic():
        store.hold(document.pk)
        document.save(update_fields=[*fields, "state", "attempts", "changed"])


def fail(document_id: int, error: Exception) -> None:
    """End a document's way after a fault of ours, so that it does not stay under way for ever."""
    document = Document.objects.defer("text").filter(pk=document_id).first()
    if document is not None:
        _settle(document, State.FAILED, unexpected(error), permanent=False)


def unexpected(error: Exception) -> str:
    """What to tell a person about a fault of ours."""
    return f"An unexpected error: {type(error).__name__}: {error}. The worker's log has the details."


def _settle(document: Document, state: str, reason: str, permanent: bool) -> None:
    """End a document's way without success. What was stored of it goes."""
    log.warning("%s: %s: %s", document.name, state, reason)
    under_way = Document.objects.filter(pk=document.pk, state__in=Document.UNDER_WAY)
    ended = {"state": state, "reason": reason, "permanent": permanent, "coverage": document.coverage}
    with transaction.atomic():
        if under_way.update(**ended, chunk_count=0, stored_count=0):
            IndexedDocument.objects.filter(document=document).delete()
            for index in Index.objects.filter(corpus_id=document.corpus_id):
                store.write_chunks(index, document.pk, [])


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
