"""A corpus filled straight with COPY: what ingesting would leave behind, without its hours.

Documents of 100 chunks each, all ready. Row n of the vectors belongs to the chunk `first_chunk + n`.
"""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import psycopg

CHUNKS_A_DOCUMENT = 100
BLOCK = 10_000


def connect() -> psycopg.Connection:
    """A plain connection to the installation's database; every statement is a transaction of its own."""
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def filled(slug: str, vectors: np.ndarray, texts: Iterable[str]):
    """The corpus ``slug`` with these chunks and vectors (float [rows, 384], unit); made unless it is there."""
    from indexer import corpora
    from indexer import vectors as dense
    from indexer.models import Corpus

    corpus = Corpus.objects.filter(slug=slug).first()
    if corpus is not None:
        if dense.count(corpus.active_index()) == len(vectors):
            return corpus
        corpus.delete()  # an earlier run was interrupted
    corpus = corpora.create(slug, slug=slug)
    started = time.perf_counter()
    index, documents = corpus.active_index(), _documents(corpus, -(-len(vectors) // CHUNKS_A_DOCUMENT))
    with connect() as connection, connection.transaction():
        first = _reserve(connection, len(vectors))
        _copy_chunks(connection, index.pk, documents, first, len(vectors), texts)
        _copy_vectors(connection, index.pk, documents, first, vectors)
    with connect() as connection:
        for table in ("indexer_document", f"indexer_chunk_{index.pk}", f"indexer_vector_{index.pk}"):
            connection.execute(f"VACUUM (ANALYZE) {table}")
    print(f"filled {slug} with {len(vectors):,} rows in {time.perf_counter() - started:.0f} s", flush=True)
    return corpus


def log_changes(corpus) -> None:
    """Tell the followers of all documents, unless they were told."""
    index = corpus.active_index()
    told = "SELECT 1 FROM indexer_change WHERE index_id = %s LIMIT 1"
    with connect() as connection:
        if not connection.execute(told, [index.pk]).fetchone():
            log = "SELECT indexer_log_change(%s, id) FROM indexer_document WHERE corpus_id = %s ORDER BY id"
            connection.execute(log, [index.pk, corpus.pk])


def first_chunk(connection: psycopg.Connection, index_id: int) -> int:
    """The chunk id of row 0."""
    return connection.execute(f"SELECT min(chunk_id) FROM indexer_vector_{index_id}").fetchone()[0]


def documents_of(connection: psycopg.Connection, corpus_id: int) -> np.ndarray:
    """The ids of the documents, in the order of their rows."""
    rows = connection.execute("SELECT id FROM indexer_document WHERE corpus_id = %s ORDER BY id", [corpus_id])
    return np.array([row[0] for row in rows])


def _documents(corpus, count: int) -> np.ndarray:
    from indexer.models import Document

    made = Document.objects.bulk_create(
        (
            Document(
                corpus=corpus,
                name=f"folder {number // 100}/document {number}.txt",
                sha256=f"{number:064x}",
                size=0,
                media_type="text/plain",
                language="en",
                state=Document.State.READY,
                chunk_count=CHUNKS_A_DOCUMENT,
                stored_count=CHUNKS_A_DOCUMENT,
            )
            for number in range(count)
        ),
        batch_size=1000,
    )
    return np.array([document.pk for document in made])


def _reserve(connection: psycopg.Connection, count: int) -> int:
    """The first of ``count`` chunk ids that nobody else gets."""
    sequence = "pg_get_serial_sequence('indexer_chunk', 'id')"
    first = connection.execute(f"SELECT nextval({sequence})").fetchone()[0]
    connection.execute(f"SELECT setval({sequence}, %s)", [first + count])
    return first


def _copy_chunks(connection, index_id: int, documents: np.ndarray, first: int, rows: int, texts: Iterable[str]) -> None:
    columns = 'id, index_id, document_id, ordinal, start, "end", context, text, tokens'
    with connection.cursor().copy(f"COPY indexer_chunk ({columns}) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "int8", "int8", "int4", "int4", "int4", "text", "text", "int4"])
        start = 0
        for row, text in enumerate(islice(texts, rows)):
            document, ordinal = divmod(row, CHUNKS_A_DOCUMENT)
            start = start if ordinal else 0
            end = start + len(text)
            place = (first + row, index_id, int(documents[document]), ordinal, start, end)
            copy.write_row((*place, "", text, len(text) // 5))
            start = end


def _copy_vectors(connection, index_id: int, documents: np.ndarray, first: int, vectors: np.ndarray) -> None:
    columns = "index_id, chunk_id, document_id, embedding"
    with connection.cursor().copy(f"COPY indexer_vector ({columns}) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for block in _tuples(index_id, documents, first, vectors):
            copy.write(block)
        copy.write(b"\xff\xff")


def _tuples(index_id: int, documents: np.ndarray, first: int, vectors: np.ndarray) -> Iterator[bytes]:
    """Rows as a binary COPY has them: a count of fields, then the length and the bytes of each, big-endian.

    All rows have the same length, so a block of them is one numpy array. halfvec is its dimensions, two unused bytes,
    and the numbers (halfvec_recv of pgvector).
    """
    dimensions = vectors.shape[1]
    form = np.dtype(
        [
            *(("fields", ">i2"), ("index_length", ">i4"), ("index", ">i8"), ("chunk_length", ">i4"), ("chunk", ">i8")),
            *(("document_length", ">i4"), ("document", ">i8"), ("vector_length", ">i4")),
            *(("dimensions", ">i2"), ("unused", ">i2"), ("vector", ">f2", (dimensions,))),
        ]
    )
    for start in range(0, len(vectors), BLOCK):
        part = np.asarray(vectors[start : start + BLOCK])
        rows = np.arange(start, start + len(part))
        block = np.zeros(len(part), dtype=form)
        block["fields"], block["dimensions"], block["vector_length"] = 4, dimensions, 4 + 2 * dimensions
        block["index_length"] = block["chunk_length"] = block["document_length"] = 8
        block["index"], block["chunk"] = index_id, first + rows
        block["document"] = documents[rows // CHUNKS_A_DOCUMENT]
        block["vector"] = part
        yield block.tobytes()
