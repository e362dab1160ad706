"""A document's bytes, its queue entry and its end."""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from procrastinate.exceptions import AlreadyEnqueued

from indexer.models import Document, Source
from ragplat.errors import BadInput

log = logging.getLogger(__name__)

LONGEST_TAG = 60  # characters
UPLOADED = "upload:"  # prefix of Source.path for what a person uploaded; such documents are never replaced


def stored_name(sha256: str) -> str:
    """Where the bytes with this hash lie in the storage. Names given by people never become paths."""
    return f"{sha256[:2]}/{sha256}"


def path_of(document: Document) -> Path:
    """The original bytes of a document."""
    return Path(default_storage.path(stored_name(document.sha256)))


def hold_bytes(sha256: str) -> None:
    """Keep others from adding or removing these bytes until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [sha256])


def enqueue(document: Document) -> None:
    """Queue a document for indexing, in the caller's transaction; a document already queued stays queued once."""
    from indexer.tasks import index_document  # the tasks import the pipeline, which imports this module

    lock = f"document-{document.pk}"
    try:
        with transaction.atomic():
            index_document.configure(lock=lock, queueing_lock=lock).defer(document_id=document.pk)
    except AlreadyEnqueued:
        log.debug("document %s is queued already", document.pk)


def retry(document: Document) -> None:
    """Start a document that failed or was empty from the beginning. Raises BadInput in any other state."""
    with transaction.atomic():
        changed = Document.objects.filter(
            pk=document.pk, state__in=(Document.State.FAILED, Document.State.EMPTY)
        ).update(state=Document.State.QUEUED, reason="", permanent=False, attempts=0, chunk_count=0, stored_count=0)
        if not changed:
            raise BadInput(f'"{document.name}" is {document.state}: only a failed or empty document can be retried.')
        enqueue(document)


def supersede(document: Document) -> list[str]:
    """Remove the earlier versions of a document's files; returns their names. In the caller's transaction.

    A version that is also found elsewhere, or was uploaded by a person, stays. Tags and access labels live on.
    """
    removed = []
    for source in document.sources.exclude(path__startswith=UPLOADED):
        older = Source.objects.filter(corpus=source.corpus_id, path=source.path, pk__lt=source.pk)
        owners = list(older.exclude(document=document).values_list("document_id", flat=True))
        older.delete()
        # Locked: a tag or an access label that somebody sets meanwhile must not be lost with the old version.
        for old in Document.objects.select_for_update().filter(pk__in=owners).order_by("pk").defer("text"):
            hold_bytes(old.sha256)  # somebody may be bringing the old bytes back right now
            if not old.sources.exists():
                removed.append(old.name)
                document.tags = sorted({*document.tags, *old.tags})
                document.labels = document.labels or old.labels
                old.superseded = True
                old.delete()
    if removed:
        document.save(update_fields=["tags", "labels"])
    return removed


def add_tags(document_ids: Collection[int], tags: Iterable[str]) -> None:
    """Give documents tags, beside those they have. Raises BadInput for a tag that is empty or over 60 characters."""
    tags = [tag.strip() for tag in tags]
    for tag in tags:
        if not 1 <= len(tag) <= LONGEST_TAG:
            raise BadInput(f'The tag "{tag[:80]}" has {len(tag)} characters; 1 to {LONGEST_TAG} are allowed.')
    with transaction.atomic():
        rows = list(Document.objects.select_for_update().filter(pk__in=document_ids).only("tags").order_by("pk"))
        for document in rows:
            document.tags = sorted({*document.tags, *tags})
        Document.objects.bulk_update(rows, ["tags"], batch_size=500)


@receiver(post_delete, sender=Document)
def forget_bytes(instance: Document, **kwargs) -> None:
    """Remove the bytes of a deleted document once the deletion is final, unless another corpus holds them too."""

    def remove() -> None:
        with transaction.atomic():
            hold_bytes(instance.sha256)
            if not Document.objects.filter(sha256=instance.sha256).exists():
                default_storage.delete(stored_name(instance.sha256))

    transaction.on_commit(remove)
