"""Dense search in PostgreSQL: whatever serves it and whatever filters hold, k rows come, and the right ones."""

import numpy as np
import pytest
from django.db import connection

from indexer import scope, store, vectors
from indexer.corpora import recipe_named
from indexer.models import Corpus, Document, Index, Recipe
from ragplat.types import AnswerRecipe, Chunk, Filters

pytestmark = pytest.mark.django_db(transaction=True)
DOCUMENTS, CHUNKS, DIMENSIONS = 1000, 12, 384
ROWS = DOCUMENTS * CHUNKS
SHARES = {"one-in-1000": 1, "one-in-100": 10, "one-in-10": 100, "half": 500}  # documents with this tag
RECIPE = AnswerRecipe(ef_search=200)


def make_index(name: str, **params) -> Index:
    recipe = recipe_named(Recipe.Kind.INDEX, "default")
    if params:
        recipe = Recipe.objects.create(kind=Recipe.Kind.INDEX, name=name, params={**recipe.params, **params})
    corpus = Corpus.objects.create(slug=name, title=name, answer_recipe=recipe_named(Recipe.Kind.ANSWER, "default"))
    return Index.objects.create(
        corpus=corpus, recipe=recipe, state=Index.State.ACTIVE, fingerprint="test", dimensions=DIMENSIONS
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around 20 centres, as real ones lie, and the centre of each."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, DIMENSIONS))
    of = random.integers(20, size=rows)
    return unit(centres[of] + 0.7 * random.normal(size=(rows, DIMENSIONS))), of


def fill(index: Index, documents: int = DOCUMENTS, seed: int = 1) -> np.ndarray:
    """Ready documents of CHUNKS vectors each. The tags of SHARES lie anywhere, "far" on documents of one centre."""
    rows, of = clustered(documents, seed)
    random = np.random.default_rng(seed)
    everything = unit(np.repeat(rows, CHUNKS, axis=0) + 0.03 * random.normal(size=(documents * CHUNKS, DIMENSIONS)))
    places = random.permutation(documents)
    for n in range(documents):
        tags = [tag for tag, count in SHARES.items() if places[n] < count] + (["far"] if of[n] == 0 else [])
        document = Document.objects.create(
            corpus=index.corpus, name=f"{n}.md", sha256=f"{index.pk}-{n}", size=1, state="ready", tags=tags,
            stored_count=CHUNKS, chunk_count=CHUNKS,
        )  # fmt: skip
        chunks = [
            Chunk(ordinal=i, start=i, end=i + 1, text="x", page=None, context="", tokens=3) for i in range(CHUNKS)
        ]
        store.write_chunks(index, document.pk, chunks)
        ids = [chunk_id for chunk_id, _, _ in store.pending_chunks(index, document.pk)]
        store.write_vectors(index, document.pk, ids, everything[n * CHUNKS : (n + 1) * CHUNKS])
    return everything


def recall(found: list[list[int]], right: list[list[int]]) -> float:
    return sum(len(set(a) & set(b)) for a, b in zip(found, right, strict=True)) / sum(len(one) for one in right)


def ids(scan: vectors.Scan) -> list[int]:
    return [chunk_id for chunk_id, _ in scan.hits]


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
def test_an_index_finds_what_the_exact_scan_finds_at_every_selectivity(kind, monkeypatch):
    index = make_index(kind, vector_index=kind)
    stored = fill(index)
    queries = unit(stored[::600] + 0.02 * np.random.default_rng(3).normal(size=(ROWS // 600, DIMENSIONS)))
    assert vectors.build(index) is True
    built = vectors.vector_index(index)
    assert (built.kind, built.valid) == (kind, True)
    assert vectors.build(index) is True  # again: nothing to do
    # Broad scopes go through SQL, narrow ones through lists of ids; both must be right, so each is forced in turn.
    for listed in (0, 10_000):
        monkeypatch.setattr(scope, "LISTED_DOCUMENTS", listed)
        monkeypatch.setattr(vectors, "EXACT_SCOPE_ROWS", 0)  # make the index answer even the narrowest
        for tag in [None, *SHARES, "far"]:
            within = scope.resolve(index, [Filters(tags=(tag,))] if tag else [])
            right = [ids(vectors.search(index, query, 10, RECIPE, within, exact=True)) for query in queries]
            scans = [vectors.search(index, query, 10, RECIPE, within) for query in queries]
            assert all(len(scan.hits) == 10 for scan in scans), tag
            assert all(kind in scan.how for scan in scans)
            assert recall([ids(scan) for scan in scans], right) >= 0.99, tag
    narrow = scope.resolve(index, [Filters(tags=("one-in-1000",))])
    assert len(vectors.search(index, queries[0], 50, RECIPE, narrow).hits) == CHUNKS  # all there are


def test_the_number_of_rows_decides_between_the_index_and_the_exact_scan(monkeypatch):
    index = make_index("small")
    stored = fill(index, documents=300)
    assert vectors.build(index) is False  # 3,600 rows: nothing to build
    assert vectors.search(index, stored[0], 10, RECIPE).how == "exact"
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    assert vectors.build(index) is True
    assert vectors.search(index, stored[0], 10, RECIPE).how == "hnsw"
    few = scope.resolve(index, [Filters(tags=("one-in-100",))])
    assert vectors.search(index, stored[0], 10, RECIPE, few).how == "exact"
    monkeypatch.setattr(vectors, "EXACT_SCOPE_ROWS", 5)
    assert "hnsw" in vectors.search(index, stored[0], 10, RECIPE, few).how


def test_the_plans_are_what_they_claim(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    monkeypatch.setattr(scope, "LISTED_DOCUMENTS", 0)
    index = make_index("plans")
    stored = fill(index, documents=200)
    vectors.build(index)
    half = scope.resolve(index, [Filters(tags=("half",))])
    for within in (None, half):
        assert "_ann" in plan(index, stored[0], within, "")
        assert "_ann" not in plan(index, stored[0], within, "+ 0")


def plan(index: Index, vector: np.ndarray, within: scope.Scope | None, exact: str) -> str:
    sql, params = vectors._statement(index, vector, 10, within, exact)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        if not exact:
            cursor.execute(vectors.TUNING.format(ef_search=100, probes=10))
        cursor.execute(f"EXPLAIN {sql}", params)
        found = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("ROLLBACK")
    return found


def test_what_is_disabled_or_not_ready_is_passed_and_k_are_still_found(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    index = make_index("hidden")
    stored = fill(index, documents=300)
    vectors.build(index)
    best = ids(vectors.search(index, stored[0], 100, RECIPE))
    store.set_enabled(best[:50], False)
    hidden = Document.objects.get(pk=store.hits(index, best[99:])[best[99]].document_id)
    Document.objects.filter(pk=hidden.pk).update(state="embedding")
    found = ids(vectors.search(index, stored[0], 100, RECIPE))
    assert len(found) == 100
    assert not set(found) & {*best[:50], best[99]}


def test_an_interrupted_build_is_made_again(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    index = make_index("interrupted")
    stored = fill(index, documents=100)
    vectors.build(index)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [vectors._name(index)])
    assert vectors.search(index, stored[0], 10, RECIPE).how == "exact"
    assert vectors.build(index) is True
    assert vectors.search(index, stored[0], 10, RECIPE).how == "hnsw"


def test_ivfflat_is_built_again_when_it_has_outgrown_its_lists(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    index = make_index("grown", vector_index="ivfflat")
    stored = fill(index, documents=100)
    vectors.build(index)
    assert vectors.vector_index(index).lists == 10
    monkeypatch.setattr(vectors, "ivfflat_lists", lambda rows: 30)
    assert vectors.build(index) is True
    assert vectors.vector_index(index).lists == 30
    assert vectors.search(index, stored[0], 10, RECIPE).how == "ivfflat"


def test_scores_are_inner_products():
    index = make_index("scores")
    stored = fill(index, documents=5)
    (_, score), *_ = vectors.search(index, stored[7], 5, RECIPE).hits
    assert score == pytest.approx(1.0, abs=2e-3)  # half precision


def test_nothing_is_built_in_postgresql_for_an_index_that_faiss_serves():
    index = make_index("elsewhere", vector_store="faiss")
    fill(index, documents=450)
    assert vectors.build(index) is False
