"""What every backend offers: an embedder, or a reranker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from indexer.embedding.models import ModelFiles


class Embedder(Protocol):
    """Turns batches of token ids into unit vectors. Used by one thread at a time."""

    name: str  # as in the registry
    precision: str  # of the arithmetic, such as "fp32"
    dimensions: int
    revision: str  # 12 hex digits: the content of the model
    pads: bool  # whether each text of a pass costs as much as the longest

    def __init__(self, files: ModelFiles, *, threads: int): ...

    def embed(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of ``batch``: int32 ids of each text, special tokens included, within the model's limits.

        Returns float32 [len(batch), dimensions] in order, each row of length 1, and independent of the other texts.
        """
        ...

    def signature(self) -> str:
        """Names everything that shapes a vector: only vectors of equal signature may be compared."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a text as a cross-encoder reads them, special tokens included."""

    ids: np.ndarray  # int32 [tokens]
    types: np.ndarray  # int32 [tokens]: 0 in the query, 1 in the text, as far as the model tells them apart

    def __len__(self) -> int:
        return len(self.ids)


class Reranker(Protocol):
    """Scores batches of pairs of a query and a text. Used by one thread at a time."""

    name: str  # as in the registry
    precision: str
    revision: str
    pads: bool

    def __init__(self, files: ModelFiles, *, threads: int): ...

    def score(self, batch: Sequence[Pair]) -> np.ndarray:
        """How well each text answers its query: float32 [len(batch)], higher is better, on the model's own scale.

        In order, and each independent of the other pairs.
        """
        ...

    def signature(self) -> str:
        """Names everything that shapes a score: scores of equal signatures are on one scale."""
        ...
