import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.embedding.backends.base import Pair
from indexer.embedding.engine import Engine, Overloaded, batches
from ragplat.errors import EmbedderUnavailable


class Recorder:
    """Gives each text its first id as vector, and waits until it may go on."""

    dimensions = 1

    def __init__(self, held: bool = False, pads: bool = True):
        self.pads = pads
        self.seen: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Event()
        if not held:
            self.go.set()

    def embed(self, batch):
        self.seen.append([int(text[0]) for text in batch])
        self.started.release()
        assert self.go.wait(10)
        if any(text[0] < 0 for text in batch):
            raise RuntimeError("broken weights")
        return np.asarray([[text[0]] for text in batch], dtype=np.float32)


class Reranker:
    """Gives each pair its first id as score, into the same record."""

    pads = True

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def score(self, batch):
        return self.recorder.embed([pair.ids for pair in batch])[:, 0]


def pairs(*lengths: int, first: int = 0) -> list[Pair]:
    return [Pair(ids, np.zeros_like(ids)) for ids in texts(*lengths, first=first)]


def texts(*lengths: int, first: int = 0) -> list[np.ndarray]:
    return [np.full(length, first + number, dtype=np.int32) for number, length in enumerate(lengths)]


@pytest.fixture
def held():
    """An engine of batches of 10 tokens and a queue of 100 whose first batch, (999,), is held back."""
    recorder = Recorder(held=True)
    engine = Engine(lambda: recorder, lambda: Reranker(recorder), batch_tokens=10, queue_tokens=100, rerank_tokens=30)
    engine.submit(texts(10, first=999))
    assert recorder.started.acquire(timeout=10)
    yield engine, recorder
    recorder.go.set()
    engine.close()


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    cut = batches(lengths, budget)
    assert sorted(position for batch in cut for position in batch) == list(range(len(lengths)))
    for batch in cut:
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    flat = [lengths[position] for batch in cut for position in batch]
    assert flat == sorted(flat)


@given(st.lists(st.integers(1, 30), max_size=40))
def test_results_come_back_in_order(lengths):
    engine = Engine(Recorder, batch_tokens=32)
    try:
        assert engine.submit(texts(*lengths)).result(10).ravel().tolist() == list(range(len(lengths)))
    finally:
        engine.close()


def test_queries_overtake_bulk_work_at_the_next_batch(held):
    engine, recorder = held
    bulk = engine.submit(texts(10, 10, 10, first=100))
    query = engine.submit(texts(5, first=7), "query")
    recorder.go.set()
    assert query.result(10).tolist() == [[7]]
    assert bulk.result(10).ravel().tolist() == [100, 101, 102]
    assert recorder.seen == [[999], [7], [100], [101], [102]]


@pytest.fixture(params=[True, False], ids=["pads", "does not pad"])
def held_wide(request):
    """An engine of batches of 64 tokens whose first batch is held back."""
    recorder = Recorder(held=True, pads=request.param)
    engine = Engine(lambda: recorder, batch_tokens=64)
    engine.submit(texts(10, first=999))
    assert recorder.started.acquire(timeout=10)
    yield engine, recorder
    recorder.go.set()
    engine.close()


def test_waiting_queries_share_a_pass_where_that_is_cheaper(held_wide):
    engine, recorder = held_wide
    bulk = engine.submit(texts(5, first=500))
    lengths = {1: 10, 2: 12, 3: 30, 4: 20}
    waiting = [engine.submit(texts(length, first=first), "query") for first, length in lengths.items()]
    recorder.go.set()
    assert [one.result(10).tolist() for one in waiting] == [[[first]] for first in lengths]
    assert bulk.result(10).tolist() == [[500]]
    if recorder.pads:  # 3 texts of 30 tokens are over the budget of a pass, and so are 4 and 3 together
        assert recorder.seen == [[999], [1, 2], [3, 4], [500]]
    else:  # the fourth is over the budget
        assert recorder.seen == [[999], [1, 2, 3], [4], [500]]


def test_a_long_text_shares_no_pass_with_many_short_ones_even_without_padding():
    """Attention is laid out by the longest text: 21 of 200 tokens would be 10 times the memory."""
    recorder = Recorder(held=True, pads=False)
    engine = Engine(lambda: recorder, batch_tokens=512)
    engine.submit(texts(1, first=999))
    assert recorder.started.acquire(timeout=10)
    short = [engine.submit(texts(10, first=first), "query") for first in range(20)]
    long = engine.submit(texts(200, first=100), "query")
    recorder.go.set()
    assert long.result(10).tolist() == [[100]]
    assert all(one.done() for one in short)
    assert recorder.seen == [[999], list(range(20)), [100]]
    engine.close()


def test_a_text_that_breaks_a_shared_pass_fails_its_own_request_only(held_wide):
    engine, recorder = held_wide
    good, bad, other = (engine.submit(texts(5, first=first), "query") for first in (1, -5, 2))
    recorder.go.set()
    assert good.result(10).tolist() == [[1]]
    assert other.result(10).tolist() == [[2]]
    with pytest.raises(RuntimeError, match="broken weights"):
        bad.result(10)
    assert recorder.seen == [[999], [1, -5, 2], [1], [-5], [2]]


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=12), st.booleans())
def test_shared_passes_keep_to_the_budget_and_give_each_request_its_own(requests, pads):
    recorder = Recorder(held=True, pads=pads)
    engine = Engine(lambda: recorder, batch_tokens=48)
    length_of, futures = {}, []
    for number, lengths in enumerate(requests):
        first = 100 * number
        length_of |= {first + place: length for place, length in enumerate(lengths)}
        futures.append((first, len(lengths), engine.submit(texts(*lengths, first=first), "query")))
    recorder.go.set()
    for first, count, future in futures:
        assert future.result(10).ravel().tolist() == list(range(first, first + count))
    engine.close()
    for seen in recorder.seen:
        longest, tokens = max(length_of[one] for one in seen), sum(length_of[one] for one in seen)
        assert len(seen) == 1 or (len(seen) * longest if pads else tokens) <= 48


def test_reranking_comes_between_queries_and_bulk_work(held):
    engine, recorder = held
    bulk = engine.submit(texts(10, first=100))
    scores = engine.rerank(pairs(10, 5, 5, first=200))
    query = engine.submit(texts(5, first=7), "query")
    recorder.go.set()
    assert bulk.result(10).tolist() == [[100]]
    assert query.done()
    assert scores.result(0).tolist() == [200, 201, 202]
    assert scores.result(0).dtype == np.float32
    assert recorder.seen == [[999], [7], [201, 202], [200], [100]]


def test_reranking_and_embedding_do_not_shut_each_other_out(held):
    engine, _ = held
    engine.submit(texts(70))
    with pytest.raises(Overloaded):
        engine.submit(texts(1))
    engine.rerank(pairs(30))
    with pytest.raises(Overloaded):
        engine.rerank(pairs(1))
    engine.submit(texts(20), "query")


def test_bulk_work_may_fill_four_fifths_of_the_queue(held):
    engine, _ = held  # holds 10 tokens
    engine.submit(texts(10, 60))
    with pytest.raises(Overloaded) as refused:
        engine.submit(texts(1))
    assert 1 <= refused.value.retry_after <= 30
    engine.submit(texts(20), "query")
    with pytest.raises(Overloaded):
        engine.submit(texts(1), "query")


def test_tokens_leave_the_queue_when_done():
    engine = Engine(Recorder, batch_tokens=10, queue_tokens=50)
    for _ in range(10):
        engine.submit(texts(10, 10, 10)).result(10)
    engine.close()
    assert engine._queued_tokens["embed"] == 0


def test_an_empty_queue_takes_a_request_of_any_size():
    engine = Engine(Recorder, batch_tokens=10, queue_tokens=20)
    assert len(engine.submit(texts(*[10] * 9)).result(10)) == 9
    engine.close()


def test_cancelled_work_is_dropped(held):
    engine, recorder = held
    dropped = engine.submit(texts(10, 10, first=100))
    kept = engine.submit(texts(10, first=200))
    dropped.cancel()
    recorder.go.set()
    assert kept.result(10).tolist() == [[200]]
    assert recorder.seen == [[999], [200]]


def test_a_failing_batch_fails_its_own_request_only():
    engine = Engine(Recorder, batch_tokens=10)
    broken = engine.submit(texts(10, 10, first=-2))
    with pytest.raises(RuntimeError, match="broken weights"):
        broken.result(10)
    assert engine.submit(texts(3, first=5)).result(10).tolist() == [[5]]
    assert engine.alive
    engine.close()
    assert engine._queued_tokens["embed"] == 0


def test_closing_finishes_what_is_queued(held):
    engine, recorder = held
    last = engine.submit(texts(10, 10))
    threading.Timer(0.05, recorder.go.set).start()
    engine.close()
    assert last.result(0).ravel().tolist() == [0, 1]
    assert not engine.alive
    with pytest.raises(EmbedderUnavailable, match="stopping"):
        engine.submit(texts(1))
