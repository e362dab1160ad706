"""Starts the processes of an installation, watches them, and starts again what dies."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from django.conf import settings

from ragplat.errors import Unavailable
from ragplat.paths import BASE_DIR

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10  # from SIGTERM to SIGKILL
LONGEST_PAUSE = 30  # seconds between restarts of a process that keeps dying
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "ragplat.settings",
    "PYTHONUNBUFFERED": "1",
    "MALLOC_ARENA_MAX": "2",  # glibc keeps an arena for each thread otherwise: 40 % more resident memory in the worker
}
LOG_BYTES = 10 * 2**20  # a larger log starts anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process of the installation."""

    name: str
    argv: tuple[str, ...]


def services() -> dict[str, Service]:
    """The processes `up` runs, by name."""
    python = sys.executable
    listed = {
        "embed": (
            *(python, "-m", "indexer.embedding.service", "--model", settings.EMBED_MODEL),
            *_listening(settings.EMBED_URL),
            *(("--reranker", settings.RERANK_MODEL) if settings.RERANK_MODEL else ()),
            *(("--threads", str(settings.EMBED_THREADS)) if settings.EMBED_THREADS else ()),
        ),
        "worker": (python, str(BASE_DIR / "manage.py"), "worker"),
        "web": (
            *(python, "-m", "uvicorn", "ragplat.asgi:application", "--host", settings.HOST),
            *("--port", str(settings.PORT), "--no-access-log", "--timeout-graceful-shutdown", "5"),
            *("--lifespan", "off", "--log-level", "warning"),
        ),
    }
    return {name: Service(name=name, argv=argv) for name, argv in listed.items()}


def _listening(url: str) -> tuple[str, ...]:
    if url.startswith("unix://"):
        return ("--uds", url.removeprefix("unix://"))
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    return ("--host", host, "--port", port)


def log_path(name: str) -> Path:
    """Where a process writes what it has to say."""
    return settings.VAR_DIR / "log" / f"{name}.log"


def start(service: Service) -> subprocess.Popen:
    """Start a process that ends when this one does, however this one ends."""
    with _log_file(service.name) as file:
        return subprocess.Popen(
            service.argv,
            cwd=BASE_DIR,
            env=ENVIRONMENT | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the others in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _log_file(name: str) -> IO[bytes]:
    path = log_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = path.exists() and path.stat().st_size < LOG_BYTES
    return path.open("ab" if keep else "wb")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(processes: list[subprocess.Popen]) -> None:
    """End processes: SIGTERM to all, then SIGKILL to those that stay."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def watch(listed: list[Service], say: Callable[[str], None]) -> Iterator[None]:
    """Keep services running until the generator is closed: yields about ten times a second.

    A process that ends is started again, after a pause that doubles while it keeps ending at once.
    """
    running = {one.name: start(one) for one in listed}
    pauses = dict.fromkeys(running, 0.5)
    due: dict[str, float] = {}
    born = dict.fromkeys(running, time.monotonic())
    by_name = {one.name: one for one in listed}
    try:
        while True:
            now = time.monotonic()
            for name, process in running.items():
                if name in due:
                    if now >= due[name]:
                        running[name] = start(by_name[name])
                        born[name] = now
                        del due[name]
                elif process.poll() is not None:
                    pauses[name] = 0.5 if now - born[name] > 60 else min(pauses[name] * 2, LONGEST_PAUSE)
                    due[name] = now + pauses[name]
                    say(f"{name} ended ({_how(process.returncode)}); starting it again. Its log: {log_path(name)}")
            yield
            time.sleep(0.1)
    finally:
        stop(list(running.values()))


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def answers(url: str, path: str = "/health", timeout: float = 2.0) -> bool:
    """Whether a service answers 200 at its URL, unix:///PATH or http://HOST:PORT."""
    transport, base = None, url
    if url.startswith("unix://"):
        path_of_socket = url.removeprefix("unix://")
        if not _listens(path_of_socket):
            return False
        transport, base = httpx.HTTPTransport(uds=path_of_socket), "http://localhost"
    try:
        with httpx.Client(transport=transport, timeout=timeout) as client:
            return client.get(f"{base}{path}").status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


@contextmanager
def embedding_service(say: Callable[[str], None] = log.info, patience: float = 120) -> Iterator[None]:
    """Have the embedding service running: the one that answers already, or one for the time of the block.

    Raises Unavailable with the end of its log when it does not come up.
    """
    if answers(settings.EMBED_URL):
        yield
        return
    say("The embedding service is not running: starting it for this command.")
    process = start(services()["embed"])
    try:
        deadline = time.monotonic() + patience
        while not answers(settings.EMBED_URL):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"The embedding service did not start. {tail('embed')}")
            time.sleep(0.1)
        yield
    finally:
        stop([process])


def tail(name: str, lines: int = 3) -> str:
    """The last lines of a service's log, for an error message."""
    path = log_path(name)
    text = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f"Its log ({path}) ends: {' / '.join(text[-lines:])}" if text else f"Its log is {path}."
