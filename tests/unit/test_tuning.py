"""Fitting the dense weight on judged queries."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import tuning
from indexer.tuning import GRID, Legs, by_name, interval, ndcg, read_qrels, read_queries, split, tune
from ragplat.errors import BadInput

DOCUMENTS = {chunk: f"d{chunk}" for chunk in range(40)}


COARSE = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture(autouse=True)
def _less_work(monkeypatch):
    monkeypatch.setattr(tuning, "RESAMPLES", 500)
    monkeypatch.setattr(tuning, "GRID", COARSE)


def judged(queries: int, dense_right: float, lexical_right: float, seed: int = 0):
    """Queries whose relevant document is 0; a leg that is right puts it first, else somewhere from place 3 to 20."""
    random = np.random.default_rng(seed)

    def hits(right: float) -> list[tuple[int, float]]:
        others = [int(one) for one in random.permutation(np.arange(1, 30))]
        place = 0 if random.random() < right else int(random.integers(2, 20))
        ranked = [*others[:place], 0, *others[place:]]
        return [(chunk, 1 / (1 + n)) for n, chunk in enumerate(ranked)]

    found = {f"q{n}": Legs(dense=hits(dense_right), lexical=hits(lexical_right)) for n in range(queries)}
    return found, {query: {"d0": 1} for query in found}


def test_every_twentieth_is_tried():
    assert len(GRID) == 21
    assert np.diff(GRID) == pytest.approx(0.05)
    assert (GRID[0], GRID[-1]) == (0.0, 1.0)


def test_ndcg_is_trec_evals():
    """By hand: grades 1 and 2 found at places 2 and 3; ideal order is 2, 1. trec_eval's gain is the grade itself."""
    legs = Legs(dense=[(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)], lexical=[])
    found = ndcg({"q": legs}, DOCUMENTS, {"q": {"d2": 1, "d3": 2, "d1": 0}}, method="minmax", weight=1.0)
    expected = (1 / math.log2(3) + 2 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    assert found == pytest.approx([expected])


def test_the_weight_is_scaled_by_what_the_model_knows_of_a_query():
    """As in a search: of a query in another script the lexical leg decides."""
    hits = {"dense": [(1, 0.9), (2, 0.8)], "lexical": [(2, 9.0), (1, 8.0)]}
    qrels = {"q": {"d1": 1}}
    known, unknown = (
        ndcg({"q": Legs(**hits, known=known)}, {1: "d1", 2: "d2"}, qrels, method="minmax", weight=0.7)
        for known in (1.0, 0.1)
    )
    assert known == [1.0]
    assert unknown == pytest.approx([1 / math.log2(3)])


def test_a_document_counts_as_its_best_chunk():
    legs = Legs(dense=[(1, 0.9), (2, 0.8), (3, 0.7)], lexical=[])
    found = ndcg({"q": legs}, {1: "a", 2: "a", 3: "b"}, {"q": {"b": 1}}, method="rrf", weight=1.0)
    assert found == pytest.approx([1 / math.log2(3)])


def test_nothing_found_is_0():
    assert ndcg({"q": Legs(dense=[], lexical=[])}, {}, {"q": {"b": 1}}, method="minmax", weight=0.5) == [0.0]


def test_equal_scores_are_judged_in_the_order_shown():
    legs = Legs(dense=[(1, 0.5), (2, 0.5)], lexical=[])
    found = [ndcg({"q": legs}, DOCUMENTS, {"q": {d: 1}}, method="minmax", weight=1.0)[0] for d in ("d1", "d2")]
    assert found == pytest.approx([1, 1 / math.log2(3)])


@pytest.mark.parametrize(("dense_right", "lexical_right"), [(0.9, 0.2), (0.2, 0.9)])
def test_the_better_leg_gets_the_weight_and_it_is_recommended(dense_right, lexical_right):
    found, qrels = judged(140, dense_right, lexical_right)
    worst = 0.0 if dense_right > lexical_right else 1.0
    report = tune(found, DOCUMENTS, qrels, present=worst)
    assert (report.tuned > 0.5) == (dense_right > lexical_right)
    assert 0 < report.low < report.gain < report.high
    assert report.recommended == report.tuned
    assert report.warnings == ()
    rows = {row.name: row for row in report.rows}
    assert rows["tuned weight"].ndcg - rows["present weight"].ndcg == pytest.approx(report.gain)
    assert list(rows) == ["dense alone", "lexical alone", "present weight", "tuned weight", "zscore", "max", "rrf"]


def test_the_curve_and_the_rows_are_of_their_own_part():
    found, qrels = judged(80, 0.7, 0.6)
    report = tune(found, DOCUMENTS, qrels, present=0.4, train=0.3, seed=3)
    train, test = split(found, 0.3, 3)
    assert (report.train_queries, report.test_queries) == (len(train), len(test))
    assert [weight for weight, _ in report.curve] == list(COARSE)

    def mean(part, weight):
        chosen = {query: found[query] for query in part}
        return ndcg(chosen, DOCUMENTS, qrels, method="minmax", weight=weight).mean()

    assert dict(report.curve)[0.25] == pytest.approx(mean(train, 0.25))
    assert max(dict(report.curve).values()) == dict(report.curve)[report.tuned]
    assert report.rows[0].ndcg == pytest.approx(mean(test, 1.0))
    assert report.rows[2].ndcg == pytest.approx(mean(test, 0.4))


def test_few_queries_recommend_nothing():
    found, qrels = judged(40, 0.9, 0.2)
    report = tune(found, DOCUMENTS, qrels, present=0.0)
    assert report.test_queries < 50
    assert f"Only {report.test_queries} test queries" in report.warnings[0]
    assert report.recommended == 0.0


def test_a_gain_that_may_be_chance_recommends_nothing():
    found, qrels = judged(130, 0.6, 0.6)
    report = tune(found, DOCUMENTS, qrels, present=0.4, seed=1)
    assert report.low <= 0
    assert report.recommended == 0.4
    assert report.warnings[-1] == "Keep the present weight 0.40."


def test_a_weight_that_is_the_best_already_is_kept():
    legs = Legs(dense=[(1, 1.0)], lexical=[(1, 1.0)])  # every weight is as good
    found = {f"q{n}": legs for n in range(120)}
    report = tune(found, DOCUMENTS, {query: {"d1": 1} for query in found}, present=0.25)
    assert (report.tuned, report.recommended, report.gain) == (0.25, 0.25, 0.0)
    assert "is the best on the train queries too" in report.warnings[0]


def test_a_method_is_fitted_with_its_constant():
    found, qrels = judged(30, 0.7, 0.5)
    report = tune(found, DOCUMENTS, qrels, present=0.5, method="rrf", rrf_k=5)
    assert [row.method for row in report.rows] == ["rrf"] * 4 + ["minmax", "zscore", "max"]
    assert dict(report.curve)[0.5] != dict(tune(found, DOCUMENTS, qrels, present=0.5, method="rrf").curve)[0.5]


@pytest.mark.parametrize(("queries", "train"), [(0, 0.5), (1, 0.5)])
def test_too_few_to_split_is_refused(queries, train):
    found, qrels = judged(queries, 0.5, 0.5)
    with pytest.raises(BadInput, match=f"Of {queries} judged queries"):
        tune(found, DOCUMENTS, qrels, present=0.4, train=train)


@pytest.mark.parametrize("train", [0, 1, -0.5, math.nan])
def test_a_share_outside_0_and_1_is_refused(train):
    with pytest.raises(BadInput, match="above 0 and below 1"):
        split(["q1"], train, 0)


@given(st.sets(st.text(max_size=8), max_size=60), st.text(max_size=8), st.floats(0.05, 0.95), st.integers(0, 9))
def test_the_part_of_a_query_does_not_depend_on_the_others(queries, another, share, seed):
    train, test = split(queries, share, seed)
    assert sorted([*train, *test]) == sorted(queries)
    with_another, _ = split({*queries, another}, share, seed)
    assert set(with_another) - {another} == set(train) - {another}


def test_the_split_has_the_share_asked_for_and_changes_with_the_seed():
    ids = [str(n) for n in range(4000)]
    train, _ = split(ids, 0.3, 0)
    assert len(train) == pytest.approx(1200, abs=4 * math.sqrt(4000 * 0.3 * 0.7))
    assert split(ids, 0.3, 1)[0] != train


def test_the_interval_is_about_two_standard_errors_wide():
    differences = np.random.default_rng(0).normal(0.1, 1.0, 400)
    low, high = interval(differences, seed=0)
    assert (low + high) / 2 == pytest.approx(differences.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * differences.std() / 20, rel=0.12)
    assert interval(np.zeros(10), seed=0) == (0.0, 0.0)


def test_queries_are_read(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text('\ufeff{"_id": "1", "text": "a\u2028b"}\n\n{"_id": 2, "text": "c", "metadata": {}}\n')
    assert read_queries(path) == {"1": "a\u2028b", "2": "c"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no queries"),
        ('{"_id": "1", "text": "a"}\n{"_id": "2"}\n', "Line 2 of .* is no query"),
        ("how tall?\n", "Line 1 of .* is no query"),
        ("[1]\n", "Line 1 of .* is no query"),
        ('{"_id": "1", "text": " "}', "Line 1 of .* is no query"),
        ('{"_id": "1", "text": null}', "Line 1 of .* is no query"),
        (json.dumps({"_id": "1", "text": "a"}) + "\n" + json.dumps({"_id": "1", "text": "b"}), 'second query .* "1"'),
    ],
)
def test_bad_queries_are_refused(tmp_path, content, message):
    path = tmp_path / "queries.jsonl"
    path.write_text(content)
    with pytest.raises(BadInput, match=message):
        read_queries(path)


def test_judgements_are_read_with_and_without_a_header(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text('q1\t"a".md\t1\nq1\tb.md\t0\r\nq2\tb.md\t2\n')
    expected = {"q1": {'"a".md': 1, "b.md": 0}, "q2": {"b.md": 2}}
    assert read_qrels(path) == expected
    path.write_text("query-id\tcorpus-id\tscore\n" + path.read_text())
    assert read_qrels(path) == expected


@pytest.mark.parametrize("line", ["q1\ta.md", "q1 a.md 1", "q1\ta.md\tyes", "q1\t0\ta.md\t1"])
def test_bad_judgements_are_refused(tmp_path, line):
    path = tmp_path / "qrels.tsv"
    path.write_text(f"q0\ta.md\t1\n{line}\n")
    with pytest.raises(BadInput, match=r"Line 2 of .* is no judgement"):
        read_qrels(path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        read_queries(tmp_path / "missing.jsonl")
    with pytest.raises(BadInput, match="cannot be read"):
        read_qrels(tmp_path)
    (tmp_path / "latin").write_bytes(b"q\xe9\ta\t1\n")
    with pytest.raises(BadInput, match="cannot be read"):
        read_qrels(tmp_path / "latin")
    (tmp_path / "empty").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(BadInput, match="no judgements"):
        read_qrels(tmp_path / "empty")


def test_judged_documents_go_by_name_with_or_without_suffix():
    qrels = {"q1": {"4983": 1, "notes.md": 0}, "q2": {"guides/start": 2, "gone": 1}, "q3": {"gone": 1}, "q4": {"a": 0}}
    qrels["q5"] = {"4983": 3}
    named, unknown = by_name(qrels, ["4983.txt", "notes.md", "guides/start.md", "a.txt", "v1.2.txt"])
    assert named == {"q1": {"4983.txt": 1, "notes.md": 0}, "q2": {"guides/start.md": 2}, "q5": {"4983.txt": 3}}
    assert unknown == {"gone"}


def test_a_name_that_fits_two_documents_is_refused():
    with pytest.raises(BadInput, match=r'"a" may be a\.md or a\.pdf'):
        by_name({"q": {"a": 1}}, ["a.md", "a.pdf"])
    assert by_name({"q": {"a": 1}}, ["a", "a.md", "a.pdf"])[0] == {"q": {"a": 1}}
