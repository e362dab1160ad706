"""HTTP to the embedding service, over its unix socket or TCP, on pooled connections of the standard library.

Every question waits for this way, and http.client takes a third of httpx's time for it (docs/log.md).
"""

import http.client
import json
import queue
import select
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ragplat.errors import BadSetting

Broken = (OSError, http.client.HTTPException)  # what a service that is away, restarts or is none makes of a request


class Response(NamedTuple):
    """An answer, whatever its status."""

    status: int
    headers: Mapping[str, str]  # looked up in any case
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class Connections:
    """Connections to ``url``: "unix:///path/embed.sock" or "http://host:port". Thread-safe.

    The environment's proxies are not for a service of ours. Raises BadSetting for another address.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        try:
            usable = parts.path if parts.scheme == "unix" else parts.hostname and (parts.port or True)
        except ValueError:  # the port is no number
            usable = False
        if parts.scheme not in ("unix", "http", "https") or not usable:
            raise BadSetting(
                f'The address of the embedding service is "{url}". '
                "Allowed: unix:///folder/embed.sock or http://host:port."
            )
        self._url = parts
        self._prefix = "" if parts.scheme == "unix" else parts.path.rstrip("/")
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def request(self, method: str, path: str, body: bytes = b"", *, timeout: float) -> Response:
        """Send a request and wait at most ``timeout`` seconds for each step of the answer. Raises one of ``Broken``."""
        connection = self._take(timeout)
        try:
            connection.request(method, self._prefix + path, body or None)
            answer = connection.getresponse()
            response = Response(answer.status, answer.headers, answer.read())
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return response

    def close(self) -> None:
        """Close what is idle."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _take(self, timeout: float) -> http.client.HTTPConnection:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return self._new(timeout)
            if connection.sock and not _readable(connection.sock):
                connection.sock.settimeout(timeout)
                return connection
            connection.close()

    def _new(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "embed", self._url.port
        if self._url.scheme == "unix":
            return _UnixConnection(self._url.path, timeout)
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("embed", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _readable(sock: socket.socket) -> bool:
    """Whether something has come in. Before a request that can only be the end: the service closed its side."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
