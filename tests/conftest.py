"""What all tests share: no network, the data sets, the real embedding service, a real stack.

tests/installation.py gives them an installation of their own.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _no_network(monkeypatch) -> None:
    """Tests talk to this machine only."""
    connect = socket.socket.connect

    def local(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.fixture(autouse=True)
def _no_model_servers() -> Iterator[None]:
    """No test knows the model servers of another, or leaves connections to them open."""
    yield
    if (server := sys.modules.get("inference.generators.server")) and server._connected:
        from inference.generators import background

        background.run(server.disconnect())


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data sets; tests that need it are skipped when RAGPLAT_DATA_DIR is unset."""
    folder = os.environ.get("RAGPLAT_DATA_DIR", "")
    if not folder:
        pytest.skip("RAGPLAT_DATA_DIR is unset: it names the folder of the test data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def embed(django_db_setup) -> Iterator[None]:
    """The real embedding service of this installation, started once."""
    from ragplat import supervisor

    with supervisor.embedding_service():
        yield


class Stack:
    """A whole installation started with `manage.py up`, with an address and a login."""

    def __init__(self, folder: Path):
        self.var_dir = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.login = ("admin", "correct horse battery")
        kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "RAGPLAT_VAR_DIR")}
        self.env = kept | {
            "RAGPLAT_VAR_DIR": str(folder),
            "RAGPLAT_PORT": str(self.port),
            "RAGPLAT_ADMIN_PASSWORD": self.login[1],
            "RAGPLAT_QUESTIONS_PER_MINUTE": "0",  # all browser tests are one person
        }

    def manage(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run a management command in this installation."""
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str, timeout: float = 180) -> subprocess.Popen:
        """Run `manage.py up` and return once it says that it is running."""
        log = self.var_dir / "up.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "up", *arguments],
                env=self.env,
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + timeout
        while "Ragplat is running" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                raise AssertionError(f"`manage.py up` did not come up:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)
        return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def new_stack() -> Iterator[Stack]:
    """An installation that nothing has been started in yet."""
    folder = Path(tempfile.mkdtemp(prefix="ragplat-stack-"))
    folder.chmod(0o755)
    yield Stack(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running installation with a corpus "demo" of Markdown, HTML, PDF and a table, all ready."""
    folder = Path(tempfile.mkdtemp(prefix="ragplat-stack-"))
    folder.chmod(0o755)
    made = Stack(folder)
    process = made.start("--no-demo")
    try:
        done = made.manage("ingest", "demo", str(ROOT / "tests" / "fixtures" / "demo"), "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
