"""Rows in PostgreSQL: what followers are told."""

import numpy as np
import pytest

from indexer import store
from indexer.corpora import recipe_named
from indexer.models import Chunk as ChunkRow
from indexer.models import Corpus, Document, Index, Recipe
from ragplat.types import Chunk

pytestmark = pytest.mark.django_db(transaction=True)
DIMENSIONS = 384


@pytest.fixture
def index() -> Index:
    corpus = Corpus.objects.create(
        slug="vectors", title="Vectors", answer_recipe=recipe_named(Recipe.Kind.ANSWER, "default")
    )
    recipe = recipe_named(Recipe.Kind.INDEX, "default")
    return Index.objects.create(
        corpus=corpus, recipe=recipe, state=Index.State.ACTIVE, fingerprint="test", dimensions=DIMENSIONS
    )


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


def test_disabling_is_told_to_the_followers(index):
    document, _, ids = fill(index, "few", 5, seed=4)
    before = store.last_change(index.pk)
    assert store.set_enabled(ids[:2], False) == 2
    assert store.set_enabled(ids[:2], False) == 0
    assert store.last_change(index.pk) > before
    assert ChunkRow.objects.filter(enabled=False).count() == 2
    assert len(store.entries(index.pk, [document.pk])) == 3
