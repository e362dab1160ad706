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
EMBEDDED = 16  # passages that are embedded, those sharing most terms with the question: half a second on one core

FEATURES = ("similarity", "coverage", "around", "other_kind", "strange", "rank", "defines")
WEIGHTS = {  # the last is set by hand: SQuAD hardly ever asks for a definition, people often do
    "en": (3.47, 2.91, 1.39, -0.89, -1.91, 2.55, 1.5),
    "zh": (1.83, 4.11, 2.47, -0.54, -0.71, 2.8, 1.5),
}
BIAS = {"en": -7.44, "zh": -7.82}


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


def probability(rows: np.ndarray, language: str) -> np.ndarray:
    """How likely each passage is to answer, from its features: float64, (passages,)."""
    return 1 / (1 + np.exp(-(rows @ np.array(WEIGHTS[language]) + BIAS[language])))


def features(prompt: Prompt, found: Sequence[Passage], embed: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """FEATURES of each passage: float64, (passages, 7).

    - similarity: cosine to the question, less the median of the passages embedded, so that the embedder's own level
      does not matter
    - coverage, around: share of the question's terms, weighted by rarity, in the passage; in it, its neighbours and
      its heading
    - other_kind: 1 when a date, number or name is asked for and the passage has none of its own
    - strange: share of the question's names and numbers that its chunk does not know
    - rank: 1 / the rank of its chunk
    - defines: 1 for "X is ..." when the question is "What is X?"
    """
    wanted = set(content_terms(prompt.question, prompt.language))
    said = [set(content_terms(passage.text, prompt.language)) for passage in found]
    rarity = _rarity(wanted, said)
    rows = np.zeros((len(found), len(FEATURES)))
    for i, passage in enumerate(found):
        near = [said[j] for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].number == passage.number]
        heading = set(content_terms(passage.chunk.context, prompt.language))
        rows[i, 1:] = (
            _share(rarity, said[i]),
            _share(rarity, said[i].union(heading, *near)),
            _is_other_kind(prompt.question, passage.text),
            _strange(prompt.question, passage.chunk),
            1 / passage.chunk.rank,
            _defines(prompt.question, passage.text),
        )
    rows[:, 0] = _similarity(prompt.question, found, rows[:, 1] + rows[:, 2] + rows[:, 5], embed)
    return rows


def _rarity(wanted: set[str], said: Sequence[set[str]]) -> dict[str, float]:
    """log(1 + N / (1 + df)) of each term wanted, over the passages: after BM25's inverse document frequency."""
    held = Counter(term for terms in said for term in terms & wanted)
    return {term: math.log(1 + len(said) / (1 + held[term])) for term in wanted}


def _share(rarity: dict[str, float], terms: set[str]) -> float:
    total = sum(rarity.values())
    return sum(weight for term, weight in rarity.items() if term in terms) / total if total else 0.0


def _similarity(
    question: str, found: Sequence[Passage], promise: np.ndarray, embed: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """Cosine of question and passage less the median, for the most promising; the least of theirs for the others."""
    best = np.argsort(-promise, kind="stable")[:EMBEDDED]
    texts = [f"{found[i].chunk.context}\n{found[i].text}".strip() for i in best]
    vectors = np.asarray(embed([question, *texts]), dtype=float)
    cosines = vectors[1:] @ vectors[0]
    result = np.full(len(found), cosines.min())
    result[best] = cosines
    return result - np.median(cosines)


def _strange(question: str, chunk: ScoredChunk) -> float:
    asked = names(question) | numbers(question)
    known = f"{chunk.document} {chunk.context} {chunk.text}".lower().replace(",", "")
    return sum(item not in known for item in asked) / len(asked) if asked else 0.0


# --- the kind of answer a question wants -----------------------------------------------------------------------------

_HOW = re.compile(
    r"\bhow (?:do|to|can|should|would|does)\b|\bexample|\bcommand|\bcode\b|如何|怎么|怎样|示例|例子|命令|代码", re.I
)
_DATE = re.compile(
    r"\b1\d{3}s?\b|\b20\d\ds?\b|\bcentur|\b(?:January|February|March|April|May|June|July|August|September|October"
    r"|November|December)\b|\b(?:yesterday|today|ago|years?|decades?|era|ages?)\b|[年月日]|世纪|时期|时代"
)
_AMOUNT = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion|half|dozen"
    r"|once|twice|several|none|no)\b|[一二两三四五六七八九十百千万亿半]",
    re.I,
)
_KINDS = (
    (
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|decade)|何时|什么时[候间]|哪一?年|几[年月]", re.I
        ),
        _DATE,
    ),
    (
        re.compile(
            r"\bhow (?:many|much|old|long|far|tall|large|big|often)\b|\bwhat (?:number|percent|amount|age)|多少"
            r"|几[个岁次名人天]|多[大长高远久]",
            re.I,
        ),
        _AMOUNT,
    ),
)
_WHO = re.compile(r"\bwho(?:se|m)?\b|\bwhere\b|\b(?:what|which) (?:city|country|person|state)\b", re.I)


_WHAT_IS = re.compile(
    r"\s*(?:(?:what|who)(?:'s| is| are| was| were) (?:an? |the )?(?P<en>.{2,60}?)"
    r"|(?:什么是|谁是)(?P<zh>.{1,30}?)|(?P<topic>.{1,30}?)是(?:什么|谁))\s*[?？]?\s*$",
    re.I,
)


def _defines(question: str, text: str) -> bool:
    if not (asked := _WHAT_IS.match(question)):
        return False
    topic = re.escape(next(filter(None, asked.groups())))
    given = (
        rf"[\W_]*(?:an? |the )?{topic}[*_`'\"”」]*(?:\s*[(（][^)）]*[)）])?\s*(?:(?:is|are|was|were|means)\b|[是指])"
    )
    return bool(re.match(given, text, re.I))


def _is_other_kind(question: str, text: str) -> bool:
    for asked, given in _KINDS:
        if asked.search(question):
            return not {m.lower() for m in given.findall(text)} - {m.lower() for m in given.findall(question)}
    # The first word counts too: a capital there is no proof of a name, but often is one.
    return bool(_WHO.search(question)) and not names(f"x {text}") - names(f"x {question}")
