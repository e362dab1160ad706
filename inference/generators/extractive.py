"""Answers without a language model: quotes the sentences that answer, word for word, or says that none does."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from inference.generators.evidence import Passage, features, passages, probability
from inference.prompts import REFUSALS
from inference.words import Unit, content_terms
from ragplat.signature import signature
from ragplat.types import Delta, Prompt

MOST = 4  # passages in an answer
NEAR = 0.25  # a further passage must be at least this share as likely as the best
ALIKE = 0.8  # passages sharing this much of their terms say the same
THRESHOLD = {"en": 0.045, "zh": 0.028}  # least likelihood of the best passage; from benchmarks/generation/extractive.py


class ExtractiveGenerator:
    """Quotes up to MOST passages, each followed by its marker.

    ``embed`` maps texts to unit vectors, float (len(texts), dimensions). With ``strict`` false the best passage is
    quoted however unlikely it is to answer.

    White space inside a quoted sentence is shown as one space (none between Chinese characters); code stays as it is.
    """

    name = "extractive"

    def __init__(self, embed: Callable[[list[str]], np.ndarray], strict: bool = True):
        self._embed = embed
        self.strict = strict

    def signature(self) -> str:
        return signature("generator", name=self.name, strict=self.strict, v=1)

    def generate(self, prompt: Prompt, stopped: threading.Event | None = None) -> Iterator[Delta]:
        found = passages(prompt)
        likely = probability(features(prompt, found, self._embed), prompt.language) if found else np.zeros(0)
        threshold = THRESHOLD[prompt.language] if self.strict else 0.0
        if not found or likely.max() < threshold:
            yield Delta(text=REFUSALS[prompt.language], finish_reason="no_answer")
            return
        chosen = _choose(found, likely, prompt.language)
        before: Passage | None = None
        for passage in _order(chosen):
            if stopped and stopped.is_set():
                return
            yield Delta(text=_gap(before, passage) + _quote(passage))
            before = passage
        yield Delta(text="", finish_reason="stop")


def _choose(found: Sequence[Passage], likely: np.ndarray, language: str) -> list[Passage]:
    """The likeliest passages, best first, without what says the same again."""
    chosen: list[tuple[Passage, set[str]]] = []
    for i in np.argsort(-likely, kind="stable"):
        if len(chosen) == MOST or likely[i] < NEAR * likely.max():
            break
        terms = set(content_terms(found[i].text, language))
        if not any(_overlap(found[i], other) or _alike(terms, said) for other, said in chosen):
            chosen.append((found[i], terms))
    return [passage for passage, _ in chosen]


def _overlap(a: Passage, b: Passage) -> bool:
    starts = [passage.chunk.start + passage.start for passage in (a, b)]
    ends = [passage.chunk.start + passage.end for passage in (a, b)]
    return a.chunk.document_id == b.chunk.document_id and max(starts) < min(ends)


def _alike(a: set[str], b: set[str]) -> bool:
    return len(a & b) >= ALIKE * min(len(a), len(b))


def _order(chosen: Sequence[Passage]) -> list[Passage]:
    """The document of the best passage first; within a document as it reads."""
    documents = list(dict.fromkeys(passage.chunk.document_id for passage in chosen))
    return sorted(chosen, key=lambda p: (documents.index(p.chunk.document_id), p.chunk.start + p.start))


def _gap(before: Passage | None, passage: Passage) -> str:
    if before is None:
        return ""
    runs_on = before.chunk.document_id == passage.chunk.document_id
    if not runs_on or any(part.kind != "prose" for part in (*before.parts, *passage.parts)):
        return "\n\n"
    return "" if re.match(_WIDE * 2, before.text[-1] + passage.text) else " "


def _quote(passage: Passage) -> str:
    """The parts of a passage, a line each, with its marker; the line that leads in a list or code needs none."""
    lines = []
    for part in passage.parts:
        words = _shown(passage.chunk.text[part.start : part.end], part)
        if part.kind == "code":
            words += f"\n[{passage.number}]"
        elif part is passage.parts[0] and len(passage.parts) > 1:
            words += "\n"
        else:
            words += ("" if re.match(_WIDE, words[-1]) else " ") + f"[{passage.number}]"
        lines.append(words)
    return "\n".join(lines)


def _shown(words: str, part: Unit) -> str:
    """``words`` on one line, as a wrapped sentence is read; code as it stands."""
    return words if part.kind == "code" else " ".join(_WRAPPED.sub("", words).split())


_WIDE = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"  # Chinese and Japanese characters: no space belongs between them
_WRAPPED = re.compile(rf"(?<={_WIDE})[ \t]*\n[ \t]*(?={_WIDE})")
