"""Listening sockets for the service, with errors that say what to do."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragplat.errors import BadSetting

LONGEST_PATH = 107  # bytes; a limit of the kernel
BACKLOG = 1024


@contextmanager
def on_unix(path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening unix socket that only its owner may use, and its URL. The file is removed at the end.

    A file left behind by a dead process is replaced. Raises BadSetting when a living one holds it, or for a path
    that cannot be used.
    """
    path = path.absolute()
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise BadSetting(f"The socket path {path} is over {LONGEST_PATH} bytes. Choose a shorter one with --uds.")
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            sock.bind(str(path))
            path.chmod(0o600)  # before listening, so that nobody else ever gets in
            sock.listen(BACKLOG)
        except OSError as error:
            raise BadSetting(f"Cannot listen on {path}: {error.strerror}. Choose another path with --uds.") from None
        try:
            yield sock, f"unix://{path}"
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def on_tcp(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A listening TCP socket and its URL. Raises BadSetting when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise BadSetting(f"Cannot listen on {host} port {port}: {error}. Choose another with --host, --port.") from None
    with sock:
        yield sock, f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise BadSetting(f"{path} exists and is not a socket. Choose another path with --uds.")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise BadSetting(f"An embedding service already listens on {path}. Stop it first, or choose another --uds.")
