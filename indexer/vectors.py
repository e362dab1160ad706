"""Dense search in PostgreSQL: the exact scan where few vectors are meant, else the partition's vector index.

Which of the two is decided here by the number of rows, not by the planner: an exact scan is written so that no vector
index can serve it, and for the other the sort is switched off.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from django.db import connection

from indexer.models import Document, Index, recipe_value
from indexer.scope import Scope
from ragplat.types import AnswerRecipe

# Below this many vectors an exact scan takes a few milliseconds and is always right; above it the index pays.
EXACT_SCAN_ROWS = 5_000
# Of a filtered search. Its rows are fetched one by one, and an index that passes over most of what it visits is slow.
EXACT_SCOPE_ROWS = 20_000
# While documents are still coming in, an index is built only when exact scans take too long: loading first is faster.
BUILD_WHILE_LOADING_ROWS = 200_000
# Twice pgvector's default: built in half as much time again, a search misses a fifth as much (docs/log.md).
EF_CONSTRUCTION = 128
BYTES_PER_LINKED_ROW = 450  # of HNSW with m = 16, beside the vector itself; measured: benchmarks/search/vectors.py
LONGEST_EF_SEARCH = 1_000  # pgvector's limit
KNOWN_SECONDS = 10.0  # how long a search believes what it knows of the vector index

_known: dict[int, tuple[float, "VectorIndex | None"]] = {}  # by index: when asked, and the answer

# What may not be found is little, so it is excluded by two small anti-joins rather than proven by two large joins. They
# are part of the scan: with iterative scans on, the index goes on until k rows have passed them.
SEARCH = """
SELECT v.chunk_id, (v.embedding::halfvec({dimensions}) <#> %s::halfvec({dimensions})) {exact} AS distance
FROM indexer_vector_{index} v
WHERE NOT EXISTS (SELECT 1 FROM indexer_chunk_{index} c WHERE c.id = v.chunk_id AND NOT c.enabled)
  AND NOT EXISTS (SELECT 1 FROM indexer_document d WHERE d.id = v.document_id AND d.state <> 'ready') {scope}
ORDER BY distance
LIMIT %s
"""

# relaxed_order finds more than strict_order for the same work, but hands out some of the best rows late: a filtered
# search takes some more than it needs, and sorts them.
SPARE_ROWS = 100
TUNING = """
SET LOCAL hnsw.iterative_scan = 'relaxed_order'; SET LOCAL hnsw.ef_search = {ef_search};
SET LOCAL ivfflat.iterative_scan = 'relaxed_order'; SET LOCAL ivfflat.probes = {probes};
SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off;
"""

VECTOR_INDEX = """
SELECT a.amname, i.indisvalid, coalesce((SELECT option_value::int FROM pg_options_to_table(c.reloptions)
                                         WHERE option_name = 'lists'), 0), pg_relation_size(c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE c.oid = to_regclass(%s)
"""

CREATE = """
CREATE INDEX CONCURRENTLY {name} ON indexer_vector_{index}
USING {kind} ((embedding::halfvec({dimensions})) halfvec_ip_ops) {options}
"""


class Scan(NamedTuple):
    """What a dense search did and found."""

    hits: list[tuple[int, float]]  # (chunk id, inner product), best first
    how: str  # "exact", "hnsw", "ivfflat", or "hnsw, then exact"


class VectorIndex(NamedTuple):
    """The vector index of a partition."""

    kind: str  # "hnsw" or "ivfflat"
    valid: bool  # False: its build was interrupted
    lists: int  # of IVFFlat
    bytes: int


def search(
    index: Index, vector: np.ndarray, k: int, recipe: AnswerRecipe, scope: Scope | None = None, exact: bool = False
) -> Scan:
    """The k chunks with the largest inner product, of all that may be found and lie in ``scope``.

    ``vector``: unit vector, float32 [index.dimensions]. ``recipe`` gives ef_search and probes; ``exact`` asks for the
    exact scan. When the vector index gives fewer than k rows although the scope has more, the exact scan follows.
    """
    if exact or (scope is not None and scope.chunks <= EXACT_SCOPE_ROWS):
        return Scan(_exact(index, vector, k, scope), "exact")
    built = _known_vector_index(index)
    if built is None or not built.valid:
        return Scan(_exact(index, vector, k, scope), "exact")
    hits = _indexed(index, vector, k, scope, recipe, built)
    if len(hits) < k and _more_than(index, len(hits), scope):
        return Scan(_exact(index, vector, k, scope), f"{built.kind}, then exact")
    return Scan(hits, built.kind)


def vector_index(index: Index) -> VectorIndex | None:
    """The vector index of an index's partition, if it has one."""
    with connection.cursor() as cursor:
        cursor.execute(VECTOR_INDEX, [_name(index)])
        row = cursor.fetchone()
    return VectorIndex(*row) if row else None


def _known_vector_index(index: Index) -> VectorIndex | None:
    """As of some seconds ago: asking takes longer than many a search, and either plan is right at any time."""
    seen, built = _known.get(index.pk, (-math.inf, None))
    if time.monotonic() - seen > KNOWN_SECONDS:
        built = vector_index(index)
        _known[index.pk] = (time.monotonic(), built)
    return built


def count(index: Index) -> int:
    """The number of vectors in an index."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM indexer_vector_{int(index.pk)}")
        return cursor.fetchone()[0]


def _exact(index: Index, vector: np.ndarray, k: int, scope: Scope | None) -> list[tuple[int, float]]:
    with connection.cursor() as cursor:
        # Adding 0 changes no order, but no index is made for it.
        cursor.execute(*_statement(index, vector, k, scope, exact="+ 0"))
        return [(chunk_id, -distance) for chunk_id, distance in cursor.fetchall()]


def _indexed(
    index: Index, vector: np.ndarray, k: int, scope: Scope | None, recipe: AnswerRecipe, built: VectorIndex
) -> list[tuple[int, float]]:
    ef_search = min(max(recipe.ef_search, k), LONGEST_EF_SEARCH)
    probes = min(recipe.probes or max(1, math.isqrt(built.lists)), max(built.lists, 1))
    sql, params = _statement(index, vector, k if scope is None else k + SPARE_ROWS, scope, exact="")
    with connection.cursor() as cursor:
        # Statements sent together are one transaction, which the settings end with.
        cursor.execute(TUNING.format(ef_search=ef_search, probes=probes) + sql, params)
        while cursor.nextset():
            pass  # the settings' results
        nearest = sorted(cursor.fetchall(), key=lambda row: (row[1], row[0]))[:k]
    return [(chunk_id, -distance) for chunk_id, distance in nearest]


def _statement(index: Index, vector: np.ndarray, k: int, scope: Scope | None, exact: str) -> tuple[str, list[Any]]:
    within, params = "", ()
    if scope is not None and scope.documents is not None:
        within, params = "AND v.document_id = ANY(%s)", (list(scope.documents),)
    elif scope is not None:
        subquery, params = scope.sql()
        within = f"AND v.document_id IN ({subquery})"
    head, tail = SEARCH.split("{scope}")
    numbers = {"index": int(index.pk), "dimensions": int(index.dimensions)}
    return head.format(**numbers, exact=exact) + within + tail, [_text(vector), *params, k]


def _text(vector: np.ndarray) -> str:
    """A vector as pgvector reads it, rounded to the halves it compares: five digits tell any two of them apart."""
    numbers = vector.astype(np.float16).tolist()
    return "[" + ",".join(["%.5g"] * len(numbers)) % tuple(numbers) + "]"


def _more_than(index: Index, found: int, scope: Scope | None) -> bool:
    return (scope.chunks if scope is not None else count(index)) > found


def build(index: Index) -> bool:
    """Build the vector index that an index's recipe names once exact scans take too long; True when there is one then.

    Runs outside a transaction (CONCURRENTLY): searches and writes go on meanwhile. IVFFlat is built again when there
    are twice as many rows as its lists were meant for.
    """
    _known.pop(index.pk, None)
    recipe = recipe_value(index.recipe_id)
    if recipe.vector_store != "pgvector":
        return False
    rows, built = count(index), vector_index(index)
    lists = ivfflat_lists(rows) if recipe.vector_index == "ivfflat" else 0
    if built is not None and built.valid:
        if lists >= 2 * built.lists > 0:
            _rebuild(index, rows, lists)
        return True
    if rows <= (BUILD_WHILE_LOADING_ROWS if _loading(index) else EXACT_SCAN_ROWS):
        return False
    with _building(index, rows) as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_name(index)}")  # what an interrupted build left
        cursor.execute(
            CREATE.format(
                name=_name(index),
                index=int(index.pk),
                kind=recipe.vector_index,
                dimensions=int(index.dimensions),
                options=f"WITH (lists = {lists})" if lists else f"WITH (ef_construction = {EF_CONSTRUCTION})",
            )
        )
    return True


def _rebuild(index: Index, rows: int, lists: int) -> None:
    """Build an outgrown IVFFlat index again, while the old one goes on answering."""
    with _building(index, rows) as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_name(index)}_ccnew")  # what an interrupted one left
        cursor.execute(f"ALTER INDEX {_name(index)} SET (lists = {lists})")
        cursor.execute(f"REINDEX INDEX CONCURRENTLY {_name(index)}")


@contextmanager
def _building(index: Index, rows: int) -> Iterator[Any]:
    """A cursor whose session has the memory and the workers that building takes."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{_build_kilobytes(rows, index.dimensions)}kB'")
        cursor.execute(f"SET max_parallel_maintenance_workers = {min(os.cpu_count() or 1, 8)}")
        try:
            yield cursor
        finally:
            _known.pop(index.pk, None)
            cursor.execute("RESET maintenance_work_mem")
            cursor.execute("RESET max_parallel_maintenance_workers")


def ivfflat_lists(rows: int) -> int:
    """pgvector's advice: a list for each 1,000 rows, above a million rows their square root."""
    return max(10, rows // 1000 if rows <= 1_000_000 else math.isqrt(rows))


def _loading(index: Index) -> bool:
    return Document.objects.filter(corpus_id=index.corpus_id, state__in=Document.UNDER_WAY).exists()


def _build_kilobytes(rows: int, dimensions: int) -> int:
    """Memory for a graph of all rows and a quarter more: one that does not fit is built many times slower."""
    needed = rows * 1.25 * (2 * dimensions + BYTES_PER_LINKED_ROW)
    return int(min(max(needed, 64 * 2**20), 64 * 2**30) / 1024)


def _name(index: Index) -> str:
    return f"indexer_vector_{int(index.pk)}_ann"
