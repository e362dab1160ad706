"""A follower's folder: the lock, and the small file that says what it was made with and how far it has followed."""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragplat.errors import Unavailable
from ragplat.signature import digest


class Unusable(Exception):
    """A follower's folder cannot be used as it is; the message says why, as "it ..."."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, alone among all threads and processes of this host.

    The lock is the kernel's: it goes with the process that held it. Raises Unavailable where the folder is not ours.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise Unavailable(f"The index folder {path.parent} cannot be written: {error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_manifest(
    path: Path, made_with: Mapping[str, Any], watermark: int, files: Mapping[str, Any] | None = None
) -> None:
    """Replace the manifest at once: a reader, or a crash, meets the old one or the new one.

    ``files``: what a follower notes about its files, as JSON; ``read_manifest`` gives it back.
    """
    # The state's name makes every manifest different, so that equal bytes mean an unchanged folder.
    content = {**made_with, "watermark": watermark, "files": dict(files or {}), "state": uuid.uuid4().hex}
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump({**content, "checksum": digest(content)}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_manifest(manifest: bytes, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says. Raises Unusable when it is damaged or was made with something else."""
    try:
        content = json.loads(manifest)
        checksum = content.pop("checksum")
        made = {name: content[name] for name in made_with}
    except (ValueError, AttributeError, TypeError, KeyError):
        raise Unusable("has a manifest that cannot be read") from None
    if checksum != digest(content):
        raise Unusable("has a damaged manifest")
    if made != dict(made_with):
        raise Unusable(f"was made with {made}, and not with {dict(made_with)}")
    return content
