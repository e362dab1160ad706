"""From an answer with markers to sentences tied to places in the documents; a judge says whether those bear them out.

Marker [n] means ``prompt.chunks[n - 1]``, in the stream and in the end: nothing is renumbered.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from inference.judges.base import Claim, Judge, Place
from inference.judges.words import WordsJudge
from inference.prompts import REFUSALS, is_general
from inference.words import Unit, content_terms, numbers, units
from ragplat.text import is_cjk
from ragplat.types import Answer, Citation, FinishReason, Prompt, ScoredChunk, Sentence

WINDOW = 3  # sentences of a chunk that one citation may span
WINDOW_COST = 0.04  # gain in that share which a further sentence must bring

_NUMBERS = r"\d{1,3}(?:\s*(?:[,，、;；]|[-–—~])\s*\d{1,3})*"
_WORD = r"(?:\^|(?:[Ss]ources?|资料|来源)\s*)?"
_NO_LINK = r"(?!\(\s*(?:https?:|#|/))"
MARKER = re.compile(rf"[\[【［]{{1,2}}{_WORD}({_NUMBERS})[\]】］]{{1,2}}{_NO_LINK}")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_BESIDE = 24  # characters beside a marker that tell whether it was copied with them
_EDGES = " \t\n.,;:!?。，；：！？、\"'“”‘’*_"
_LIST_MARK = re.compile(r"\s*(?:[-*+•]|\(?\d{1,3}[.)])\s+")


def resolve(text: str, prompt: Prompt, finish_reason: FinishReason = "stop") -> Answer:
    """The complete ``text`` of a generator as an Answer: cited, and judged by words alone."""
    return verify(cite(text, prompt, finish_reason), prompt, WordsJudge())


def cite(text: str, prompt: Prompt, finish_reason: FinishReason = "stop") -> Answer:
    """The complete ``text`` of a generator as an Answer whose sentences nobody has judged yet.

    Markers may be written [1], [1][2], [1, 2], [1-3] or 【1】 and become [1][2]; those that point at nothing are
    removed and counted. Every (sentence, marker) pair is tied to the place in that chunk which bears it out best: the
    same words where they are found, else the sentences sharing most terms, else the whole chunk. Refusals, headings and
    lines that lead in a list claim nothing and are not among ``sentences``; nor does general knowledge, which says what
    it is and rests on no source.
    """
    general = is_general(text)
    text, unknown = _tidy(text, () if general else prompt.chunks)
    sources = [_Source(chunk, prompt.language) for chunk in prompt.chunks]
    sentences = tuple(
        Sentence(
            text=stated.text,
            start=stated.start,
            end=stated.end,
            citations=tuple(sources[n - 1].cite(n, stated.text) for n in stated.numbers),
            support="unsupported",
        )
        for stated in (() if general or finish_reason == "no_answer" else _stated(text, prompt.chunks))
    )
    return Answer(
        text=text,
        sentences=sentences,
        citations=tuple(dict.fromkeys(citation for sentence in sentences for citation in sentence.citations)),
        finish_reason=finish_reason,
        unknown_markers=unknown,
    )


def verify(answer: Answer, prompt: Prompt, judge: Judge) -> Answer:
    """``answer`` with the verdicts of ``judge`` on its sentences. ``prompt`` is the one it was resolved with."""
    verdicts = judge.judge(claims(answer, prompt))
    judged = zip(answer.sentences, verdicts, strict=True)
    return replace(
        answer,
        sentences=tuple(replace(sentence, support=one.support, why=one.how) for sentence, one in judged),
    )


def claims(answer: Answer, prompt: Prompt) -> list[Claim]:
    """What a judge gets to see of each sentence."""

    def place(citation: Citation) -> Place:
        chunk = prompt.chunks[citation.number - 1]
        start, end = citation.start - chunk.start, citation.end - chunk.start
        return Place(text=chunk.text, start=start, end=end, context=chunk.context, document=chunk.document)

    return [
        Claim(text=sentence.text, places=tuple(map(place, sentence.citations)), language=prompt.language)
        for sentence in answer.sentences
    ]


# --- markers ---------------------------------------------------------------------------------------------------------


def _tidy(text: str, chunks: Sequence[ScoredChunk]) -> tuple[str, int]:
    """``text`` with every marker as [n] and the unknown ones removed, and how many those were."""
    unknown = 0
    while True:
        pieces, at = [], 0
        for match in _markers(text, chunks):
            wanted = _expand(match.group(1), len(chunks))
            known = [n for n in wanted if 1 <= n <= len(chunks)]
            unknown += len(wanted) - len(known)
            before = text[at : match.start()]
            pieces += [before if known else before.rstrip(" \t"), *(f"[{n}]" for n in known)]
            at = match.end()
        tidied = "".join([*pieces, text[at:]])
        if tidied == text:
            return text, unknown
        text = tidied  # again: a marker inside another, as in [9[9]1], leaves a new one


def _markers(text: str, chunks: Sequence[ScoredChunk]) -> Iterator[re.Match[str]]:
    """The markers of ``text`` that are the writer's own: not in code, not copied from a source with its brackets."""
    code = [match.span() for match in _CODE.finditer(text)]
    for match in MARKER.finditer(text):
        if not any(start <= match.start() < end for start, end in code) and not _copied(text, match, chunks):
            yield match


def _copied(text: str, match: re.Match[str], chunks: Sequence[ScoredChunk]) -> bool:
    """Whether a source has these brackets beside the same words, and the line has a marker of its own besides."""
    if not MARKER.search(text[match.end() :].partition("\n")[0]):
        return False
    before = text[max(0, match.start() - _BESIDE) : match.start()].rpartition("]")[2]
    after = text[match.end() : match.end() + _BESIDE].partition("[")[0]
    quotes = [_one_space(quote) for quote in (before + match.group(), match.group() + after)]
    telling = [quote for quote in quotes if len(quote) >= len(match.group()) + 6]
    return any(quote in _one_space(chunk.text) for quote in telling for chunk in chunks)


def _one_space(text: str) -> str:
    return " ".join(text.split())


def _expand(numbers_text: str, most: int) -> list[int]:
    """1, 3-5 as [1, 3, 4, 5]; a range stops at the first number above ``most``."""
    found: list[int] = []
    for part in re.split(r"[,，、;；]", numbers_text):
        ends = [int(n) for n in re.split(r"[-–—~]", part)]
        found += range(ends[0], min(ends[-1], max(most, ends[0]) + 1) + 1) if len(ends) == 2 else ends
    return list(dict.fromkeys(found))


# --- sentences -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stated:
    text: str
    start: int
    end: int
    numbers: tuple[int, ...]


def _stated(text: str, chunks: Sequence[ScoredChunk]) -> Iterator[_Stated]:
    """The sentences of a tidy text that claim something, without their markers, and the numbers of those."""
    kept: list[int] = []  # offsets in `text` of the characters of `plain`
    marks: list[tuple[int, int, int, int]] = []  # place in `plain`, start and end in `text`, number
    at = 0
    for match in _markers(text, chunks):
        before = text[at : match.start()].rstrip(" \t")
        kept += range(at, at + len(before))
        marks.append((len(kept), match.start(), match.end(), int(match.group(1))))
        at = match.end()
    kept += range(at, len(text))
    plain = "".join(text[i] for i in kept)
    found = units(plain)
    for i, unit in enumerate(found):
        first, after = i == 0, next(iter(found[i + 1 : i + 2]), None)
        mine = [mark for mark in marks if (first or unit.start < mark[0]) and (not after or mark[0] <= after.start)]
        start = min([kept[unit.start], *(mark[1] for mark in mine)])
        end = max([kept[unit.end - 1] + 1, *(mark[2] for mark in mine)])
        words = plain[unit.start : unit.end]
        if _claims_something(unit, words, bool(mine)):
            yield _Stated(words, start, end, tuple(dict.fromkeys(mark[3] for mark in mine)))


def _claims_something(unit: Unit, words: str, marked: bool) -> bool:
    if not re.search(r"\w", words) or words in REFUSALS.values():
        return False
    return marked or (unit.kind not in ("heading", "sign") and words.rstrip(" *_")[-1:] not in (":", "："))


# --- places ----------------------------------------------------------------------------------------------------------


def _within_word(two: str) -> bool:
    """Whether a word goes on from the first of two characters to the second. Chinese words have no visible ends."""
    return len(two) == 2 and two.isalnum() and not any(map(is_cjk, two))


@dataclass
class _Source:
    """A chunk, and what is asked of it again and again."""

    chunk: ScoredChunk
    language: str
    _terms: dict[Unit, set[str]] = field(default_factory=dict)

    @cached_property
    def units(self) -> list[Unit]:
        return units(self.chunk.text)

    @cached_property
    def squeezed(self) -> tuple[str, list[int]]:
        """The text without white space, and the offset of each character left."""
        offsets = [i for i, char in enumerate(self.chunk.text) if not char.isspace()]
        return "".join(self.chunk.text[i] for i in offsets), offsets

    def cite(self, number: int, sentence: str) -> Citation:
        start, end = self._same_words(sentence) or self._most_terms(sentence)
        chunk = self.chunk
        return Citation(
            number=number,
            chunk_id=chunk.chunk_id,
            document_id=chunk.document_id,
            document=chunk.document,
            page=chunk.page,
            start=chunk.start + start,
            end=chunk.start + end,
            quote=chunk.text[start:end],
        )

    def _same_words(self, sentence: str) -> tuple[int, int] | None:
        """Where the chunk has the sentence word for word, whatever the white space and the punctuation at its ends.

        Rather as a sentence of its own than within another.
        """
        bare = _LIST_MARK.sub("", sentence, count=1)
        begins = {unit.start for unit in self.units}
        for wanted in (sentence, bare, bare.strip(_EDGES)):
            found = list(self._stretches("".join(wanted.split())))
            if found:
                return next((place for place in found if place[0] in begins), found[0])
        return None

    def _stretches(self, key: str) -> Iterator[tuple[int, int]]:
        """Where the chunk has the characters of ``key``, not beginning or ending within a word or number."""
        squeezed, offsets = self.squeezed
        text = self.chunk.text
        for match in re.finditer(f"(?={re.escape(key)})", squeezed) if len(key) > 3 else ():
            start, end = offsets[match.start()], offsets[match.start() + len(key) - 1] + 1
            if not _within_word(text[start - 1 : start + 1]) and not _within_word(text[end - 1 : end + 1]):
                yield start, end

    def _most_terms(self, sentence: str) -> tuple[int, int]:
        """The run of up to WINDOW sentences that shares most terms with ``sentence``; the whole chunk for none."""
        wanted = set(content_terms(sentence, self.language)) | numbers(sentence)
        best, place = 0.0, (0, len(self.chunk.text))
        for first in range(len(self.units) if wanted else 0):
            seen: set[str] = set()
            for size, unit in enumerate(self.units[first : first + WINDOW]):
                seen |= self._terms_of(unit)
                gain = len(wanted & seen) / len(wanted) - WINDOW_COST * size
                if wanted & seen and gain > best:
                    best, place = gain, (self.units[first].start, unit.end)
        return place

    def _terms_of(self, unit: Unit) -> set[str]:
        if unit not in self._terms:
            text = self.chunk.text[unit.start : unit.end]
            self._terms[unit] = set(content_terms(text, self.language)) | numbers(text)
        return self._terms[unit]
