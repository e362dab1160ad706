"""Steps between the ranking and the prompt: duplicates go, variety comes, and each hit gets its surroundings.

Every step takes chunks in order, best first, and gives them back so.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ragplat.errors import BadInput
from ragplat.types import ScoredChunk

SHORT_TOKENS = 60  # a chunk of fewer says little by itself, so its neighbours help even from under another heading

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # kana, Han
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_HEADING = re.compile(r"\s*(?:#{1,6}\s|[^\n]+\n {0,3}(?:={3,}|-{3,})[ \t]*(?:\n|$))")


# --- near-duplicates -------------------------------------------------------------------------------------------------


class Dropped(NamedTuple):
    """A chunk that says what a better one says already."""

    chunk_id: int
    better: int  # id of the chunk it was dropped for
    overlap: float  # of their words, 0..1


_NUMBER = re.compile(r"\d+")


def collapse(chunks: Sequence[ScoredChunk], overlap: float) -> tuple[list[ScoredChunk], list[Dropped]]:
    """``chunks`` without near-duplicates of better ones, and what was dropped.

    Near-duplicates share at least ``overlap`` (over 0, at most 1) of their shingles, the Jaccard coefficient of runs of
    three words, or of three characters where a script has no spaces (Broder 1997), and all of their numbers: two
    versions of a rule that differ in a limit are not the same. Stretches of one document that overlap are no
    duplicates: the chunker repeats a sentence or two on purpose. Raises BadInput for another overlap.
    """
    if not 0 < overlap <= 1:
        raise BadInput(f"collapse is {overlap}. Allowed: a share over 0 and up to 1, or none to keep everything.")
    kept: list[tuple[ScoredChunk, set[int]]] = []
    dropped: list[Dropped] = []
    seen: set[int] = set()
    for chunk in chunks:
        shingles = _shingles(chunk.text)
        # What shares too little with all kept chunks together shares too little with each of them.
        near = kept if len(seen & shingles) >= overlap * len(shingles) else []
        found = next((one for one in _compared(chunk, shingles, near) if one.overlap >= overlap), None)
        if found:
            dropped.append(found)
        else:
            kept.append((chunk, shingles))
            seen |= shingles
    return _ranked(chunk for chunk, _ in kept), dropped


def _compared(
    chunk: ScoredChunk, shingles: set[int], others: Iterable[tuple[ScoredChunk, set[int]]]
) -> Iterable[Dropped]:
    for other, theirs in others:
        same_place = other.document_id == chunk.document_id and other.start < chunk.end and chunk.start < other.end
        if not same_place and sorted(_NUMBER.findall(chunk.text)) == sorted(_NUMBER.findall(other.text)):
            shared = len(shingles & theirs)
            yield Dropped(chunk.chunk_id, other.chunk_id, shared / (len(shingles) + len(theirs) - shared))


def _shingles(text: str) -> set[int]:
    lower = text.lower()
    # Splitting at white space is four times as fast, and good enough where words are written apart.
    units = (lower.split() if lower.isascii() else _UNIT.findall(lower)) or [lower]
    return set(map(hash, zip(units, units[1:], units[2:], strict=False))) or {hash(tuple(units))}


def _ranked(chunks: Iterable[ScoredChunk]) -> list[ScoredChunk]:
    return [replace(chunk, rank=rank) for rank, chunk in enumerate(chunks, start=1)]


# --- variety ---------------------------------------------------------------------------------------------------------


def diversify(chunks: Sequence[ScoredChunk], vectors: np.ndarray, diversity: float, k: int) -> list[ScoredChunk]:
    """``k`` of ``chunks`` by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), in the order chosen.

    ``vectors``: their unit vectors, float [n, d]. Each choice has the greatest (1 - diversity) * score - diversity *
    (greatest cosine with a chunk chosen before), with scores scaled to 0..1 among ``chunks``; equal ones go by rank.
    Scores stay what they were. Raises BadInput for a diversity outside 0..1, k < 1, or another number of vectors.
    """
    if not 0 <= diversity <= 1:
        raise BadInput(f"diversity is {diversity}. Allowed: a share from 0 (relevance alone) to 1 (difference alone).")
    if k < 1:
        raise BadInput(f"The number of chunks to choose is {k}; at least 1 is needed.")
    if len(vectors) != len(chunks):
        raise BadInput(f"{len(vectors)} vectors were given for {len(chunks)} chunks; each chunk needs its own.")
    if not chunks:
        return []
    relevance = _scaled(np.array([chunk.score for chunk in chunks]))
    cosines = np.asarray(vectors, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64).T
    nearest = np.zeros(len(chunks))  # cosine with the most similar chunk chosen so far
    chosen: list[int] = []
    while len(chosen) < min(k, len(chunks)):
        value = np.round((1 - diversity) * relevance - diversity * nearest, 9)  # equal up to the last bits is equal
        value[chosen] = -np.inf
        best = int(np.argmax(value))
        nearest = np.maximum(nearest, cosines[best]) if chosen else cosines[best]
        chosen.append(best)
    return _ranked(chunks[place] for place in chosen)


def _scaled(scores: np.ndarray) -> np.ndarray:
    span = scores.max() - scores.min()
    return (scores - scores.min()) / span if span > 0 else np.ones(len(scores))


# --- surroundings ----------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A chunk at or near a hit, as the store has it."""

    document_id: int
    ordinal: int
    start: int
    end: int
    context: str
    text: str
    tokens: int


class Widened(NamedTuple):
    """A hit with its surroundings: from now on it is ``document.text[start:end]``."""

    chunk: ScoredChunk  # the hit as it was
    start: int
    end: int
    context: str  # of the chunk it now begins with
    merged: tuple[int, ...]  # ids of worse hits that lie in it, and are no results of their own any more


Rows = Mapping[int, Row]  # of one document by ordinal, without those that belong to a better hit
Reach = Callable[[Row, Rows], tuple[Row, Row]]  # from a hit's own row to the first and the last of its result


def neighbours(hits: Sequence[ScoredChunk], rows: Iterable[Row]) -> list[Widened]:
    """Each hit with the chunk before and the chunk after it, as far as they belong to the same section.

    A hit of fewer than SHORT_TOKENS tokens takes them from other sections too. ``rows``: the chunks of the hits and
    those next to them, by ordinal; more do no harm, a missing one (such as a disabled chunk) is never crossed, and a
    hit whose own row is missing stays as it is.

    The results are in the order of ``hits`` and do not overlap: a hit that lies in the surroundings of a better one is
    merged into it, and a sentence that the chunker repeated stays with the better of two results.
    """
    return _widen(hits, rows, _beside)


def section(hits: Sequence[ScoredChunk], rows: Iterable[Row], tokens: int) -> list[Widened]:
    """Each hit with the rest of its section, as far as ``tokens`` go: by turns what follows and what precedes.

    ``tokens`` bounds the sum of a result's chunks; a hit that has more stays alone. ``rows`` and results are as for
    ``neighbours``. Raises BadInput for tokens < 1.
    """
    if tokens < 1:
        raise BadInput(f"A hit is to be widened to {tokens} tokens; at least 1 is needed.")
    return _widen(hits, rows, lambda own, free: _around(own, free, tokens))


def _beside(own: Row, free: Rows) -> tuple[Row, Row]:
    short = own.tokens < SHORT_TOKENS
    before, after = free.get(own.ordinal - 1), free.get(own.ordinal + 1)
    first = before if before and (short or _goes_on(before, own)) else own
    last = after if after and (short or _goes_on(own, after)) else own
    return first, last


def _around(own: Row, free: Rows, tokens: int) -> tuple[Row, Row]:
    first = last = own
    left = tokens - own.tokens
    growing = True
    while growing:
        growing = False
        after = free.get(last.ordinal + 1)
        if after and after.tokens <= left and _goes_on(last, after):
            last, left, growing = after, left - after.tokens, True
        before = free.get(first.ordinal - 1)
        if before and before.tokens <= left and _goes_on(before, first):
            first, left, growing = before, left - before.tokens, True
    return first, last


def _goes_on(row: Row, following: Row) -> bool:
    """Whether ``following`` goes on with the section that ``row`` ends in.

    The first chunk of a section holds the section's heading, and its context only what is above; the context of a
    further chunk ends with that heading.
    """
    if _HEADING.match(following.text):
        return False
    path, heading_path = _path(row), _path(following)
    return path == heading_path or _letters(heading_path.rpartition(" > ")[2]) in _letters(row.text)


def _path(row: Row) -> str:
    """Title and headings of a chunk: its context without the table header that may follow."""
    line = row.context.partition("\n")[0]
    return "" if line.startswith("|") else line


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


@dataclass(slots=True)
class _Result:
    """A hit on its way to Widened."""

    chunk: ScoredChunk
    first: int  # ordinals
    last: int
    start: int
    end: int
    context: str
    merged: list[int] = field(default_factory=list)


def _widen(hits: Sequence[ScoredChunk], rows: Iterable[Row], reach: Reach) -> list[Widened]:
    """Give each hit, best first, what ``reach`` finds among the rows that no better hit has."""
    free: dict[int, dict[int, Row]] = {}
    for row in rows:
        free.setdefault(row.document_id, {})[row.ordinal] = row
    results: dict[int, list[_Result]] = {}  # by document
    for hit in hits:
        better = results.setdefault(hit.document_id, [])
        inside = next((one for one in better if one.first <= hit.ordinal <= one.last), None)
        if inside is None:
            result = _result(hit, free.get(hit.document_id, {}), reach)
            inside = _shown_by(better, result)
        if inside is None:
            better.append(result)
        else:
            inside.merged.append(hit.chunk_id)
    found = {one.chunk.chunk_id: one for of_document in results.values() for one in of_document}
    return [
        Widened(one.chunk, one.start, one.end, one.context, tuple(one.merged))
        for one in (found[hit.chunk_id] for hit in hits if hit.chunk_id in found)
    ]


def _result(hit: ScoredChunk, free: dict[int, Row], reach: Reach) -> _Result:
    """The hit widened by ``reach``; the rows it takes are free no more."""
    own = free.get(hit.ordinal)
    if own is None:
        return _Result(hit, hit.ordinal, hit.ordinal, hit.start, hit.end, hit.context)
    first, last = reach(own, free)
    for ordinal in range(first.ordinal, last.ordinal + 1):
        del free[ordinal]
    return _Result(hit, first.ordinal, last.ordinal, first.start, last.end, first.context)


def _shown_by(better: Sequence[_Result], result: _Result) -> _Result | None:
    """Cut from ``result`` what better ones of its document show; the one that leaves nothing of it, if one does."""
    for other in better:
        if other.last < result.first:
            result.start = max(result.start, other.end)
        else:
            result.end = min(result.end, other.start)
        if result.start >= result.end:
            return other
    return None
