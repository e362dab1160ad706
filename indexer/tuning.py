"""Which share the dense leg should have in the fusion: fitted on one part of judged queries, reported on the other."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from indexer.fusion import METHODS, RRF_K, Leg, fuse
from ragplat.errors import BadInput
from ragplat.signature import digest

GRID = tuple(round(step * 0.05, 2) for step in range(21))  # dense weights tried
DEPTH = 10  # of nDCG
FEWEST = 50  # test queries below which nothing is recommended
RESAMPLES = 10_000  # of the bootstrap

Qrels = Mapping[str, Mapping[str, int]]  # query id to document to grade; above 0 is relevant


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """What the two legs found for one query: (chunk id, score) pairs, higher is better."""

    dense: Sequence[tuple[int, float]]
    lexical: Sequence[tuple[int, float]]
    known: float = 1.0  # the share of the query's tokens that the model knows, which a search scales the weight by


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The quality of one way to fuse, on the test queries."""

    name: str
    method: str
    weight: float  # of the dense leg; the lexical leg has the rest
    ndcg: float  # mean nDCG@10


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What tuning found."""

    train_queries: int
    test_queries: int
    curve: tuple[tuple[float, float], ...]  # (dense weight, mean nDCG@10 on the train queries)
    present: float  # the dense weight in use now
    tuned: float  # the best one on the train queries
    rows: tuple[Row, ...]  # on the test queries
    gain: float  # tuned minus present: mean difference in nDCG@10 on the test queries
    low: float  # 95 % interval of the gain
    high: float
    warnings: tuple[str, ...]
    recommended: float  # the tuned weight where it is surely better, else the present one


def tune(
    found: Mapping[str, Legs],
    documents: Mapping[int, str],
    qrels: Qrels,
    *,
    present: float,
    method: str = "minmax",
    rrf_k: int = RRF_K,
    train: float = 0.5,
    seed: int = 0,
) -> Report:
    """Fit the dense weight of ``method`` on a train part of the queries and report on the others.

    ``found``: by query id. ``documents``: the document of each chunk id; a document counts as its best chunk.
    ``qrels``: judgements of these documents, for every query with at least one relevant. ``present``: the dense weight
    in use. ``train``: share of the queries to fit on. ``seed``: another split and other bootstrap samples.

    nDCG@10 is pytrec_eval's (trec_eval). The other methods are shown at weights of their own, fitted the same way.
    Of equally good weights the one nearest the present is taken. The interval is the percentile interval of a paired
    bootstrap over test queries (Efron and Tibshirani, 1993), and does not cover the choice of the split.
    Raises BadInput for a share outside 0..1, and when one of the two parts has no query.
    """
    first, second = _parts(found, train, seed)

    def quality(part: Mapping[str, Legs], method: str, weight: float) -> np.ndarray:
        return ndcg(part, documents, qrels, method=method, weight=weight, rrf_k=rrf_k)

    curves = {one: [float(quality(first, one, weight).mean()) for weight in GRID] for one in METHODS}
    best = {one: _best(curve, present) for one, curve in curves.items()}
    tuned = best[method]
    now, then = quality(second, method, present), quality(second, method, tuned)
    tried = [
        ("lexical alone", method, 0.0),
        ("present weight", method, present),
        ("tuned weight", method, tuned),
        *((one, one, weight) for one, weight in best.items() if one != method),
    ]
    dense = {query: replace(legs, known=1.0) for query, legs in second.items()}
    rows = (
        Row(name="dense alone", method=method, weight=1.0, ndcg=float(quality(dense, method, 1.0).mean())),
        *(
            Row(name=name, method=one, weight=weight, ndcg=float(quality(second, one, weight).mean()))
            for name, one, weight in tried
        ),
    )
    low, high = interval(then - now, seed)
    warnings = _warnings(len(second), tuned, present, low, high)
    return Report(
        train_queries=len(first),
        test_queries=len(second),
        curve=tuple(zip(GRID, curves[method], strict=True)),
        present=present,
        tuned=tuned,
        rows=rows,
        gain=float((then - now).mean()),
        low=low,
        high=high,
        warnings=warnings,
        recommended=present if warnings else tuned,
    )


def _parts(found: Mapping[str, Legs], train: float, seed: int) -> tuple[dict[str, Legs], dict[str, Legs]]:
    first, second = split(found, train, seed)
    if not first or not second:
        raise BadInput(
            f"Of {len(found)} judged queries, {len(first)} fall to the train part and {len(second)} to the test part. "
            f"Both need some: judge more queries or change the train share ({train})."
        )
    return {query: found[query] for query in first}, {query: found[query] for query in second}


def split(queries: Iterable[str], train: float, seed: int) -> tuple[list[str], list[str]]:
    """The train and the test part of query ids, each in order of id.

    A query's part depends on its id and the seed alone, so it stays when other queries come or go.
    Raises BadInput unless ``train`` is between 0 and 1.
    """
    if not 0 < train < 1:
        raise BadInput(f"The train share is above 0 and below 1, not {train}.")
    parts: tuple[list[str], list[str]] = ([], [])
    for query in sorted(queries):
        drawn = int(digest([seed, query]), 16) / 16**12
        parts[drawn >= train].append(query)
    return parts


def ndcg(
    found: Mapping[str, Legs],
    documents: Mapping[int, str],
    qrels: Qrels,
    *,
    method: str,
    weight: float,
    rrf_k: int = RRF_K,
) -> np.ndarray:
    """nDCG@10 of each query after fusing, float64 [len(found)], in the order of ``found``; arguments as in tune."""
    import pytrec_eval

    run = {}
    for query, legs in found.items():
        ranked = _documents(legs, documents, method, weight, rrf_k)
        # trec_eval orders equal scores by document id; places keep them in the order a person sees.
        run[query] = {document: float(-place) for place, document in enumerate(ranked)}
    judged = {query: dict(qrels[query]) for query in found}
    scores = pytrec_eval.RelevanceEvaluator(judged, {f"ndcg_cut.{DEPTH}"}).evaluate(run)
    return np.array([scores[query][f"ndcg_cut_{DEPTH}"] if run[query] else 0.0 for query in found])


def interval(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of ``differences``, float [queries]."""
    random = np.random.default_rng(seed)
    size = len(differences)
    means = [differences[random.integers(0, size, size)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _documents(legs: Legs, documents: Mapping[int, str], method: str, weight: float, rrf_k: int) -> list[str]:
    """The best documents, by their best chunk, fused as a search does."""
    share = weight * legs.known
    both = [
        Leg(name="dense", hits=legs.dense, weight=share),
        Leg(name="lexical", hits=legs.lexical, weight=1 - share),
    ]
    size = max(1, len(legs.dense) + len(legs.lexical))
    fused = fuse(both, method=method, k=size, rrf_k=rrf_k)
    return list(dict.fromkeys(documents[one.id] for one in fused))[:DEPTH]


def _best(curve: Sequence[float], present: float) -> float:
    return max(zip(curve, GRID, strict=True), key=lambda point: (point[0], -abs(point[1] - present), -point[1]))[1]


def _warnings(queries: int, tuned: float, present: float, low: float, high: float) -> tuple[str, ...]:
    said = []
    if queries < FEWEST:
        said.append(f"Only {queries} test queries: judge more, so that at least {FEWEST} are left for the test.")
    if tuned == present:
        said.append(f"The present weight {present:.2f} is the best on the train queries too.")
    elif low <= 0:
        verdict = "surely worse than" if high < 0 else "not surely better than"
        said.append(
            f"The tuned weight {tuned:.2f} is {verdict} the present {present:.2f}: "
            f"the 95 % interval of the difference is {low:+.4f} to {high:+.4f}."
        )
    return (*said, f"Keep the present weight {present:.2f}.") if said else ()


def read_queries(path: Path) -> dict[str, str]:
    """Queries by id from lines of JSON with "_id" and "text", as BEIR has them. Raises BadInput naming the line."""
    queries: dict[str, str] = {}
    for number, line in _lines(path):
        try:
            row = json.loads(line)
            query, text = str(row["_id"]), row["text"].strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            text = ""
        if not text:
            raise BadInput(
                f'Line {number} of {path} is no query. A line looks like {{"_id": "q1", "text": "How tall is it?"}}.'
            )
        if query in queries:
            raise BadInput(f'Line {number} of {path} gives a second query the id "{query}".')
        queries[query] = text
    if not queries:
        raise BadInput(f"{path} holds no queries.")
    return queries


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements by query id from lines of query id, document and whole-number grade, separated by tabs.

    The header that BEIR puts in the first line may be missing. Raises BadInput naming the line that is wrong.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        row = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if number == 1 and row[-1] == "score":
            continue
        try:
            query, document, grade = row
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError:
            raise BadInput(
                f"Line {number} of {path} is no judgement. A line has a query id, a document name and a whole number "
                f"(0: not relevant), separated by tabs."
            ) from None
    if not qrels:
        raise BadInput(f"{path} holds no judgements.")
    return qrels


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.") from None
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def by_name(qrels: Qrels, names: Iterable[str]) -> tuple[dict[str, dict[str, int]], set[str]]:
    """Judgements with documents under their names in the corpus, and the documents that are not in it.

    A judgement may leave out the suffix of a name: "guides/start" for "guides/start.md". Queries without a relevant
    document in the corpus are left out. Raises BadInput where two names fit.
    """
    known = set(names)
    stems: dict[str, list[str]] = {}
    for name in sorted(known):
        stems.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    named: dict[str, dict[str, int]] = {}
    unknown: set[str] = set()
    for query, judged in qrels.items():
        for document, grade in judged.items():
            fits = [document] if document in known else stems.get(document, [])
            if len(fits) > 1:
                raise BadInput(f'The judged document "{document}" may be {" or ".join(fits)}. Write the whole name.')
            if fits:
                named.setdefault(query, {})[fits[0]] = grade
            else:
                unknown.add(document)
    return {query: judged for query, judged in named.items() if max(judged.values()) > 0}, unknown
