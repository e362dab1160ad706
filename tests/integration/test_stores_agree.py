"""FAISS, pgvector and the exact scan find the same, through the whole of a search."""

import shutil

import pytest

from indexer import corpora, follow, probe, store, vectors
from indexer.models import Chunk, Recipe
from indexer.search import search
from ragplat.types import Filters
from tests.integration.test_indexing import HARBOUR, indexed
from tests.integration.test_vectors import RECIPE, fill, ids, make_index

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def corpus(embed):
    recipe = corpora.recipe_named(Recipe.Kind.INDEX, "default")
    Recipe.objects.create(kind=Recipe.Kind.INDEX, name="fast", params={**recipe.params, "vector_store": "faiss"})
    return corpora.create("Harbour", recipe="fast")


def names(corpus, **options) -> list[str]:
    return [chunk.document for chunk in search(corpus, "lighthouse", mode="dense", **options).chunks]


def test_a_corpus_served_by_faiss_behaves_as_any_other(corpus):
    document = indexed(corpus, "harbour.md", HARBOUR)
    indexed(corpus, "notes/cranes.md", "# Cranes\n\nEvery crane has a number.")
    found = search(corpus, "How tall is the lighthouse?", mode="dense")
    assert found.trace.legs[0].how == "faiss"
    assert "31 metres" in found.chunks[0].text
    index = corpus.active_index()
    exact = vectors.search(index, store.vectors_of(index.pk, [found.chunks[0].chunk_id]).popitem()[1], 10, RECIPE)
    assert {one for one, _ in exact.hits} == {one for one, _ in found.trace.legs[0].hits}
    assert set(names(corpus, filters=Filters(folders=("notes",)))) == {"notes/cranes.md"}
    store.set_enabled(list(Chunk.objects.filter(document=document).values_list("pk", flat=True)), False)
    assert set(names(corpus)) == {"notes/cranes.md"}
    document.delete()
    shutil.rmtree(follow.folder_of(index))  # a follower may be deleted at any time
    assert set(names(corpus)) == {"notes/cranes.md"}


def test_every_store_agrees_with_the_exact_scan(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    index = make_index("agreeing", vector_store="faiss")
    stored = fill(index, documents=300)
    for document in index.corpus.documents.all():
        store.log_change(index.pk, document.pk)
    (faiss,) = probe.probe(index, queries=20)
    assert (faiss.store, faiss.rows) == ("faiss", 3600)
    assert faiss.recall >= 0.99
    hnsw = make_index("hnsw-again")
    fill(hnsw, documents=300)
    assert vectors.build(hnsw)
    (pgvector,) = probe.probe(hnsw, queries=20)
    assert pgvector.recall >= 0.99
    assert len(ids(vectors.search(index, stored[0], 10, RECIPE))) == 10
