"""Embedding services for tests, as a pytest plugin: real processes on unix sockets."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.embedding.client import EmbeddingClient

ROOT = Path(__file__).resolve().parent.parent


class EmbeddingProcess:
    """A service process on a socket of its own; ``url`` is its address. Use it as a context manager."""

    def __init__(self, model: str = "all-MiniLM-L6-v2", path: Path | None = None, reranker: str = ""):
        self.model = model
        self.reranker = reranker
        # pytest's own temporary folders are too deep for a unix socket.
        self._folder = tempfile.TemporaryDirectory(prefix="ragplat-embed-")
        self.path = path or Path(self._folder.name) / "embed.sock"
        self.url = f"unix://{self.path}"
        self.process = self.start()

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start (again) on the same socket."""
        command = (sys.executable, "-m", "indexer.embedding.service", "--uds", self.path, "--model", self.model)
        command += ("--reranker", self.reranker)
        self.process = subprocess.Popen([*command, "--threads", "1", *arguments], cwd=ROOT)
        return self.process

    def client(self, **options) -> EmbeddingClient:
        return EmbeddingClient(self.url, self.model, **options)

    def __enter__(self) -> "EmbeddingProcess":
        self.client().wait_until_ready(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(40)
        self._folder.cleanup()


@pytest.fixture(scope="session")
def embedding_service() -> Iterator[str]:
    """URL of the real service with the built-in model: the one of RAGPLAT_EMBED_URL, or one started once."""
    running = os.environ.get("RAGPLAT_EMBED_URL", "")
    if running:
        EmbeddingClient(running).wait_until_ready(10)
        yield running
    else:
        with EmbeddingProcess() as service:
            yield service.url


@pytest.fixture(scope="session")
def toy_embedding_service() -> Iterator[str]:
    """URL of a service that runs the toy model "hashing": up in half a second, without torch."""
    with EmbeddingProcess("hashing") as service:
        yield service.url


def pytest_configure(config: pytest.Config) -> None:
    # httpcore drops the socket of a refused connection without closing it: the interpreter does that at once.
    unconnected = r"unclosed <socket\.socket fd=\d+, family=1, type=1, proto=0>"
    config.addinivalue_line("filterwarnings", f"ignore:{unconnected}:ResourceWarning")
