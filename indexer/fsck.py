"""Proof that an installation is whole: what PostgreSQL, the followers and the disk have of each document agrees.

Whatever is wrong is a finding, in a sentence, with its cure; what is derived from something else can be mended.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction

from indexer import audit, follow, store, tasks
from indexer.documents import enqueue, hold_bytes, path_of
from indexer.followers.base import Follower
from indexer.models import Corpus, Document, Index, IndexedDocument
from indexer.reindex import missing

State, Reached = Index.State, Document.State
OF_INDEXES = ("indexer_change", "indexer_indexeddocument")
BLOCK = 1 << 20
ABANDONED = 3600  # seconds after which an upload that never ended is taken for dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong."""

    where: str  # corpus and index, or the folder
    what: str  # a sentence
    cure: str  # a sentence: what `--repair` does, or what a person has to do
    mend: Callable[[], None] | None = field(default=None, repr=False)  # None: a person has to


def examine(corpus: Corpus | None = None, read_bytes: bool = False) -> Iterator[Finding]:
    """Everything that is wrong with a corpus, or with the whole installation.

    Each index is examined as of one moment, so that work under way is not taken for a fault. ``read_bytes``: read every
    stored file and compare its hash. A finding may be mended as soon as it comes.
    """
    indexes = Index.objects.select_related("corpus", "recipe").order_by("corpus__slug", "pk")
    for index in indexes.filter(corpus=corpus) if corpus else indexes:
        yield from _index(index)
    for one in [corpus] if corpus else Corpus.objects.order_by("slug"):
        yield from _documents(one, read_bytes)
    if corpus is None:
        yield from _leftovers()
        yield from _files()
        yield from _follower_folders()


def _index(index: Index) -> Iterator[Finding]:
    if not audit.has_tables(index):
        if Index.objects.filter(pk=index.pk).exists():
            cure = "Restore the database from a backup, or ingest the files into a new corpus."
            yield Finding(where=_name(index), what="Its tables are gone.", cure=cure)
        return
    with audit.snapshot():
        found = list(_rows(index))
    yield from found
    if index.state in Index.SHADOW:
        yield from _coming(index)
    for name in follow.names(index):
        yield from _follower(index, name)


def _name(index: Index) -> str:
    return f"{index.corpus.slug}, index {index.pk} ({index.recipe}, {index.state})"


def _rows(index: Index) -> Iterator[Finding]:
    """What is wrong with an index's rows, document by document."""
    faults = {
        "{} chunks have no vector": audit.chunks_alone(index),
        "{} vectors have no chunk": audit.vectors_alone(index),
        "{} vectors have another length than the index's": audit.vectors_of_other_length(index),
    }
    misplaced = audit.misplaced_chunks(index)
    for row in audit.documents(index):
        if row.name is None:
            yield _of_nothing(index, row)
        elif row.noted is None and _is_shown(index, row):
            yield _unnoted(index, row)
        elif row.noted is None:
            yield from _unfinished(index, row)
        else:
            said = [
                text.format(counts[row.document_id]) for text, counts in faults.items() if row.document_id in counts
            ]
            if row.document_id in misplaced:
                said.append(f"{misplaced[row.document_id]} chunks are not the stretch of the text they say they are")
            elif row.chunks != row.noted and not said:
                said.append(f"{row.chunks} chunks are stored where {row.noted} were made")
            yield from _complete(index, row, said)


def _of_nothing(index: Index, row: audit.Row) -> Finding:
    return Finding(
        where=_name(index),
        what=f"{row.chunks} chunks and {row.vectors} vectors are of a document {row.document_id} that is gone.",
        cure="They are deleted.",
        mend=partial(_clear, index, row.document_id),
    )


def _clear(index: Index, document_id: int) -> None:
    with transaction.atomic():
        store.write_chunks(index, document_id, [])
        IndexedDocument.objects.filter(index=index, document_id=document_id).delete()
        store.log_change(index.pk, document_id)


def _unnoted(index: Index, row: audit.Row) -> Finding:
    whole = row.chunks == row.vectors == row.chunk_count > 0
    if whole:
        mend, cure = partial(_note, index, row), "It is noted."
        what = f'"{row.name}" is ready, but it is not noted that its {row.chunks} chunks are in the index.'
    else:
        mend, cure = partial(_redo, index, row.document_id, True), "It is cut and embedded again."
        what = (
            f'"{row.name}" is ready and should have {row.chunk_count} chunks, but {row.chunks} chunks and '
            f"{row.vectors} vectors are stored."
        )
    return Finding(where=_name(index), what=what, cure=cure, mend=mend)


def _note(index: Index, row: audit.Row) -> None:
    with transaction.atomic():
        store.hold(row.document_id)
        IndexedDocument.objects.get_or_create(index=index, document_id=row.document_id, defaults={"chunks": row.chunks})
        store.log_change(index.pk, row.document_id)


def _unfinished(index: Index, row: audit.Row) -> Iterator[Finding]:
    """A document may be on its way into the active index, or from there into one that is being built."""
    coming = (index.state == State.ACTIVE and row.state in Document.UNDER_WAY) or (
        index.state in Index.SHADOW and row.state == Reached.READY
    )
    if row.chunks + row.vectors and not (coming and row.vectors <= row.chunks):
        yield Finding(
            where=_name(index),
            what=f'{row.chunks} chunks and {row.vectors} vectors of "{row.name}" ({row.state}) were begun and left.',
            cure="They are deleted.",
            mend=partial(_clear, index, row.document_id),
        )


def _complete(index: Index, row: audit.Row, said: list[str]) -> Iterator[Finding]:
    """A document that is noted as being in the index."""
    if said:
        again = row.noted != row.chunks or any("stretch" in one for one in said)
        yield Finding(
            where=_name(index),
            what=f'"{row.name}": {", ".join(said)}.',
            cure="It is cut and embedded again; chunks that were disabled in it are not any more."
            if again
            else "What is wrong is deleted, and what is missing embedded again.",
            mend=partial(_redo, index, row.document_id, again),
        )
    elif _is_shown(index, row) and not row.chunk_count == row.stored_count == row.noted:
        yield Finding(
            where=_name(index),
            what=f'"{row.name}" is shown with {row.chunk_count} chunks and {row.stored_count} vectors, but there are '
            f"{row.noted} of both.",
            cure="The numbers are put right.",
            mend=partial(_count, row),
        )
    if row.noted and not row.logged:
        yield Finding(
            where=_name(index),
            what=f'The change log does not know "{row.name}", so that no follower does.',
            cure="It is logged.",
            mend=partial(_log, index, row.document_id),
        )


def _is_shown(index: Index, row: audit.Row) -> bool:
    return index.state == State.ACTIVE and row.state == Reached.READY


def _count(row: audit.Row) -> None:
    Document.objects.filter(pk=row.document_id).update(chunk_count=row.noted, stored_count=row.noted)


def _log(index: Index, document_id: int) -> None:
    with transaction.atomic():
        store.log_change(index.pk, document_id)


def _redo(index: Index, document_id: int, cut: bool) -> None:
    """Have a document brought into an index again: cut anew, or only what is missing embedded."""
    with transaction.atomic():
        document = Document.objects.select_for_update().defer("text").filter(pk=document_id).first()
        if document is None or not Index.objects.filter(pk=index.pk, state=index.state).exists():
            return  # it was deleted, or the index swapped, since it was examined
        audit.delete_wrong_vectors(index, document_id)
        IndexedDocument.objects.filter(index=index, document=document).delete()
        if index.state == State.ACTIVE and document.state == Reached.READY:
            document.state = Reached.CHUNKING if cut else Reached.EMBEDDING
            document.chunk_count, document.stored_count = store.counts(index, document_id)
            document.attempts = 0
            document.save(update_fields=["state", "chunk_count", "stored_count", "attempts", "changed"])
            enqueue(document)
        elif index.state in Index.SHADOW:
            tasks.enqueue_extensions(index.pk, [document_id])
        else:
            store.write_chunks(index, document_id, [])
        store.log_change(index.pk, document_id)


def _coming(index: Index) -> Iterator[Finding]:
    """An index that is being built, or kept up to date, has a job for every document it lacks."""
    left = audit.missing_without_job(index)
    if left:
        yield Finding(
            where=_name(index),
            what=f"{len(left)} documents are to come into it, but no job is about them, such as {left[0]}.",
            cure="They are queued.",
            mend=partial(tasks.enqueue_extensions, index.pk, left),
        )
    elif index.state == State.BUILDING and not audit.has_job(f"follow-{index.pk}"):
        still = Index.objects.filter(pk=index.pk, state=State.BUILDING)
        if still.exists() and not index.indexed.filter(chunks=0).exists() and not missing(index).exists():
            yield Finding(
                where=_name(index),
                what="It has every document, but is still being built, and no job is about it.",
                cure="Its last step is queued.",
                mend=partial(tasks.enqueue_follow, index.pk),
            )


def _follower(index: Index, name: str) -> Iterator[Finding]:
    """Compare ids, twice: what is different both times is no change that came in between."""
    follower = getattr(follow, name)(index)
    lacks, extra = _differences(index, follower)
    if len(lacks) or len(extra):
        lacks_too, extra_too = _differences(index, follower)
        lacks, extra = np.intersect1d(lacks, lacks_too), np.intersect1d(extra, extra_too)
    if len(lacks) or len(extra):
        shown = ", ".join(str(chunk_id) for chunk_id in [*lacks[:3], *extra[:3]])
        yield Finding(
            where=f"{_name(index)}, {name}",
            what=f"The {name} follower lacks {len(lacks)} chunks and has {len(extra)} that are gone (ids {shown}...).",
            cure="It is built again.",
            mend=partial(_rebuild, index, follower),
        )


def _differences(index: Index, follower: Follower) -> tuple[np.ndarray, np.ndarray]:
    follow.catch_up(index)
    has = np.fromiter(follower.chunk_ids(), dtype=np.int64)
    needs = audit.findable_chunks(index)
    return np.setdiff1d(needs, has), np.setdiff1d(has, needs)


def _rebuild(index: Index, follower: Follower) -> None:
    follower.reset()
    follow.catch_up(index)


def _documents(corpus: Corpus, read_bytes: bool) -> Iterator[Finding]:
    """The documents themselves: one active index, a job for each under way, a reason for each that ended, bytes."""
    if not corpus.indexes.filter(state=State.ACTIVE).exists() and Corpus.objects.filter(pk=corpus.pk).exists():
        cure = "Restore the database from a backup, or ingest the files into a new corpus."
        yield Finding(where=corpus.slug, what="It has no active index.", cure=cure)
    for document_id, name, state in audit.documents_without_job(corpus.pk, Document.UNDER_WAY):
        yield Finding(
            where=corpus.slug,
            what=f'"{name}" is {state}, but no job is about it.',
            cure="It is queued.",
            mend=partial(enqueue, Document(pk=document_id)),
        )
    ended = corpus.documents.filter(state__in=(Reached.FAILED, Reached.EMPTY), reason="")
    for document in ended.defer("text").iterator():
        yield Finding(
            where=corpus.slug,
            what=f'"{document.name}" is {document.state}, but nothing says why.',
            cure="Retry it on the corpus page.",
        )
    documents = corpus.documents.only("name", "sha256", "size").order_by("pk")
    for document in documents.iterator():
        yield from _bytes(corpus, document, read_bytes)


def _bytes(corpus: Corpus, document: Document, read: bool) -> Iterator[Finding]:
    path = path_of(document)
    try:
        size = path.stat().st_size
        wrong = f"has {size:,} bytes on disk instead of {document.size:,}" if size != document.size else ""
        if read and not wrong and _sha256(path) != document.sha256:
            wrong = "has other bytes on disk than were uploaded"
    except FileNotFoundError:
        wrong = "has no bytes on disk"
    if wrong and Document.objects.filter(pk=document.pk).exists():
        yield Finding(
            where=corpus.slug,
            what=f'"{document.name}" {wrong} ({path}). Its answers stay; its original and page images are not there.',
            cure="Restore the file from a backup, or delete the document and upload it again.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leftovers() -> Iterator[Finding]:
    """Tables and rows of indexes that are gone."""
    tables = audit.indexes_with_tables()  # first: an index that is made now has its row before its tables are seen
    for index_id in sorted(tables - set(Index.objects.values_list("pk", flat=True))):
        yield Finding(
            where="database",
            what=f"There are tables of an index {index_id} that is gone.",
            cure="They are dropped.",
            mend=partial(store.drop_partitions, index_id),
        )
    for table in OF_INDEXES:
        for index_id, count in audit.rows_without_index(table):
            yield Finding(
                where="database",
                what=f"{table} has {count} rows of an index {index_id} that is gone.",
                cure="They are deleted.",
                mend=partial(audit.delete_rows_of_index, table, index_id),
            )


def _files() -> Iterator[Finding]:
    """Files in the storage that no document has."""
    root = Path(default_storage.path(""))
    for folder in sorted(root.iterdir()) if root.exists() else ():
        if folder.name == "incoming" and folder.is_dir():
            old = [path for path in folder.iterdir() if path.stat().st_mtime < time.time() - ABANDONED]
            yield from (_orphan(path, "an upload that never ended", path.unlink) for path in old)
        elif folder.is_dir() and re.fullmatch(r"[0-9a-f]{2}", folder.name):
            names = {path.name for path in folder.iterdir()}
            known = set(Document.objects.filter(sha256__in=names).values_list("sha256", flat=True))
            for name in sorted(names - known):
                if re.fullmatch(r"[0-9a-f]{64}", name) and _belongs_to_nobody(name):
                    yield _orphan(folder / name, "a file of a document that is gone", partial(_remove, folder / name))
                elif not re.fullmatch(r"[0-9a-f]{64}", name):
                    yield _stranger(folder / name)
        else:
            yield _stranger(folder)


def _orphan(path: Path, what: str, mend: Callable[[], None]) -> Finding:
    return Finding(where=str(path.parent), what=f"{path.name} is {what}.", cure="It is deleted.", mend=mend)


def _stranger(path: Path) -> Finding:
    return Finding(where=str(path.parent), what=f"{path.name} was not put there by Ragplat.", cure="Move it elsewhere.")


def _belongs_to_nobody(sha256: str) -> bool:
    with transaction.atomic():
        hold_bytes(sha256)  # wait for an upload of the same bytes that has not committed yet
        return not Document.objects.filter(sha256=sha256).exists()


def _remove(path: Path) -> None:
    with transaction.atomic():
        hold_bytes(path.name)
        if not Document.objects.filter(sha256=path.name).exists():
            path.unlink(missing_ok=True)


def _follower_folders() -> Iterator[Finding]:
    root = settings.VAR_DIR / "followers"
    folders = sorted(root.iterdir()) if root.exists() else []
    known = {follow.folder_of(index).name for index in Index.objects.only("created")}
    for folder in folders:
        if folder.name not in known:
            yield _orphan(folder, "a follower of an index that is gone", partial(shutil.rmtree, folder))
