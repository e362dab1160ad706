"""Taking files in: bytes are kept once by their hash, and the queue entry is made with the document's row."""

import errno
import hashlib
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import default_storage
from django.db import transaction

from indexer.documents import UPLOADED, enqueue, hold_bytes, stored_name, supersede
from indexer.models import Corpus, Document, Source
from ragplat.errors import BadInput, TooLarge, Unavailable

BLOCK = 1 << 20
LONGEST_NAME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a file that was handed in."""

    document: Document
    outcome: Literal["added", "known"]
    message: str  # a sentence for a person


def accept(
    corpus: Corpus,
    name: str,
    file: BinaryIO,
    user: AbstractBaseUser | None = None,
    source: Source | None = None,
) -> Accepted:
    """Keep a file and queue it for indexing; the same bytes in the same corpus are the same document.

    ``source`` says where the file lies (path, size, modification time) when it comes from a folder: a later version
    from the same path replaces this one as soon as it is ready. Raises BadInput for a bad name, TooLarge, Unavailable
    when the disk is full.
    """
    name = clean_name(name)
    with _received(file, name) as (path, sha256, size), transaction.atomic():
        hold_bytes(sha256)
        document, added = Document.objects.get_or_create(
            corpus=corpus, sha256=sha256, defaults={"name": name, "size": size, "uploaded_by": user}
        )
        _note_source(document, source or Source(path=f"{UPLOADED}{name}"))
        if added:
            _keep(path, sha256)
            enqueue(document)
            message = f'"{name}" was added.'
        else:
            if document.state == Document.State.READY:
                supersede(document)
            same = "" if document.name == name else f' as "{document.name}"'
            message = f'"{name}" is in this corpus already{same}: {document.get_state_display()}.'
    return Accepted(document=document, outcome="added" if added else "known", message=message)


def clean_name(name: str) -> str:
    """A name fit to be kept and shown. Raises BadInput when it is empty or too long."""
    cleaned = "".join(c if c.isprintable() else " " for c in readable(name)).strip()
    if not cleaned:
        raise BadInput("The file has no name.")
    if len(cleaned) > LONGEST_NAME:
        raise BadInput(f'The name "{cleaned[:60]}..." has {len(cleaned)} characters; at most {LONGEST_NAME} are kept.')
    return cleaned


def readable(name: str) -> str:
    """A file name as text: bytes of it that are not UTF-8 become the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def _received(file: BinaryIO, name: str):
    """Copy a stream into a temporary file on the storage's disk: (path, sha256, size). Removed afterwards."""
    limit = settings.MAX_UPLOAD_MB * 2**20
    digest, size = hashlib.sha256(), 0
    try:
        folder = Path(default_storage.path("incoming"))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
            path = Path(copy.name)
            try:
                while block := file.read(BLOCK):
                    size += len(block)
                    if size > limit:
                        raise TooLarge(
                            f'"{name}" is larger than {settings.MAX_UPLOAD_MB} MB. Split it, or raise '
                            "RAGPLAT_MAX_UPLOAD_MB."
                        )
                    digest.update(block)
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
                yield path, digest.hexdigest(), size
            finally:
                path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            f'"{name}" was not kept: the disk of RAGPLAT_VAR_DIR ({settings.VAR_DIR}) is full.'
        ) from error


def _keep(path: Path, sha256: str) -> None:
    target = Path(default_storage.path(stored_name(sha256)))
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    path.touch()  # so that the caller's clean-up finds what it removes


def _note_source(document: Document, source: Source) -> None:
    """Record where the bytes were found. The newest row of a path is its current version."""
    Source.objects.filter(document=document, path=source.path).delete()
    source.document, source.corpus = document, document.corpus
    source.save(force_insert=True)
