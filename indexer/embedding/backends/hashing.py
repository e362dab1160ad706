"""A toy embedder for tests and trials: no weights, no torch, the same vectors everywhere."""

from collections.abc import Sequence

import numpy as np

from indexer.embedding.models import ModelFiles
from ragplat.signature import signature


class Hashing:
    """Counts tokens and pairs of neighbouring tokens in hashed, signed buckets (Weinberger et al. 2009).

    Texts that share words are close; it knows no synonyms.
    """

    name = "hashing"
    pads = False
    precision = "fp32"
    dimensions = 384
    revision = "toy"

    def __init__(self, files: ModelFiles, *, threads: int):
        self._model = files.name

    def embed(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors, float32 [len(batch), 384]."""
        return np.stack([self._vector(np.asarray(ids, dtype=np.uint64)) for ids in batch])

    def signature(self) -> str:
        """Names this embedder and its vectors' layout."""
        return signature("embedder", model=self._model, backend=self.name, dimensions=self.dimensions, v=1)

    def _vector(self, ids: np.ndarray) -> np.ndarray:
        ids = ids[1:-1]  # the model's markers are the same in every text
        hashes = _mix(np.concatenate([ids, ids[:-1] << np.uint64(32) | ids[1:]]))
        signs = np.where(hashes >> np.uint64(63), -1.0, 1.0)
        vector = np.bincount(hashes % self.dimensions, weights=signs, minlength=self.dimensions)
        if not vector.any():  # an empty text, or every count cancelled out
            vector[0] = 1.0
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): spreads uint64 values evenly."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
