"""Batches texts for a backend: ordered by length, cut by a token budget, urgent ones first."""

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from indexer.embedding.backends.base import Embedder
from indexer.embedding.wire import LANES
from ragplat.errors import EmbedderUnavailable

# Padded tokens of one pass: larger ones are no faster on a CPU, and a query waits for the one that is running.
BATCH_TOKENS = 512
QUEUE_TOKENS = 65_536  # about 20 s of work on one CPU core
BULK_SHARE = 0.8  # of the queue: the rest is kept for queries


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

    ids: Sequence[np.ndarray]
    result: np.ndarray
    remaining: int
    future: Future


@dataclass(slots=True, order=True)
class _Batch:
    """Some texts of a job. Ordered by lane, then by arrival."""

    lane: int
    arrival: int
    job: _Job | None = field(compare=False)  # None: stop
    rows: np.ndarray | None = field(compare=False, default=None)


class Engine:
    """Runs a backend on one thread of its own. Queries overtake bulk work at the next batch.

    ``load`` makes the backend, and is called on that thread: OpenMP keeps a pool for each thread that computes, and a
    second pool, of the thread that loaded, makes short inputs 1.4 times as slow. What it raises is raised here.
    The queue is bounded in tokens, of which bulk work may take 80 %. An empty queue takes any request.
    """

    def __init__(
        self, load: Callable[[], Embedder], *, batch_tokens: int = BATCH_TOKENS, queue_tokens: int = QUEUE_TOKENS
    ):
        self._batch_tokens = batch_tokens
        self._limits = (queue_tokens, int(queue_tokens * BULK_SHARE))
        self._queue: queue.PriorityQueue[_Batch] = queue.PriorityQueue()
        self._arrivals = itertools.count()
        self._lock = threading.Lock()  # guards the two below
        self._queued_tokens = 0
        self._closed = False
        self._tokens_per_second = 1000.0  # a running mean, for Retry-After
        loaded: Future[Embedder] = Future()
        self._thread = threading.Thread(target=self._run, args=(load, loaded), name="embedding-engine", daemon=True)
        self._thread.start()
        self.embedder = loaded.result()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, ids: Sequence[np.ndarray], lane: str = "bulk") -> "Future[np.ndarray]":
        """Queue texts (int32 ids each); the future gives their unit vectors, float32 [len(ids), dimensions], in order.

        ``lane`` is "query" or "bulk". Cancelling the future drops what is not yet computed.
        Raises Overloaded when the queue is full, EmbedderUnavailable when the engine is closed.
        """
        priority = LANES.index(lane)
        lengths = [len(text) for text in ids]
        result = np.empty((len(ids), self.embedder.dimensions), dtype=np.float32)
        job = _Job(ids=ids, result=result, remaining=len(ids), future=Future())
        if not ids:
            job.future.set_result(result)
            return job.future
        with self._lock:
            self._admit(sum(lengths), priority)
            for rows in batches(lengths, self._batch_tokens):
                self._queue.put(_Batch(priority, next(self._arrivals), job, rows))
        return job.future

    def close(self) -> None:
        """Finish what is queued, then stop. Later requests raise EmbedderUnavailable."""
        with self._lock:
            self._closed = True
            self._queue.put(_Batch(len(LANES), next(self._arrivals), None))
        self._thread.join()

    def _admit(self, tokens: int, priority: int) -> None:
        if self._closed:
            raise EmbedderUnavailable("The embedding service is stopping.")
        if self._queued_tokens and self._queued_tokens + tokens > self._limits[priority]:
            raise Overloaded(min(30, math.ceil(self._queued_tokens / self._tokens_per_second)))
        self._queued_tokens += tokens

    def _run(self, load: Callable[[], Embedder], loaded: "Future[Embedder]") -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # raised again where the engine is made
            loaded.set_exception(error)
            return
        while (batch := self._queue.get()).job is not None:
            texts = [batch.job.ids[row] for row in batch.rows]
            if not batch.job.future.done():
                self._compute(batch.job, batch.rows, texts)
            with self._lock:
                self._queued_tokens -= sum(len(text) for text in texts)

    def _compute(self, job: _Job, rows: np.ndarray, texts: list[np.ndarray]) -> None:
        started = time.perf_counter()
        # The future may be cancelled at any moment, by a caller that went away.
        with suppress(InvalidStateError):
            try:
                job.result[rows] = self.embedder.embed(texts)
            except Exception as error:  # handed to the caller: the engine must outlive any batch
                job.future.set_exception(error)
                return
            job.remaining -= len(rows)
            if not job.remaining:
                job.future.set_result(job.result)
        rate = sum(len(text) for text in texts) / (time.perf_counter() - started)
        self._tokens_per_second += 0.1 * (rate - self._tokens_per_second)
