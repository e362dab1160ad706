"""How to fuse the two legs: methods and dense weights, chosen on some queries or collections and judged on others.

    python benchmarks/search/fusion.py DATA_FOLDER [--queries 600] [--cache var/bench/fusion]

DATA_FOLDER holds the data sets named in judged.py, which also says how each becomes a collection. Legs hand 100
candidates each to the fusion; nDCG@10 is pytrec_eval's. Besides the methods of indexer/fusion.py it tries:

- true dense: chunks that only the lexical leg found get their true dense score (Bruch, Gai and Ingber, TOIS 2023);
- true both: chunks that one leg found get the true score of the other;
- range: scores scaled between the lowest the leg could give (-1 for inner products, 0 for BM25) and its best hit,
  where a missing chunk counts as the leg's worst hit;
- known words: the dense weight times the share of the query's tokens that the embedder knows.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from judged import Collection, Scores, load, score

from indexer.embedding.models import BUILT_IN
from indexer.embedding.tokenizer import ModelTokenizer
from indexer.fusion import METHODS
from indexer.tuning import GRID, Legs, ndcg, split
from ragplat.signature import digest
from ragplat.types import AnswerRecipe

CANDIDATES = 100
RESAMPLES = 2000
FLOORS = {"dense": -1.0, "lexical": 0.0}  # the lowest score a leg could give
BELOW = -1  # id of an entry that stands for that floor; judged by nobody

Curves = dict[str, np.ndarray]  # collection to nDCG@10, float64 [weights, queries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A collection, with what both legs found for some of its queries."""

    collection: Collection
    legs: dict[str, Legs]
    rows: dict[str, int]  # query to its row in `scores`
    scores: Scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--queries", type=int, default=600, help="at most, of each collection (default 600)")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "var" / "bench" / "fusion")
    options = parser.parse_args()

    judged = [prepare(collection, options) for collection in load(options.data)]
    curves = {method: all_weights(judged, method) for method in METHODS}
    curves["true dense"] = all_weights(judged, "minmax", lambda one, query: completed(one, query, {"dense"}))
    curves["true both"] = all_weights(judged, "minmax", lambda one, query: completed(one, query, {"dense", "lexical"}))
    curves["range"] = all_weights(judged, "minmax", ranged)
    for method in ("minmax", "zscore"):
        curves[f"{method}, known words"] = scaled(curves[method], known_words(judged))
    for name, curve in curves.items():
        show_curves(name, curve)
    recipe = AnswerRecipe()
    print(f"\nMean over collections, and its difference from the default {recipe.fusion} {recipe.dense_weight}")
    present = chosen(curves[recipe.fusion], dict.fromkeys(curves[recipe.fusion], recipe.dense_weight))
    for name, curve in curves.items():
        compare(name, curve, present, {one.collection.name: one.collection.language for one in judged})


def prepare(collection: Collection, options: argparse.Namespace) -> Judged:
    scores = score(collection, BUILT_IN, options.cache)
    rows = {query: row for row, query in enumerate(collection.queries)}
    kept = set(sorted(rows, key=digest)[: options.queries])
    legs = {
        query: Legs(dense=best(scores.dense[row]), lexical=best(scores.lexical[row]))
        for query, row in rows.items()
        if query in kept
    }
    return Judged(collection=collection, legs=legs, rows=rows, scores=scores)


def best(scores: np.ndarray) -> list[tuple[int, float]]:
    """The best candidates; 0 is given only by a lexical leg to what it did not find."""
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    return [(int(place), float(scores[place])) for place in order if scores[place] != 0]


def completed(one: Judged, query: str, which: set[str]) -> Legs:
    """The legs, where those of ``which`` also score every candidate of the other."""
    legs = {"dense": one.legs[query].dense, "lexical": one.legs[query].lexical}
    everything = {document for hits in legs.values() for document, _ in hits}
    for leg in which:
        true = getattr(one.scores, leg)[one.rows[query]]
        legs[leg] = [(document, float(true[document])) for document in everything]
    return Legs(**legs)


def ranged(one: Judged, query: str) -> Legs:
    """The legs with missing candidates at the worst hit, and an entry at the floor, so that min-max scales from it."""
    legs = {"dense": one.legs[query].dense, "lexical": one.legs[query].lexical}
    everything = {document for hits in legs.values() for document, _ in hits}
    for leg, hits in legs.items():
        worst = min((score for _, score in hits), default=FLOORS[leg])
        legs[leg] = [*(dict.fromkeys(everything, worst) | dict(hits)).items(), (BELOW, FLOORS[leg])]
    return Legs(**legs)


def all_weights(judged: list[Judged], method: str, change: Callable[[Judged, str], Legs] | None = None) -> Curves:
    """nDCG@10 of every query at every weight of the grid, after ``change`` of the legs."""
    curves = {}
    for one in judged:
        documents = {place: str(place) for place in range(BELOW, len(one.collection.texts))}
        legs = {query: change(one, query) for query in one.legs} if change else one.legs
        rows = [ndcg(legs, documents, one.collection.qrels, method=method, weight=weight) for weight in GRID]
        curves[one.collection.name] = np.array(rows)
        print(f"{method} {one.collection.name}", end="\r", file=sys.stderr)
    return curves


def known_words(judged: list[Judged]) -> dict[str, np.ndarray]:
    """The share of each query's tokens that the embedder's vocabulary has, by collection."""
    tokenizer = ModelTokenizer.load(BUILT_IN)
    unknown = tokenizer.encode(["\U00013000"])[0][1]  # a hieroglyph, which no small vocabulary has
    known = {}
    for one in judged:
        ids = tokenizer.encode([one.collection.queries[query] for query in one.legs], truncate=True)
        known[one.collection.name] = np.array([1 - np.mean(text[1:-1] == unknown) for text in ids])
    return known


def scaled(curves: Curves, shares: Mapping[str, np.ndarray]) -> Curves:
    """The curves when each query's weight is multiplied by its share, to the next step of the grid."""
    steps = np.arange(len(GRID))[:, None]
    return {
        name: np.take_along_axis(curve, np.rint(steps * shares[name]).astype(int), axis=0)
        for name, curve in curves.items()
    }


def show_curves(name: str, curves: Curves) -> None:
    print(f"\n{name:<12} " + " ".join(f"{weight:5.2f}" for weight in GRID))
    for collection, curve in curves.items():
        print(f"{collection:<12} " + " ".join(f"{value:.4f}"[1:] for value in curve.mean(axis=1)))
    print(f"{'mean':<12} " + " ".join(f"{value:.4f}"[1:] for value in means(curves)), flush=True)


def means(curves: Curves, parts: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """The mean over collections at each weight, float [weights]; over ``parts`` of the queries only, if given."""
    return np.mean([curve[:, parts[name] if parts else slice(None)].mean(axis=1) for name, curve in curves.items()], 0)


def chosen(curves: Curves, weights: Mapping[str, float]) -> dict[str, np.ndarray]:
    """nDCG@10 of each query at the weight of its collection."""
    return {name: curves[name][GRID.index(weight)] for name, weight in weights.items()}


def compare(name: str, curves: Curves, present: Mapping[str, np.ndarray], languages: Mapping[str, str]) -> None:
    """At the default weight, and at weights chosen in two ways without looking at what is reported."""
    default = AnswerRecipe().dense_weight
    report(f"{name}: {default:.2f}", chosen(curves, dict.fromkeys(curves, default)), present, languages)
    train = {one: np.isin(np.arange(curve.shape[1]), halves(curve.shape[1])) for one, curve in curves.items()}
    weight = GRID[means(curves, train).argmax()]
    other_half = {one: values[~train[one]] for one, values in chosen(curves, dict.fromkeys(curves, weight)).items()}
    then = {one: values[~train[one]] for one, values in present.items()}
    report(f"{name}: {weight:.2f}, the best on one half of the queries, on the other half", other_half, then, languages)
    left_out = {
        one: GRID[means({other: curve for other, curve in curves.items() if other != one}).argmax()] for one in curves
    }
    spread = f"{min(left_out.values()):.2f} to {max(left_out.values()):.2f}"
    report(f"{name}: {spread}, each the best on the other collections", chosen(curves, left_out), present, languages)


def halves(size: int) -> list[int]:
    return [int(place) for place in split([str(place) for place in range(size)], 0.5, 0)[0]]


def report(
    title: str, values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], languages: Mapping[str, str]
) -> None:
    differences = {name: values[name] - present[name] for name in values}
    english = {name: found for name, found in differences.items() if languages[name] == "en"}
    others = {name: found for name, found in differences.items() if languages[name] != "en"}
    print(f"\n{title}\n  mean {np.mean([found.mean() for found in values.values()]):.4f}", end="")
    for label, part in (("all", differences), ("English", english), ("Chinese, Japanese", others)):
        mean, low, high = interval(part)
        print(f"   {label} {mean:+.4f} [{low:+.4f}, {high:+.4f}]", end="")
    print(flush=True)


def interval(differences: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """The mean over collections and its 95 % bootstrap interval, queries drawn anew within each collection."""
    random = np.random.default_rng(0)
    drawn = [
        np.mean([found[random.integers(0, len(found), len(found))].mean() for found in differences.values()])
        for _ in range(RESAMPLES)
    ]
    return (np.mean([found.mean() for found in differences.values()]), *np.quantile(drawn, [0.025, 0.975]))


if __name__ == "__main__":
    main()
