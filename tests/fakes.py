"""Stand-ins for what a test cannot have: a language model server whose replies the test writes."""

import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def said(text: str, finish: str | None = None) -> str:
    """One event of a chat completion stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "toy", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


def used(prompt: int, completion: int, cached: int | None = None) -> str:
    """The event that tells the tokens used."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "toy", "choices": [], "usage": usage}
    return f"data: {json.dumps(chunk)}\n\n"


DONE = "data: [DONE]\n\n"


class ScriptedServer:
    """An OpenAI-compatible server on 127.0.0.1 that plays ``script`` for every chat completion.

    A script is a list of steps: a string or bytes are sent as they stand, a number is a pause in seconds, ``None``
    cuts the connection. ``status`` other than 200 sends ``error`` as the reason instead; ``passing`` are statuses sent
    before that, one a request. While ``silent`` is set, it takes requests of any kind and answers none. ``models`` are
    the names it offers, ``owner`` whose they are, as servers tell their kind; one that is "vllm" has a ``context`` and
    counts words as tokens.
    Use it as a context manager; ``url`` is the base URL, ``requests`` the bodies of the chat completions received,
    ``looks`` the paths of everything else, ``connections`` how many were opened; ``hung_up`` is set when a client
    leaves before the end of the script.
    """

    def __init__(
        self,
        script: Iterable[str | bytes | float | None] = (),
        status: int = 200,
        error: str = "",
        models: tuple = ("toy",),
        owner: str = "toy",
        context: int = 1000,
        passing: Iterable[int] = (),
        port: int = 0,
    ):
        self.script = list(script)
        self.status = status
        self.error = error
        self.models = models
        self.owner = owner
        self.context = context
        self.passing = list(passing)
        self.requests: list[dict[str, Any]] = []
        self.looks: list[str] = []
        self.connections = 0
        self.silent = False
        self.ended = False
        self.hung_up = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                script.connections += 1

            def parse_request(self) -> bool:
                understood = super().parse_request()
                while script.silent and not script.ended:
                    time.sleep(0.02)
                self.close_connection = self.close_connection or script.ended
                return understood and not script.ended

            def do_GET(self) -> None:
                script.looks.append(self.path)
                if self.path == "/health":
                    self._json(200 if script.owner == "vllm" else 404, {})
                    return
                told = {"object": "model", "created": 0, "owned_by": script.owner}
                told |= {"max_model_len": script.context} if script.owner == "vllm" else {}
                self._json(200, {"object": "list", "data": [{"id": name} | told for name in script.models]})

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if not sent:  # the client was killed
                    return
                body = json.loads(sent)
                if self.path == "/tokenize":
                    script.looks.append(self.path)
                    self._json(200, {"tokens": [0] * len(body["prompt"].split())})
                    return
                script.requests.append(body)
                status = script.passing.pop(0) if script.passing else script.status
                if status != 200:
                    self._json(status, {"error": {"message": script.error, "type": "toy"}})
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with suppress(ConnectionError):
                    self._play()

            def _play(self) -> None:
                for step in script.script:
                    if step is None:
                        self.close_connection = True
                        return
                    if isinstance(step, str | bytes):
                        self._send(step.encode() if isinstance(step, str) else step)
                    else:
                        time.sleep(step)
                self.wfile.write(b"0\r\n\r\n")

            def _send(self, data: bytes) -> None:
                try:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                except ConnectionError:
                    script.hung_up.set()
                    raise

            def _json(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        return Handler
