"""`manage.py up`: everything needed to use Ragplat on this machine, until Ctrl-C."""

import fcntl
import io
import os
import signal
import socket
import time
from contextlib import contextmanager

from django.conf import settings
from django.core.management import BaseCommand, call_command

from ragplat import database, supervisor
from ragplat.errors import BadSetting, RagplatError
from ragplat.paths import run_dir


class Command(BaseCommand):
    help = "Set up this installation where needed, then run web, worker and embedding service until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--no-demo", action="store_true", help="Do not make the demo corpus.")

    def handle(self, *args, no_demo: bool, **options):
        for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell starts background work with it ignored
            signal.signal(number, _interrupt)
        with _only_one():
            _check_port()
            self._say("Preparing the database ...")
            said = io.StringIO()
            call_command("prepare", stdout=said)
            watching = supervisor.watch(list(supervisor.services().values()), self._say)
            try:
                self._wait_until_ready(watching)
                if not no_demo:
                    call_command("demo")
                self._announce(said.getvalue())
                self._watch(watching)
            except KeyboardInterrupt:
                self._say("\nStopping ...")
            finally:
                watching.close()
                database.stop_embedded()
        self._say("Stopped.")

    def _watch(self, watching) -> None:
        """Let the services be watched, and see to the embedded database, which is none of them."""
        looked = 0.0
        for _ in watching:
            if time.monotonic() - looked < 1:
                continue
            looked = time.monotonic()
            if database.embedded_fell():
                self._say(f"The database ended; starting it again. Its log: {settings.VAR_DIR / 'pg' / 'log'}")
                try:
                    database.restart_embedded()
                except RagplatError as error:
                    self._say(f"{error} Trying again.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _wait_until_ready(self, watching) -> None:
        self._say("Starting web, worker and embedding service ...")
        waiting = {"embed": (settings.EMBED_URL, "/health"), "web": (_local_url(), "/healthz")}
        deadline = time.monotonic() + 120
        for _ in watching:
            for name in [name for name, (url, path) in waiting.items() if supervisor.answers(url, path)]:
                del waiting[name]
            if not waiting:
                return
            if time.monotonic() > deadline:
                name = next(iter(waiting))
                raise RagplatError(f"{name} did not start within two minutes. {supervisor.tail(name)}")

    def _announce(self, login: str) -> None:
        self._say(
            f"\n  Ragplat is running:  http://{_shown_host()}:{settings.PORT}/\n"
            f"  {login.strip().replace('Login: ', 'Login:               ')}\n"
            f"  Logs:                {settings.VAR_DIR / 'log'}\n"
            "  Stop:                Ctrl-C\n"
        )


def _interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def _shown_host() -> str:
    return f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST


def _local_url() -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.HOST, _shown_host())
    return f"http://{host}:{settings.PORT}"


def _check_port() -> None:
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, settings.PORT))
        except OSError as error:
            raise BadSetting(
                f"{settings.HOST}:{settings.PORT} cannot be used ({error.strerror}). Stop what listens there, or "
                "choose another RAGPLAT_PORT."
            ) from error


@contextmanager
def _only_one():
    """One `up` per installation: the kernel's lock on a file dies with its holder."""
    path = run_dir() / "up.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RagplatError(
                f"This installation is running already (process {file.read().strip() or 'unknown'}). Stop it first, or "
                "choose another RAGPLAT_VAR_DIR and RAGPLAT_PORT."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
