"""The two legs of a search: dense, in the store that the index's recipe names, and lexical."""

from collections.abc import Callable, Collection

import numpy as np

from indexer import follow, store, vectors
from indexer.models import Index, recipe_value
from indexer.query import ParsedQuery
from indexer.scope import Scope
from indexer.vectors import Scan
from ragplat.types import AnswerRecipe

Hits = list[tuple[int, float]]


def dense(index: Index, vector: np.ndarray, k: int, recipe: AnswerRecipe, within: Scope | None = None) -> Scan:
    """The k chunks nearest to a unit vector, float32 [index.dimensions], by inner product.

    FAISS serves an index whose recipe says so; where it is behind by more than a search can mend, PostgreSQL answers.
    """
    if recipe_value(index.recipe_id).vector_store == "pgvector":
        return vectors.search(index, vector, k, recipe, within)
    if follow.catch_up_for_search(index, "faiss"):
        return vectors.search(index, vector, k, recipe, within)
    return Scan(faiss(index, vector, k, within), "faiss")


def faiss(index: Index, vector: np.ndarray, k: int, within: Scope | None = None) -> Hits:
    """What the FAISS follower of an index finds, as far as it has followed."""
    follower = follow.faiss(index)
    return _in_scope(lambda depth, documents: follower.search(vector, depth, documents), index, k, within)


def lexical(index: Index, query: ParsedQuery, k: int, within: Scope | None = None) -> Hits:
    """The k best chunks by BM25 that have the query's phrases and nothing it excludes, as far as it has followed."""
    follower = follow.lexical(index)
    return _in_scope(lambda depth, documents: follower.search(query, depth, documents), index, k, within)


def allowed(index: Index, query: ParsedQuery, hits: Hits) -> Hits:
    """Those hits of another leg that have the query's phrases and nothing it excludes."""
    passing = follow.lexical(index).matching(query, [chunk_id for chunk_id, _ in hits])
    return [hit for hit in hits if hit[0] in passing]


def _in_scope(find: Callable[[int, Collection[int] | None], Hits], index: Index, k: int, within: Scope | None) -> Hits:
    """The best k within a scope. Where its documents are too many to hand over, look deeper until k have passed."""
    if within is None or within.documents is not None:
        return find(k, within.documents if within else None)
    depth = k
    while True:
        found = find(depth, None)
        passing = store.within(index, [chunk_id for chunk_id, _ in found], within)
        kept = [hit for hit in found if hit[0] in passing]
        if len(kept) >= k or len(found) < depth:
            return kept[:k]
        depth *= 4
