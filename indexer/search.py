"""Search: wordings of a query through the dense and the lexical leg, fused into one ranking and refined."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from indexer import embedder, follow, legs, scope
from indexer.fusion import Leg, fuse
from indexer.models import Corpus, Index, recipe_value
from indexer.query import ParsedQuery, parse
from indexer.refine import refine
from indexer.scope import Scope
from indexer.trace import LegTrace, Trace
from ragplat.errors import BadInput
from ragplat.types import AnswerRecipe, Filters, Mode, ScoredChunk

LONGEST_QUERY = 10_000  # characters
MOST_RESULTS = 1000
STRICT_DEPTH = 4  # times as many candidates of the dense leg where phrases and exclusions will drop some
MODES = ("dense", "lexical", "hybrid")

_pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="lexical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, best first, and how."""

    chunks: tuple[ScoredChunk, ...]
    trace: Trace


def search(
    corpus: Corpus,
    query: str,
    *,
    k: int = 10,
    mode: Mode | None = None,
    recipe: AnswerRecipe | None = None,
    filters: Filters | None = None,
    syntax: bool = False,
    variants: Sequence[str] = (),
    passages: Sequence[str] = (),
) -> Found:
    """The k chunks of a corpus that match a query best.

    ``mode`` overrides the recipe's. With ``syntax`` the query may hold operators (see query.py); else all of it is
    words. ``variants`` are other wordings, searched too; ``passages`` are made-up answers, for the dense leg alone.
    Raises BadInput for an empty or too long query, operators that make no sense, a bad k or mode; EmbedderUnavailable
    when the dense leg needs the service and it is down.
    """
    started = time.perf_counter()
    recipe = recipe or recipe_value(corpus.answer_recipe_id)
    query = _checked(query, k, mode or recipe.mode)
    parsed = parse(query) if syntax else ParsedQuery(query)
    trace = Trace(query=query, mode=mode or recipe.mode, phrases=list(parsed.phrases), excluded=list(parsed.excluded))
    index = corpus.active_index()
    restrictions = [one for one in (parsed.filters, filters) if one]
    with trace.timed("scope"):
        within = scope.resolve(index, restrictions)
    if within is not None:
        trace.filters = scope.described(restrictions)
        trace.scope = {"documents": within.count, "chunks": within.chunks}
    wordings = [parsed, *(replace(parsed, text=variant, words=()) for variant in variants)]
    imagined = [replace(parsed, text=passage, words=()) for passage in passages]
    found = _legs(index, wordings, imagined, max(recipe.candidates, k), recipe, within, trace)
    with trace.timed("fuse"):
        fused = fuse(found, method=recipe.fusion, k=max(recipe.candidates, k), rrf_k=recipe.rrf_k)
    trace.fusion = f"{recipe.fusion}, " + ", ".join(f"{leg.name} {leg.weight:.2g}" for leg in found)
    chunks = refine(index, parsed.text, fused, k, recipe, within, trace)
    trace.seconds["total"] = round(time.perf_counter() - started, 5)
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


def _legs(
    index: Index,
    wordings: Sequence[ParsedQuery],
    imagined: Sequence[ParsedQuery],
    depth: int,
    recipe: AnswerRecipe,
    within: Scope | None,
    trace: Trace,
) -> list[Leg]:
    """What each leg found for each wording, weighted so that all of them together count as the recipe says."""
    share = _dense_share(index, wordings[0].text, recipe, trace)
    if share < 1 or wordings[0].phrases or wordings[0].excluded:
        _follow(index, wordings[0], trace)
    meant = [*wordings, *imagined] if share > 0 else []
    vectors = _embed(index, [one.text for one in wordings], [one.text for one in imagined], trace) if meant else []
    words = partial(_lexical, index, wordings, depth, within)
    # Beside the embedding the lexical leg would take a core from it, beside PostgreSQL it costs no time. But a thread
    # of the pool must not talk to the database, as it does where a scope is no list: its connection would stay open.
    aside = share < 1 and (within is None or within.documents is not None)
    later = _pool.submit(words) if aside else None
    dense = [_dense(index, one, vector, depth, recipe, within) for one, vector in zip(meant, vectors, strict=True)]
    lexical = (later.result() if later is not None else words()) if share < 1 else []
    trace.legs = [*dense, *lexical]
    for legs_of_kind in (dense, lexical):
        for number, leg in enumerate(legs_of_kind[1:], start=2):
            leg.name += f" {number}"
    return [
        *(Leg(name=leg.name, hits=leg.hits, weight=share / len(dense)) for leg in dense),
        *(Leg(name=leg.name, hits=leg.hits, weight=(1 - share) / len(lexical)) for leg in lexical),
    ]


def _dense_share(index: Index, text: str, recipe: AnswerRecipe, trace: Trace) -> float:
    """The weight of the dense leg: in a hybrid search, as much of the recipe's as the model knows of the query."""
    if trace.mode != "hybrid":
        return 1.0 if trace.mode == "dense" else 0.0
    known = embedder.for_index(index).tokenizer.known_share(text)
    if known < 1:
        trace.notes.append(f"The model knows {known:.0%} of the query's tokens: its weight is scaled by that.")
    return recipe.dense_weight * known


def _follow(index: Index, query: ParsedQuery, trace: Trace) -> None:
    with trace.timed("follow"):
        behind = follow.catch_up_for_search(index)
    if behind:
        trace.notes.append(f"The keyword index does not know the latest {behind} changed documents yet.")
    trace.terms = follow.lexical(index).terms(query)


def _embed(index: Index, queries: Sequence[str], passages: Sequence[str], trace: Trace) -> np.ndarray:
    """Unit vectors, float32 [len(queries) + len(passages), dimensions]."""
    client = embedder.for_index(index)
    for text in queries:
        tokens = len(client.tokenizer.offsets(text)) + client.tokenizer.special_tokens
        if tokens > client.tokenizer.max_tokens:
            # A pasted paragraph is still a question: the dense leg reads its beginning, the lexical leg all of it.
            trace.notes.append(
                f"The query has {tokens} tokens; the dense search read the first {client.tokenizer.max_tokens}."
            )
    with trace.timed("embed"):
        vectors = client.embed_queries(queries, truncate=True)
        return np.concatenate([vectors, client.embed_documents(passages, truncate=True)]) if passages else vectors


def _dense(
    index: Index, wording: ParsedQuery, vector: np.ndarray, depth: int, recipe: AnswerRecipe, within: Scope | None
) -> LegTrace:
    started = time.perf_counter()
    strict = bool(wording.phrases or wording.excluded)
    scan = legs.dense(index, vector, STRICT_DEPTH * depth if strict else depth, recipe, within)
    hits = legs.allowed(index, wording, scan.hits)[:depth] if strict else scan.hits
    return LegTrace(name="dense", text=wording.text, how=scan.how, hits=hits, seconds=time.perf_counter() - started)


def _lexical(index: Index, wordings: Sequence[ParsedQuery], depth: int, within: Scope | None) -> list[LegTrace]:
    found = []
    for wording in wordings:
        started = time.perf_counter()
        hits = legs.lexical(index, wording, depth, within)
        seconds = time.perf_counter() - started
        found.append(LegTrace(name="lexical", text=wording.text, how="bm25", hits=hits, seconds=seconds))
    return found
