"""Batches texts for the backends: ordered by length, cut by a token budget, urgent ones first."""

import heapq
import itertools
import math
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
# What a pass costs on a CPU besides its tokens, in tokens: batches are joined where that adds less padding.
PASS_TOKENS = 16
# Backends that do not pad still lay attention out by the longest text: up to so many times as many tokens.
MOST_PADDING = 4
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
    """One request: its result so far, and how many texts are still to do."""

    compute: Callable[[list], np.ndarray]  # a backend's verb, for some of the texts
    pads: bool  # as the backend says
    result: np.ndarray  # a row for each text
    remaining: int
    queue: str  # whose tokens they count as
    future: Future = field(default_factory=Future)


@dataclass(slots=True, order=True)
class _Batch:
    """Some texts of a job. Ordered by lane, then by arrival."""

    lane: int
    arrival: int
    job: _Job = field(compare=False)
    rows: np.ndarray = field(compare=False)  # positions of the texts in the job
    texts: list[Sized] = field(compare=False)  # whose length is counted in tokens


class Engine:
    """Runs an embedder, and a reranker if there is one, on one thread of its own.

    Queries overtake reranking, and both overtake bulk work, at the next batch. What waits in one lane shares a pass
    where that is cheaper, so many clients at once are served faster than one after the other.
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
        self._arrivals = itertools.count()
        self._changed = threading.Condition()  # guards the three below
        self._waiting: list[_Batch] = []  # a heap
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
        embedder = self.embedder
        result = np.empty((len(ids), embedder.dimensions), dtype=np.float32)
        job = _Job(compute=embedder.embed, pads=embedder.pads, result=result, remaining=len(ids), queue="embed")
        return self._enqueue(job, ids, lane)

    def rerank(self, pairs: Sequence[Pair]) -> "Future[np.ndarray]":
        """Queue pairs of a query and a text; the future gives their scores, float32 [len(pairs)], in order.

        Otherwise like ``submit``. Only for an engine with a reranker.
        """
        reranker = self.reranker
        result = np.empty(len(pairs), dtype=np.float32)
        job = _Job(compute=reranker.score, pads=reranker.pads, result=result, remaining=len(pairs), queue="rerank")
        return self._enqueue(job, pairs, "rerank")

    def _enqueue(self, job: _Job, texts: Sequence[Sized], lane: str) -> Future:
        if not texts:
            job.future.set_result(job.result)
            return job.future
        lengths = [len(text) for text in texts]
        with self._changed:
            self._admit(sum(lengths), lane, job.queue)
            for rows in batches(lengths, self._batch_tokens):
                batch = _Batch(PRIORITIES.index(lane), next(self._arrivals), job, rows, [texts[row] for row in rows])
                heapq.heappush(self._waiting, batch)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what is queued, then stop. Later requests raise EmbedderUnavailable."""
        with self._changed:
            self._closed = True
            self._changed.notify()
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
        while together := self._next():
            self._compute([batch for batch in together if not batch.job.future.done()])
            with self._changed:
                for batch in together:
                    self._queued_tokens[batch.job.queue] -= sum(len(text) for text in batch.texts)

    def _next(self) -> list[_Batch]:
        """The most urgent batch and those behind it that are cheaper in one pass with it; none when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            together: list[_Batch] = []
            while self._waiting and (not together or self._cheaper_together([*together, self._waiting[0]])):
                together.append(heapq.heappop(self._waiting))
            return together

    def _cheaper_together(self, batches: list[_Batch]) -> bool:
        """Whether the last of ``batches`` is of the others' lane and costs less in their pass than in its own."""
        *others, last = batches
        if last.lane != others[0].lane:
            return False
        padded, tokens = _padded(batches), sum(len(text) for batch in batches for text in batch.texts)
        if last.job.pads:
            return padded <= min(self._batch_tokens, _padded(others) + _padded([last]) + PASS_TOKENS)
        return tokens <= self._batch_tokens and padded <= MOST_PADDING * tokens

    def _compute(self, together: list[_Batch]) -> None:
        """One pass for all. Where it fails, one for each: a text that breaks it must not break other requests."""
        if not together:
            return
        started = time.perf_counter()
        texts = [text for batch in together for text in batch.texts]
        try:
            values = together[0].job.compute(texts)
        except Exception as error:  # handed to the caller: the engine must outlive any batch
            if len(together) == 1:
                with suppress(InvalidStateError):  # cancelled meanwhile, by a caller that went away
                    together[0].job.future.set_exception(error)
            else:
                for batch in together:
                    self._compute([batch])
            return
        ends = itertools.accumulate(len(batch.texts) for batch in together)
        for batch, end in zip(together, ends, strict=True):
            _deliver(batch, values[end - len(batch.texts) : end])
        rate = sum(len(text) for text in texts) / (time.perf_counter() - started)
        self._tokens_per_second += 0.1 * (rate - self._tokens_per_second)


def _padded(batches: list[_Batch]) -> int:
    """The tokens of a pass of all these batches, each text as long as the longest."""
    return sum(len(batch.texts) for batch in batches) * max(len(text) for batch in batches for text in batch.texts)


def _deliver(batch: _Batch, values: np.ndarray) -> None:
    job = batch.job
    job.result[batch.rows] = values
    job.remaining -= len(batch.rows)
    if not job.remaining:
        with suppress(InvalidStateError):  # cancelled meanwhile, by a caller that went away
            job.future.set_result(job.result)
