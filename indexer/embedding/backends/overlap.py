"""A toy reranker for tests and trials: no weights, no torch, the same scores everywhere."""

from collections.abc import Sequence

import numpy as np

from indexer.embedding.backends.base import Pair
from indexer.embedding.models import ModelFiles
from ragplat.signature import signature


class Overlap:
    """The share of the query's tokens that the text holds, 0..1."""

    name = "overlap"
    pads = False
    precision = "fp32"
    revision = "toy"

    def __init__(self, files: ModelFiles, *, threads: int):
        self._model = files.name

    def score(self, batch: Sequence[Pair]) -> np.ndarray:
        """Scores, float32 [len(batch)]."""
        return np.array([_share(pair) for pair in batch], dtype=np.float32)

    def signature(self) -> str:
        """Names this reranker."""
        return signature("reranker", model=self._model, backend=self.name, v=1)


def _share(pair: Pair) -> float:
    query, text = (set(pair.ids[pair.types == side].tolist()) for side in (0, 1))
    # Markers take part: the one between the two is in both, the one before in the query alone.
    return len(query & text) / len(query)
