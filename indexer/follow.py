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
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from indexer.models import Index, recipe_value
from ragplat.signature import digest

log = logging.getLogger(__name__)

DOCUMENTS_AT_ONCE = 200  # applied in one commit of the follower
AT_SEARCH = 20  # documents a search catches up with itself; more are left to the worker
SEARCH_WAITS = 1.0  # seconds a search waits for another process that is catching up
WORKER_WAITS = 600.0


def lexical(index: Index) -> LexicalFollower:
    """The lexical follower of an index on this host."""
    return _lexical(folder_of(index), recipe_value(index.recipe_id).analyzer, index.corpus.language)


@lru_cache(maxsize=64)
def _lexical(folder: Path, analyzer: str, language: str) -> LexicalFollower:
    return LexicalFollower(folder / "lexical", analyzer=analyzer, language=language)


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
    """Apply every change the lexical follower has not seen; returns how many documents were applied.

    Raises TimeoutError when another process has been at it for more than ``wait`` seconds.
    """
    applied = 0
    with _exclusive(folder_of(index), wait):
        follower = lexical(index)
        if follower.watermark() > store.last_change(index.pk):
            log.warning("%s: the follower is ahead of the database, as after a restore: rebuilding it", index)
            follower.reset()
        while changed := store.changes(index.pk, follower.watermark(), DOCUMENTS_AT_ONCE):
            follower.apply(_documents(index.pk, [document for document, _ in changed]), watermark=changed[-1][1])
            applied += len(changed)
    return applied


def catch_up_for_search(index: Index) -> int:
    """Catch up when little is missing; returns how many changed documents the follower still does not know."""
    behind = len(store.changes(index.pk, lexical(index).watermark(), AT_SEARCH + 1))
    if behind == 0:
        return 0
    if behind <= AT_SEARCH:
        try:
            catch_up(index, SEARCH_WAITS)
            return 0
        except TimeoutError:
            pass
    return behind


def _documents(index_id: int, document_ids: list[int]) -> list[DocumentEntries]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for document_id, chunk_id, context, text in store.entries(index_id, document_ids):
        found[document_id].append(Entry(chunk_id=chunk_id, content=join(context, text)))
    return [DocumentEntries(document_id=one, entries=tuple(found[one])) for one in document_ids]


@contextmanager
def _exclusive(folder: Path, wait: float) -> Iterator[None]:
    """One process at a time reads the watermark, the changes and applies them: else old entries could overwrite new.

    The lock is the kernel's and dies with the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "follow.lock").open("w") as lock:
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
