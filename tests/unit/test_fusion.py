"""Fusion of a dense and a lexical ranking."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.fusion import METHODS, Fused, fuse
from ragplat.errors import BadInput
from ragplat.types import Rank

SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32)
LEG = st.dictionaries(st.integers(0, 40), SCORES, max_size=20).map(lambda leg: list(leg.items()))
METHOD = st.sampled_from(METHODS)
WEIGHT = st.floats(0, 1)


def ids(fused: list[Fused]) -> list[int]:
    return [item.id for item in fused]


def order(leg: list[tuple[int, float]]) -> list[int]:
    return [item for item, _ in sorted(leg, key=lambda pair: (-pair[1], pair[0]))]


def test_minmax_is_the_weighted_mean_of_scaled_scores():
    fused = fuse([(1, 0.9), (2, 0.7), (3, 0.5)], [(2, 12.0), (4, 2.0)], "minmax", 0.6, 10)
    assert [(item.id, pytest.approx(item.score)) for item in fused] == [(2, 0.7), (1, 0.6), (4, 0.0), (3, 0.0)]
    assert fused[0].dense == Rank(rank=2, score=0.7)
    assert fused[0].lexical == Rank(rank=1, score=12.0)
    assert fused[1].lexical is None


def test_rrf_is_the_sum_of_reciprocal_ranks():
    fused = fuse([(1, 0.9), (2, 0.7)], [(2, 12.0), (3, 2.0)], "rrf", 0.5, 10)
    assert [(item.id, item.score) for item in fused] == [(2, 1 / 62 + 1 / 61), (1, 1 / 61), (3, 1 / 62)]


def test_equal_scores_go_by_rank_then_id():
    assert ids(fuse([(9, 1.0), (3, 1.0)], [(5, 2.0), (4, 2.0)], "minmax", 0.5, 10)) == [3, 4, 5, 9]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_nothing_out(method):
    assert fuse([], [], method, 0.5, 5) == []


@given(LEG, LEG, METHOD, WEIGHT, st.randoms(use_true_random=False))
def test_order_of_the_input_does_not_matter(dense, lexical, method, weight, random):
    expected = fuse(dense, lexical, method, weight, 50)
    random.shuffle(dense)
    random.shuffle(lexical)
    assert fuse(dense, lexical, method, weight, 50) == expected


@given(LEG, LEG, METHOD, WEIGHT, st.integers(1, 50))
def test_k_takes_the_head_of_the_ranking(dense, lexical, method, weight, k):
    whole = fuse(dense, lexical, method, weight, 100)
    assert fuse(dense, lexical, method, weight, k) == whole[:k]
    assert [item.score for item in whole] == sorted((item.score for item in whole), reverse=True)
    assert len(set(ids(whole))) == len(whole)
    assert all(0 <= item.score <= 1 + 1e-9 for item in whole)


@given(LEG, METHOD, st.floats(0.01, 0.99))
def test_an_empty_leg_leaves_the_order_of_the_other(leg, method, weight):
    assert ids(fuse(leg, [], method, weight, 50)) == order(leg)
    assert ids(fuse([], leg, method, weight, 50)) == order(leg)


@given(LEG, LEG)
def test_weights_0_and_1_are_one_leg_alone(dense, lexical):
    assert ids(fuse(dense, lexical, "minmax", 1.0, 50)) == order(dense)
    assert ids(fuse(dense, lexical, "minmax", 0.0, 50)) == order(lexical)


@given(LEG.filter(len), LEG, METHOD, WEIGHT, st.integers(0, 19), st.floats(0, 1))
def test_a_better_score_within_the_range_never_lowers_an_item(dense, lexical, method, weight, place, share):
    item, score = dense[place % len(dense)]
    low, high = min(score for _, score in dense), max(score for _, score in dense)
    better = dict(dense) | {item: min(high, score + share * (high - score))}
    before = {fused.id: fused.score for fused in fuse(dense, lexical, method, weight, 50)}
    after = {fused.id: fused.score for fused in fuse(list(better.items()), lexical, method, weight, 50)}
    if item in before and min(better.values()) == low:
        assert after[item] >= before[item] - 1e-12


@given(SCORES, st.integers(1, 20), WEIGHT)
def test_constant_scores_count_in_full(score, size, weight):
    fused = fuse([(item, score) for item in range(size)], [], "minmax", weight, 50)
    assert all(item.score == weight for item in fused)


@pytest.mark.parametrize(
    ("dense", "method", "weight", "k", "message"),
    [
        ([(1, math.nan)], "minmax", 0.5, 5, "item 1 the score nan"),
        ([(1, math.inf)], "rrf", 0.5, 5, "score inf"),
        ([(1, 1.0), (1, 2.0)], "rrf", 0.5, 5, "2 results but only 1 different"),
        ([], "borda", 0.5, 5, "Choose one of: minmax, rrf"),
        ([], "minmax", 1.5, 5, "between 0 and 1, not 1.5"),
        ([], "minmax", math.nan, 5, "not nan"),
        ([], "minmax", 0.5, 0, "at least 1, not 0"),
    ],
)
def test_nonsense_is_refused(dense, method, weight, k, message):
    with pytest.raises(BadInput, match=message):
        fuse(dense, [], method, weight, k)
