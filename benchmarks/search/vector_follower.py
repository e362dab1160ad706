"""The vector follower: how fast it is filled, built, changed and searched, and how much it finds.

    python benchmarks/search/vector_follower.py VECTORS.npy [--rows N] [--kinds flat,hnsw,ivfpq]

VECTORS.npy holds unit vectors of real texts, float [n, d]; with --rows, vectors between two neighbours in the file are
added until there are N. Queries are 500 of the file, taken out of it before. recall is the share of the exact top 10
and top 100 that a search for so many finds. Set OMP_NUM_THREADS=1 for the times of one core.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.followers import faiss
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.faiss import FaissFollower

QUERIES, CHUNKS_PER_DOCUMENT = 500, 20
NO_LIMIT, EXACT_ROWS = 10**12, faiss.EXACT_ROWS


def let_be(kind: str, rows: int) -> None:
    """Set the limits between the structures so that ``rows`` vectors are searched by this one."""
    exact = min(EXACT_ROWS, rows // 2)
    limits = {"flat": (NO_LIMIT, NO_LIMIT), "hnsw": (exact, NO_LIMIT), "ivfpq": (exact, exact)}
    faiss.EXACT_ROWS, faiss.HNSW_ROWS = limits[kind]


def grown(vectors: np.ndarray, rows: int) -> np.ndarray:
    """``rows`` unit vectors: the ones given, then mixtures of two of them that keep 0.7 to 1 of the first."""
    chooser = np.random.default_rng(1)
    parts = [vectors[:rows]]
    for start in range(len(vectors), rows, 50_000):
        count = min(50_000, rows - start)
        one, other = (vectors[chooser.integers(0, len(vectors), count)] for _ in range(2))
        share = chooser.uniform(0.7, 1.0, (count, 1)).astype(np.float32)
        mixed = share * one + (1 - share) * other
        parts.append(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
    return np.concatenate(parts)


def document(number: int, vectors: np.ndarray) -> DocumentEntries:
    first = number * CHUNKS_PER_DOCUMENT
    some = vectors[first : first + CHUNKS_PER_DOCUMENT]
    return DocumentEntries(number, tuple(Entry(first + n, vector) for n, vector in enumerate(some)))


def timed(work, *arguments):
    started = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - started


def searches(follower: FaissFollower, queries: np.ndarray, k: int, documents=None) -> tuple[list[set[int]], str]:
    follower.search(queries[0], k, documents)
    results, seconds = zip(*(timed(follower.search, query, k, documents) for query in queries), strict=True)
    p50, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
    return [{hit for hit, _ in hits} for hits in results], f"p50 {p50 * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms"


def compare(name: str, follower: FaissFollower, queries: np.ndarray, k: int, documents, expected) -> list[set[int]]:
    found, times = searches(follower, queries, k, documents)
    shares = [len(a & b) / k for a, b in zip(found, expected or found, strict=True)]
    print(f"  {name}, k = {k}: {times}, recall {statistics.mean(shares):.4f}", flush=True)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("vectors", type=Path)
    arguments.add_argument("--rows", type=int, help="grow to so many vectors")
    arguments.add_argument("--kinds", default="flat,hnsw,ivfpq")
    options = arguments.parse_args()
    vectors = np.load(options.vectors).astype(np.float32)
    queries, vectors = vectors[:QUERIES], vectors[QUERIES:]
    vectors = grown(vectors, options.rows or len(vectors))
    documents = range(len(vectors) // CHUNKS_PER_DOCUMENT)
    scopes = {"all": None, "half of the documents": documents[::2], "1 % of the documents": documents[::100]}

    with tempfile.TemporaryDirectory() as folder:
        follower = FaissFollower(Path(folder), dimensions=vectors.shape[1])
        started = time.perf_counter()
        for first in range(0, len(documents), 200):
            follower.apply([document(number, vectors) for number in documents[first : first + 200]], first + 1)
        spent = time.perf_counter() - started
        print(f"{follower.count():,} vectors, filled with {follower.count() / spent:,.0f} rows/s")
        exact = {}
        for kind in ["flat", *(kind for kind in options.kinds.split(",") if kind != "flat")]:
            let_be(kind, len(vectors))
            _, spent = timed(follower.build)
            files = sum(path.stat().st_size for path in Path(folder).rglob("built-*"))
            print(f"{kind}: built in {spent:.1f} s, {files / follower.count():.0f} bytes a row")
            for name, scope in scopes.items():
                for k in (10, 100):
                    found = compare(name, follower, queries, k, scope, exact.get((name, k)))
                    exact.setdefault((name, k), found)
            changes = [timed(follower.apply, [document(n, vectors)], 1)[1] for n in documents[5:25]]
            _, reopened = timed(FaissFollower(Path(folder), dimensions=vectors.shape[1]).count)
            print(f"  a document changed: {statistics.median(changes) * 1e3:.1f} ms; opened: {reopened:.2f} s")


if __name__ == "__main__":
    main()
