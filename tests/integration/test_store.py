"""Vectors in PostgreSQL: above the threshold the HNSW index answers, below it the exact scan, with the same chunks."""

import numpy as np
import pytest
from django.db import connection

from indexer import store
from indexer.corpora import recipe_named
from indexer.models import Chunk as ChunkRow
from indexer.models import Corpus, Document, Index, Recipe
from ragplat.types import Chunk

pytestmark = pytest.mark.django_db(transaction=True)
ROWS, DIMENSIONS = 3000, 384


@pytest.fixture
def index() -> Index:
    corpus = Corpus.objects.create(
        slug="vectors", title="Vectors", answer_recipe=recipe_named(Recipe.Kind.ANSWER, "default")
    )
    recipe = recipe_named(Recipe.Kind.INDEX, "default")
    return Index.objects.create(
        corpus=corpus, recipe=recipe, state=Index.State.ACTIVE, fingerprint="test", dimensions=DIMENSIONS
    )


def fill_many(index: Index, seed: int, documents: int = 30) -> np.ndarray:
    """ROWS vectors in several ready documents."""
    return np.concatenate([fill(index, f"many-{n}", ROWS // documents, seed + n)[1] for n in range(documents)])


def fill(index: Index, name: str, rows: int, seed: int) -> tuple[Document, np.ndarray, list[int]]:
    """A ready document of random unit vectors around a few centres, as real ones lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, DIMENSIONS))
    vectors = centres[random.integers(20, size=rows)] + 0.7 * random.normal(size=(rows, DIMENSIONS))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    document = Document.objects.create(corpus=index.corpus, name=name, sha256=name, size=1, state="ready")
    chunks = [Chunk(ordinal=n, start=n, end=n + 1, text="x", page=None, context="", tokens=3) for n in range(rows)]
    store.write_chunks(index, document.pk, chunks)
    ids = [chunk_id for chunk_id, _, _ in store.pending_chunks(index, document.pk)]
    store.write_vectors(index, document.pk, ids, vectors)
    return document, vectors, ids


def plan(index: Index, vector: np.ndarray) -> str:
    sql = store.DENSE.format(index=index.pk, dimensions=DIMENSIONS, scope="")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", {"vector": str(vector.tolist()), "k": 10})
        return "\n".join(row[0] for row in cursor.fetchall())


def test_the_index_answers_as_the_exact_scan_does(index, monkeypatch):
    vectors = fill_many(index, seed=1)
    assert store.build_vector_index(index) is False  # below the threshold: nothing to build
    queries = vectors[::100]
    exact = [[chunk for chunk, _ in store.dense(index, query, 10)] for query in queries]
    assert "hnsw" not in plan(index, queries[0])
    monkeypatch.setattr(store, "EXACT_SCAN_ROWS", 1000)
    assert store.build_vector_index(index) is True
    with connection.cursor() as cursor:
        cursor.execute("SET enable_sort = off")  # so few rows are sorted faster than looked up: make it look them up
        assert "hnsw" in plan(index, queries[0])
        found = [[chunk for chunk, _ in store.dense(index, query, 10)] for query in queries]
        cursor.execute("RESET enable_sort")
    overlap = [len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]
    assert sum(overlap) / len(overlap) >= 0.95


def test_what_is_disabled_or_not_ready_is_passed_and_k_are_still_found(index, monkeypatch):
    vectors = fill_many(index, seed=2)
    hidden, _, hidden_ids = fill(index, "hidden", 300, seed=2)
    monkeypatch.setattr(store, "EXACT_SCAN_ROWS", 1000)
    store.build_vector_index(index)
    best = [chunk for chunk, _ in store.dense(index, vectors[0], 100)]
    store.set_enabled(best[:50], False)
    Document.objects.filter(pk=hidden.pk).update(state="embedding")
    found = [chunk for chunk, _ in store.dense(index, vectors[0], 100)]
    assert len(found) == 100
    assert not set(found) & set(best[:50])
    assert not set(found) & set(hidden_ids)


def test_scores_are_inner_products(index):
    _, vectors, ids = fill(index, "few", 50, seed=3)
    (first, score), *_ = store.dense(index, vectors[7], 5)
    assert first == ids[7]
    assert score == pytest.approx(1.0, abs=2e-3)  # half precision


def test_disabling_is_told_to_the_followers(index):
    document, _, ids = fill(index, "few", 5, seed=4)
    before = store.last_change(index.pk)
    assert store.set_enabled(ids[:2], False) == 2
    assert store.set_enabled(ids[:2], False) == 0
    assert store.last_change(index.pk) > before
    assert ChunkRow.objects.filter(enabled=False).count() == 2
    assert len(store.entries(index.pk, [document.pk])) == 3
