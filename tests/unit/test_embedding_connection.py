"""The pooled connections, against servers that behave badly on demand."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from indexer.embedding.connection import Broken, Connections
from ragplat.errors import BadSetting

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(*scripts: list[bytes]) -> Iterator[str]:
    """A server on TCP that accepts one connection for each script, and answers each request on it with one of its
    lines; after the last it closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for script in scripts:
                connection, _ = listening.accept()
                with connection:
                    for answer in script:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def test_a_connection_is_used_again():
    with server([OK, OK, OK]) as url:
        connections = Connections(url)
        assert [connections.request("GET", "/", timeout=5).body for _ in range(3)] == [b"ok"] * 3
        connections.close()


def test_a_connection_that_the_service_closed_meanwhile_is_replaced():
    with server([OK], [OK]) as url:
        connections = Connections(url)
        assert connections.request("GET", "/", timeout=5).body == b"ok"
        idle = connections._idle.queue[0].sock
        idle.settimeout(5)
        assert idle.recv(1, socket.MSG_PEEK) == b""  # its end has arrived
        assert connections.request("GET", "/", timeout=5).body == b"ok"
        connections.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
    ids=["nothing", "no HTTP", "half a body"],
)
def test_a_broken_answer_is_raised_and_its_connection_is_not_used_again(answer):
    with server([answer], [OK]) as url:
        connections = Connections(url)
        with pytest.raises(Broken):
            connections.request("GET", "/", timeout=5)
        assert connections.request("GET", "/", timeout=5).body == b"ok"
        connections.close()


def test_a_silent_service_is_waited_for_no_longer_than_asked():
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(TimeoutError):
        Connections(f"http://127.0.0.1:{listening.getsockname()[1]}").request("GET", "/", timeout=0.1)


@pytest.mark.parametrize("url", ["", "embed.sock", "unix://embed.sock", "unix://", "http://", "http://a:b", "ftp://a"])
def test_another_address_is_refused(url):
    with pytest.raises(BadSetting, match=r"Allowed: unix:///folder/embed\.sock or http://host:port"):
        Connections(url)
