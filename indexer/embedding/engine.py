"""Batches texts for the backends: ordered by length, cut by a token budget, urgent ones first."""

import itertools
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.embedding.backends.base import Embedder, Pair, Reranker
from ragplat.errors import EmbedderUnavailable

# Padded tokens of one pass: larger ones are no faster on a CPU, and a query waits for the one that is running.
BATCH_TOKENS = 512
QUEUE_TOKENS = 65_536  # about 20 s of work on one CPU core
BULK_SHARE = 0.8  # of the queue: the rest is kept for queries
RERANK_TOKENS = 65_536  # of pairs, in a queue of their own: reranking and embedding never shut each other out
PRIORITIES = ("query", "rerank", "bulk")  # most urgent first; a query is short, and people wait for both


class Overloaded(EmbedderUnavailable):
    """The embedding queue is full."""

    status = 429

    def __init__(self, retry_after: int):
        super().__init__(f"The embedding queue is full. Try again in {retry_after} s.")
        self.retry_after = retry_after  # seconds


def batches(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Cut texts into batches of similar length, shortest first: each a list of positions in ``lengths``.

    A batch times its longest text is at most ``budget`` tokens, unless it is a single text.
    """
    cut, current = [], []
    for position in np.argsort(lengths, kind="stable"):
        if current and (len(current) + 1) * lengths[position] > budget:
            cut.append(np.asarray(current))
            current = []
        current.append(position)
    return [*cut, np.asarray(current)] if current else cut


@dataclass(slots=True, kw_only=True)
class _Job:
    """One request: its texts, its result so far, and how many texts are still to do."""

    texts: Sequence[Sized]  # whose length is counted in tokens
    compute: Callable[[list], np.ndarray]  # a backend's verb, for some of the texts
    result: np.ndarray
    remaining: int
    queue: str  # whose tokens they count as
    future: Future


@dataclass(slots=True, order=True)
class _Batch:
    """Some texts of a job. Ordered by lane, then by arrival."""

    lane: int
    arrival: int
    job: _Job | None = field(compare=False)  # None: stop
    rows: np.ndarray | None = field(compare=False, default=None)


class Engine:
    """Runs an embedder, and a reranker if there is one, on one thread of its own.

    Queries overtake reranking, and both overtake bulk work, at the next batch.
    ``load`` and ``load_reranker`` make the backends, and are called on that thread: OpenMP keeps a pool for each thread
    that computes, and a second pool, of the thread that loaded, makes short inputs 1.4 times as slow. What they raise
    is raised here.
    The queue is bounded in tokens, of which bulk work may take 80 %; reranking has ``rerank_tokens`` of its own. An
    empty queue takes any request.
    """

    def __init__(
        self,
        load: Callable[[], Embedder],
        load_reranker: Callable[[], Reranker | None] = lambda: None,
        *,
        batch_tokens: int = BATCH_TOKENS,
        queue_tokens: int = QUEUE_TOKENS,
        rerank_tokens: int = RERANK_TOKENS,
    ):
        self._batch_tokens = batch_tokens
        self._limits = {"query": queue_tokens, "rerank": rerank_tokens, "bulk": int(queue_tokens * BULK_SHARE)}
        self._queue: queue.PriorityQueue[_Batch] = queue.PriorityQueue()
        self._arrivals = itertools.count()
        self._lock = threading.Lock()  # guards the two below
        self._queued_tokens: Counter[str] = Counter()  # by queue: "embed", "rerank"
        self._closed = False
        self._tokens_per_second = 1000.0  # a running mean, for Retry-After
        loaded: Future[tuple[Embedder, Reranker | None]] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(lambda: (load(), load_reranker()), loaded), name="embedding-engine", daemon=True
        )
        self._thread.start()
        self.embedder, self.reranker = loaded.result()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, ids: Sequence[np.ndarray], lane: str = "bulk") -> "Future[np.ndarray]":
        """Queue texts (int32 ids each); the future gives their unit vectors, float32 [len(ids), dimensions], in order.

        ``lane`` is "query" or "bulk". Cancelling the future drops what is not yet computed.
        Raises Overloaded when the queue is full, EmbedderUnavailable when the engine is closed.
        """
        result = np.empty((len(ids), self.embedder.dimensions), dtype=np.float32)
        return self._enqueue(ids, self.embedder.embed, result, lane, "embed")

    def rerank(self, pairs: Sequence[Pair]) -> "Future[np.ndarray]":
        """Queue pairs of a query and a text; the future gives their scores, float32 [len(pairs)], in order.

        Otherwise like ``submit``. Only for an engine with a reranker.
        """
        result = np.empty(len(pairs), dtype=np.float32)
        return self._enqueue(pairs, self.reranker.score, result, "rerank", "rerank")

    def _enqueue(self, texts: Sequence[Sized], compute: Callable, result: np.ndarray, lane: str, queue: str) -> Future:
        job = _Job(texts=texts, compute=compute, result=result, remaining=len(texts), queue=queue, future=Future())
        if not texts:
            job.future.set_result(result)
            return job.future
        lengths = [len(text) for text in texts]
        with self._lock:
            self._admit(sum(lengths), lane, queue)
            for rows in batches(lengths, self._batch_tokens):
                self._queue.put(_Batch(PRIORITIES.index(lane), next(self._arrivals), job, rows))
        return job.future

    def close(self) -> None:
        """Finish what is queued, then stop. Later requests raise EmbedderUnavailable."""
        with self._lock:
            self._closed = True
            self._queue.put(_Batch(len(PRIORITIES), next(self._arrivals), None))
        self._thread.join()

    def _admit(self, tokens: int, lane: str, queue: str) -> None:
        if self._closed:
            raise EmbedderUnavailable("The embedding service is stopping.")
        queued = self._queued_tokens[queue]
        if queued and queued + tokens > self._limits[lane]:
            raise Overloaded(min(30, math.ceil(queued / self._tokens_per_second)))
        self._queued_tokens[queue] += tokens

    def _run(self, load: Callable[[], Any], loaded: Future) -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # raised again where the engine is made
            loaded.set_exception(error)
            return
        while (batch := self._queue.get()).job is not None:
            texts = [batch.job.texts[row] for row in batch.rows]
            if not batch.job.future.done():
                self._compute(batch.job, batch.rows, texts)
            with self._lock:
                self._queued_tokens[batch.job.queue] -= sum(len(text) for text in texts)

    def _compute(self, job: _Job, rows: np.ndarray, texts: list) -> None:
        started = time.perf_counter()
        # The future may be cancelled at any moment, by a caller that went away.
        with suppress(InvalidStateError):
            try:
                job.result[rows] = job.compute(texts)
            except Exception as error:  # handed to the caller: the engine must outlive any batch
                job.future.set_exception(error)
                return
            job.remaining -= len(rows)
            if not job.remaining:
                job.future.set_result(job.result)
        rate = sum(len(text) for text in texts) / (time.perf_counter() - started)
        self._tokens_per_second += 0.1 * (rate - self._tokens_per_second)
