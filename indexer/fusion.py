"""One ranking out of several: the legs of a hybrid search, such as dense and lexical, or one of each per wording."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ragplat.errors import BadInput
from ragplat.types import Rank

RRF_K = 60  # as in the paper; a larger constant flattens the differences between ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one retriever found for one wording of the query."""

    name: str  # unique among the legs fused, such as "dense", or "dense 2" for another wording
    hits: Sequence[tuple[int, float]]  # (id, score) in any order, each id once; higher is better, on a scale of its own
    weight: float = 1.0  # relative to the other legs; a leg of weight 0 takes no part


Places = Mapping[str, Mapping[int, tuple[int, float]]]  # by leg, by id: the rank, 1 is best, and the score


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """An item of the fused ranking."""

    id: int
    score: float  # what the ranking is ordered by
    places: Places  # of all items

    @property
    def ranks(self) -> dict[str, Rank]:
        """Where each leg put it, by the leg's name; only legs that found it, those of weight 0 included."""
        found = {name: hits[self.id] for name, hits in self.places.items() if self.id in hits}
        return {name: Rank(rank=rank, score=score) for name, (rank, score) in found.items()}


def fuse(legs: Sequence[Leg], *, method: str = "minmax", k: int, rrf_k: int = RRF_K) -> list[Fused]:
    """The best ``k`` of all items that a leg of positive weight found, best first.

    ``method``: how an item's score is made of its scores in the legs.

    - "minmax": the weighted mean of scores scaled to 0..1 between the worst and the best hit of their leg.
    - "zscore": the weighted mean of how many standard deviations (of the leg's hits) a hit is above the leg's worst
      one. This orders as the mean of z-scores does when a missing item gets the z-score of the leg's worst hit.
    - "max": the largest weighted score after scaling to 0..1 (CombMAX of Fox and Shaw, TREC-2, 1994).
    - "rrf": the weighted sum of 1 / (``rrf_k`` + rank); with weights of 1 it is reciprocal rank fusion (Cormack,
      Clarke and Buettcher, SIGIR 2009).

    A leg gives nothing to an item it did not find: with the first three that is what its worst hit gets too, since a
    missing item can have scored just below it. Where all hits of a leg have the same score, each counts 1.
    Equal fused scores are ordered by the item's best rank in any leg of positive weight, then by id. The order of legs
    and of hits does not matter.
    Raises BadInput for another method, weights that are negative, not finite or all 0, k or rrf_k < 1, repeated names
    or ids, and scores that are not finite.
    """
    if method not in METHODS:
        raise BadInput(f'There is no fusion method "{method}". Choose one of: {", ".join(METHODS)}.')
    _check(legs, k, rrf_k)
    places = {leg.name: _ranked(leg) for leg in legs}
    parts: dict[int, list[float]] = {}
    best: dict[int, int] = {}
    for leg in legs:
        if leg.weight > 0:
            for (item, (rank, _)), worth in zip(
                places[leg.name].items(), _worth(places[leg.name], method, rrf_k), strict=True
            ):
                parts.setdefault(item, []).append(leg.weight * worth)
                best[item] = min(best.get(item, rank), rank)
    total = math.fsum(leg.weight for leg in legs)
    combine = METHODS[method]
    scores = {item: combine(worths, total) for item, worths in parts.items()}
    order = sorted(scores, key=lambda item: (-scores[item], best[item], item))[:k]
    return [Fused(id=item, score=scores[item], places=places) for item in order]


# How each method combines an item's weighted worths, given the sum of all weights. fsum: the order cannot matter.
METHODS: dict[str, Callable[[list[float], float], float]] = {
    "minmax": lambda worths, total: math.fsum(worths) / total,
    "zscore": lambda worths, total: math.fsum(worths) / total,
    "max": lambda worths, total: max(worths),
    "rrf": lambda worths, total: math.fsum(worths),
}


def _check(legs: Sequence[Leg], k: int, rrf_k: int) -> None:
    for leg in legs:
        if not (leg.weight >= 0 and math.isfinite(leg.weight)):
            raise BadInput(f"The weight of the {leg.name} search is a number of at least 0, not {leg.weight}.")
    if legs and not any(leg.weight for leg in legs):
        raise BadInput("The weights of all searches are 0. At least one has to be above 0.")
    if len({leg.name for leg in legs}) < len(legs):
        raise BadInput(f"The searches to fuse need names of their own, not {', '.join(leg.name for leg in legs)}.")
    if k < 1:
        raise BadInput(f"The number of results is at least 1, not {k}.")
    if rrf_k < 1:
        raise BadInput(f"The constant of reciprocal rank fusion (rrf_k) is at least 1, not {rrf_k}.")


def _ranked(leg: Leg) -> dict[int, tuple[int, float]]:
    """Rank and score by id, in the order of the ranks; equal scores are ranked by id."""
    for item, score in leg.hits:
        if not math.isfinite(score):
            raise BadInput(f"The {leg.name} search gave item {item} the score {score}; scores have to be finite.")
    order = sorted(leg.hits, key=lambda hit: (-hit[1], hit[0]))
    ranked = {item: (rank, score) for rank, (item, score) in enumerate(order, start=1)}
    if len(ranked) < len(order):
        raise BadInput(f"The {leg.name} search gave {len(order)} results but only {len(ranked)} different ones.")
    return ranked


def _worth(hits: Mapping[int, tuple[int, float]], method: str, rrf_k: int) -> list[float]:
    """What each hit of a leg is worth before weighting, at least 0, in their order."""
    if method == "rrf":
        return [1 / (rrf_k + rank) for rank, _ in hits.values()]
    scores = [score for _, score in hits.values()]
    low, span = min(scores, default=0.0), max(scores, default=0.0) - min(scores, default=0.0)
    if span == 0:
        return [1.0] * len(scores)
    unit = _deviation(scores) if method == "zscore" else span
    return [(score - low) / unit for score in scores]


def _deviation(scores: list[float]) -> float:
    """The standard deviation, of the hits as the whole population."""
    mean = math.fsum(scores) / len(scores)
    return math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
