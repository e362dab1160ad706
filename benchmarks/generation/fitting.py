"""The weights of inference/generators/evidence.py, fitted on questions with and without an answer."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from questions import Question

from inference.generators.evidence import FEATURES, SIGNS, WEIGHTS, Embed, Passage, features, passages, signs
from inference.words import names
from ragplat.types import Prompt

BY_HAND = 2  # the last features, whose weights are set by hand
ANSWERED = 0.9  # share of the answerable questions that the threshold lets through
Asked = list[tuple[Question, Prompt]]


def fit(asked: Asked, embed: Embed) -> None:
    """Print weights, biases and thresholds of each language."""
    for language in sorted({question.language for question, _ in asked}):
        mine = [(question, prompt) for question, prompt in asked if question.language == language]
        mine += swapped(mine, random.Random(3))
        samples = [(q, p, found, features(p, found, embed)) for q, p in mine if (found := passages(p))]
        labels = [[holds_answer(q, passage) for passage in found] for q, _, found, _ in samples]
        rows = np.vstack([rows for *_, rows in samples])
        weights, bias = _logistic(rows[:, :-BY_HAND], np.concatenate(labels), np.ones(len(rows)))
        weights = (*weights, *WEIGHTS[language][-BY_HAND:])
        print(f'"{language}": {weights} bias {bias}  # {", ".join(FEATURES)}')
        _fit_signs(language, samples, np.array(weights), bias)


def _fit_signs(language: str, samples: Sequence[tuple], weights: np.ndarray, bias: float) -> None:
    """All kinds of unanswerable questions together weigh as much as the answerable ones, and each like the others."""
    kinds = np.array([question.kind for question, *_ in samples])
    counted = Counter(kinds.tolist())
    likely = [1 / (1 + np.exp(-(rows @ weights + bias))) for *_, rows in samples]
    seen = np.array([signs(p, found, rows, odds) for (_, p, found, rows), odds in zip(samples, likely, strict=True)])
    share = {kind: 1 / n / (1 if kind == "answerable" else len(counted) - 1) for kind, n in counted.items()}
    balance = np.array([share[kind] for kind in kinds])
    sign_weights, sign_bias = _logistic(seen, kinds == "answerable", balance / balance.mean())
    chance = 1 / (1 + np.exp(-(seen @ np.array(sign_weights) + sign_bias)))
    least = np.quantile(chance[kinds == "answerable"], 1 - ANSWERED)
    print(f'"{language}": {sign_weights} bias {sign_bias}  # {", ".join(SIGNS)}')
    refused = {kind: f"{np.mean(chance[kinds == kind] < least):.3f} of {n}" for kind, n in counted.items()}
    print(f'"{language}": {least:.3f}  # threshold; refused on the tune split: {refused}')


def _logistic(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[tuple[float, ...], float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=10_000).fit(rows, labels, sample_weight=weights)
    return tuple(model.coef_[0].round(2).tolist()), model.intercept_.round(2).item()


def holds_answer(question: Question, passage: Passage) -> bool:
    """Whether a passage holds a whole gold answer."""
    start = passage.chunk.start + passage.start
    end = passage.chunk.start + passage.parts[-1].end
    return passage.chunk.document == question.document and any(start <= a and b <= end for a, b in question.spans)


_NAME = re.compile(r"(?<![\w.])(?:[A-Z][\w'’-]*(?: (?=[A-Z]))?)+|\b\d{4}\b")


def swapped(asked: Asked, rng: random.Random) -> Iterator[tuple[Question, Prompt]]:
    """Answerable questions with one name or year exchanged for another of the same article: near misses of a kind
    that people write too."""
    answerable = [(question, prompt) for question, prompt in asked if question.kind == "answerable"]
    known: dict[str, set[str]] = {}
    for question, prompt in answerable:
        own = [chunk.text for chunk in prompt.chunks[:3] if chunk.document == question.document]
        known.setdefault(question.document, set()).update(m[0] for text in [question.text, *own] for m in _named(text))
    for question, prompt in answerable:
        if not (found := _named(question.text)):
            continue
        old = rng.choice(found)
        others = [one for one in sorted(known[question.document]) if one[0].isdigit() == old[0][0].isdigit()]
        if others := [one for one in others if one.lower() not in question.text.lower()]:
            text = question.text[: old.start()] + rng.choice(others) + question.text[old.end() :]
            yield replace(question, text=text, kind="swapped", spans=()), replace(prompt, question=text)


def _named(text: str) -> list[re.Match[str]]:
    found = (match for match in _NAME.finditer(text) if match.start() > 0)
    return [match for match in found if match[0][0].isdigit() or names(f"x {match[0]}")]
