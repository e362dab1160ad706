"""Search: the dense leg and the lexical leg side by side, fused, and joined back to PostgreSQL."""

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from indexer import embedder, follow, scope, store, vectors
from indexer.fusion import Fused, fuse
from indexer.models import Corpus, Index, recipe_value
from ragplat.errors import BadInput
from ragplat.types import AnswerRecipe, Filters, Mode, ScoredChunk

DEPTH = 100  # candidates each leg hands to the fusion; more change nothing worth their time (docs/log.md)
LONGEST_QUERY = 10_000  # characters
MOST_RESULTS = 1000
MODES = ("dense", "lexical", "hybrid")

_pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="lexical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, best first, and how."""

    chunks: tuple[ScoredChunk, ...]
    trace: dict[str, Any] = field(default_factory=dict)  # seconds per stage, candidates per leg, what was dropped


def search(
    corpus: Corpus,
    query: str,
    *,
    k: int = 10,
    mode: Mode | None = None,
    recipe: AnswerRecipe | None = None,
    documents: Collection[int] | None = None,
) -> Found:
    """The k chunks of a corpus that match a query best.

    ``mode`` overrides the recipe's; ``documents`` restricts the search to these ids. Raises BadInput for an empty or
    too long query, a bad k or mode; EmbedderUnavailable when the dense leg needs the service and it is down.
    """
    recipe = recipe or recipe_value(corpus.answer_recipe_id)
    mode = mode or recipe.mode
    query = _checked(query, k, mode)
    index = corpus.active_index()
    depth = max(DEPTH, k)
    trace: dict[str, Any] = {"mode": mode, "seconds": {}}
    started = time.perf_counter()
    behind = follow.catch_up_for_search(index) if mode != "dense" else 0
    vector = _embed(index, query, trace) if mode != "lexical" else None
    # Only now the lexical leg: beside the embedding it would take a core from it, beside PostgreSQL it costs no time.
    lexical = _pool.submit(_lexical, index, query, depth, documents, trace) if mode != "dense" else None
    dense = _dense(index, vector, depth, documents, trace) if vector is not None else []
    words = lexical.result() if lexical is not None else []
    if behind:
        trace["lexical_behind"] = behind
    fused = fuse(dense, words, method=recipe.fusion, dense_weight=_weight(mode, recipe), k=depth)
    chunks = _join(index, fused, k, trace)
    trace["seconds"]["total"] = round(time.perf_counter() - started, 4)
    return Found(chunks=chunks, trace=trace)


def _checked(query: str, k: int, mode: str) -> str:
    # NUL and lone surrogates have no place in PostgreSQL or UTF-8; a person cannot type them.
    query = query.replace("\x00", " ").encode("utf-8", "ignore").decode().strip()
    if not query:
        raise BadInput("The query is empty. Type what you are looking for.")
    if len(query) > LONGEST_QUERY:
        raise BadInput(f"The query has {len(query):,} characters; at most {LONGEST_QUERY:,} are taken.")
    if not 1 <= k <= MOST_RESULTS:
        raise BadInput(f"k is {k}. Allowed: 1 to {MOST_RESULTS}.")
    if mode not in MODES:
        raise BadInput(f'The mode is "{mode}". Choose one of: {", ".join(MODES)}.')
    return query


def _weight(mode: str, recipe: AnswerRecipe) -> float:
    return {"dense": 1.0, "lexical": 0.0}.get(mode, recipe.dense_weight)


def _embed(index: Index, query: str, trace: dict[str, Any]) -> Any:
    started = time.perf_counter()
    client = embedder.for_index(index)
    tokens = len(client.tokenizer.offsets(query)) + client.tokenizer.special_tokens
    if tokens > client.tokenizer.max_tokens:
        # A pasted paragraph is still a question: the dense leg reads its beginning, the lexical leg all of it.
        trace["query_cut"] = {"tokens": tokens, "kept": client.tokenizer.max_tokens}
    vectors = client.embed_queries([query], truncate=True)
    trace["seconds"]["embed"] = round(time.perf_counter() - started, 4)
    return vectors[0]


def _dense(index: Index, vector: Any, depth: int, documents, trace: dict[str, Any]) -> list[tuple[int, float]]:
    started = time.perf_counter()
    within = scope.resolve(index, [Filters(documents=tuple(documents))]) if documents is not None else None
    found = vectors.search(index, vector, depth, AnswerRecipe(), within).hits
    trace["seconds"]["dense"] = round(time.perf_counter() - started, 4)
    trace["dense_candidates"] = len(found)
    return found


def _lexical(index: Index, query: str, depth: int, documents, trace: dict[str, Any]) -> list[tuple[int, float]]:
    started = time.perf_counter()
    found = follow.lexical(index).search(query, depth, documents)
    trace["seconds"]["lexical"] = round(time.perf_counter() - started, 4)
    trace["lexical_candidates"] = len(found)
    return found


def _join(index: Index, fused: list[Fused], k: int, trace: dict[str, Any]) -> tuple[ScoredChunk, ...]:
    """The best k that PostgreSQL still has: a follower may not know yet what was deleted."""
    started = time.perf_counter()
    chunks: list[ScoredChunk] = []
    looked = 0
    trace["gone"] = 0
    while len(chunks) < k and looked < len(fused):
        some = fused[looked : looked + k]
        looked += len(some)
        rows = store.hits(index, [one.id for one in some])
        trace["gone"] += len(some) - len(rows)
        for one in some:
            if one.id in rows and len(chunks) < k:
                found = rows[one.id]._asdict()
                ranks = {"rank": len(chunks) + 1, "dense": one.dense, "lexical": one.lexical}
                chunks.append(ScoredChunk(**found, score=one.score, **ranks))
    trace["seconds"]["join"] = round(time.perf_counter() - started, 4)
    return tuple(chunks)
