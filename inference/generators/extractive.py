"""Answers without a language model: quotes the sentences that answer, word for word, or says that none does."""

import re
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from inference.generators.evidence import Embed, Passage, answerable, features, passages, probability
from inference.prompts import REFUSALS
from inference.words import Unit, content_terms
from ragplat.signature import signature
from ragplat.types import Delta, Prompt

MOST = 4  # passages in an answer
NEAR = 0.25  # a further passage must be at least this share as likely as the best
ALIKE = 0.8  # passages sharing this much of their terms say the same
LEAST = {"en": 0.47, "zh": 0.4}  # likelihood of an answer: with less, it is refused; from the same benchmark


class ExtractiveGenerator:
    """Quotes up to MOST passages, each followed by its marker.

    ``embed`` maps texts to unit vectors. With ``strict`` false the best passage is quoted however unlikely it is to
    answer.

    White space inside a quoted sentence is shown as one space (none between Chinese characters); code stays as it is.
    """

    name = "extractive"

    def __init__(self, embed: Embed, strict: bool = True):
        self._embed = embed
        self.strict = strict

    def signature(self) -> str:
        return signature("generator", name=self.name, strict=self.strict, v=2)

    def generate(self, prompt: Prompt, stopped: threading.Event | None = None) -> Iterator[Delta]:
        found = passages(prompt)
        rows = features(prompt, found, self._embed)
        likely = probability(rows, prompt.language)
        if not found or (self.strict and answerable(prompt, found, rows, likely) < LEAST[prompt.language]):
            yield Delta(text=REFUSALS[prompt.language], finish_reason="no_answer")
            return
        chosen = _choose(found, likely, prompt.language)
        before: Passage | None = None
        for passage in _order(chosen):
            if stopped and stopped.is_set():
                return
            yield Delta(text=_gap(before, passage) + _quote(passage, _goes_on(before, passage)))
            before = passage
        yield Delta(text="", finish_reason="stop")


def _choose(found: Sequence[Passage], likely: np.ndarray, language: str) -> list[Passage]:
    """The likeliest passages, best first, without what says the same again."""
    chosen: list[tuple[Passage, set[str]]] = []
    for i in np.argsort(-likely, kind="stable"):
        if len(chosen) == MOST or likely[i] < NEAR * likely.max():
            break
        terms = set(content_terms(found[i].own, language))
        if not any(_overlap(found[i], other) or _alike(terms, said) for other, said in chosen):
            chosen.append((found[i], terms))
    return [passage for passage, _ in chosen]


def _overlap(a: Passage, b: Passage) -> bool:
    """Whether two passages show the same place of a document; the header of a table may stand above several rows."""
    if a.chunk.document_id != b.chunk.document_id:
        return False
    same_lead = a.lead and a.chunk == b.chunk and a.lead == b.lead
    places = [
        [(p.chunk.start + u.start, p.chunk.start + u.end) for u in (p.parts if same_lead else p.units)] for p in (a, b)
    ]
    return any(max(i, m) < min(j, n) for i, j in places[0] for m, n in places[1])


def _alike(a: set[str], b: set[str]) -> bool:
    return len(a & b) >= ALIKE * min(len(a), len(b))


def _order(chosen: Sequence[Passage]) -> list[Passage]:
    """The document of the best passage first; within a document as it reads."""
    documents = list(dict.fromkeys(passage.chunk.document_id for passage in chosen))
    return sorted(chosen, key=lambda p: (documents.index(p.chunk.document_id), p.chunk.start + p.start))


def _gap(before: Passage | None, passage: Passage) -> str:
    if before is None:
        return ""
    if _goes_on(before, passage):
        return "\n"
    runs_on = before.chunk.document_id == passage.chunk.document_id
    if not runs_on or any(part.kind != "prose" for part in (*before.units, *passage.units)):
        return "\n\n"
    return "" if re.match(_WIDE * 2, before.text[-1] + passage.text) else " "


def _goes_on(before: Passage | None, passage: Passage) -> bool:
    """Whether ``passage`` stands under the same line as the one before it: the next row of a table, more of a list."""
    return bool(before and passage.lead and before.chunk == passage.chunk and before.lead == passage.lead)


def _quote(passage: Passage, goes_on: bool) -> str:
    """The parts of a passage, a line each, with its marker; a line that only leads in what follows needs none."""
    lines = []
    for unit in passage.parts if goes_on else passage.units:
        words = _shown(passage.chunk.text[unit.start : unit.end], unit)
        if unit.kind == "code":
            words += f"\n[{passage.number}]"
        elif unit.kind != "sign" and not (unit in passage.lead and words.rstrip(" *_")[-1:] in (":", "：")):
            words += ("" if re.match(_WIDE, words[-1]) else " ") + f"[{passage.number}]"
        if unit in passage.lead and unit.kind == "prose":
            words += "\n"
        lines.append(words)
    return "\n".join(lines)


def _shown(words: str, part: Unit) -> str:
    """``words`` on one line, as a wrapped sentence is read; code as it stands."""
    return words if part.kind == "code" else " ".join(_WRAPPED.sub("", words).split())


_WIDE = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"  # Chinese and Japanese characters: no space belongs between them
_WRAPPED = re.compile(rf"(?<={_WIDE})[ \t]*\n[ \t]*(?={_WIDE})")
