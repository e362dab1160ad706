"""Fusion of the rankings of several legs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.fusion import METHODS, Fused, Leg, fuse
from ragplat.errors import BadInput
from ragplat.types import Rank

SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32)
HITS = st.dictionaries(st.integers(0, 40), SCORES, max_size=20).map(lambda hits: list(hits.items()))
WEIGHT = st.floats(0.01, 10)
METHOD = st.sampled_from(sorted(METHODS))
MEANS = st.sampled_from(["minmax", "zscore", "rrf"])
MONOTONE = st.sampled_from(["minmax", "max", "rrf"])


@st.composite
def several(draw, least=1) -> list[Leg]:
    """One to four legs of positive weight."""
    found = draw(st.lists(HITS, min_size=least, max_size=4))
    return [Leg(name=f"leg {n}", hits=hits, weight=draw(WEIGHT)) for n, hits in enumerate(found)]


def two(dense: list, lexical: list, dense_weight: float = 0.5) -> list[Leg]:
    lexical_weight = 1 - dense_weight
    return [
        Leg(name="dense", hits=dense, weight=dense_weight),
        Leg(name="lexical", hits=lexical, weight=lexical_weight),
    ]


def ids(fused: list[Fused]) -> list[int]:
    return [item.id for item in fused]


def scores(legs: list[Leg], method: str) -> dict[int, float]:
    return {item.id: item.score for item in fuse(legs, method=method, k=1000)}


def order(hits: list[tuple[int, float]]) -> list[int]:
    return [item for item, _ in sorted(hits, key=lambda hit: (-hit[1], hit[0]))]


def test_minmax_is_the_weighted_mean_of_scaled_scores():
    fused = fuse(two([(1, 0.9), (2, 0.7), (3, 0.5)], [(2, 12.0), (4, 2.0)], 0.6), method="minmax", k=10)
    assert [(item.id, pytest.approx(item.score)) for item in fused] == [(2, 0.7), (1, 0.6), (4, 0.0), (3, 0.0)]
    assert fused[0].ranks == {"dense": Rank(rank=2, score=0.7), "lexical": Rank(rank=1, score=12.0)}
    assert set(fused[1].ranks) == {"dense"}


def test_zscore_counts_standard_deviations_above_the_worst_hit():
    # Deviations: sqrt(((0.2)**2 + 0 + (0.2)**2) / 3) = 0.163299 and (12 - 2) / 2 = 5.
    found = scores(two([(1, 0.9), (2, 0.7), (3, 0.5)], [(2, 12.0), (4, 2.0)], 0.6), "zscore")
    unit = math.sqrt(0.08 / 3)
    assert found == pytest.approx({1: 0.6 * 0.4 / unit, 2: 0.6 * 0.2 / unit + 0.4 * 2, 3: 0.0, 4: 0.0})


def test_max_is_the_largest_weighted_scaled_score():
    found = scores(two([(1, 0.9), (2, 0.7), (3, 0.5)], [(2, 12.0), (4, 2.0), (1, 7.0)], 0.6), "max")
    assert found == pytest.approx({1: 0.6, 2: 0.4, 3: 0.0, 4: 0.0})


def test_rrf_is_the_formula_of_the_paper():
    """Cormack, Clarke and Buettcher (2009): the sum over rankings of 1 / (60 + rank)."""
    legs = [
        Leg(name="a", hits=[(1, 0.9), (2, 0.7)]),
        Leg(name="b", hits=[(2, 12.0), (3, 2.0)]),
        Leg(name="c", hits=[(3, 1.0), (1, -1.0), (2, -2.0)]),
    ]
    expected = [(2, 1 / 62 + 1 / 61 + 1 / 63), (1, 1 / 61 + 1 / 62), (3, 1 / 62 + 1 / 61)]
    assert [(item.id, pytest.approx(item.score, abs=1e-15)) for item in fuse(legs, method="rrf", k=10)] == expected


def test_rrf_takes_weights_and_its_constant():
    legs = [Leg(name="a", hits=[(1, 0.9)], weight=2.0), Leg(name="b", hits=[(2, 5.0), (1, 4.0)], weight=0.5)]
    fused = fuse(legs, method="rrf", rrf_k=10, k=5)
    assert [(item.id, item.score) for item in fused] == [(1, 2 / 11 + 0.5 / 12), (2, 0.5 / 11)]


def test_equal_scores_go_by_rank_then_id():
    fused = fuse(two([(9, 1.0), (3, 1.0)], [(5, 2.0), (4, 2.0)]), method="minmax", k=10)
    assert ids(fused) == [3, 4, 5, 9]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_nothing_out(method):
    assert fuse([], method=method, k=5) == []
    assert fuse(two([], []), method=method, k=5) == []


@given(several(), METHOD, st.randoms(use_true_random=False))
def test_the_order_of_legs_and_hits_does_not_matter(legs, method, random):
    expected = fuse(legs, method=method, k=50)
    shuffled = [replace(leg, hits=random.sample(leg.hits, len(leg.hits))) for leg in legs]
    random.shuffle(shuffled)
    assert fuse(shuffled, method=method, k=50) == expected


@given(several(), METHOD, st.integers(1, 50))
def test_k_takes_the_head_of_the_ranking(legs, method, k):
    whole = fuse(legs, method=method, k=1000)
    assert fuse(legs, method=method, k=k) == whole[:k]
    assert [item.score for item in whole] == sorted((item.score for item in whole), reverse=True)
    assert sorted(ids(whole)) == sorted({item for leg in legs for item, _ in leg.hits})
    assert all(math.isfinite(item.score) and item.score >= 0 for item in whole)


@given(several())
def test_minmax_stays_between_0_and_1(legs):
    assert all(score <= 1 + 1e-9 for score in scores(legs, "minmax").values())


@given(HITS, METHOD, WEIGHT, WEIGHT)
def test_a_leg_alone_and_beside_an_empty_one_keeps_its_order(hits, method, weight, other):
    legs = [Leg(name="found", hits=hits, weight=weight), Leg(name="empty", hits=[], weight=other)]
    assert ids(fuse(legs[:1], method=method, k=50)) == order(hits)
    assert ids(fuse(legs, method=method, k=50)) == order(hits)


@given(several(), HITS, METHOD)
def test_a_leg_of_weight_0_takes_no_part_but_its_ranks_are_kept(legs, hits, method):
    silent = Leg(name="silent", hits=hits, weight=0.0)
    assert scores([*legs, silent], method) == scores(legs, method)
    known = {item for item, _ in hits}
    for item in fuse([*legs, silent], method=method, k=50):
        assert ("silent" in item.ranks) == (item.id in known)


@given(several(), METHOD, st.sampled_from([0.25, 2.0, 64.0]))
def test_the_scale_of_a_leg_does_not_matter(legs, method, factor):
    scaled = [replace(legs[0], hits=[(item, score * factor) for item, score in legs[0].hits]), *legs[1:]]
    assert scores(scaled, method) == pytest.approx(scores(legs, method))


@given(several(), METHOD, st.sampled_from([0.25, 2.0, 64.0]))
def test_only_the_proportion_of_the_weights_matters_to_the_order(legs, method, factor):
    scaled = [replace(leg, weight=leg.weight * factor) for leg in legs]
    assert ids(fuse(scaled, method=method, k=50)) == ids(fuse(legs, method=method, k=50))


@given(several(), METHOD)
def test_an_item_that_is_no_worse_in_any_leg_is_no_worse_in_the_end(legs, method):
    fused = fuse(legs, method=method, k=50)
    last = Rank(rank=1000, score=0.0)
    for place, item in enumerate(fused):
        for below in fused[place + 1 :]:
            worse = [below.ranks.get(leg.name, last).rank <= item.ranks.get(leg.name, last).rank for leg in legs]
            assert not all(worse) or below.score == pytest.approx(item.score)


@given(several(), MONOTONE, st.integers(0, 19), st.floats(0, 1))
def test_a_better_score_within_the_range_never_lowers_an_item(legs, method, place, share):
    if not legs[0].hits:
        return
    item, score = legs[0].hits[place % len(legs[0].hits)]
    low, high = min(score for _, score in legs[0].hits), max(score for _, score in legs[0].hits)
    better = dict(legs[0].hits) | {item: min(high, score + share * (high - score))}
    if min(better.values()) == low:
        after = scores([replace(legs[0], hits=list(better.items())), *legs[1:]], method)
        assert after[item] >= scores(legs, method)[item] * (1 - 1e-12)


@given(SCORES, st.integers(1, 20), METHOD.filter(lambda method: method != "rrf"))
def test_equal_scores_in_a_leg_count_in_full(score, size, method):
    leg = Leg(name="dense", hits=[(item, score) for item in range(size)])
    assert set(scores([leg], method).values()) == {1.0}


@given(HITS, HITS, MEANS)
def test_a_leg_told_twice_counts_as_one_of_twice_the_weight(dense, lexical, method):
    once = [Leg(name="dense", hits=dense, weight=2.0), Leg(name="lexical", hits=lexical)]
    twice = [Leg(name="dense", hits=dense), Leg(name="dense 2", hits=dense), Leg(name="lexical", hits=lexical)]
    assert scores(twice, method) == pytest.approx(scores(once, method))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"hits": [(1, math.nan)]}, {}, "dense search gave item 1 the score nan"),
        ({"hits": [(1, math.inf)]}, {"method": "rrf"}, "score inf"),
        ({"hits": [(1, -math.inf)], "weight": 0.0}, {}, "score -inf"),
        ({"hits": [(1, 1.0), (1, 2.0)]}, {"method": "rrf"}, "2 results but only 1 different"),
        ({}, {"method": "borda"}, "Choose one of: minmax, zscore, max, rrf"),
        ({"weight": -0.5}, {}, "dense search is a number of at least 0, not -0.5"),
        ({"weight": math.nan}, {}, "not nan"),
        ({"weight": math.inf}, {}, "not inf"),
        ({"name": "lexical"}, {}, "names of their own, not lexical, lexical"),
        ({}, {"k": 0}, "at least 1, not 0"),
        ({}, {"rrf_k": 0}, "rrf_k.* at least 1, not 0"),
    ],
)
def test_nonsense_is_refused(changes, options, message):
    leg = replace(Leg(name="dense", hits=[(1, 1.0)]), **changes)
    with pytest.raises(BadInput, match=message):
        fuse([leg, Leg(name="lexical", hits=[])], **{"k": 5} | options)


def test_weights_that_are_all_0_are_refused():
    with pytest.raises(BadInput, match="all searches are 0"):
        fuse([Leg(name="dense", hits=[(1, 1.0)], weight=0.0)], k=5)
