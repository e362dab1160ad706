"""Parsing and drawing files of strangers in a process of its own, which may hang, crash or eat memory without harm.

A plain child process and pipes: it starts the same under manage.py, pytest and a web server (nothing of the parent's
``__main__`` is imported again), knows no Django and none of the parent's secrets, and can be killed at any time. It
stays warm between documents, ends when idle, and ends with its parent.
"""

import atexit
import base64
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from indexer.parsers import PARSERS
from indexer.parsers.base import MIB, Limits
from ragplat import errors
from ragplat.errors import CorruptDocument, DocumentError, LimitExceeded, RagplatError, Unavailable
from ragplat.types import Box, Page, Parsed

LOOK = Limits(seconds=30.0, memory_bytes=1536 * MIB)  # for drawing a page and finding a passage, while someone waits

_PROCESSES = 2  # at the same time; more callers wait
_IDLE_SECONDS = 60
_START_SECONDS = 60
_ROOT = Path(__file__).resolve().parents[2]
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")  # no secrets


def parse_file(path: Path, name: str, media_type: str, limits: Limits, parser: str = "auto") -> Parsed:
    """The canonical text of the file at ``path``; ``indexer.parsers.parse`` in a process of its own.

    ``name`` is the file's own name, ``media_type`` comes from ``detect``, ``parser`` is a registered name or "auto".
    Raises DocumentError: LimitExceeded over time, memory, pages or characters, CorruptDocument when the parser
    crashes; BadInput for an unknown parser; Unavailable when the parser process cannot be started.
    """
    made = _call(
        "parse",
        limits,
        path,
        name=name,
        media_type=media_type,
        parser=parser,
        parsers=PARSERS.entries(),
        within=asdict(limits),
    )
    pages = tuple(Page(**page) for page in made.pop("pages"))
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in made.items()}
    return Parsed(pages=pages, **fields)


def render_page(path: Path, page: int, width: int, limits: Limits = LOOK) -> bytes:
    """``pages.render`` (a PNG ``width`` pixels wide of page ``page``, from 1) in a process of its own."""
    return base64.b64decode(_call("render", limits, path, page=page, width=width))


def find_boxes(path: Path, page: int, passage: str, limits: Limits = LOOK) -> list[Box]:
    """``boxes.boxes`` (where ``passage`` stands on page ``page``, from 1) in a process of its own."""
    return [Box(**box) for box in _call("boxes", limits, path, page=page, passage=passage)]


def shutdown() -> None:
    """End all idle parser processes. Called on exit; a later call starts new ones."""
    with _lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.end()


class _Gone(Exception):
    """The process ended instead of answering."""


class _Child:
    """A parser process."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])
        environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", "from indexer.parsers.child import serve; serve()", str(_IDLE_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        try:
            self._read(_START_SECONDS)
        except (_Gone, TimeoutError) as error:
            code = self.end()
            raise Unavailable(
                f"The parser process cannot be started (exit code {code}). To see why, run in {_ROOT}: "
                f'{sys.executable} -c "import indexer.parsers.child"'
            ) from error

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request. Raises _Gone when the process ends, TimeoutError after ``seconds``."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise _Gone from error
        return self._read(seconds)

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        received: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not (received and received[-1].endswith(b"\n")):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                data = os.read(self._process.stdout.fileno(), MIB)
                if not data:
                    raise _Gone
                received.append(data)
        return json.loads(b"".join(received))

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> int:
        """Kill the process if it still runs; its exit code, negative for a signal."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # a request that could not be delivered
                stream.close()
        return self._process.wait()

    def exit_code(self) -> int:
        """Of a process that closed its pipe, which it does a moment before it ends."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        return self.end()


_lock = threading.Lock()
_slots = threading.BoundedSemaphore(_PROCESSES)
_idle: list[_Child] = []
atexit.register(shutdown)
os.register_at_fork(after_in_child=_idle.clear)  # they belong to the process that started them


def _call(call: str, limits: Limits, path: Path, **arguments: Any) -> Any:
    request = {
        "call": call,
        "path": str(path.resolve()),
        "seconds": limits.seconds,
        "memory_bytes": limits.memory_bytes,
        **arguments,
    }
    with _slots:
        answer = _ask(request, limits)
    if "error" in answer:
        raise _error(answer["error"], answer["message"])
    return answer["result"]


def _ask(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The answer, from a warm process where there is one."""
    while True:
        with _child() as (child, warm):
            try:
                return child.ask(request, limits.seconds)
            except TimeoutError as error:
                child.end()
                raise LimitExceeded(
                    f"The file took longer than {limits.seconds:g} seconds, which is the limit on time."
                ) from error
            except _Gone as error:
                code = child.exit_code()
                if warm and code == 0:
                    continue  # it had just gone idle
                raise _crash(code, limits) from error


@contextmanager
def _child() -> Iterator[tuple[_Child, bool]]:
    """A process to ask, and whether it was warm. Kept for the next one if it still runs and nothing went wrong."""
    child = _warm()
    warm = child is not None
    child = child or _Child()
    try:
        yield child, warm
    except BaseException:
        child.end()
        raise
    if child.has_ended():
        child.end()
        return
    with _lock:
        _idle.append(child)


def _warm() -> _Child | None:
    while True:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None or not child.has_ended():
            return child
        child.end()


def _crash(code: int, limits: Limits) -> DocumentError:
    if code == -signal.SIGALRM:
        return LimitExceeded(f"The file took longer than {limits.seconds:g} seconds, which is the limit on time.")
    if code == -signal.SIGKILL:  # by the kernel, out of memory
        return LimitExceeded(
            f"The file needs more than the {limits.memory_bytes // MIB:,} MiB of memory a document may use."
        )
    what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return CorruptDocument(
        f"The file made the parser crash ({what}): it is damaged, or needs more than the "
        f"{limits.memory_bytes // MIB:,} MiB of memory a document may use. Open it in its own program, save it again "
        "and upload that."
    )


def _error(name: str, message: str) -> RagplatError:
    """The error of that name. Only our own classes: the answer comes from a process that read a stranger's file."""
    known = getattr(errors, name, None)
    return known(message) if isinstance(known, type) and issubclass(known, RagplatError) else CorruptDocument(message)
