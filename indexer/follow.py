"""Keeps this host's followers in step with PostgreSQL.

A follower is behind when PostgreSQL has changes above its watermark. The worker brings it up to date after each
document; a search does so itself when little is missing, so that what was just added or deleted is seen at once.
"""

import fcntl
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from indexer import store
from indexer.chunkers.base import join
from indexer.followers.base import DocumentEntries, Entry, Follower
from indexer.followers.faiss import FaissFollower
from indexer.followers.lexical import LexicalFollower
from indexer.models import Index, recipe_value
from ragplat.signature import digest

log = logging.getLogger(__name__)

DOCUMENTS_AT_ONCE = 200  # applied in one commit of the follower
AT_SEARCH = 20  # documents a search catches up with itself; more are left to the worker
SEARCH_WAITS = 1.0  # seconds a search waits for another process that is catching up
WORKER_WAITS = 600.0


def names(index: Index) -> tuple[str, ...]:
    """The followers an index has."""
    return ("lexical", "faiss") if recipe_value(index.recipe_id).vector_store == "faiss" else ("lexical",)


def lexical(index: Index) -> LexicalFollower:
    """The lexical follower of an index on this host."""
    return _lexical(folder_of(index), recipe_value(index.recipe_id).analyzer, index.corpus.language)


def faiss(index: Index) -> FaissFollower:
    """The FAISS follower of an index on this host."""
    return _faiss(folder_of(index), index.dimensions)


@lru_cache(maxsize=64)
def _lexical(folder: Path, analyzer: str, language: str) -> LexicalFollower:
    return LexicalFollower(folder / "lexical", analyzer=analyzer, language=language)


@lru_cache(maxsize=64)
def _faiss(folder: Path, dimensions: int) -> FaissFollower:
    return FaissFollower(folder / "faiss", dimensions=dimensions)


def folder_of(index: Index) -> Path:
    """Where this host keeps an index's followers. The name tells apart equal ids of a database made anew."""
    return settings.VAR_DIR / "followers" / f"{index.pk}-{digest(index.created.isoformat(), 8)}"


@receiver(post_delete, sender=Index)
def forget(instance: Index, **kwargs) -> None:
    """What is left of a deleted index goes once the deletion is final: its empty tables and this host's followers."""
    index_id, folder = instance.pk, folder_of(instance)

    def remove() -> None:
        store.drop_partitions(index_id)
        shutil.rmtree(folder, ignore_errors=True)

    transaction.on_commit(remove, robust=True)


def catch_up(index: Index, wait: float = WORKER_WAITS) -> int:
    """Apply every change that a follower of an index has not seen; returns how many documents were applied.

    Raises TimeoutError when another process has been at it for more than ``wait`` seconds.
    """
    return sum(_catch_up(index, name, wait) for name in names(index))


def build_follower(index: Index) -> None:
    """Make an index's FAISS follower fast again where it has grown or lost much: minutes from a million rows on."""
    if "faiss" in names(index):
        faiss(index).build()


def catch_up_for_search(index: Index, name: str = "lexical") -> int:
    """Catch up when little is missing; returns how many changed documents the follower still does not know.

    More than a little is left to the worker, as after an upgrade that builds the follower anew.
    """
    behind = len(store.changes(index.pk, _follower(index, name).watermark(), AT_SEARCH + 1))
    if behind == 0:
        return 0
    if behind <= AT_SEARCH:
        try:
            _catch_up(index, name, SEARCH_WAITS)
            return 0
        except TimeoutError:
            pass
    else:
        from indexer.tasks import enqueue_follow  # the tasks import this module

        enqueue_follow(index.pk)
    return behind


def _follower(index: Index, name: str) -> Follower:
    return {"lexical": lexical, "faiss": faiss}[name](index)


def _catch_up(index: Index, name: str, wait: float) -> int:
    applied = 0
    entries = {"lexical": _texts, "faiss": _vectors}[name]
    with _exclusive(folder_of(index), name, wait):
        follower = _follower(index, name)
        if follower.watermark() > store.last_change(index.pk):
            log.warning("%s: the %s follower is ahead of the database, as after a restore: it is rebuilt", index, name)
            follower.reset()
        while changed := store.changes(index.pk, follower.watermark(), DOCUMENTS_AT_ONCE):
            document_ids = [document_id for document_id, _ in changed]
            found: dict[int, list[Entry]] = defaultdict(list)
            for document_id, entry in entries(index.pk, document_ids):
                found[document_id].append(entry)
            documents = [DocumentEntries(document_id=one, entries=tuple(found[one])) for one in document_ids]
            follower.apply(documents, watermark=changed[-1][1])
            applied += len(changed)
    return applied


def _texts(index_id: int, document_ids: list[int]) -> Iterator[tuple[int, Entry]]:
    for document_id, chunk_id, context, text in store.entries(index_id, document_ids):
        yield document_id, Entry(chunk_id=chunk_id, content=join(context, text))


def _vectors(index_id: int, document_ids: list[int]) -> Iterator[tuple[int, Entry]]:
    for document_id, chunk_id, vector in store.vector_entries(index_id, document_ids):
        yield document_id, Entry(chunk_id=chunk_id, content=vector)


@contextmanager
def _exclusive(folder: Path, name: str, wait: float) -> Iterator[None]:
    """One process at a time reads a follower's watermark and the changes, and applies them: else old could replace new.

    The lock is the kernel's and dies with the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Another process is catching up in {folder}.") from None
                time.sleep(0.02)
        yield
