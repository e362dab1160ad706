"""What runs inside the parser process: one request a line comes in, one answer a line goes out, both JSON.

JSON and not pickle, because this process reads files of strangers: whatever takes it over must not be able to run
code in the process that asked. Started by ``sandbox``; never import this elsewhere.
"""

import base64
import json
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragplat.errors import CorruptDocument, LimitExceeded, RagplatError

_RECYCLE_BYTES = 200 * 2**20  # a process that grew beyond this (OCR does) ends after its answer, to give memory back


def serve() -> None:
    """Answer requests from standard input until it closes or nothing comes for a while (seconds: first argument)."""
    answers = _take_over_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and stopping a service are for the process that asked;
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this one ends with it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _send(answers, {"ready": True})
    idle = float(sys.argv[1])
    while select.select([0], [], [], idle)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        _send(answers, _answer(json.loads(line)))
        if _has_grown():
            return


def _has_grown() -> bool:
    """Not by ``getrusage``: its peak includes that of the process this one was started from."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no /proc here: go by what usually makes it grow
        return "rapidocr" in sys.modules
    return pages * resource.getpagesize() > _RECYCLE_BYTES


def _take_over_streams() -> int:
    """A private descriptor for answers; what libraries print goes nowhere."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _end_with_parent() -> None:
    """End at once when the other end of standard input is gone, even in the middle of a document.

    PR_SET_PDEATHSIG would end this process with the *thread* that started it, so a pipe is watched instead.
    """
    watch = select.poll()
    watch.register(0, 0)  # only hang-ups and errors
    watch.poll()
    os._exit(0)


def _send(answers: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(answers, data) :]


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    seconds, memory = request.pop("seconds"), request.pop("memory_bytes")
    # should the process that asked be gone, and this one hang where no Python runs, the kernel ends it
    signal.alarm(int(seconds) + 10)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        return {"result": _CALLS[request.pop("call")](**request)}
    except MemoryError:
        error: Exception = LimitExceeded(
            f"The file needs more than the {memory // 2**20:,} MiB of memory a document may use."
        )
    except RagplatError as raised:
        error = raised
    except RecursionError:
        error = CorruptDocument("The file is nested too deeply to be read.")
    except Exception as raised:  # a library met a file it was not made for; the document fails, nothing else does
        error = CorruptDocument(f"The file is damaged and cannot be read ({type(raised).__name__}: {raised}).")
    finally:
        signal.alarm(0)
    return {"error": type(error).__name__, "message": str(error)}


def _parse(path: str, within: dict[str, Any], parsers: dict[str, str], **rest: str) -> dict[str, Any]:
    from indexer.parsers import PARSERS, parse
    from indexer.parsers.base import Limits

    PARSERS.extend(parsers)  # an installation may have added its own
    return asdict(parse(Path(path), limits=Limits(**within), **rest))


def _render(path: str, page: int, width: int) -> str:
    from indexer.parsers.pages import render

    return base64.b64encode(render(Path(path), page, width)).decode()


def _boxes(path: str, page: int, passage: str) -> list[dict[str, Any]]:
    from indexer.parsers.boxes import boxes

    return [asdict(box) for box in boxes(Path(path), page, passage)]


_CALLS: dict[str, Callable[..., Any]] = {"parse": _parse, "render": _render, "boxes": _boxes}
