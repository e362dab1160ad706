"""Every SQL statement of `manage.py fsck`. Rows are streamed: a million chunks fit in memory.

Partitions are read by their own names: a lock on the parents, held for a long check, would stand in the way of dropping
any index.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from django.db import connection, transaction

from indexer.models import Index

ROWS_AT_ONCE = 2000  # fetched from a server-side cursor

DOCUMENTS = """
SELECT coalesce(d.id, r.document_id, n.document_id), d.name, d.state, d.chunk_count, d.stored_count,
       n.chunks, coalesce(r.chunks, 0), coalesce(r.vectors, 0),
       EXISTS (SELECT 1 FROM indexer_change c WHERE c.index_id = %(index)s AND c.document_id = d.id)
FROM (SELECT id, name, state, chunk_count, stored_count FROM indexer_document WHERE corpus_id = %(corpus)s) d
FULL JOIN (
    SELECT document_id, sum(chunk) AS chunks, sum(vector) AS vectors FROM (
        SELECT document_id, 1 AS chunk, 0 AS vector FROM indexer_chunk_{index} UNION ALL
        SELECT document_id, 0, 1 FROM indexer_vector_{index}
    ) AS stored GROUP BY document_id
) r ON r.document_id = d.id
FULL JOIN (SELECT document_id, chunks FROM indexer_indexeddocument WHERE index_id = %(index)s) n
  ON n.document_id = coalesce(d.id, r.document_id)
"""

CHUNKS_ALONE = """
SELECT c.document_id, count(*) FROM indexer_chunk_{index} c
WHERE NOT EXISTS (SELECT 1 FROM indexer_vector_{index} v WHERE v.chunk_id = c.id AND v.document_id = c.document_id)
GROUP BY c.document_id
"""

VECTORS_ALONE = """
SELECT v.document_id, count(*) FROM indexer_vector_{index} v
WHERE NOT EXISTS (SELECT 1 FROM indexer_chunk_{index} c WHERE c.id = v.chunk_id AND c.document_id = v.document_id)
GROUP BY v.document_id
"""

VECTORS_OF_OTHER_LENGTH = """
SELECT document_id, count(*) FROM indexer_vector_{index} WHERE vector_dims(embedding) <> {dimensions}
GROUP BY document_id
"""

DELETE_WRONG_VECTORS = """
DELETE FROM indexer_vector_{index} v WHERE v.document_id = %s AND (
    vector_dims(v.embedding) <> {dimensions}
    OR NOT EXISTS (SELECT 1 FROM indexer_chunk_{index} c WHERE c.id = v.chunk_id AND c.document_id = v.document_id))
"""

TEXTS = "SELECT id, text FROM indexer_document WHERE corpus_id = %s ORDER BY id"
CHUNK_TEXTS = 'SELECT document_id, start, "end", text FROM indexer_chunk_{index} ORDER BY document_id'

FINDABLE = """
SELECT c.id FROM indexer_chunk_{index} c JOIN indexer_document d ON d.id = c.document_id
WHERE c.enabled AND d.state = 'ready'
  AND EXISTS (SELECT 1 FROM indexer_vector_{index} v WHERE v.chunk_id = c.id)
"""

# A document's job may be in the queue, or run right now.
WITHOUT_JOB = """
SELECT d.id, d.name, d.state FROM indexer_document d
WHERE d.corpus_id = %s AND d.state = ANY(%s)
  AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.queueing_lock = 'document-' || d.id AND j.status = 'todo')
  AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.lock = 'document-' || d.id AND j.status = 'doing')
"""

# The job that made a document ready queues its extension as its last act.
MISSING_WITHOUT_JOB = """
SELECT d.id FROM indexer_document d
WHERE d.corpus_id = %(corpus)s AND d.state = 'ready'
  AND NOT EXISTS (SELECT 1 FROM indexer_indexeddocument n WHERE n.index_id = %(index)s AND n.document_id = d.id)
  AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j
                  WHERE j.queueing_lock = 'extend-' || %(index)s || '-' || d.id AND j.status = 'todo')
  AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.status = 'doing'
                  AND j.lock IN ('extend-' || %(index)s || '-' || d.id, 'document-' || d.id))
ORDER BY d.id
"""

HAS_JOB = "SELECT 1 FROM procrastinate_jobs WHERE lock = %s AND status IN ('todo', 'doing') LIMIT 1"

TABLES = r"""
SELECT DISTINCT substring(relname FROM '\d+$')::bigint FROM pg_class
WHERE relkind = 'r' AND relname ~ '^indexer_(chunk|vector)_\d+$' AND relnamespace = 'public'::regnamespace
"""

ORPHANED_BY_INDEX = """
SELECT index_id, count(*) FROM {table} t
WHERE NOT EXISTS (SELECT 1 FROM indexer_index i WHERE i.id = t.index_id) GROUP BY index_id
"""


class Row(NamedTuple):
    """One document, as the corpus and an index have it: what `DOCUMENTS` selects."""

    document_id: int
    name: str | None  # None: the corpus has no such document
    state: str | None
    chunk_count: int
    stored_count: int
    noted: int | None  # chunks by IndexedDocument; None: not noted
    chunks: int
    vectors: int
    logged: bool  # the followers were told of it


@contextmanager
def snapshot() -> Iterator[None]:
    """See the database as of one moment, however long that takes; nothing can be written meanwhile."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _stream(sql: str, params: Any = None, at_once: int = ROWS_AT_ONCE) -> Iterator[tuple]:
    """Rows of a server-side cursor. Within a transaction."""
    with connection.chunked_cursor() as cursor:
        cursor.cursor.itersize = at_once
        cursor.execute(sql, params)
        yield from cursor


def _rows(sql: str, params: Any = None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def _for(sql: str, index: Index) -> str:
    return sql.format(index=int(index.pk), dimensions=int(index.dimensions))


def has_tables(index: Index) -> bool:
    """Whether an index has its two partitions."""
    names = [f"indexer_{kind}_{int(index.pk)}" for kind in ("chunk", "vector")]
    return None not in _rows("SELECT to_regclass(%s), to_regclass(%s)", names)[0]


def documents(index: Index) -> Iterator[Row]:
    """Every document that the corpus or the index knows of."""
    params = {"index": index.pk, "corpus": index.corpus_id}
    return (Row(*row) for row in _stream(_for(DOCUMENTS, index), params))


def chunks_alone(index: Index) -> dict[int, int]:
    """Document ids with the number of their chunks that have no vector."""
    return dict(_rows(_for(CHUNKS_ALONE, index)))


def vectors_alone(index: Index) -> dict[int, int]:
    """Document ids with the number of vectors that have no chunk."""
    return dict(_rows(_for(VECTORS_ALONE, index)))


def vectors_of_other_length(index: Index) -> dict[int, int]:
    """Document ids with the number of vectors whose length is not the index's."""
    return dict(_rows(_for(VECTORS_OF_OTHER_LENGTH, index)))


def delete_wrong_vectors(index: Index, document_id: int) -> None:
    """Delete a document's vectors that have no chunk, or another length than the index's."""
    with connection.cursor() as cursor:
        cursor.execute(_for(DELETE_WRONG_VECTORS, index), [document_id])


def misplaced_chunks(index: Index) -> dict[int, int]:
    """Document ids with the number of chunks that are not the stretch of the text they say they are."""
    texts = _stream(TEXTS, [index.corpus_id], at_once=10)  # a text may have megabytes
    current, text = next(texts, (None, ""))
    found: dict[int, int] = {}
    for document_id, start, end, chunk in _stream(_for(CHUNK_TEXTS, index)):
        while current is not None and current < document_id:
            current, text = next(texts, (None, ""))
        if current == document_id and text[start:end] != chunk:
            found[document_id] = found.get(document_id, 0) + 1
    return found


def findable_chunks(index: Index) -> np.ndarray:
    """The ids of all chunks that a follower has to have, int64, in no order."""
    with transaction.atomic():
        return np.fromiter((row[0] for row in _stream(_for(FINDABLE, index))), dtype=np.int64)


def documents_without_job(corpus_id: int, states: tuple[str, ...]) -> list[tuple[int, str, str]]:
    """(id, name, state) of the documents in these states that no job is about."""
    return _rows(WITHOUT_JOB, [corpus_id, list(states)])


def missing_without_job(index: Index) -> list[int]:
    """The documents that are to come into an index, but have no job for it."""
    return [row[0] for row in _rows(MISSING_WITHOUT_JOB, {"index": index.pk, "corpus": index.corpus_id})]


def has_job(lock: str) -> bool:
    """Whether a job with this lock waits or runs."""
    return bool(_rows(HAS_JOB, [lock]))


def indexes_with_tables() -> set[int]:
    """The ids of all indexes that have a partition."""
    return {row[0] for row in _rows(TABLES)}


def rows_without_index(table: str) -> list[tuple[int, int]]:
    """(index id, rows) of what a table still has of indexes that are gone."""
    return _rows(ORPHANED_BY_INDEX.format(table=table))


def delete_rows_of_index(table: str, index_id: int) -> None:
    """Delete what a table still has of an index that is gone."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE index_id = %s", [index_id])
