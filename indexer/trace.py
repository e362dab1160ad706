"""How a search came to its result: the same object in commands, pages and the API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class LegTrace:
    """What one retriever was asked and found."""

    name: str  # "dense" or "lexical"; with a number for another wording of the query
    text: str  # what it searched for
    how: str  # "exact", "hnsw", "ivfflat", "faiss" or "bm25"
    hits: list[tuple[int, float]]  # (chunk id, score), best first: what it handed to the fusion
    seconds: float


@dataclass(slots=True, kw_only=True)
class Dropped:
    """A chunk that was found and is not shown."""

    chunk_id: int
    step: str  # "deleted", "collapse", "threshold" or "expand"
    reason: str  # for a person


@dataclass(slots=True, kw_only=True)
class Trace:
    """One search, step by step. `dataclasses.asdict` makes it JSON."""

    query: str
    mode: str  # dense, lexical or hybrid
    terms: list[str] = field(default_factory=list)  # what the lexical leg looked for, after analysis
    phrases: list[str] = field(default_factory=list)  # had to occur
    excluded: list[str] = field(default_factory=list)  # must not occur
    filters: list[dict[str, Any]] = field(default_factory=list)
    scope: dict[str, int] | None = None  # documents and chunks that pass the filters; None without filters
    legs: list[LegTrace] = field(default_factory=list)
    fusion: str = ""  # method and weights
    reranker: str = ""  # signature of the cross-encoder that put the best in order; "" for none
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # sentences for a person: what was cut, skipped or is behind
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and "total"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - started, 5)
