"""Every SQL statement that writes and reads chunks, vectors and the change log; dense search is in vectors.py.

A chunk and its vector live in the partitions `indexer_chunk_ID` and `indexer_vector_ID` of their index. Deleting a
document or an index removes what hangs on it by triggers (see migration 0002).
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from django.db import connection, transaction
from pgvector import HalfVector

from indexer.models import Chunk as ChunkRow
from indexer.models import Document, Index
from ragplat.errors import NotFound
from ragplat.types import Chunk

COPY_CHUNKS = (
    'COPY indexer_chunk (index_id, document_id, ordinal, start, "end", page, context, text, tokens) '
    "FROM STDIN WITH (FORMAT BINARY)"
)
COPY_VECTORS = "COPY indexer_vector (index_id, chunk_id, document_id, embedding) FROM STDIN WITH (FORMAT BINARY)"

PENDING_CHUNKS = """
SELECT c.id, c.context, c.text FROM indexer_chunk c
WHERE c.index_id = %s AND c.document_id = %s
  AND NOT EXISTS (SELECT 1 FROM indexer_vector v WHERE v.index_id = c.index_id AND v.chunk_id = c.id)
ORDER BY c.ordinal
"""

COUNTS = """
SELECT (SELECT count(*) FROM indexer_chunk WHERE index_id = %(index)s AND document_id = %(document)s),
       (SELECT count(*) FROM indexer_vector WHERE index_id = %(index)s AND document_id = %(document)s)
"""

HITS = """
SELECT c.id, c.document_id, d.name, c.ordinal, c.start, c."end", c.page, c.context, c.text
FROM indexer_chunk c JOIN indexer_document d ON d.id = c.document_id
WHERE c.index_id = %s AND c.id = ANY(%s) AND c.enabled AND d.state = 'ready'
"""

GROWN = """
SELECT 1 FROM pg_stat_user_tables
WHERE relid = to_regclass(%s) AND n_mod_since_analyze > 50 AND n_mod_since_analyze > 0.1 * n_live_tup
"""

CHANGES = "SELECT document_id, number FROM indexer_change WHERE index_id = %s AND number > %s ORDER BY number LIMIT %s"

ENTRIES = """
SELECT c.document_id, c.id, c.context, c.text FROM indexer_chunk c JOIN indexer_document d ON d.id = c.document_id
WHERE c.index_id = %s AND c.document_id = ANY(%s) AND c.enabled AND d.state = 'ready'
ORDER BY c.document_id, c.ordinal
"""


class Hit(NamedTuple):
    """A chunk joined back to its document: what `HITS` selects."""

    chunk_id: int
    document_id: int
    document: str
    ordinal: int
    start: int
    end: int
    page: int | None
    context: str
    text: str


def _rows(sql: str, params: Any) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def hold(document_id: int) -> Document:
    """Lock a document's row until the transaction ends. Raises NotFound when it was deleted meanwhile."""
    document = Document.objects.select_for_update().defer("text").filter(pk=document_id).first()
    if document is None:
        raise NotFound(f"Document {document_id} was deleted.")
    return document


def write_chunks(index: Index, document_id: int, chunks: Sequence[Chunk]) -> None:
    """Replace a document's chunks in an index. In the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM indexer_vector WHERE index_id = %s AND document_id = %s", [index.pk, document_id])
        cursor.execute("DELETE FROM indexer_chunk WHERE index_id = %s AND document_id = %s", [index.pk, document_id])
        with cursor.copy(COPY_CHUNKS) as copy:
            copy.set_types(["int8", "int8", "int4", "int4", "int4", "int4", "text", "text", "int4"])
            for c in chunks:
                copy.write_row((index.pk, document_id, c.ordinal, c.start, c.end, c.page, c.context, c.text, c.tokens))


def pending_chunks(index: Index, document_id: int) -> list[tuple[int, str, str]]:
    """(id, context, text) of a document's chunks that have no vector yet, in order."""
    return _rows(PENDING_CHUNKS, [index.pk, document_id])


def write_vectors(index: Index, document_id: int, chunk_ids: Sequence[int], vectors: np.ndarray) -> None:
    """Store unit vectors, float32 [n, index.dimensions], for chunks that have none. In the caller's transaction."""
    with connection.cursor() as cursor, cursor.copy(COPY_VECTORS) as copy:
        # A binary COPY takes the bytes as they are, so `bytea` carries what halfvec's receive function reads.
        copy.set_types(["int8", "int8", "int8", "bytea"])
        for chunk_id, vector in zip(chunk_ids, vectors, strict=True):
            copy.write_row((index.pk, chunk_id, document_id, HalfVector(vector).to_binary()))


def counts(index: Index, document_id: int) -> tuple[int, int]:
    """How many chunks and how many vectors a document has in an index."""
    return _rows(COUNTS, {"index": index.pk, "document": document_id})[0]


def log_change(index_id: int, document_id: int) -> None:
    """Tell followers that a document's entries may have changed. The last statement of a transaction: it locks."""
    _rows("SELECT indexer_log_change(%s, %s)", [index_id, document_id])


def set_enabled(chunk_ids: Collection[int], enabled: bool) -> int:
    """Enable or disable chunks everywhere at once; returns how many changed."""
    with transaction.atomic():
        rows = ChunkRow.objects.filter(pk__in=chunk_ids).exclude(enabled=enabled)
        touched = sorted(set(rows.values_list("index_id", "document_id")))
        changed = rows.update(enabled=enabled)
        for index_id, document_id in touched:
            log_change(index_id, document_id)
    return changed


def hits(index: Index, chunk_ids: Collection[int]) -> dict[int, Hit]:
    """The chunks that may be shown: enabled, in documents that are ready. What is missing was deleted or disabled."""
    return {row[0]: Hit(*row) for row in _rows(HITS, [index.pk, list(chunk_ids)])}


def analyze(index: Index) -> None:
    """Tell the planner about an index that has grown by a tenth: searches begin at once, autovacuum a minute later."""
    for table in (f"indexer_chunk_{int(index.pk)}", f"indexer_vector_{int(index.pk)}"):
        if _rows(GROWN, [table]):
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {table}")


def drop_partitions(index_id: int) -> None:
    """Drop the empty tables of an index that was deleted."""
    with connection.cursor() as cursor:
        for table in ("vector", "chunk"):
            cursor.execute(f"DROP TABLE IF EXISTS indexer_{table}_{int(index_id)}")


def changes(index_id: int, after: int, limit: int) -> list[tuple[int, int]]:
    """(document id, change number) of documents changed after a change number, oldest first."""
    return _rows(CHANGES, [index_id, after, limit])


def last_change(index_id: int) -> int:
    """The newest change number of an index; 0 when nothing ever changed."""
    return _rows("SELECT coalesce(max(number), 0) FROM indexer_change WHERE index_id = %s", [index_id])[0][0]


def entries(index_id: int, document_ids: Iterable[int]) -> list[tuple[int, int, str, str]]:
    """(document id, chunk id, context, text) of all chunks of these documents that may be found."""
    return _rows(ENTRIES, [index_id, list(document_ids)])
