"""What followers that live in a folder share: who may read and write when, and what happens to a folder of no use.

    manifest.json   what the index was made with, how far it has followed, what of its files counts; replaced at once
    lock            held while the manifest or the files behind it change
    NAME/           the files, as the follower has them

A reader takes no lock: it opens what one manifest describes, and looks again when the manifest has changed.
"""

import logging
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from indexer.followers.manifest import Unusable, locked, read_manifest, write_manifest
from ragplat.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """The index as of one manifest. Followers add what they need for reading."""

    manifest: bytes
    watermark: int


V = TypeVar("V", bound=View)


class FolderFollower(ABC, Generic[V]):
    """The part of a Follower that keeps its folder sound. See ``indexer.followers.base``.

    ``folder``: made when missing; nothing else may live in it. ``files``: name of the folder in it for the files.
    ``called``: what people read in messages, such as "keyword index". ``made_with``: JSON that names the layout and
    everything that shapes the entries; a folder made with something else is built again from zero.
    """

    def __init__(self, folder: Path, files: str, called: str, made_with: Mapping[str, Any]):
        self._folder = folder
        self._files = folder / files
        self._manifest = folder / "manifest.json"
        self._lock = folder / "lock"
        self._called = called
        self._made_with = made_with
        self._view: V | None = None
        self._opening = threading.Lock()

    @abstractmethod
    def _read(self, manifest: bytes, content: Mapping[str, Any]) -> V:
        """Open what a manifest describes. Raises Unusable, OSError or ValueError when the files are not as written."""

    @abstractmethod
    def _make(self) -> Mapping[str, Any]:
        """Write the files of an empty index into the new folder ``_files``; returns what the manifest says of them."""

    def watermark(self) -> int:
        return self._current().watermark

    def reset(self) -> None:
        with locked(self._lock):
            self._create()

    def _current(self) -> V:
        """The index as any process last left it. Costs reading one small file where nothing changed."""
        view = self._view
        try:
            if view is not None and self._manifest.read_bytes() == view.manifest:
                return view
        except OSError:
            pass
        with self._opening:  # one thread opens, the others find it open
            for _ in range(2):  # a writer may have removed old files between two of our looks
                try:
                    return self._open()
                except Unusable:
                    continue
            with locked(self._lock):  # only the lock makes this sure
                return self._open_or_create()

    def _open_or_create(self) -> V:
        """The index, started again if the folder cannot be used as it is. Call with the lock held."""
        try:
            return self._open()
        except Unusable as reason:
            if self._files.exists():
                log.warning("The %s in %s %s: it is built again from zero.", self._called, self._folder, reason)
            self._create()
            return self._open()

    def _open(self) -> V:
        """Raises Unusable unless the folder was made by this version and every byte is as it was written."""
        try:
            manifest = self._manifest.read_bytes()
            view = self._view
            if view is None or view.manifest != manifest:
                view = self._view = self._read(manifest, read_manifest(manifest, self._made_with))
            return view
        except (OSError, ValueError, KeyError) as error:
            raise Unusable(f"cannot be opened ({error})") from error

    def _create(self) -> None:
        """An empty index at watermark 0, in place of whatever is there. Call with the lock held."""
        self._manifest.unlink(missing_ok=True)  # first: without it, a folder half removed is never taken for whole
        shutil.rmtree(self._files, ignore_errors=True)
        with self._disk_errors():
            self._files.mkdir(parents=True, exist_ok=True)
            write_manifest(self._manifest, self._made_with, watermark=0, files=self._make())

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            free = shutil.disk_usage(self._folder).free
            raise Unavailable(
                f"The {self._called} in {self._folder} cannot be written, and stays as it was: {error} "
                f"The disk has {free / 1e6:,.0f} MB left; if that is little, make room and try again."
            ) from error
