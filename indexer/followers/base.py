"""What a follower is: a derived index on local disk that follows PostgreSQL.

A follower can be deleted at any time: it starts again from watermark 0. The caller reads the change log above the
watermark and applies it; a crash anywhere in between only means that the same changes are applied once more.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from indexer.query import ParsedQuery


@dataclass(frozen=True, slots=True)
class Entry:
    """What is indexed of one chunk."""

    chunk_id: int
    content: str | np.ndarray  # context and text as one string; for followers of vectors a unit vector, float [d]


@dataclass(frozen=True, slots=True)
class DocumentEntries:
    """All entries of one document as of now; none of them when the document is gone."""

    document_id: int
    entries: tuple[Entry, ...]


class Follower(Protocol):
    """A derived index. Every process of a host may open the same folder; one of them writes at a time.

    Each method sees what any process applied before the call. An index that is missing, damaged, or made by another
    version is started again, empty and at watermark 0, with a warning in the log.
    """

    def watermark(self) -> int:
        """The number of the last change applied; 0 when empty."""

    def apply(self, documents: Iterable[DocumentEntries], watermark: int) -> None:
        """Replace all entries of each document given by the ones given, then save ``watermark``.

        All or nothing, and idempotent. When a document comes twice, the last one counts.
        Raises Unavailable when the disk refuses; the index is then as it was before.
        """

    def search(
        self, query: str | ParsedQuery | np.ndarray, k: int, documents: Collection[int] | None = None
    ) -> list[tuple[int, float]]:
        """The best ``k`` of all entries, or of those of ``documents``, as (chunk id, score), best first.

        Fewer than ``k`` only when no more match. Equal scores are ordered by chunk id.
        """

    def count(self) -> int:
        """The number of entries."""

    def chunk_ids(self) -> set[int]:
        """The chunk ids of all entries."""

    def reset(self) -> None:
        """Start again, empty and at watermark 0."""
