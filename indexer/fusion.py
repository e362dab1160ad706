"""One ranking out of two: the dense and the lexical leg of a hybrid search."""

import math
from dataclasses import dataclass

from ragplat.errors import BadInput
from ragplat.types import Rank

METHODS = ("minmax", "rrf")
RRF_K = 60  # as in the paper; a larger constant flattens the differences between ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """An item of the fused ranking, and where each leg put it."""

    id: int
    score: float  # what the ranking is ordered by
    dense: Rank | None  # None: this leg did not find it
    lexical: Rank | None


def fuse(
    dense: list[tuple[int, float]], lexical: list[tuple[int, float]], method: str, dense_weight: float, k: int
) -> list[Fused]:
    """The best ``k`` items of both legs, best first.

    ``dense``, ``lexical``: (id, score) pairs in any order, each id once, higher is better, any finite scale.
    ``method``: "minmax", the weighted mean of scores scaled to 0..1 within their leg, 0 where a leg lacks the item
    (``dense_weight`` is the dense share; a leg of weight 0 takes no part); or "rrf", reciprocal rank fusion, the sum
    of 1 / (60 + rank), which knows no weight (Cormack, Clarke and Buettcher, SIGIR 2009).
    Equal scores are ordered by the better of their two ranks, then by id.
    Raises BadInput for another method, a weight outside 0..1, k < 1, repeated ids, and scores that are not finite.
    """
    if method not in METHODS:
        raise BadInput(f'There is no fusion method "{method}". Choose one of: {", ".join(METHODS)}.')
    if not 0 <= dense_weight <= 1:
        raise BadInput(f"The dense weight is a share between 0 and 1, not {dense_weight}.")
    if k < 1:
        raise BadInput(f"The number of results is at least 1, not {k}.")
    legs = _ranked("dense", dense), _ranked("lexical", lexical)
    weights = (dense_weight, 1 - dense_weight) if method == "minmax" else (1.0, 1.0)
    value = _minmax if method == "minmax" else _reciprocal
    scores: dict[int, float] = {}
    best: dict[int, int] = {}
    for leg, weight in zip(legs, weights, strict=True):
        if weight > 0:
            for item, worth in value(leg).items():
                scores[item] = scores.get(item, 0.0) + weight * worth
                best[item] = min(best.get(item, leg[item].rank), leg[item].rank)
    order = sorted(scores, key=lambda item: (-scores[item], best[item], item))
    return [Fused(id=i, score=scores[i], dense=legs[0].get(i), lexical=legs[1].get(i)) for i in order[:k]]


def _ranked(name: str, leg: list[tuple[int, float]]) -> dict[int, Rank]:
    """The leg by id, in the order of its ranks; equal scores are ranked by id."""
    for item, score in leg:
        if not math.isfinite(score):
            raise BadInput(f"The {name} search gave item {item} the score {score}; scores have to be finite.")
    order = sorted(leg, key=lambda pair: (-pair[1], pair[0]))
    ranked = {item: Rank(rank=rank, score=score) for rank, (item, score) in enumerate(order, start=1)}
    if len(ranked) < len(leg):
        raise BadInput(f"The {name} search gave {len(leg)} results but only {len(ranked)} different ones.")
    return ranked


def _minmax(leg: dict[int, Rank]) -> dict[int, float]:
    """Scores scaled to 0..1 within the leg; all 1 where they are all the same."""
    scores = [rank.score for rank in leg.values()]
    low, span = min(scores, default=0.0), max(scores, default=0.0) - min(scores, default=0.0)
    return {item: (rank.score - low) / span if span > 0 else 1.0 for item, rank in leg.items()}


def _reciprocal(leg: dict[int, Rank]) -> dict[int, float]:
    return {item: 1 / (RRF_K + rank.rank) for item, rank in leg.items()}
