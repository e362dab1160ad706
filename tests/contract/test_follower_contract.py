"""What every follower does, checked against a plain dict."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from indexer.followers import faiss
from indexer.followers.base import DocumentEntries, Entry, Follower
from indexer.followers.faiss import FaissFollower
from indexer.followers.lexical import LexicalFollower

WORDS = ["alpha", "bravo", "delta", "gamma", "中国", "3.11"]


class VectorsOfWords(FaissFollower):
    """A follower of vectors, asked in words: each word is a direction of its own, so that texts without a common word
    have the inner product 0. They are left out of what is found, as keyword search leaves them out."""

    def __init__(self, folder: Path):
        super().__init__(folder, dimensions=len(WORDS) + 1)

    def apply(self, documents, watermark):
        entries = (DocumentEntries(d.document_id, tuple(map(self._entry, d.entries))) for d in documents)
        super().apply(entries, watermark)

    def search(self, query, k, documents=None):
        return [hit for hit in super().search(self._direction(query), k, documents) if hit[1] > 0]

    def _entry(self, entry):
        return Entry(entry.chunk_id, self._direction(entry.content))

    def _direction(self, text):
        words = text.split()
        vector = np.array([*(words.count(word) for word in WORDS), not words], dtype=np.float32)
        return vector / np.linalg.norm(vector)


class BuiltVectorsOfWords(VectorsOfWords):
    """One that brings its files in shape after every change."""

    def apply(self, documents, watermark):
        super().apply(documents, watermark)
        self.build()


FOLLOWERS: dict[str, Callable[[Path], Follower]] = {
    "lexical": lambda folder: LexicalFollower(folder, analyzer="words-cjk@1", language="en"),
    "faiss": VectorsOfWords,
    "faiss with HNSW": BuiltVectorsOfWords,
}
TEXT = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
DOCUMENT_IDS = st.integers(1, 6)


@pytest.fixture(params=FOLLOWERS)
def make(request, monkeypatch) -> Callable[[Path], Follower]:
    if request.param == "faiss with HNSW":
        monkeypatch.setattr(faiss, "EXACT_ROWS", 3)
        monkeypatch.setattr(faiss, "MARGIN", 0)
    return FOLLOWERS[request.param]


def document(document_id: int, *texts: str) -> DocumentEntries:
    return DocumentEntries(document_id, tuple(Entry(document_id * 10 + n, text) for n, text in enumerate(texts)))


def found(hits: list[tuple[int, float]]) -> list[int]:
    return [chunk_id for chunk_id, _ in hits]


def test_a_new_follower_is_empty(make, tmp_path):
    follower = make(tmp_path / "new")
    assert (follower.watermark(), follower.count(), follower.chunk_ids()) == (0, 0, set())
    assert follower.search("alpha", 5) == []


def test_entries_of_a_document_are_replaced(make, tmp_path):
    follower = make(tmp_path)
    follower.apply([document(1, "alpha", "alpha bravo"), document(2, "bravo")], 1)
    assert follower.chunk_ids() == {10, 11, 20}
    follower.apply([document(1, "gamma")], 2)
    assert follower.chunk_ids() == {10, 20}
    assert found(follower.search("gamma", 5)) == [10]
    assert follower.search("alpha", 5) == []
    follower.apply([document(1)], 3)
    assert follower.chunk_ids() == {20}
    assert follower.watermark() == 3


def test_the_last_of_a_document_given_twice_counts(make, tmp_path):
    follower = make(tmp_path)
    follower.apply([document(1, "alpha"), document(1, "bravo", "bravo")], 1)
    assert follower.chunk_ids() == {10, 11}
    assert follower.search("alpha", 5) == []


def test_applying_the_same_again_changes_nothing(make, tmp_path):
    follower = make(tmp_path)
    for _ in range(3):
        follower.apply([document(1, "alpha"), document(2, "alpha bravo")], 1)
    assert (follower.count(), follower.chunk_ids(), follower.watermark()) == (2, {10, 20}, 1)


def test_a_failing_source_of_documents_changes_nothing(make, tmp_path):
    def broken():
        yield document(2, "bravo")
        raise RuntimeError("the source failed")

    follower = make(tmp_path)
    follower.apply([document(1, "alpha")], 1)
    with pytest.raises(RuntimeError, match="the source failed"):
        follower.apply(broken(), 2)
    assert (follower.watermark(), follower.chunk_ids()) == (1, {10})
    follower.apply([document(2, "bravo")], 2)
    assert (follower.watermark(), follower.chunk_ids()) == (2, {10, 20})


def test_documents_restrict_the_search_and_still_fill_k(make, tmp_path):
    follower = make(tmp_path)
    follower.apply([document(n, "alpha " * (n % 3 + 1) + "bravo") for n in range(1, 60)], 1)
    wanted = [7, 50, 58]
    assert set(found(follower.search("alpha", 3, wanted))) == {n * 10 for n in wanted}
    assert len(follower.search("alpha", 20, range(1, 60))) == 20
    assert follower.search("alpha", 3, []) == []
    assert follower.search("alpha", 3, [999]) == []


def test_a_filter_changes_neither_scores_nor_order(make, tmp_path):
    follower = make(tmp_path)
    follower.apply([document(n, " ".join(WORDS[: n % 6 + 1])) for n in range(1, 60)], 1)
    assert follower.search("alpha gamma delta", 40, range(1, 60)) == follower.search("alpha gamma delta", 40)


def test_equal_scores_are_ordered_by_chunk_id_for_every_k(make, tmp_path):
    follower = make(tmp_path)
    for start in (40, 20, 30, 10):
        follower.apply([document(start + n, "alpha bravo") for n in range(10)], start)
    for k in (1, 5, 17, 40, 100):
        assert found(follower.search("alpha", k)) == [n * 10 for n in range(10, 50)][:k]


def test_another_instance_sees_a_change_at_once(make, tmp_path):
    writer, reader = make(tmp_path), make(tmp_path)
    assert reader.count() == 0
    for n in range(1, 12):
        writer.apply([document(n, "alpha")], n)
        assert (reader.watermark(), len(reader.search("alpha", 50))) == (n, n)
    writer.reset()
    assert (reader.watermark(), reader.search("alpha", 5)) == (0, [])


def test_another_instance_sees_a_change_that_leaves_the_watermark(make, tmp_path):
    writer, reader = make(tmp_path), make(tmp_path)
    for text in ("alpha", "bravo", "alpha"):
        writer.apply([document(1, text)], 1)
        assert found(reader.search(text, 5)) == [10]


class Interleaving(RuleBasedStateMachine):
    """Any order of changes, searches and restarts, beside a dict of what should be there."""

    make: Callable[[Path], Follower]

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.follower = self.make(Path(self.folder.name))
        self.model: dict[int, dict[int, str]] = {}
        self.watermark = 0
        self.last: list[DocumentEntries] = []

    def teardown(self):
        self.folder.cleanup()

    @rule(changes=st.lists(st.tuples(DOCUMENT_IDS, st.lists(TEXT, max_size=3)), max_size=4))
    def apply(self, changes):
        self.last = [document(document_id, *texts) for document_id, texts in changes]
        self.watermark += 1
        self.follower.apply(self.last, self.watermark)
        for one in self.last:
            self.model[one.document_id] = {entry.chunk_id: entry.content for entry in one.entries}

    @precondition(lambda self: self.last)
    @rule()
    def apply_the_last_again(self):
        self.follower.apply(self.last, self.watermark)

    @rule()
    def reopen(self):
        self.follower = self.make(Path(self.folder.name))

    @rule()
    def reset(self):
        self.follower.reset()
        self.model, self.watermark, self.last = {}, 0, []

    @rule(word=st.sampled_from(WORDS), k=st.integers(1, 8), documents=st.none() | st.sets(DOCUMENT_IDS))
    def search(self, word, k, documents):
        hits = self.follower.search(word, k, documents)
        matching = {
            chunk_id
            for document_id, entries in self.model.items()
            for chunk_id, text in entries.items()
            if word in text.split() and (documents is None or document_id in documents)
        }
        assert set(found(hits)) <= matching
        assert len(hits) == len(set(found(hits))) == min(k, len(matching))
        assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    @invariant()
    def holds_what_was_applied(self):
        everything = {chunk_id for entries in self.model.values() for chunk_id in entries}
        assert self.follower.chunk_ids() == everything
        assert self.follower.count() == len(everything)
        assert self.follower.watermark() == self.watermark


def test_any_interleaving_equals_a_dict(make):
    machine = type("Interleaving", (Interleaving,), {"make": staticmethod(make)})
    case = machine.TestCase
    case.settings = settings(
        max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    case("runTest").runTest()
