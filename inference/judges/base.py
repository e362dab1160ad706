"""What a judge is: claims and the places they cite go in, a verdict on each comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragplat.types import Support


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a claim cites: ``text[start:end]`` of a chunk, and where that chunk stands."""

    text: str  # of the chunk
    start: int  # offsets of the quote in `text`
    end: int
    context: str = ""  # title and heading path
    document: str = ""  # the document's name

    @property
    def quote(self) -> str:
        return self.text[self.start : self.end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence of an answer and the places it cites."""

    text: str  # without markers
    places: tuple[Place, ...]  # none: nothing is cited
    language: str  # ISO 639-1 code of the answer: "en" or "zh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How far the places bear the claim out."""

    support: Support
    how: str  # why, in a few words for a person
    score: float | None = None  # 0..1, where the judge has one


class Judge(Protocol):
    """Gives one verdict for each claim, in their order.

    Never raises because something it needs is away: then the verdicts are made without it, and ``how`` says so.
    """

    name: str

    def signature(self) -> str:
        """Two judges with equal signatures judge alike."""

    def judge(self, claims: Sequence[Claim]) -> list[Verdict]: ...
