"""Folders into a corpus: incremental by size, time and hash; changed files replace, removed ones are reported."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from indexer.models import Corpus, Document, Source
from indexer.parsers.detect import detect
from indexer.upload import accept, readable
from ragplat.errors import BadInput, DocumentError, RagplatError, UnsupportedFormat


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of every file that was named or found."""

    added: list[str] = field(default_factory=list)  # new, queued
    changed: list[str] = field(default_factory=list)  # new version of a known file, queued
    unchanged: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)  # same bytes as another document of the corpus
    skipped: list[tuple[str, str]] = field(default_factory=list)  # not taken, with the reason
    removed: list[str] = field(default_factory=list)  # known from this folder before, no longer there
    documents: list[int] = field(default_factory=list)  # ids of the documents queued now
    known: list[int] = field(default_factory=list)  # ids of those that were there already


def ingest_paths(
    corpus: Corpus, paths: Iterable[Path], root: Path | None = None, each: Callable[[str], None] = lambda name: None
) -> Report:
    """Take files and folders (recursively) into a corpus and queue what is new or changed.

    Documents are named by their path below ``root``, or below the folder named. ``each`` is called with every file
    looked at. A file that cannot be taken is reported and does not stop the others. Raises BadInput for a path that
    does not exist.
    """
    report = Report()
    for path in paths:
        path = path.expanduser().absolute()
        if not path.exists():
            raise BadInput(f'There is no file or folder "{readable(str(path))}".')
        if readable(str(path)) != str(path):
            raise BadInput(f'The path "{readable(str(path))}" is not valid UTF-8. Rename it.')
        seen = set()
        base = root or (path if path.is_dir() else path.parent)
        for file in _files(path, report):
            each(str(file))
            seen.add(str(file))
            _take(corpus, file, readable(os.path.relpath(file, base)), report, named=file == path)
        if path.is_dir():
            report.removed += _gone(corpus, path, seen)
    return report


def _files(path: Path, report: Report) -> Iterator[Path]:
    """The files of a folder in order of name; hidden ones are passed over and counted."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path, onerror=lambda e: report.skipped.append((str(e.filename), str(e)))):
        hidden = [name for name in (*folders, *names) if name.startswith(".")]
        report.skipped += [(readable(str(Path(folder, name))), "hidden") for name in sorted(hidden)]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _take(corpus: Corpus, file: Path, name: str, report: Report, named: bool) -> None:
    try:
        if not file.is_file():
            raise BadInput("not a regular file")
        if readable(str(file)) != str(file):
            raise BadInput("its path is not valid UTF-8; rename it")
        facts = file.stat()
        current = Source.objects.filter(corpus=corpus, path=str(file)).order_by("-pk").first()
        if current and (current.size, current.modified_ns) == (facts.st_size, facts.st_mtime_ns):
            report.unchanged.append(name)
            report.known.append(current.document_id)
            return
        if not named and (reason := _unsupported(file)):
            # A file named by a person is taken and its fate shown; a folder's programs and films are passed over.
            report.skipped.append((name, reason))
            return
        source = Source(path=str(file), size=facts.st_size, modified_ns=facts.st_mtime_ns)
        with file.open("rb") as stream:
            accepted = accept(corpus, name, stream, source=source)
    except (RagplatError, OSError) as error:
        if isinstance(error, RagplatError) and not isinstance(error, BadInput):
            raise  # the disk or the database: the next file would fare no better
        report.skipped.append((name, str(error)))
        return
    if accepted.outcome == "added":
        (report.changed if current else report.added).append(name)
        report.documents.append(accepted.document.pk)
        return
    report.known.append(accepted.document.pk)
    if current and current.document_id == accepted.document.pk:
        report.unchanged.append(name)
    else:
        report.duplicates.append(name)


def _unsupported(file: Path) -> str:
    """Why no parser reads this kind of file, or "": what is damaged or empty is taken, and its fate is shown."""
    try:
        detect(file, file.name)
    except UnsupportedFormat as error:
        return str(error)
    except DocumentError:
        pass
    return ""


def _gone(corpus: Corpus, folder: Path, seen: set[str]) -> list[str]:
    prefix = f"{folder}{os.sep}"
    known = Source.objects.filter(corpus=corpus, path__startswith=prefix).values_list("path", flat=True)
    return sorted(path for path in set(known) if path not in seen)


def settled(documents: list[int]) -> dict[str, int]:
    """How many of these documents are in each state; deleted ones are not counted."""
    states = Document.objects.filter(pk__in=documents).values_list("state", flat=True)
    counted: dict[str, int] = {}
    for state in states:
        counted[state] = counted.get(state, 0) + 1
    return counted
