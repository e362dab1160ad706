"""The rows of a vector follower: plain files that only ever grow, so that a change costs what it changes.

A row is a vector and the ids it belongs to; a row whose document was replaced is marked dead and stays until the rows
are written anew. How much of each file counts stands in the follower's manifest, which is replaced after the files are
on disk: what a killed process wrote beyond that does not count, and the next one writes over it.
"""

import os
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import numpy as np

from indexer.followers.manifest import Unusable

BLOCK_BYTES = 1 << 22  # read at a time to check a file
BLOCK_ROWS = 1 << 14  # written at a time


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a file counts: the number of its records, and the CRC-32 of their bytes."""

    count: int = 0
    crc: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows as of one manifest, mapped into memory."""

    vectors: np.ndarray  # float16 [n, dimensions]
    ids: np.ndarray  # int64 [n, 2]: chunk id, document id
    alive: np.ndarray  # bool [n]
    extents: Mapping[str, Extent]  # of the files "vectors", "ids" and "dead"

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def dead(self) -> int:
        return self.extents["dead"].count

    def of(self, documents: Collection[int]) -> np.ndarray:
        """Which rows are alive and belong to ``documents``, as bool [n]."""
        wanted = np.fromiter(documents, dtype=np.int64, count=len(documents))
        return np.isin(self.ids[:, 1], wanted) & self.alive


EMPTY = {"vectors": Extent(), "ids": Extent(), "dead": Extent()}


def read_rows(folder: Path, dimensions: int, extents: Mapping[str, Extent], known: Mapping[str, Extent]) -> Rows:
    """Map the rows in ``folder``. ``known``: what of the same files was found sound before and is not read again.

    Raises Unusable when a file is damaged, OSError when one is missing.
    """
    records = {"vectors": (np.float16, dimensions), "ids": (np.int64, 2), "dead": (np.int64, 1)}
    arrays = {}
    for name, (dtype, width) in records.items():
        _check(folder / name, np.dtype(dtype).itemsize * width, extents[name], known.get(name, Extent()))
        arrays[name] = _mapped(folder / name, dtype, (extents[name].count, width))
    alive = np.ones(extents["ids"].count, dtype=bool)
    alive[arrays["dead"][:, 0]] = False
    return Rows(vectors=arrays["vectors"], ids=arrays["ids"], alive=alive, extents=extents)


def append_rows(
    folder: Path, extents: Mapping[str, Extent], vectors: np.ndarray, ids: np.ndarray, dead: np.ndarray
) -> dict[str, Extent]:
    """Add rows (float16 [m, dimensions], int64 [m, 2]) and mark the rows numbered ``dead`` (int64 [t]) as such.

    Returns what counts once the manifest says so. Raises OSError when the disk refuses; nothing counts then.
    """
    added = {"vectors": vectors, "ids": ids, "dead": dead[:, None]}
    return {name: _append(folder / name, values, extents[name]) for name, values in added.items()}


def _append(path: Path, values: np.ndarray, extent: Extent) -> Extent:
    """Write ``values``, records of the file's dtype [m, width], after what counts; what stood there goes."""
    end = extent.count * values.dtype.itemsize * values.shape[1]
    crc = extent.crc
    # Without a buffer of its own, a file that a full disk cut short can be cut back at once.
    with path.open("r+b" if extent.count else "wb", buffering=0) as file:
        file.truncate(end)
        file.seek(end)
        try:
            for start in range(0, len(values), BLOCK_ROWS):
                block = values[start : start + BLOCK_ROWS].tobytes()
                _write(file, block)
                crc = zlib.crc32(block, crc)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    return Extent(extent.count + len(values), crc)


def _write(file: RawIOBase, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]


def _check(path: Path, record_bytes: int, extent: Extent, known: Extent) -> None:
    with path.open("rb") as file:
        file.seek(known.count * record_bytes)
        crc, left = known.crc, (extent.count - known.count) * record_bytes
        while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    if left or crc != extent.crc:
        raise Unusable(f"has a damaged file, {path.name}")


def _mapped(path: Path, dtype: type, shape: tuple[int, int]) -> np.ndarray:
    if shape[0] == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape).view(np.ndarray)
