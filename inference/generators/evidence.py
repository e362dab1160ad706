"""How likely a passage of a chunk answers a question: a logistic model of a few features, no language model.

``benchmarks/generation/extractive.py --fit`` prints the weights below from questions with and without an answer.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.words import Unit, content_terms, names, numbers, units
from ragplat.types import Prompt, ScoredChunk

LONGEST = 1200  # characters of a list or code block that is quoted whole
EMBEDDED = 40  # passages whose similarity is computed; those sharing fewest terms with the question go without


@dataclass(frozen=True)
class Passage:
    """What can be quoted from chunk ``number``: a sentence, or a list or code block under the line that leads to it."""

    number: int  # marker: chunks[number - 1]
    chunk: ScoredChunk
    parts: tuple[Unit, ...]

    @property
    def start(self) -> int:
        return self.parts[0].start

    @property
    def end(self) -> int:
        return self.parts[-1].end

    @property
    def text(self) -> str:
        return self.chunk.text[self.start : self.end]


def passages(prompt: Prompt) -> list[Passage]:
    """Everything in the prompt's chunks that can be quoted, each stretch of a document once."""
    found: list[Passage] = []
    seen: set[tuple[int, int, int]] = set()
    for number, chunk in enumerate(prompt.chunks, start=1):
        for parts in _groups(chunk.text, code=bool(_HOW.search(prompt.question))):
            place = (chunk.document_id, chunk.start + parts[0].start, chunk.start + parts[-1].end)
            if place not in seen:
                seen.add(place)
                found.append(Passage(number, chunk, parts))
    return found


def _groups(text: str, code: bool) -> list[tuple[Unit, ...]]:
    """The quotable units of a text; list items and, if wanted, code go under the line that leads to them."""
    groups: list[tuple[Unit, ...]] = []
    lead: Unit | None = None
    for unit in units(text):
        if unit.kind in ("heading", "sign") or (unit.kind == "code" and not code):
            lead = None
        elif unit.kind in ("item", "code") and lead:
            whole = groups and groups[-1][0] == lead and unit.end - lead.start <= LONGEST
            if whole:
                groups[-1] = (*groups[-1], unit)
            else:
                groups.append((unit,))
        else:
            groups.append((unit,))
            leads = unit.kind == "prose" and text[unit.start : unit.end].rstrip(" *_")[-1:] in (":", "：")
            lead = unit if leads else None
    return [group for group in groups if _says_something(text[group[0].start : group[-1].end], group)]


def _says_something(text: str, group: tuple[Unit, ...]) -> bool:
    alone = len(group) == 1
    return len(re.findall(r"\w", text)) >= 8 and not (alone and text.rstrip(" *_")[-1:] in (":", "：", "?", "？"))


# --- features --------------------------------------------------------------------------------------------------------

FEATURES = ("similarity", "coverage", "around", "missing", "kind", "nokind", "strange", "rank", "first", "phrase", "next")


def features(prompt: Prompt, found: Sequence[Passage], embed: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """A row of FEATURES for each passage: float64, (len(found), len(FEATURES))."""
    question = prompt.question
    wanted = list(dict.fromkeys(content_terms(question, prompt.language)))
    terms = [set(content_terms(passage.text, prompt.language)) for passage in found]
    chunk_terms = [
        set(content_terms(f"{chunk.document} {chunk.context} {chunk.text}", prompt.language)) for chunk in prompt.chunks
    ]
    weight = _weights_of(wanted, terms)
    total = sum(weight.values()) or 1.0

    def share(held: set[str]) -> float:
        return sum(weight[term] for term in wanted if term in held) / total

    coverage = np.array([share(held) for held in terms])
    similarity = _similarity(question, found, coverage, embed)
    anywhere = share(set().union(*chunk_terms))
    rows = []
    for i, passage in enumerate(found):
        others = terms[i].union(*(terms[j] for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].number == passage.number))
        kind = _answers_kind(question, passage.text)
        near = [similarity[j] for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].number == passage.number]
        rows.append([
            similarity[i],
            coverage[i],
            share(others | set(content_terms(passage.chunk.context, prompt.language))),
            1 - anywhere,
            kind if kind > 0 else 0.0,
            -kind if kind < 0 else 0.0,
            _strange(question, passage),
            1 / passage.chunk.rank,
            float(passage.start == 0),
            _phrase(wanted, content_terms(passage.text, prompt.language)),
            max(near, default=0.0),
        ])
    return np.array(rows, dtype=float).reshape(len(found), len(FEATURES))


def _weights_of(wanted: Sequence[str], terms: Sequence[set[str]]) -> dict[str, float]:
    """Rarity of each question term among the passages: log(1 + N / (1 + df)), as BM25's idf in spirit."""
    held = Counter(term for passage in terms for term in passage)
    return {term: math.log(1 + len(terms) / (1 + held[term])) for term in wanted}


def _similarity(question, found, coverage, embed) -> np.ndarray:
    chosen = np.argsort(-coverage, kind="stable")[:EMBEDDED]
    vectors = np.asarray(embed([question, *(found[i].text for i in chosen)]), dtype=float)
    result = np.zeros(len(found))
    result[chosen] = vectors[1:] @ vectors[0]
    return result


def _phrase(wanted: Sequence[str], said: Sequence[str]) -> float:
    """Share of the question's neighbouring terms that stand close together in the passage."""
    pairs = list(zip(wanted, wanted[1:], strict=False))
    where: dict[str, list[int]] = {}
    for i, term in enumerate(said):
        where.setdefault(term, []).append(i)
    close = sum(any(abs(a - b) <= 3 for a in where.get(x, ()) for b in where.get(y, ())) for x, y in pairs)
    return close / len(pairs) if pairs else 0.0


def _strange(question: str, passage: Passage) -> float:
    """Share of the question's names and numbers that stand nowhere in the chunk, its heading or document name."""
    special = names(question) | numbers(question)
    around = f"{passage.chunk.document} {passage.chunk.context} {passage.chunk.text}".lower()
    return sum(item not in around for item in special) / len(special) if special else 0.0


# --- what kind of answer a question wants ------------------------------------------------------------------------------

_HOW = re.compile(r"\bhow (?:do|to|can|should|would|does)\b|\bexample|\bcommand|\bcode\b|如何|怎么|怎样|示例|命令|代码", re.I)
_DATE = r"\b1\d{3}s?\b|\b20\d\d\b|\bcentur|January|February|March|April|May|June|July|August|September|October|November"
_DATE += r"|December|\b(?:yesterday|today|ago|year|decade|era|age)s?\b|[年月日]|世纪|时期|时代"
_COUNT = r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion|half|dozen"
_COUNT += r"|once|twice|several|none|no)\b|[一二两三四五六七八九十百千万亿半]"
_KINDS = (
    (re.compile(r"\bwhen\b|\bwhat (?:year|date|day|month|century|decade)|\bwhich (?:year|century)|何时|什么时候|哪[一]?年|几月|什么时间", re.I),
     re.compile(_DATE)),
    (re.compile(r"\bhow (?:many|much|old|long|far|tall|large|big|often)\b|\bwhat (?:number|percent|amount|age)|多少|几[个年岁次名人天]|多[大长高远久]", re.I),
     re.compile(_COUNT, re.I)),
)  # fmt: skip
_WHO = re.compile(r"\bwho(?:se|m)?\b|\bwhere\b|\bwhat (?:city|country|person|state)|\bwhich (?:city|country|person|state)", re.I)


def _answers_kind(question: str, text: str) -> float:
    """1 when the passage holds something new of the kind asked for, -1 when it holds none, 0 when no kind is asked."""
    for asked, given in _KINDS:
        if asked.search(question):
            already = {match.lower() for match in given.findall(question)}
            return 1.0 if any(match.lower() not in already for match in given.findall(text)) else -1.0
    if _WHO.search(question):
        return 1.0 if names(f"- {text}") - names(f"- {question}") else -1.0
    return 0.0


def probability(rows: np.ndarray, language: str) -> np.ndarray:
    """How likely each passage is to answer, from its features."""
    return 1 / (1 + np.exp(-(rows @ WEIGHTS[language] + BIAS[language])))


WEIGHTS = {"en": np.ones(len(FEATURES)), "zh": np.ones(len(FEATURES))}
BIAS = {"en": -3.0, "zh": -3.0}
