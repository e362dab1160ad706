"""The platform's own dense search beside the bare SQL, in one process, on one partition."""

import time
from collections.abc import Callable

import numpy as np
from material import nearest
from partition import CHUNKS_A_DOCUMENT, connect, documents_of
from timing import LEAST, SECONDS, WARM, milliseconds, one_by_one, recall
from vector_stores import Exact, Hnsw

from indexer import embedder, scope
from indexer import vectors as dense
from indexer.search import search
from ragplat.types import AnswerRecipe, Filters

RECIPE = AnswerRecipe()
SHARES = (0.001, 0.01, 0.1, 0.5)
PLAIN = {"exact": "max_parallel_workers_per_gather = 2", "hnsw": f"hnsw.ef_search = {RECIPE.ef_search}"}
SCAN = {
    "exact": "max_parallel_workers_per_gather = 2",
    "iterative": (
        f"hnsw.iterative_scan = relaxed_order, hnsw.ef_search = {RECIPE.ef_search}, enable_sort = off, "
        "enable_seqscan = off"
    ),
}
SHOW = """
SELECT c.id, c.document_id, d.name, c.ordinal, c.start, c."end", c.page, c.context, c.text
FROM indexer_chunk_{index} c JOIN indexer_document d ON d.id = c.document_id WHERE c.id = ANY(%s)
"""


def against_bare_sql(corpus, store: Exact, queries: np.ndarray, questions: list[str]) -> dict:
    """p50 in milliseconds of the bare statement, the store function, and whole searches with and without the platform.

    All take turns, so that a busy machine slows them alike. The bare search embeds the question with the same client,
    asks for as many candidates, and fetches the best 10 with their documents in one more statement.
    """
    index = corpus.active_index()
    bare = store.search(PLAIN["hnsw" if isinstance(store, Hnsw) else "exact"], k=RECIPE.candidates)
    client, connection = embedder.for_index(index), connect()
    show = SHOW.format(index=index.pk)

    def bare_search(question: str) -> None:
        rows = bare(client.embed_queries([question])[0])[:10]
        connection.execute(show, [[store.first + row for row in rows]]).fetchall()

    stages: dict[str, list[float]] = {}

    def ours(question: str) -> None:
        trace = search(corpus, question, k=10, mode="dense", recipe=RECIPE).trace
        for stage, seconds in (trace.seconds | {leg.name: leg.seconds for leg in trace.legs}).items():
            stages.setdefault(stage, []).append(seconds)

    vector = _in_turn([bare, lambda query: dense.search(index, query, RECIPE.candidates, RECIPE)], list(queries))
    whole = _in_turn([bare_search, ours], questions)
    return {
        "bare_sql": vector[0],
        "store": vector[1],
        "store_ratio": round(vector[1] / vector[0], 2),
        "bare_search": whole[0],
        "search": whole[1],
        "search_ratio": round(whole[1] / whole[0], 2),
        "search_stages": {stage: milliseconds(seconds) for stage, seconds in stages.items()},
    }


def _in_turn(functions: list[Callable], arguments: list) -> list[float]:
    """The median time of each function, in milliseconds; they take turns on the same arguments."""
    for function in functions:
        for argument in arguments[:WARM]:
            function(argument)
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + 2 * SECONDS
    while len(times[0]) < LEAST or time.perf_counter() < end:
        argument = arguments[len(times[0]) % len(arguments)]
        for function, of in zip(functions, times, strict=True):
            began = time.perf_counter()
            function(argument)
            of.append(time.perf_counter() - began)
    return [milliseconds(of) for of in times]


def filtered(corpus, store: Hnsw, vectors: np.ndarray, queries: np.ndarray) -> list[dict]:
    """recall@10 and times of searches held to a share of the documents: by the index, exactly, and by the platform."""
    index, random, found = corpus.active_index(), np.random.default_rng(4), []
    with connect() as connection:
        documents = documents_of(connection, corpus.pk)
    # Whole documents are kept: of few rows, no share below one document can be had.
    for count in sorted({max(1, round(share * len(documents))) for share in SHARES}):
        numbers = np.sort(random.permutation(len(documents))[:count])
        kept = documents[numbers].tolist()
        rows = (numbers[:, None] * CHUNKS_A_DOCUMENT + np.arange(CHUNKS_A_DOCUMENT)).ravel()
        rows = rows[rows < len(vectors)]
        share = len(rows) / len(vectors)
        truth = nearest(vectors, queries, 10, rows)
        within = scope.resolve(index, [Filters(documents=tuple(kept))])
        plain = Exact(index, vectors).search(SCAN["exact"], RECIPE.candidates, kept)
        methods = {
            "iterative scan": store.search(SCAN["iterative"], RECIPE.candidates, kept),
            "exact scan": plain,
            "platform": _platform(index, within, store.first),
        }
        for method, function in methods.items():
            times, answers = one_by_one(function, queries)
            one = {"share": share, "rows": len(rows), "method": method, "recall": recall(answers, truth)}
            found.append(one | {"p50_ms": milliseconds(times), "p95_ms": milliseconds(times, 95)})
    return found


def _platform(index, within, first: int) -> Callable[[np.ndarray], list[int]]:
    return lambda query: [hit[0] - first for hit in dense.search(index, query, RECIPE.candidates, RECIPE, within).hits]
