"""What every embedding backend offers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from indexer.embedding.models import ModelFiles


class Embedder(Protocol):
    """Turns batches of token ids into unit vectors. Used by one thread at a time."""

    name: str  # as in the registry
    precision: str  # of the arithmetic, such as "fp32"
    dimensions: int
    revision: str  # 12 hex digits: the content of the model

    def __init__(self, files: ModelFiles, *, threads: int): ...

    def embed(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of ``batch``: int32 ids of each text, special tokens included, within the model's limits.

        Returns float32 [len(batch), dimensions] in order, each row of length 1, and independent of the other texts.
        """
        ...

    def signature(self) -> str:
        """Names everything that shapes a vector: only vectors of equal signature may be compared."""
        ...
