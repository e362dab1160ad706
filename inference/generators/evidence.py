"""How likely a passage of a chunk answers a question, and whether any does: two logistic models of a few features.

``benchmarks/generation/extractive.py --fit`` prints the weights below from questions with and without an answer.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from inference.generators.orders import to_answerer
from inference.words import Unit, content_terms, names, numbers, units
from ragplat.types import Prompt, ScoredChunk

LONGEST = 1200  # characters of a list or code blocks quoted whole with the line that leads to them
EMBEDDED = 5  # passages that are embedded, the most promising ones: some 10 ms each on one core, all else takes 5 ms
FAR = 5.0  # logarithm of odds: a margin that can be no larger

Embed = Callable[[list[str]], np.ndarray]  # texts to unit vectors, float (len(texts), dimensions)

FEATURES = ("similarity", "coverage", "around", "whole", "pairs", "other_kind", "strange", "rank", "defines", "code")
WEIGHTS = {  # the last two are set by hand: the data sets have no code, and hardly ever ask for a definition
    "en": (4.07, 3.96, 1.18, -0.52, 1.29, -1.22, -2.8, 2.97, 1.5, 3.0),
    "zh": (3.2, 7.62, 1.54, -0.16, -0.62, -1.55, -1.58, 3.81, 1.5, 3.0),
}
BIAS = {"en": -7.15, "zh": -7.68}

SIGNS = ("odds", "margin", "known", "strange", "agreed")
SIGN_WEIGHTS = {"en": (0.79, -0.28, 2.24, -1.68, 1.05), "zh": (0.84, -0.19, -0.4, -2.39, 1.12)}
SIGN_BIAS = {"en": 0.32, "zh": 1.22}


@dataclass(frozen=True)
class Passage:
    """What can be quoted from chunk ``number``: a sentence, list items, code or a table row, under what leads to it."""

    number: int  # marker: chunks[number - 1]
    chunk: ScoredChunk
    parts: tuple[Unit, ...]
    lead: tuple[Unit, ...] = ()  # the line before a list or code, the header and rule of a table
    heading: str = ""  # the last one above it in the chunk

    @property
    def units(self) -> tuple[Unit, ...]:
        return (*self.lead, *self.parts)

    @property
    def start(self) -> int:
        return self.units[0].start

    @property
    def text(self) -> str:
        return self._words(self.units)

    @property
    def own(self) -> str:
        """Its words without those of what leads to it."""
        return self._words(self.parts)

    def _words(self, units: Sequence[Unit]) -> str:
        return "\n".join(self.chunk.text[unit.start : unit.end] for unit in units)


def passages(prompt: Prompt) -> list[Passage]:
    """Everything in the prompt's chunks that can be quoted, each stretch of a document once."""
    found: list[Passage] = []
    seen: set[tuple[int, int, int]] = set()
    how = asks_how(prompt.question)
    for number, chunk in enumerate(prompt.chunks, start=1):
        for passage in _within(number, chunk, how):
            place = (chunk.document_id, chunk.start + passage.parts[0].start, chunk.start + passage.parts[-1].end)
            wanted = _says_something(passage) and not to_answerer(passage.text, prompt.question)
            if wanted and place not in seen:
                seen.add(place)
                found.append(passage)
    return found


def _within(number: int, chunk: ScoredChunk, code: bool) -> list[Passage]:
    """The quotable units of a chunk; list items, table rows and, if wanted, code go under what leads to them."""
    found: list[Passage] = []
    heading, lead, before = "", (), None  # `before`: the unit before, where it can lead in code or a table
    for unit in units(chunk.text):
        words = chunk.text[unit.start : unit.end]
        if unit.kind == "heading":
            heading, lead = words, ()
        elif unit.kind == "sign" and "-" in words and before and before.kind == "row":
            lead = (before, unit)
            found.pop()
        elif unit.kind == "sign" or (unit.kind == "code" and not (code and _CLOSED.match(words))):
            lead = ()
        elif unit.kind == "row":
            lead = lead if lead and lead[0].kind == "row" else ()
            found.append(Passage(number, chunk, (unit,), lead, heading))
        elif unit.kind == "prose":
            lead = (unit,) if _leads(words) else ()
            found.append(Passage(number, chunk, (unit,), (), heading))
        else:
            if unit.kind == "code" and before and before.kind == "prose":
                lead = (before,)
            elif lead and lead[0].kind == "row":
                lead = ()
            if found and lead and found[-1].lead == lead and unit.end - lead[0].start <= LONGEST:
                found[-1] = replace(found[-1], parts=(*found[-1].parts, unit))
            else:
                found.append(Passage(number, chunk, (unit,), lead, heading))
        before = unit
    return found


# A block cut in two by its chunk has no end, or begins with its end: neither can be shown.
_CLOSED = re.compile(r"(```|~~~)[^\n]*\n.*\n[ \t]*\1[`~ \t]*\Z", re.DOTALL)


def _leads(words: str) -> bool:
    return words.rstrip(" *_")[-1:] in (":", "：")


def _says_something(passage: Passage) -> bool:
    text = passage.text
    alone = len(passage.units) == 1
    return len(re.findall(r"\w", text)) >= 8 and not (
        alone and (_leads(text) or text.rstrip(" *_")[-1:] in ("?", "？"))
    )


# --- features --------------------------------------------------------------------------------------------------------


def probability(rows: np.ndarray, language: str) -> np.ndarray:
    """How likely each passage is to answer, from its features: float64, (passages,)."""
    return 1 / (1 + np.exp(-(rows @ np.array(WEIGHTS[language]) + BIAS[language])))


def features(prompt: Prompt, found: Sequence[Passage], embed: Embed) -> np.ndarray:
    """FEATURES of each passage: float64, (passages, 10).

    - similarity: cosine to the question, less the median of the passages embedded, so that the embedder's own level
      does not matter
    - coverage, around, whole: share of the question's terms, weighted by rarity, in the passage; in it, its neighbours
      and its headings; in its chunk
    - pairs: share of the pairs of terms side by side in the question that are at most one term apart in the passage
    - other_kind: 1 when a date, number or name is asked for and the passage has none of its own
    - strange: share of the question's names and numbers that its chunk does not know
    - rank: 1 / the rank of its chunk
    - defines: 1 for "X is ..." when the question is "What is X?"
    - code: 1 for code when the question asks how to do something
    """
    question, language = prompt.question, prompt.language
    wanted = content_terms(question, language)
    said = [content_terms(passage.text, language) for passage in found]
    rarity = _rarity(set(wanted), [set(terms) for terms in said])
    known = {chunk.chunk_id: set(content_terms(f"{chunk.context}\n{chunk.text}", language)) for chunk in prompt.chunks}
    how = asks_how(question)
    rows = np.zeros((len(found), len(FEATURES)))
    for i, passage in enumerate(found):
        near = [said[j] for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].number == passage.number]
        above = content_terms(f"{passage.chunk.context}\n{passage.heading}", language)
        rows[i, 1:] = (
            _share(rarity, set(said[i])),
            _share(rarity, set(said[i]).union(above, *near)),
            _share(rarity, known[passage.chunk.chunk_id]),
            _pairs(wanted, said[i]),
            _is_other_kind(question, passage.text),
            _strange(question, passage.chunk),
            1 / passage.chunk.rank,
            _defines(question, passage.text),
            how and any(part.kind == "code" for part in passage.parts),
        )
    if len(found):
        promise = sum(rows[:, FEATURES.index(name)] for name in ("coverage", "around", "rank"))
        rows[:, 0] = _similarity(question, found, promise, embed)
    return rows


def _similarity(question: str, found: Sequence[Passage], promise: np.ndarray, embed: Embed) -> np.ndarray:
    """Cosine of question and passage less the median, for the most promising; the least of theirs for the others."""
    best = np.argsort(-promise, kind="stable")[:EMBEDDED]
    vectors = np.asarray(embed([question, *(found[i].text for i in best)]), dtype=float)
    cosines = vectors[1:] @ vectors[0]
    result = np.full(len(found), cosines.min())
    result[best] = cosines
    return result - np.median(cosines)


def _rarity(wanted: set[str], said: Sequence[set[str]]) -> dict[str, float]:
    """log(1 + N / (1 + df)) of each term wanted, over the passages: after BM25's inverse document frequency."""
    held = Counter(term for terms in said for term in terms & wanted)
    return {term: math.log(1 + len(said) / (1 + held[term])) for term in wanted}


def _share(rarity: dict[str, float], terms: set[str]) -> float:
    total = sum(rarity.values())
    return sum(weight for term, weight in rarity.items() if term in terms) / total if total else 0.0


def _pairs(wanted: Sequence[str], said: Sequence[str]) -> float:
    asked = set(pairwise(wanted))
    return len(asked & {*pairwise(said), *zip(said, said[2:], strict=False)}) / len(asked) if asked else 0.0


def _strange(question: str, chunk: ScoredChunk) -> float:
    asked = names(question) | numbers(question)
    known = f"{chunk.document} {chunk.context} {chunk.text}".lower().replace(",", "")
    return sum(item not in known for item in asked) / len(asked) if asked else 0.0


# --- whether there is an answer at all -------------------------------------------------------------------------------


def answerable(prompt: Prompt, found: Sequence[Passage], rows: np.ndarray, likely: np.ndarray) -> float:
    """How likely the best passage is to answer, when half of all questions have an answer. See ``signs``."""
    seen = signs(prompt, found, rows, likely)
    return float(1 / (1 + np.exp(-(seen @ np.array(SIGN_WEIGHTS[prompt.language]) + SIGN_BIAS[prompt.language]))))


def signs(prompt: Prompt, found: Sequence[Passage], rows: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """SIGNS that the best passage answers: float64, (5,).

    - odds: logarithm of its odds
    - margin: by how much those are above the next one's, at most 5
    - known: the largest share of the question's terms that a chunk has
    - strange: share of the question's names and numbers that its chunk does not know
    - agreed: 0.5 for each leg of the search that put its chunk first
    """
    odds = np.sort(np.log(likely) - np.log1p(-likely))[::-1]
    best = int(likely.argmax())
    legs = (found[best].chunk.dense, found[best].chunk.lexical)
    return np.array(
        [
            odds[0],
            min(odds[0] - odds[1], FAR) if len(odds) > 1 else FAR,
            rows[:, FEATURES.index("whole")].max(),
            rows[best, FEATURES.index("strange")],
            sum(leg is not None and leg.rank == 1 for leg in legs) / 2,
        ]
    )


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


def asks_how(question: str) -> bool:
    """Whether code may answer."""
    return bool(_HOW.search(question))


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
