"""What of the faiss library a vector follower uses: the exact scan, and two structures for more vectors than that.

All of them look at vectors through the same memory-mapped fp16 rows; every process of a host shares those pages. The
structures hold none of the vectors themselves, only the graph (HNSW) or the lists and short codes (IVF-PQ).
"""

import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

log = logging.getLogger(__name__)

Kind = Literal["flat", "hnsw", "ivfpq"]

# HNSW (Malkov and Yashunin 2018): links per vector, candidates while building, candidates while searching.
LINKS, BUILD_EFFORT, SEARCH_EFFORT = 16, 100, 200
# IVF-PQ (Jegou, Douze and Schmid 2011): lists per square root of the vectors, how many are searched (at least, and as a
# share), and rows taken from the short codes for each one wanted, to be ranked by their vectors.
LISTS_PER_ROOT, SEARCHED_LISTS, SEARCHED_SHARE, RERANKED = 4, 128, 1 / 32, 8
TRAINING_ROWS_PER_LIST = 64
CODED_VALUES = 8  # of a vector, together in one byte of its code
BLOCK_ROWS = 1 << 15  # turned into fp32 at a time
# From so many vectors times dimensions on, faiss compares a batch by matrix products. Its own value, 128,000, makes
# batches of 8 to 300 vectors take up to five times as long as they need; a single vector is faster without.
BLAS_FROM = 8 * 384
GPU_MOST = 2048  # results that faiss gives from a GPU


@dataclass(frozen=True, slots=True)
class Searcher:
    """A faiss index of some rows; thread-safe."""

    kind: Kind
    index: Any  # faiss.Index
    vectors: np.ndarray  # the memory that `index` points into, float16 [n, dimensions]
    scan: Any = None  # the faiss.Index of `vectors` that a graph refers to

    def search(self, query: np.ndarray, limit: int, wanted: np.ndarray | None = None) -> np.ndarray:
        """About the ``limit`` best rows, as int64, in no certain order; more of them where they are to be ranked again.

        ``query``: float32 [dimensions]. ``wanted``: bool [n], the rows meant; None for all.
        """
        if len(self.vectors) == 0:
            return np.empty(0, dtype=np.int64)
        # A search that passes over most of what it meets has to meet more.
        share = 1.0 if wanted is None else max(np.count_nonzero(wanted), 1) / len(wanted)
        if self.kind == "ivfpq":
            limit *= RERANKED
        # One query is nothing to share. Other threads would only wait for this one, and keep their cores busy with it.
        _library().omp_set_num_threads(1)
        _, found = self.index.search(query[None], min(limit, len(self.vectors)), params=self._how(limit, share, wanted))
        return found[0][found[0] >= 0]

    def _how(self, limit: int, share: float, wanted: np.ndarray | None) -> Any:
        faiss = _library()
        sel = {} if wanted is None else {"sel": faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))}
        if self.kind == "hnsw":
            effort = min(math.ceil(max(SEARCH_EFFORT, 2 * limit) / share), len(self.vectors))
            return faiss.SearchParametersHNSW(efSearch=effort, **sel)
        if self.kind == "ivfpq":
            lists = self.index.nlist
            probes = min(math.ceil(max(SEARCHED_LISTS, lists * SEARCHED_SHARE) / share), lists)
            return faiss.IVFPQSearchParameters(nprobe=probes, **sel)
        return faiss.SearchParameters(**sel)


def flat(vectors: np.ndarray) -> Searcher:
    """The exact scan of ``vectors``, float16 [n, dimensions], contiguous."""
    return Searcher("flat", _scan(vectors), vectors)


def build(kind: Kind, vectors: np.ndarray, path: Path, before: Path | None = None) -> None:
    """Write the structure for ``vectors`` (float16 [n, dimensions]) to ``path``.

    ``before``: the file of the same kind for the first of them, to go on from. Raises OSError when the disk refuses.
    """
    faiss = _library()
    faiss.omp_set_num_threads(_all_threads())
    if before is None:
        index = _graph(vectors.shape[1]) if kind == "hnsw" else _trained(vectors)
    else:
        index = faiss.read_index(str(before))
        if kind == "hnsw":
            storage = _copy(vectors[: index.ntotal])
            index.storage, index.own_fields = storage, False
    for start in range(index.ntotal, len(vectors), BLOCK_ROWS):
        index.add(vectors[start : start + BLOCK_ROWS].astype(np.float32))
    try:
        faiss.write_index(index, str(path), faiss.IO_FLAG_SKIP_STORAGE)
    except RuntimeError as error:
        raise OSError(f"faiss: {error}") from error


def load(kind: Kind, path: Path, vectors: np.ndarray) -> Searcher:
    """The structure that ``build`` wrote for ``vectors``. Only for files known to be as written: faiss trusts them.

    Raises ValueError when faiss cannot read it.
    """
    faiss = _library()
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ValueError(f"faiss: {error}") from error
    if index.ntotal != len(vectors):
        raise ValueError(f"it is for {index.ntotal} vectors, not {len(vectors)}")
    if kind == "ivfpq":
        return Searcher(kind, index, vectors)
    scan = _scan(vectors)
    index.storage, index.own_fields = scan, False
    return Searcher(kind, index, vectors, scan)


def list_count(rows: int) -> int:
    """Into how many lists IVF-PQ divides so many rows."""
    return max(1, LISTS_PER_ROOT * math.isqrt(rows))


def on_gpu(vectors: np.ndarray) -> "GpuScan | None":
    """A copy of ``vectors`` (float16 [n, dimensions]) on a GPU; None where faiss sees none, or they do not fit."""
    if _library().get_num_gpus() == 0:
        return None
    try:
        return GpuScan(vectors)
    except RuntimeError as error:
        log.warning("%s vectors are searched without the GPU: %s", f"{len(vectors):,}", error)
        return None


class GpuScan:
    """The exact scan on a GPU, which knows no selection of rows. Searches wait for one another."""

    def __init__(self, vectors: np.ndarray):
        faiss = _library()
        self._resources = faiss.StandardGpuResources()
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        self._index = faiss.GpuIndexFlatIP(self._resources, vectors.shape[1], config)
        for start in range(0, len(vectors), BLOCK_ROWS):
            self._index.add(vectors[start : start + BLOCK_ROWS].astype(np.float32))
        self._one = threading.Lock()  # faiss's GPU resources are not thread-safe

    @property
    def count(self) -> int:
        return self._index.ntotal

    def search(self, query: np.ndarray) -> np.ndarray:
        """The best ``GPU_MOST`` rows, int64, best first."""
        with self._one:
            return self._index.search(query[None], min(GPU_MOST, self.count))[1][0]


@cache
def _library() -> Any:
    import faiss

    faiss.cvar.distance_compute_blas_threshold = BLAS_FROM
    return faiss


@cache
def _all_threads() -> int:
    """How many threads OMP_NUM_THREADS, or else the number of cores, gives to a thread that has said nothing else."""
    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(_library().omp_get_max_threads).result()


def _scan(vectors: np.ndarray) -> Any:
    """A faiss index whose codes are the memory of ``vectors``: fp16 is how its scalar quantizer stores them."""
    faiss = _library()
    rows, dimensions = vectors.shape
    index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    if rows:
        memory = faiss.swig_ptr(vectors.reshape(-1).view(np.uint8))
        # The owner of an empty index is nobody; the memory is kept by the Searcher instead.
        index.codes = faiss.MaybeOwnedVectorUInt8.create_view(memory, vectors.nbytes, index.codes.owner)
        index.ntotal = rows
    return index


def _copy(vectors: np.ndarray) -> Any:
    """Like ``_scan``, with memory of its own, to which vectors can be added."""
    index = _scan(vectors[:0])
    index.add_sa_codes(np.ascontiguousarray(vectors).view(np.uint8))
    return index


def _graph(dimensions: int) -> Any:
    faiss = _library()
    index = faiss.IndexHNSWSQ(dimensions, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    return index


def _trained(vectors: np.ndarray) -> Any:
    """An empty IVF-PQ index, trained on a sample of ``vectors``."""
    faiss = _library()
    rows, dimensions = vectors.shape
    lists = list_count(rows)
    values = math.gcd(CODED_VALUES, dimensions)
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dimensions), dimensions, lists, dimensions // values, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.spherical = True  # the vectors have length 1, so their means should have it too
    sample = np.random.default_rng(0).choice(rows, min(rows, TRAINING_ROWS_PER_LIST * lists), replace=False)
    sample.sort()
    index.train(vectors[sample].astype(np.float32))
    return index
