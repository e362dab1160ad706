"""From a fused ranking to the chunks that are shown: each step as the recipe says, and noted in the trace."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from indexer import embedder, steps, store
from indexer.chunkers.base import join
from indexer.fusion import Fused
from indexer.models import Index
from indexer.scope import Scope
from indexer.trace import Dropped, Trace
from ragplat.types import AnswerRecipe, Rank, ScoredChunk

VARIETY = 3  # times k: the chunks among which differing ones are chosen
SECTION_REACH = 20  # chunks before and after a hit that may belong to its section
SECTION_TOKENS = 800


def refine(
    index: Index, query: str, fused: list[Fused], k: int, recipe: AnswerRecipe, within: Scope | None, trace: Trace
) -> tuple[ScoredChunk, ...]:
    """The best k: joined to PostgreSQL, without near-duplicates, reranked, above the threshold, varied and widened."""
    wanted = max(k, recipe.rerank_candidates if recipe.reranker else 0, VARIETY * k if recipe.diversity else 0)
    with trace.timed("join"):
        chunks = _join(index, fused, wanted, recipe.collapse, within, trace)
    if recipe.reranker and chunks:
        with trace.timed("rerank"):
            chunks = _rerank(index, query, chunks, recipe.reranker, trace)
    if recipe.threshold is not None:
        chunks = _above(chunks, recipe.threshold, recipe.reranker or recipe.fusion, trace)
    if recipe.diversity and chunks:
        with trace.timed("diversify"):
            known = store.vectors_of(index.pk, [chunk.chunk_id for chunk in chunks])
            chunks = [chunk for chunk in chunks if chunk.chunk_id in known]  # deleted a moment ago
            vectors = np.stack([known[chunk.chunk_id] for chunk in chunks]).astype(np.float32)
            chunks = steps.diversify(chunks, vectors, recipe.diversity, k)
    chunks = chunks[:k]
    if recipe.expand != "none" and chunks:
        with trace.timed("expand"):
            chunks = _expand(index, chunks, recipe, trace)
    return tuple(
        chunk if chunk.rank == rank else replace(chunk, rank=rank) for rank, chunk in enumerate(chunks, start=1)
    )


def _join(
    index: Index, fused: list[Fused], wanted: int, overlap: float | None, within: Scope | None, trace: Trace
) -> list[ScoredChunk]:
    """The best that PostgreSQL still has in scope, near-duplicates left out.

    A follower may not know yet what was deleted, and the filters were read before the legs: a label may be new.
    """
    chunks: list[ScoredChunk] = []
    looked = 0
    while len(chunks) < wanted and looked < len(fused):
        some = fused[looked : looked + wanted]
        looked += len(some)
        rows = store.hits(index, [one.id for one in some], within)
        gone = [one.id for one in some if one.id not in rows]
        reason = "It was deleted, disabled or put out of reach."
        trace.dropped += [Dropped(chunk_id=one, step="deleted", reason=reason) for one in gone]
        chunks += [_scored(one, rows[one.id]) for one in some if one.id in rows]
        if overlap is not None:
            chunks, twice = steps.collapse(chunks, overlap)
            trace.dropped += [
                Dropped(chunk_id=one.chunk_id, step="collapse", reason=f"{one.overlap:.0%} the same as {one.better}.")
                for one in twice
            ]
    return chunks[:wanted]


def _scored(fused: Fused, row: store.Hit) -> ScoredChunk:
    ranks = fused.ranks
    return ScoredChunk(
        **row._asdict(), score=fused.score, rank=0, dense=_best(ranks, "dense"), lexical=_best(ranks, "lexical")
    )


def _best(ranks: Mapping[str, Rank], name: str) -> Rank | None:
    """The best place a chunk has in the legs of a name, over all wordings."""
    return min((rank for leg, rank in ranks.items() if leg.split()[0] == name), key=lambda one: one.rank, default=None)


def _rerank(index: Index, query: str, chunks: list[ScoredChunk], model: str, trace: Trace) -> list[ScoredChunk]:
    texts = [join(chunk.context, chunk.text) for chunk in chunks]
    scores, cut, trace.reranker = embedder.for_index(index).rerank(query, texts, model=model)
    if cut:
        trace.notes.append(
            f"{cut} of {len(texts)} chunks were longer than the reranker reads; it read their beginning."
        )
    order = np.argsort(-scores, kind="stable")
    return [
        replace(chunks[place], score=float(scores[place]), reranked=Rank(rank=rank, score=float(scores[place])))
        for rank, place in enumerate(order, start=1)
    ]


def _above(chunks: list[ScoredChunk], threshold: float, scale: str, trace: Trace) -> list[ScoredChunk]:
    for chunk in chunks:
        if chunk.score < threshold:
            reason = f"Its score {chunk.score:.3f} ({scale}) is below {threshold}."
            trace.dropped.append(Dropped(chunk_id=chunk.chunk_id, step="threshold", reason=reason))
    return [chunk for chunk in chunks if chunk.score >= threshold]


def _expand(index: Index, chunks: list[ScoredChunk], recipe: AnswerRecipe, trace: Trace) -> list[ScoredChunk]:
    """Chunks with their surroundings: still `document.text[start:end]`, and still cited as that."""
    places = [(chunk.document_id, chunk.ordinal) for chunk in chunks]
    if recipe.expand == "neighbours":
        widened = steps.neighbours(chunks, map(steps.Row._make, store.around(index, places, 1)))
    else:
        rows = map(steps.Row._make, store.around(index, places, SECTION_REACH))
        widened = steps.section(chunks, rows, min(SECTION_TOKENS, recipe.context_tokens))
    texts = store.stretches([(one.chunk.document_id, one.start, one.end) for one in widened])
    for one in widened:
        reason = f"It lies in the surroundings of {one.chunk.chunk_id}."
        trace.dropped += [Dropped(chunk_id=merged, step="expand", reason=reason) for merged in one.merged]
    return [
        replace(
            one.chunk,
            start=one.start,
            end=one.end,
            context=one.context,
            text=text,
            page=page,
            matched=(one.chunk.start, one.chunk.end),
        )
        for one, (text, page) in zip(widened, texts, strict=True)
        if text is not None
    ]
