"""Every SQL statement that writes and reads chunks, vectors and the change log; dense search is in vectors.py.

A chunk and its vector live in the partitions `indexer_chunk_ID` and `indexer_vector_ID` of their index. Deleting a
document or an index removes what hangs on it by triggers (see migration 0002).
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from django.db import OperationalError, connection, transaction
from pgvector import HalfVector

from indexer.models import Chunk as ChunkRow
from indexer.models import Document, Index
from indexer.scope import Scope
from ragplat.errors import NotFound
from ragplat.types import Chunk

log = logging.getLogger(__name__)

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

CUTS = """
SELECT start, "end", context, text FROM indexer_chunk WHERE index_id = %s AND document_id = %s ORDER BY ordinal
"""

# A chunk that another index has too, made by the same embedder from the same words.
COPY_KNOWN_VECTORS = """
INSERT INTO indexer_vector (index_id, chunk_id, document_id, embedding)
SELECT c.index_id, c.id, c.document_id, v.embedding
FROM indexer_chunk c
JOIN indexer_chunk o ON o.index_id = %(other)s AND o.document_id = c.document_id
 AND o.start = c.start AND o."end" = c."end" AND o.context = c.context
JOIN indexer_vector v ON v.index_id = o.index_id AND v.chunk_id = o.id
WHERE c.index_id = %(index)s AND c.document_id = %(document)s
ON CONFLICT DO NOTHING
"""

# Conflicts with the change of state of a swap, and with nothing else.
HOLD_INDEX = "SELECT state FROM indexer_index WHERE id = %s FOR SHARE"

HITS = """
SELECT c.id, c.document_id, d.name, c.ordinal, c.start, c."end", c.page, c.context, c.text
FROM indexer_chunk_{index} c JOIN indexer_document d ON d.id = c.document_id
WHERE c.id = ANY(%s) AND c.enabled AND d.state = 'ready' {scope}
"""

GROWN = """
SELECT 1 FROM pg_stat_user_tables
WHERE relid = to_regclass(%s) AND n_mod_since_analyze > 50 AND n_mod_since_analyze > 0.1 * n_live_tup
"""

WITHIN = "SELECT c.id FROM indexer_chunk c WHERE c.index_id = %s AND c.id = ANY(%s) AND c.document_id IN ({documents})"

CHANGES = "SELECT document_id, number FROM indexer_change WHERE index_id = %s AND number > %s ORDER BY number LIMIT %s"

ENTRIES = """
SELECT c.document_id, c.id, c.context, c.text FROM indexer_chunk c JOIN indexer_document d ON d.id = c.document_id
WHERE c.index_id = %s AND c.document_id = ANY(%s) AND c.enabled AND d.state = 'ready'
ORDER BY c.document_id, c.ordinal
"""


VECTOR_ENTRIES = """
SELECT v.document_id, v.chunk_id, halfvec_send(v.embedding)
FROM indexer_vector v JOIN indexer_document d ON d.id = v.document_id
WHERE v.index_id = %s AND v.document_id = ANY(%s) AND d.state = 'ready'
  AND NOT EXISTS (SELECT 1 FROM indexer_chunk c WHERE c.index_id = v.index_id AND c.id = v.chunk_id AND NOT c.enabled)
ORDER BY v.document_id, v.chunk_id
"""

VECTORS = "SELECT chunk_id, halfvec_send(embedding) FROM indexer_vector WHERE index_id = %s AND chunk_id = ANY(%s)"


AROUND = """
SELECT DISTINCT c.document_id, c.ordinal, c.start, c."end", c.context, c.text, c.tokens
FROM unnest(%s::bigint[], %s::int[]) AS hit(document_id, ordinal)
JOIN indexer_chunk c ON c.index_id = %s AND c.document_id = hit.document_id
 AND c.ordinal BETWEEN hit.ordinal - %s AND hit.ordinal + %s
WHERE c.enabled ORDER BY c.document_id, c.ordinal
"""

STRETCHES = """
SELECT substring(d.text FROM part.start + 1 FOR part.stop - part.start),
       (SELECT (page->>0)::int FROM jsonb_array_elements(d.pages) AS page
        WHERE (page->>1)::int <= part.start AND part.start < (page->>2)::int LIMIT 1)
FROM unnest(%s::bigint[], %s::int[], %s::int[]) WITH ORDINALITY AS part(document_id, start, stop, place)
LEFT JOIN indexer_document d ON d.id = part.document_id ORDER BY part.place
"""

CONTEXTS = """
SELECT c.document_id, c.start, c.context FROM unnest(%s::bigint[], %s::int[]) AS place(document_id, start)
JOIN indexer_chunk c ON c.index_id = %s AND c.document_id = place.document_id AND c.start = place.start
"""

SAMPLE = """
SELECT halfvec_send(v.embedding) FROM unnest(%s::float8[]) AS share,
    (SELECT min(chunk_id) AS first, max(chunk_id) AS last FROM indexer_vector WHERE index_id = %s) AS ids,
    LATERAL (SELECT embedding FROM indexer_vector WHERE index_id = %s AND chunk_id >= first + share * (last - first)
             ORDER BY chunk_id LIMIT 1) AS v
"""


# The same ones as long as rows stay, spread over the whole index.
SAMPLE_TEXTS = "SELECT text FROM indexer_chunk WHERE index_id = %s AND enabled ORDER BY md5(id::text) LIMIT %s"


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


def hold_index(index: Index) -> str:
    """Keep an index in the state it has until the transaction ends; returns the state, "" when it was dropped."""
    found = _rows(HOLD_INDEX, [index.pk])
    return found[0][0] if found else ""


def write_chunks(index: Index, document_id: int, chunks: Sequence[Chunk]) -> None:
    """Replace a document's chunks in an index. In the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM indexer_vector WHERE index_id = %s AND document_id = %s", [index.pk, document_id])
        cursor.execute("DELETE FROM indexer_chunk WHERE index_id = %s AND document_id = %s", [index.pk, document_id])
        with cursor.copy(COPY_CHUNKS) as copy:
            copy.set_types(["int8", "int8", "int4", "int4", "int4", "int4", "text", "text", "int4"])
            for c in chunks:
                copy.write_row((index.pk, document_id, c.ordinal, c.start, c.end, c.page, c.context, c.text, c.tokens))


def cuts(index: Index, document_id: int) -> list[tuple[int, int, str, str]]:
    """(start, end, context, text) of a document's chunks in an index, in order."""
    return _rows(CUTS, [index.pk, document_id])


def copy_known_vectors(index: Index, other: Index, document_id: int) -> None:
    """Take a document's vectors over from another index where it has the same chunks. In the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(COPY_KNOWN_VECTORS, {"index": index.pk, "other": other.pk, "document": document_id})


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


def hits(index: Index, chunk_ids: Collection[int], scope: Scope | None = None) -> dict[int, Hit]:
    """The chunks that may be shown: enabled, in documents that are ready and, as of now, in ``scope``.

    What is missing was deleted, disabled or put out of reach.
    """
    within, params = ("", ()) if scope is None else scope.sql()
    sql = HITS.format(index=int(index.pk), scope=f"AND d.id IN ({within})" if within else "")
    return {row[0]: Hit(*row) for row in _rows(sql, [list(chunk_ids), *params])}


def within(index: Index, chunk_ids: Collection[int], scope: Scope) -> set[int]:
    """Those of some chunks whose documents are in a scope."""
    documents, params = scope.sql()
    return {row[0] for row in _rows(WITHIN.format(documents=documents), [index.pk, list(chunk_ids), *params])}


def analyze(index: Index) -> None:
    """Tell the planner about an index that has grown by a tenth: searches begin at once, autovacuum a minute later."""
    for table in (f"indexer_chunk_{int(index.pk)}", f"indexer_vector_{int(index.pk)}"):
        if _rows(GROWN, [table]):
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {table}")


def drop_partitions(index_id: int) -> None:
    """Drop the empty tables of an index that was deleted.

    That locks their parents, so it gives up where somebody holds them for long, such as a backup: others would queue
    up behind it. `manage.py fsck --repair` drops what is left.
    """
    for table in ("vector", "chunk"):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute(f"DROP TABLE IF EXISTS indexer_{table}_{int(index_id)}")
        except OperationalError as error:
            log.warning("The empty table indexer_%s_%d is left: %s", table, index_id, error)


def changes(index_id: int, after: int, limit: int) -> list[tuple[int, int]]:
    """(document id, change number) of documents changed after a change number, oldest first."""
    return _rows(CHANGES, [index_id, after, limit])


def last_change(index_id: int) -> int:
    """The newest change number of an index; 0 when nothing ever changed."""
    return _rows("SELECT coalesce(max(number), 0) FROM indexer_change WHERE index_id = %s", [index_id])[0][0]


def entries(index_id: int, document_ids: Iterable[int]) -> list[tuple[int, int, str, str]]:
    """(document id, chunk id, context, text) of all chunks of these documents that may be found."""
    return _rows(ENTRIES, [index_id, list(document_ids)])


def vector_entries(index_id: int, document_ids: Iterable[int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(document id, chunk id, unit vector float16 [dimensions]) of all chunks of these documents that may be found."""
    for document_id, chunk_id, sent in _rows(VECTOR_ENTRIES, [index_id, list(document_ids)]):
        yield document_id, chunk_id, _vector(sent)


def vectors_of(index_id: int, chunk_ids: Collection[int]) -> dict[int, np.ndarray]:
    """The unit vectors, float16 [dimensions], of some chunks."""
    return {chunk_id: _vector(sent) for chunk_id, sent in _rows(VECTORS, [index_id, list(chunk_ids)])}


def _vector(sent: bytes) -> np.ndarray:
    """What halfvec's send function writes: the dimensions and a spare, 2 bytes each, then big-endian halves."""
    return np.frombuffer(sent, dtype=">f2", offset=4).astype(np.float16)


def around(index: Index, places: Sequence[tuple[int, int]], reach: int) -> list[tuple]:
    """The chunks at (document id, ordinal) and up to ``reach`` before and after: what `AROUND` selects, in order."""
    documents, ordinals = [list(part) for part in zip(*places, strict=True)]
    return _rows(AROUND, [documents, ordinals, index.pk, reach, reach])


def stretches(parts: Sequence[tuple[int, int, int]]) -> list[tuple[str | None, int | None]]:
    """The text between two offsets, and the page it begins on, for (document id, start, end) each.

    (None, None) for a document that is gone.
    """
    return _rows(STRETCHES, [list(column) for column in zip(*parts, strict=True)])


def contexts(index: Index, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The context lines of the chunks that begin at some places: (document id, start) each."""
    columns = [list(column) for column in zip(*places, strict=True)]
    return {(document_id, start): context for document_id, start, context in _rows(CONTEXTS, [*columns, index.pk])}


def sample_vectors(index: Index, shares: Sequence[float]) -> list[np.ndarray]:
    """A vector, float16 [dimensions], from each place in an index, given as shares 0..1 of its range of chunk ids."""
    return [_vector(sent) for (sent,) in _rows(SAMPLE, [list(shares), index.pk, index.pk])]


def sample_texts(index: Index, count: int) -> list[str]:
    """The texts of some chunks of an index."""
    return [row[0] for row in _rows(SAMPLE_TEXTS, [index.pk, count])]
