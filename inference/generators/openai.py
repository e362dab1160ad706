"""Answers from a language model behind any OpenAI-compatible server, such as vLLM."""

import logging
import math
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from inference.prompts import NO_ANSWER, REFUSALS
from ragplat.errors import GeneratorUnavailable
from ragplat.signature import signature
from ragplat.types import Delta, FinishReason, Prompt

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
RETRIES = 1  # of a request the server did not take: connection refused, 429, 5xx
COMPLETE_SECONDS = 20.0  # for a whole short reply: a person waits for it before anything is found
_TICK = 0.05  # seconds between two looks at the deadline


class OpenAIGenerator:
    """Streams from ``POST {base_url}/chat/completions``.

    ``base_url`` ends in "/v1". ``model`` may be "" where the server offers exactly one. ``max_tokens`` bounds the
    answer. ``first_token_seconds`` and ``token_seconds`` are the longest waits for the first and for each further
    token; time the reader of the stream takes does not count.
    """

    name = "openai"

    def __init__(
        self,
        base_url: str,
        model: str = "",
        api_key: str = "",
        temperature: float = 0.0,
        max_tokens: int = 512,
        first_token_seconds: float = 60.0,
        token_seconds: float = 20.0,
    ):
        self.base_url = base_url.rstrip("/")
        self._model = model
        self._api_key = api_key
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.first_token_seconds = first_token_seconds
        self.token_seconds = token_seconds

    def signature(self) -> str:
        """Asks the server for its model when none was given; raises GeneratorUnavailable when that fails."""
        return signature(
            "generator", name=self.name, model=self.model, temperature=self.temperature, max=self.max_tokens, v=1
        )

    @cached_property
    def model(self) -> str:
        """The model asked, or the only one the server offers."""
        if self._model:
            return self._model
        from openai import OpenAIError

        try:
            with self._client() as client:
                names = sorted(model.id for model in client.models.list().data or [])
        except (OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise self._unavailable(error) from error
        if len(names) != 1:
            offered = ", ".join(names) or "none"
            raise GeneratorUnavailable(f"Set the name of the model to use. {self.base_url} offers: {offered}.")
        return names[0]

    def generate(self, prompt: Prompt) -> Iterator[Delta]:
        """See Generator. Errors raised name the server and the model."""
        return self._stream(prompt.messages, REFUSALS[prompt.language])

    def complete(self, messages: Sequence[Mapping[str, str]], seconds: float = COMPLETE_SECONDS) -> str:
        """The model's whole reply to ``messages`` (role and content). Asked once: whoever asks can do without it.

        Raises GeneratorUnavailable when it is not complete within ``seconds``, is empty, cut short or broken off.
        """
        *_, last = deltas = list(self._stream(messages, "", within=seconds))
        if last.finish_reason not in ("stop", "no_answer"):
            problem = f"The language model's reply is longer than {self.max_tokens} tokens; raise max_answer_tokens."
            raise GeneratorUnavailable(last.error or problem)
        return "".join(delta.text for delta in deltas)

    def _stream(
        self, messages: Sequence[Mapping[str, str]], refusal: str, within: float | None = None
    ) -> Iterator[Delta]:
        reply = _Reply(refusal)
        watch = None
        deadline = math.inf if within is None else time.monotonic() + within
        seconds = within or self.first_token_seconds
        try:
            with self._client(within) as client, self._open(client, messages) as stream:
                watch = _Watchdog(stream.response)
                while (chunk := watch.next(stream, min(seconds, deadline - time.monotonic()))) is not None:
                    if text := reply.add(chunk):
                        yield Delta(text=text)
                    seconds = self.token_seconds if reply.begun else seconds
        except GeneratorUnavailable:
            raise
        except Exception as error:  # the client lets through whatever a broken stream made it stumble over
            late = (watch is not None and watch.expired) or type(error).__name__ == "APITimeoutError"
            waited = f"was not done after {within:g} s" if within else f"sent nothing for {seconds:g} s"
            reply.error = waited if late else _reason(error)
        finally:
            if watch:
                watch.stop()
        yield self._last(reply)

    def _last(self, reply: "_Reply") -> Delta:
        """The delta that ends the stream. Raises GeneratorUnavailable when there was no answer at all."""
        problem = reply.problem()
        if not problem:
            return reply.end()
        message = f"The language model server at {self.base_url} (model {self.model}) {problem}."
        if not reply.started:
            raise GeneratorUnavailable(message)
        log.warning("answer broken off: %s", message)
        return reply.end(message)

    def _client(self, within: float | None = None) -> Any:
        """A client of its own for each answer: closed with it, it leaves no connection behind."""
        from openai import OpenAI, Timeout

        longest = within or max(self.first_token_seconds, self.token_seconds)
        return OpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            max_retries=RETRIES if within is None else 0,
            timeout=Timeout(longest, connect=min(longest, CONNECT_SECONDS)),
        )

    def _open(self, client: Any, messages: Sequence[Mapping[str, str]]) -> Any:
        from openai import OpenAIError

        model = self.model
        try:
            return client.chat.completions.create(
                model=model,
                messages=[dict(message) for message in messages],
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
        except OpenAIError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> GeneratorUnavailable:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        model = f' (model "{self._model}")' if self._model else ""
        where = f"The language model server at {self.base_url}{model}"
        if isinstance(error, APITimeoutError):
            return GeneratorUnavailable(f"{where} did not answer in time.")
        if isinstance(error, APIConnectionError):
            return GeneratorUnavailable(f"{where} cannot be reached. Start it, or correct its URL in the settings.")
        if isinstance(error, APIStatusError):
            cure = _CURES.get(error.status_code, "Its log says more.")
            return GeneratorUnavailable(f"{where} answered {error.status_code}: {_said(error)} {cure}")
        return GeneratorUnavailable(f"{where} sent something that is no answer: {_reason(error)}.")


_CURES = {
    400: "If the prompt is too long for the model, lower context_tokens in the answer recipe.",
    401: "Correct the API key in the settings.",
    403: "The API key may not use this model: correct the key or the model in the settings.",
    404: "Correct the model or the URL in the settings; the URL usually ends in /v1.",
    429: "It is busy: ask again in a moment.",
    503: "It is busy or still loading its model: ask again in a moment.",
}


def _said(error: Any) -> str:
    """The server's own words, on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    text = " ".join(str(body.get("message") or error.response.text or "no reason given").split())
    return text[:300].rstrip(".") + "."


def _reason(error: Exception) -> str:
    return f"broke off the answer ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


class _Reply:
    """What a model has said so far, with the token for "no answer" taken out of its words."""

    def __init__(self, refusal: str):
        self.refusal = refusal
        self.begun = False  # whether the model has written anything, reasoning included
        self.started = False  # whether any text was let out
        self.refused = False
        self.held = ""  # received, not let out: it may be the beginning of NO_ANSWER
        self.finish: str | None = None
        self.usage: Any = None
        self.error = ""

    def add(self, chunk: Any) -> str:
        """Take in a chunk of the stream and return the text that can be let out."""
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in chunk.choices or []:
            said = choice.delta.model_dump(exclude_none=True) if choice.delta else {}
            self.begun = self.begun or any(value for key, value in said.items() if key != "role")
            self.held += said.get("content", "")
            self.finish = choice.finish_reason or self.finish
        if self.refused:
            self.held = ""
        elif NO_ANSWER in self.held:
            self.refused, self.held = True, self.held.partition(NO_ANSWER)[0]
        return self._release(len(self.held) - (0 if self.refused else _tail(self.held)))

    def problem(self) -> str:
        """Why this is no complete answer, as the end of a sentence; "" when it is one."""
        if self.refused or self.error:
            return "" if self.refused else self.error
        if self.finish is None:
            return "ended the answer without finishing it"
        if not self.started and not self.held.strip():
            used_up = "used up the whole answer length without writing a word; raise max_answer_tokens"
            return used_up if self.finish == "length" else "gave an empty answer"
        return ""

    def end(self, error: str = "") -> Delta:
        text, self.held = self.held, ""
        finish: FinishReason = "length" if self.finish == "length" else "stop"
        if self.refused:
            finish, text = "no_answer", "" if self.started else self.refusal
        return Delta(
            text=text,
            finish_reason="error" if error else finish,
            prompt_tokens=getattr(self.usage, "prompt_tokens", None),
            completion_tokens=getattr(self.usage, "completion_tokens", None),
            error=error,
        )

    def _release(self, size: int) -> str:
        # Nothing goes out before the first letter: models write "**NO_ANSWER**" too.
        if not self.started and not re.search(r"\w", self.held[:size]):
            return ""
        text, self.held = self.held[:size], self.held[size:]
        self.started = self.started or bool(text)
        return text


def _tail(text: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of NO_ANSWER."""
    sizes = range(min(len(NO_ANSWER), len(text)), 0, -1)
    return next((size for size in sizes if NO_ANSWER.startswith(text[-size:])), 0)


class _Watchdog:
    """Cuts the connection when no token came in time. A socket's timeout alone is no deadline: keep-alives reset it."""

    def __init__(self, response: Any):
        self.expired = False
        self._due: float | None = None
        self._over = threading.Event()
        sock = response.extensions["network_stream"].get_extra_info("socket")
        threading.Thread(target=self._watch, args=(sock,), name="generator-deadline", daemon=True).start()

    def next(self, stream: Any, seconds: float) -> Any:
        """The next chunk of ``stream``, None at its end; the connection is cut after ``seconds`` without one."""
        self._due = time.monotonic() + seconds
        chunk = next(stream, None)
        self._due = None
        return chunk

    def stop(self) -> None:
        self._over.set()

    def _watch(self, sock: socket.socket) -> None:
        while not self._over.wait(_TICK):
            due = self._due
            if due is not None and time.monotonic() >= due:
                self.expired = True
                with suppress(OSError):
                    # Past TLS on purpose: a goodbye could block, and close() alone wakes no reader.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                return
