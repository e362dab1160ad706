"""From an answer with markers to sentences tied to places in the documents, each judged against what it cites.

Marker [n] means ``prompt.chunks[n - 1]``, in the stream and in the end: nothing is renumbered.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from inference.words import Unit, content_terms, names, numbers, units
from ragplat.types import Answer, Citation, FinishReason, Prompt, ScoredChunk, Sentence, Support

SUPPORTED, PARTLY = 0.6, 0.3  # least shares of a sentence's terms found in what it cites
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
    """The complete ``text`` of a generator as an Answer.

    Markers may be written [1], [1][2], [1, 2], [1-3] or 【1】 and become [1][2]; those that point at nothing are
    removed and counted. Every (sentence, marker) pair is tied to the place in that chunk which bears it out best: the
    same words where they are found, else the sentences sharing most terms, else the whole chunk. Whether that bears
    the sentence out is judged by terms, numbers and names; see ``_support``. Refusals, headings and lines that lead in
    a list claim nothing and are not among ``sentences``.
    """
    text, unknown = _tidy(text, prompt.chunks)
    sources = [_Source(chunk, prompt.language) for chunk in prompt.chunks]
    sentences = []
    for claim in _claims(text, prompt.chunks) if finish_reason != "no_answer" else ():
        cited = tuple(sources[n - 1].cite(n, claim.text) for n in claim.numbers)
        support = _support(claim.text, cited, sources, prompt.language)
        sentences.append(Sentence(text=claim.text, start=claim.start, end=claim.end, citations=cited, support=support))
    return Answer(
        text=text,
        sentences=tuple(sentences),
        citations=tuple(dict.fromkeys(citation for sentence in sentences for citation in sentence.citations)),
        finish_reason=finish_reason,
        unknown_markers=unknown,
    )


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
class _Claim:
    text: str
    start: int
    end: int
    numbers: tuple[int, ...]


def _claims(text: str, chunks: Sequence[ScoredChunk]) -> Iterator[_Claim]:
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
            yield _Claim(words, start, end, tuple(dict.fromkeys(mark[3] for mark in mine)))


def _claims_something(unit: Unit, words: str, marked: bool) -> bool:
    if not re.search(r"\w", words):
        return False
    return marked or (unit.kind not in ("heading", "sign") and words.rstrip(" *_")[-1:] not in (":", "："))


# --- places ----------------------------------------------------------------------------------------------------------


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
        """Where the chunk has the sentence word for word, whatever the white space and the punctuation at its ends."""
        text, offsets = self.squeezed
        bare = _LIST_MARK.sub("", sentence, count=1)
        for wanted in (sentence, bare, bare.strip(_EDGES)):
            key = "".join(wanted.split())
            at = text.find(key) if len(key) > 3 else -1
            if at >= 0:
                return offsets[at], offsets[at + len(key) - 1] + 1
        return None

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


# --- support ---------------------------------------------------------------------------------------------------------


def _support(sentence: str, cited: Sequence[Citation], sources: Sequence[_Source], language: str) -> Support:
    """How far the cited places bear ``sentence`` out: the share of its terms that they hold.

    A number or name that stands nowhere in the cited chunks, their headings or document names keeps a sentence from
    being "supported": those are what models get wrong. Says nothing about negation or the order of words.
    """
    if not cited:
        return "unsupported"
    chunks = [sources[citation.number - 1].chunk for citation in cited]
    quotes = "\n".join([*(citation.quote for citation in cited), *(chunk.context for chunk in chunks)])
    around = "\n".join(f"{chunk.document} {chunk.context} {chunk.text}" for chunk in chunks)
    wanted = set(content_terms(sentence, language))
    share = len(wanted & set(content_terms(quotes, language))) / len(wanted) if wanted else 1.0
    true_to_facts = numbers(sentence) <= numbers(around) and all(name in around.lower() for name in names(sentence))
    if share >= SUPPORTED and true_to_facts:
        return "supported"
    return "partly" if share >= PARTLY else "unsupported"
