"""Search by vectors on faiss: exact for few rows, HNSW for many, IVF-PQ for very many.

Applying a change appends rows to plain files and marks old ones dead; it costs what the change holds, whatever the size
of the index. New rows are found at once by an exact scan. ``build`` then and again takes them into the structure that
makes searches of many rows fast, and leaves the dead ones out; without it every search is right, only slower.
"""

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indexer.followers import faiss_kinds as kinds
from indexer.followers.base import DocumentEntries
from indexer.followers.faiss_rows import EMPTY, Extent, Rows, append_rows, read_rows
from indexer.followers.folder import FolderFollower, View
from indexer.followers.manifest import Unusable, locked, write_manifest
from ragplat.errors import BadInput

FORMAT = 1  # of the folder; another one is built again
EXACT_ROWS = 50_000  # up to here an exact scan takes some 3 ms of a core, and finds everything
HNSW_ROWS = 5_000_000  # up to here vectors and graph fit the memory of a common server, about 5 GB
UNBUILT_SHARE = 0.02  # rows not yet in the structure, of those in it; fewer are not worth writing its file again
DEAD_SHARE = 0.25  # of all rows; with more, they are written anew
MOST_FROM_STRUCTURE = 2_000  # results; for more, an exact scan is as fast
MARGIN = 8  # candidates beyond k, so that rounding or equal scores at the end rarely mean to look again
ROUNDING = 1e-5  # more than two ways of adding up the same inner product of unit vectors differ
LARGEST = 1.1  # of the numbers of a unit vector, rounded in whatever way
STRUCTURE = "built-"  # how the names of its files begin


@dataclass(frozen=True, slots=True)
class _View(View):
    generation: str  # folder of the rows; another one when they are written anew
    rows: Rows
    scan: kinds.Searcher  # exact, all rows
    built: kinds.Searcher | None  # the structure over the first rows
    built_file: Mapping[str, Any] | None  # its name, kind, number of rows and checksum

    @property
    def built_rows(self) -> int:
        return len(self.built.vectors) if self.built else 0


class FaissFollower(FolderFollower[_View]):
    """A Follower for search by vectors; see ``indexer.followers.base``. Scores are inner products, higher is better.

    The content of an entry and a query are unit vectors, float [dimensions]; rows are kept as fp16.
    ``folder``: made when missing; nothing else may live in it.
    ``apply`` and ``search`` raise BadInput for a vector of another length or with numbers that are not finite.
    """

    def __init__(self, folder: Path, dimensions: int = 384):
        super().__init__(folder, "rows", "vector index", {"format": FORMAT, "dimensions": dimensions})
        self._dimensions = dimensions
        self._copying = threading.Lock()
        self._gpu: kinds.GpuScan | None = None
        self._gpu_extent: tuple[str, int] | None = None

    def count(self) -> int:
        rows = self._current().rows
        return rows.count - rows.dead

    def chunk_ids(self) -> set[int]:
        rows = self._current().rows
        return set(rows.ids[rows.alive, 0].tolist())

    def apply(self, documents: Iterable[DocumentEntries], watermark: int) -> None:
        fresh = {document.document_id: self._rows_of(document) for document in documents}
        with locked(self._lock):
            view = self._open_or_create()
            dead = np.flatnonzero(view.rows.of(fresh.keys()))
            vectors = np.concatenate([view.rows.vectors[:0], *(vectors for vectors, _ in fresh.values())])
            ids = np.concatenate([view.rows.ids[:0], *(ids for _, ids in fresh.values())])
            with self._disk_errors():
                extents = append_rows(self._files / view.generation, view.rows.extents, vectors, ids, dead)
                self._write(watermark, view.generation, extents, view.built_file)

    def search(self, query: np.ndarray, k: int, documents: Collection[int] | None = None) -> list[tuple[int, float]]:
        if k < 1:
            raise BadInput(f"The number of results is at least 1, not {k}.")
        vector = self._vector(query, "The query")
        view = self._current()
        wanted = view.rows.of(documents) if documents is not None else view.rows.alive if view.rows.dead else None
        matching = view.rows.count if wanted is None else int(np.count_nonzero(wanted))
        limit, gpu = k + MARGIN, self._on_gpu(view)
        while True:
            candidates = _candidates(view, gpu, vector, min(limit, matching), wanted, matching)
            scores = _scores(view.rows.vectors[candidates], vector)
            order = np.lexsort((view.rows.ids[candidates, 0], -scores))
            if len(order) >= matching or scores[order[-1]] < scores[order[k - 1]] - ROUNDING:
                break
            limit *= 4  # rows beyond these may score as high as the last one wanted
        best = candidates[order[:k]]
        return list(zip(view.rows.ids[best, 0].tolist(), scores[order[:k]].tolist(), strict=True))

    def build(self) -> bool:
        """Take new rows into the structure and leave dead ones out, where it is worth it; True when it was.

        For the background: it takes minutes from a million rows on. Searches and changes go on meanwhile.
        Raises Unavailable when the disk refuses; the index is then as it was before.
        """
        with locked(self._folder / "build.lock"):
            view = self._current()
            kind = _kind_for(view.rows.count - view.rows.dead)
            unbuilt = view.rows.count - view.built_rows
            try:
                if view.rows.dead > DEAD_SHARE * view.rows.count or _outgrown(view, kind):
                    self._rewrite(view, kind)
                elif kind != "flat" and unbuilt > max(EXACT_ROWS, UNBUILT_SHARE * view.built_rows):
                    self._extend(view, kind if view.built is None else view.built.kind)
                else:
                    return False
            finally:
                with locked(self._lock):
                    self._sweep()
        return True

    def _extend(self, view: _View, kind: kinds.Kind) -> None:
        """Make the structure of all rows, out of the one there is."""
        folder = self._files / view.generation
        with self._disk_errors():
            built = _write_structure(folder, kind, view.rows.vectors, view.built_file)
        self._change_over(view, lambda now: self._write(now.watermark, view.generation, now.rows.extents, built))

    def _rewrite(self, view: _View, kind: kinds.Kind) -> None:
        """Write the rows that are alive into a folder of their own, with their structure, and change over to it."""
        kept = np.flatnonzero(view.rows.alive)
        generation = _new_name()
        folder = self._files / generation
        nobody = np.empty(0, np.int64)
        with self._disk_errors():
            folder.mkdir()
            extents: Mapping[str, Extent] = append_rows(folder, EMPTY, view.rows.vectors[:0], view.rows.ids[:0], nobody)
            for start in range(0, len(kept), kinds.BLOCK_ROWS):
                some = kept[start : start + kinds.BLOCK_ROWS]
                extents = append_rows(folder, extents, view.rows.vectors[some], view.rows.ids[some], nobody)
            written = read_rows(folder, self._dimensions, extents, extents)
            built = _write_structure(folder, kind, written.vectors, None) if kind != "flat" else None

        def bring_along_what_was_applied_meanwhile(now: _View) -> None:
            dead = np.flatnonzero(~now.rows.alive[kept])
            added = view.rows.count + np.flatnonzero(now.rows.alive[view.rows.count :])
            all_extents = append_rows(folder, extents, now.rows.vectors[added], now.rows.ids[added], dead)
            self._write(now.watermark, generation, all_extents, built)

        self._change_over(view, bring_along_what_was_applied_meanwhile)

    def _change_over(self, view: _View, write: Callable[[_View], None]) -> None:
        """Call ``write`` with the index as it is now, unless another one has taken the place of ``view``."""
        with locked(self._lock):
            now = self._open_or_create()
            if now.generation == view.generation:
                with self._disk_errors():
                    write(now)

    def _sweep(self) -> None:
        """Remove what is no longer used, or was left by a build that did not end. Call with both locks held."""
        view = self._open_or_create()
        for folder in self._files.iterdir():
            if folder.name != view.generation:
                shutil.rmtree(folder)
        for file in (self._files / view.generation).glob(f"{STRUCTURE}*"):
            if view.built_file is None or file.name != view.built_file["name"]:
                file.unlink()

    def _make(self) -> dict[str, Any]:
        generation = _new_name()
        (self._files / generation).mkdir()
        no_vectors, no_ids = np.empty((0, self._dimensions), np.float16), np.empty((0, 2), np.int64)
        extents = append_rows(self._files / generation, EMPTY, no_vectors, no_ids, no_ids[:, 0])
        return _described(generation, extents, None)

    def _write(
        self, watermark: int, generation: str, extents: Mapping[str, Extent], built: Mapping[str, Any] | None
    ) -> None:
        write_manifest(self._manifest, self._made_with, watermark, files=_described(generation, extents, built))

    def _read(self, manifest: bytes, content: Mapping[str, Any]) -> _View:
        files, before = content["files"], self._view
        generation, built = files["generation"], files["built"]
        same = before is not None and before.generation == generation
        extents = {name: Extent(**extent) for name, extent in files["extents"].items()}
        rows = read_rows(self._files / generation, self._dimensions, extents, before.rows.extents if same else {})
        if built is None:
            structure = None
        elif same and before.built_file == built:
            structure = before.built
        else:
            structure = _open_structure(self._files / generation, built, rows.vectors)
        return _View(
            manifest=manifest,
            watermark=content["watermark"],
            generation=generation,
            rows=rows,
            scan=kinds.flat(rows.vectors),
            built=structure,
            built_file=built,
        )

    def _on_gpu(self, view: _View) -> kinds.GpuScan | None:
        """The first rows on a GPU, where there is one: copied at the first search, and again as they become more."""
        if view.rows.count <= EXACT_ROWS:
            return None
        with self._copying:
            extent = (view.generation, view.rows.count // EXACT_ROWS)
            if self._gpu_extent != extent:
                self._gpu_extent, self._gpu = extent, kinds.on_gpu(view.rows.vectors)
            return self._gpu

    def _rows_of(self, document: DocumentEntries) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of a document's entries, float16 [n, dimensions], and their ids, int64 [n, 2]."""
        ids = np.array([(e.chunk_id, document.document_id) for e in document.entries], np.int64).reshape(-1, 2)
        vectors = np.empty((len(ids), self._dimensions), np.float16)
        for row, entry in enumerate(document.entries):
            vectors[row] = self._vector(entry.content, f"The vector of chunk {entry.chunk_id}")
        return vectors, ids

    def _vector(self, content: Any, called: str) -> np.ndarray:
        """``content`` as float32 [dimensions]. Raises BadInput when it is no vector that fits."""
        try:
            vector = np.asarray(content, dtype=np.float32)
        except (TypeError, ValueError):
            raise BadInput(f"{called} is no vector, but {type(content).__name__}.") from None
        if vector.shape != (self._dimensions,):
            shape = " x ".join(map(str, vector.shape)) or "a single number"
            raise BadInput(f"{called} has the shape {shape}; this index takes vectors of {self._dimensions} numbers.")
        if not np.abs(vector).max() <= LARGEST:  # also true of NaN
            raise BadInput(f"{called} holds NaN or numbers too large for a unit vector. Embed its text again.")
        return vector


def _candidates(
    view: _View, gpu: kinds.GpuScan | None, vector: np.ndarray, limit: int, wanted: np.ndarray | None, matching: int
) -> np.ndarray:
    """At least ``limit`` rows, the best of those wanted as far as the structures know; ``matching``: how many are."""
    if limit >= matching:
        return np.arange(view.rows.count) if wanted is None else np.flatnonzero(wanted)
    if matching > EXACT_ROWS:
        for first, count in _found_fast(view, gpu, vector, limit, wanted):
            before, after = (None, None) if wanted is None else (wanted[:count], wanted[count:])
            if len(first) >= min(limit, count if before is None else np.count_nonzero(before)):
                last = kinds.flat(view.rows.vectors[count:]).search(vector, limit, after)
                return np.concatenate([first, count + last])
    return view.scan.search(vector, limit, wanted)


def _found_fast(
    view: _View, gpu: kinds.GpuScan | None, vector: np.ndarray, limit: int, wanted: np.ndarray | None
) -> Iterator[tuple[np.ndarray, int]]:
    """What the GPU, then the structure, find among the first rows, and how many rows those are."""
    if gpu is not None and gpu.count <= view.rows.count:
        found = gpu.search(vector)
        yield (found if wanted is None else found[wanted[found]]), gpu.count
    if view.built is not None and limit <= MOST_FROM_STRUCTURE:
        yield view.built.search(vector, limit, None if wanted is None else wanted[: view.built_rows]), view.built_rows


def _scores(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Inner products, float32 [n], each added up in the same way whatever stands beside it: equal rows score equal."""
    return (vectors.astype(np.float32) * query).sum(axis=1)


def _kind_for(rows: int) -> kinds.Kind:
    return "flat" if rows <= EXACT_ROWS else "hnsw" if rows <= HNSW_ROWS else "ivfpq"


def _outgrown(view: _View, kind: kinds.Kind) -> bool:
    if view.built is None:
        return False
    if view.built.kind == "ivfpq":
        return kinds.list_count(view.rows.count) > 2 * view.built.index.nlist
    return kind == "ivfpq"


def _new_name() -> str:
    return uuid.uuid4().hex[:12]


def _described(generation: str, extents: Mapping[str, Extent], built: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the manifest says of the files."""
    return {"generation": generation, "extents": {name: asdict(one) for name, one in extents.items()}, "built": built}


def _write_structure(
    folder: Path, kind: kinds.Kind, vectors: np.ndarray, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    path = folder / f"{STRUCTURE}{_new_name()}"
    kinds.build(kind, vectors, path, folder / before["name"] if before else None)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"name": path.name, "kind": kind, "rows": len(vectors), "sha256": _sha256(path)}


def _open_structure(folder: Path, built: Mapping[str, Any], vectors: np.ndarray) -> kinds.Searcher:
    """Raises Unusable unless the file is byte for byte what was written: faiss reads any other at our peril."""
    path = folder / built["name"]
    if _sha256(path) != built["sha256"]:
        raise Unusable(f"has a damaged file, {path.name}")
    return kinds.load(built["kind"], path, vectors[: built["rows"]])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
