"""The vector stores that vectors.py compares, with the same few methods each.

`build()` makes the index anew, `bytes()` is its size, `processes()` whose memory counts, `settings()` what is tried at
search time, `search(setting)` makes a function from a query vector to row numbers, one for each thread; `drop()`
removes the index.
"""

import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil
from partition import connect, first_chunk
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from timing import K, Search

from indexer.followers import faiss_kinds as kinds
from indexer.followers.faiss import MARGIN

NEAREST = """
SELECT chunk_id, -(embedding::halfvec({dimensions}) <#> %b::halfvec({dimensions})) FROM indexer_vector_{index} {where}
ORDER BY (embedding::halfvec({dimensions}) <#> %b::halfvec({dimensions})) {exact} LIMIT {k}
"""

VECTOR_INDEXES = """
SELECT c.relname, pg_relation_size(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = %s::regclass AND a.amname IN ('hnsw', 'ivfflat')
"""

CREATE_IVFFLAT = """
CREATE INDEX ON indexer_vector_{index} USING ivfflat ((embedding::halfvec({dimensions})) halfvec_ip_ops)
WITH (lists = {lists})
"""


class Exact:
    """Every row compared, by PostgreSQL, with one process and with as many as it likes."""

    exact = "+ 0"  # no index serves this

    def __init__(self, index, vectors: np.ndarray):
        self.index, self.rows, self.table = index, len(vectors), f"indexer_vector_{index.pk}"
        with connect() as connection:
            self.first = first_chunk(connection, index.pk)
            self.server = psutil.Process(connection.info.backend_pid).parent()

    def build(self) -> None:
        self.drop()

    def drop(self) -> None:
        with connect() as connection:
            for name, _ in connection.execute(VECTOR_INDEXES, [self.table]).fetchall():
                connection.execute(f"DROP INDEX {name}")

    def bytes(self) -> int:
        with connect() as connection:
            return sum(size for _, size in connection.execute(VECTOR_INDEXES, [self.table]))

    def processes(self) -> list[int]:
        return [self.server.pid, *(child.pid for child in self.server.children())]

    def settings(self) -> list[str]:
        return ["max_parallel_workers_per_gather = 0", "max_parallel_workers_per_gather = 2"]

    def search(self, setting: str, k: int = K, documents: Iterable[int] | None = None) -> Search:
        connection = connect()
        register_vector(connection)
        for one in setting.split(", "):
            connection.execute(f"SET {one}")
        where = "" if documents is None else f"WHERE document_id = ANY('{{{','.join(map(str, documents))}}}')"
        numbers = {"index": self.index.pk, "dimensions": self.index.dimensions, "k": k}
        statement = NEAREST.format(**numbers, where=where, exact=self.exact)
        cursor = connection.cursor(binary=True)

        def search(query: np.ndarray) -> list[int]:
            vector = HalfVector(query)
            cursor.execute(statement, [vector, vector], prepare=True)
            rows = cursor.fetchall()
            if documents is not None:  # relaxed_order
                rows.sort(key=lambda row: -row[1])
            return [row[0] - self.first for row in rows]

        return search


class Hnsw(Exact):
    """pgvector's graph, built by the platform itself."""

    exact = ""

    def build(self) -> None:
        from indexer import vectors as dense

        self.drop()
        dense.build(self.index)

    def settings(self) -> list[str]:
        return [f"hnsw.ef_search = {ef}" for ef in (40, 100, 200)]


class Ivfflat(Exact):
    """pgvector's inverted lists; as many as a list for each 1,000 rows."""

    exact = ""

    def lists(self) -> int:
        return max(10, self.rows // 1000)

    def build(self) -> None:
        self.drop()
        with connect() as connection:
            connection.execute("SET maintenance_work_mem = '1GB'")
            connection.execute(f"SET max_parallel_maintenance_workers = {os.cpu_count()}")
            numbers = {"index": self.index.pk, "dimensions": self.index.dimensions, "lists": self.lists()}
            connection.execute(CREATE_IVFFLAT.format(**numbers))

    def settings(self) -> list[str]:
        root = math.isqrt(self.lists())
        return [f"ivfflat.probes = {probes}" for probes in (max(1, root // 2), root, 2 * root, 4 * root)]


class IvfflatRoot(Ivfflat):
    """pgvector's inverted lists; as many as the square root of the rows."""

    def lists(self) -> int:
        return math.isqrt(self.rows)


class FaissFlat:
    """The exact scan of the FAISS follower: rows stay in their file, of which this process maps what it reads."""

    def __init__(self, index, vectors: np.ndarray):
        self.vectors = vectors
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name, "index")

    def build(self) -> None:
        self.searcher = kinds.flat(self.vectors)

    def drop(self) -> None:
        self.searcher = None
        self.folder.cleanup()

    def bytes(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def processes(self) -> list[int]:
        return [os.getpid()]

    def settings(self) -> list[str]:
        return [""]

    def search(self, setting: str, k: int = K) -> Search:
        return lambda query: self.ranked(self.searcher.search(query, k + MARGIN), query, k)

    def ranked(self, rows: np.ndarray, query: np.ndarray, k: int) -> list[int]:
        scores = self.vectors[rows].astype(np.float32) @ query
        return rows[np.argsort(-scores)[:k]].tolist()


class FaissHnsw(FaissFlat):
    """The graph of the FAISS follower over the same rows. Its own choice of efSearch is not asked: all are tried."""

    kind, parameter, values, taken = "hnsw", "efSearch", (40, 100, 200), 1

    def build(self) -> None:
        kinds.build(self.kind, self.vectors, self.file)
        self.searcher = kinds.load(self.kind, self.file, self.vectors)

    def settings(self) -> list[str]:
        return [f"{self.parameter} = {value}" for value in self.values]

    def parameters(self, value: int):
        import faiss

        return faiss.SearchParametersHNSW(efSearch=value)

    def search(self, setting: str, k: int = K) -> Search:
        import faiss

        # Given to faiss itself: the follower's constants have lower bounds that would make different settings the same.
        parameters, limit = self.parameters(int(setting.split(" = ")[1])), self.taken * (k + MARGIN)

        def search(query: np.ndarray) -> list[int]:
            faiss.omp_set_num_threads(1)  # as the follower does; it holds for the calling thread
            found = self.searcher.index.search(query[None], limit, params=parameters)[1][0]
            return self.ranked(found[found >= 0], query, k)

        return search


class FaissIvfpq(FaissHnsw):
    """The lists and short codes of the FAISS follower, with the best ranked again by their rows."""

    kind, parameter, values, taken = "ivfpq", "nprobe", (8, 32, 128, 256), kinds.RERANKED

    def parameters(self, value: int):
        import faiss

        return faiss.IVFPQSearchParameters(nprobe=value)


STORES = {
    "exact": Exact,
    "hnsw": Hnsw,
    "ivfflat": Ivfflat,
    "ivfflat-root": IvfflatRoot,
    "faiss-flat": FaissFlat,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivfpq": FaissIvfpq,
}
