"""How good an index is: what each store finds for sampled queries, beside the exact scan."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from indexer import follow, legs, store, vectors
from indexer.corpora import named
from indexer.models import Index, recipe_value
from ragplat.management.commands.doctor import Finding
from ragplat.types import AnswerRecipe

QUERIES = 50
K = 10
# A stored vector with noise of this length added: as far from its neighbours as a question is (cosine 0.8).
NOISE = 0.75
CURES = {
    "hnsw": "Give the corpus an answer recipe with a larger ef_search.",
    "ivfflat": "Give the corpus an answer recipe with more probes.",
    "faiss": "Stop the worker, delete the folder {folder} and start it again: FAISS builds its index anew.",
    "exact": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One store of an index against the exact scan."""

    store: str  # "hnsw", "ivfflat", "faiss"; "exact" while pgvector has no vector index
    rows: int  # vectors in the index
    queries: int
    recall: float  # share of the exact scan's 10 best that the store finds too
    floor: float  # what the corpus's answer recipe asks for
    p50_ms: float  # median time of a search
    exact_p50_ms: float
    cure: str  # what to do where recall is below the floor

    @property
    def ok(self) -> bool:
        return self.recall >= self.floor


def probe(index: Index, queries: int = QUERIES) -> list[Probe]:
    """Compare every store of an index with the exact scan, over the same sampled queries. Empty for an empty index."""
    sample = _sample(index, queries)
    if not len(sample):
        return []
    recipe: AnswerRecipe = recipe_value(index.corpus.answer_recipe_id)
    right, exact_ms = _timed(lambda query: vectors.search(index, query, K, recipe, exact=True).hits, sample)
    rows, probes = vectors.count(index), []
    for name, search in _stores(index, recipe):
        found, milliseconds = _timed(search, sample)
        probes.append(
            Probe(
                store=name,
                rows=rows,
                queries=len(sample),
                recall=float(np.mean([_recall(a, b) for a, b in zip(found, right, strict=True)])),
                floor=recipe.recall_floor,
                p50_ms=milliseconds,
                exact_p50_ms=exact_ms,
                cure=CURES[name].format(folder=follow.folder_of(index) / "faiss"),
            )
        )
    return probes


def findings(slug: str) -> Iterator[Finding]:
    """The probes of a corpus's active index, for `manage.py doctor --index`. Raises NotFound for an unknown corpus."""
    index = named(slug).active_index()
    probes = probe(index)
    if not probes:
        yield Finding(name=f"recall of {slug}", ok=True, found="there are no vectors yet")
    for one in probes:
        yield Finding(
            name=f"recall of {slug}, {one.store}",
            ok=one.ok,
            found=f"{one.recall:.3f} of the exact scan's {K} best ({one.queries} queries, {one.rows:,} vectors, "
            f"floor {one.floor:g}); {one.p50_ms:.1f} ms, exact scan {one.exact_p50_ms:.1f} ms",
            cure=one.cure,
        )


def _stores(index: Index, recipe: AnswerRecipe) -> Iterator[tuple[str, Callable[[np.ndarray], legs.Hits]]]:
    if "faiss" in follow.names(index):
        follow.catch_up(index)
        yield "faiss", lambda query: legs.faiss(index, query, K)
    else:
        built = vectors.vector_index(index)
        yield built.kind if built else "exact", lambda query: vectors.search(index, query, K, recipe).hits


def _sample(index: Index, queries: int) -> np.ndarray:
    """Unit vectors as questions might be, float32 [up to queries, dimensions]: the same ones as long as rows stay."""
    random = np.random.default_rng(index.pk)
    stored = np.array(store.sample_vectors(index, random.random(queries)), dtype=np.float32)
    if not len(stored):
        return stored
    noise = random.normal(size=stored.shape)
    noisy = stored + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def _timed(search: Callable[[np.ndarray], legs.Hits], sample: np.ndarray) -> tuple[list[legs.Hits], float]:
    search(sample[0])  # the first one loads what is not in memory yet
    found, seconds = [], []
    for query in sample:
        started = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - started)
    return found, float(np.median(seconds)) * 1000


def _recall(found: legs.Hits, right: legs.Hits) -> float:
    """The share of right hits that were found. One that scores as much as the last right one is as right."""
    if not right:
        return 1.0
    worst = right[-1][1] - 1e-4  # stores round the query and add up in their own ways: some 2e-5 apart
    return min(1.0, sum(score >= worst for _, score in found) / len(right))
