"""A language model server with an OpenAI-compatible API: what it offers, whether it is up, and the way to it.

What a server can do is asked, not assumed: vLLM and llama.cpp count tokens, only vLLM keeps caches of tenants apart.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from inference.generators.sse import Chunks
from ragplat.errors import GeneratorUnavailable

T = TypeVar("T")

CONNECT_SECONDS = 5.0
RETRIES = 2  # of a request the server did not take: connection refused, 429, 5xx; the pause doubles up to 8 s
PROBE_SECONDS = 5.0  # for what a server answers without its model
HEALTH_SECONDS = 2.0  # for a look at its health
DOWN_SECONDS = 2.0  # between two looks at a server that is down; what is asked meanwhile fails at once
TOKENIZERS = {"vllm": "prompt", "llamacpp": "content"}  # by owner of the models: the field of POST /tokenize


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a server says about itself."""

    models: tuple[str, ...]
    owner: str  # of the models: "vllm", "llamacpp", "library" (Ollama), "openai" ...
    context: Mapping[str, int]  # by model, where it is told: the tokens that prompt and answer may have together


class ModelServer:
    """The server at ``base_url``, which ends in "/v1". Use it on the background loop only, where its connections live.

    All verbs raise GeneratorUnavailable with the server's name and what to do.
    """

    def __init__(self, base_url: str, api_key: str = ""):
        self.base_url = base_url.rstrip("/")
        self._root = self.base_url.removesuffix("/v1")
        self._api_key = api_key
        self._offer: Offer | None = None
        self._down = ""  # why, while it is
        self._looked = 0.0  # when its health was looked at last

    @cached_property
    def client(self) -> Any:
        """The openai package's client. That package is loaded slowly: on first use."""
        from openai import AsyncOpenAI, Timeout

        return AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            max_retries=RETRIES,
            timeout=Timeout(None, connect=CONNECT_SECONDS),  # each request has its own deadline
        )

    async def offer(self) -> Offer:
        """What the server offers; asked once. A server that lists no models may still have the one that is named."""
        if self._offer is None:
            try:
                listed = (await self._ask(self.client.models.list)).data or []
            except GeneratorUnavailable as error:
                if getattr(error.__cause__, "status_code", None) not in (404, 405, 501):
                    raise
                listed = []
            self._offer = Offer(
                models=tuple(sorted(model.id for model in listed)),
                owner=next((model.owned_by or "" for model in listed), ""),
                context={model.id: most for model in listed if (most := getattr(model, "max_model_len", None))},
            )
        return self._offer

    async def open(self, request: Mapping[str, Any], retries: int = RETRIES) -> Chunks:
        """The stream of a chat completion: ``request`` holds the fields of the API. The caller sets the deadline."""
        completions = self.client.with_options(max_retries=retries).chat.completions.with_streaming_response
        opening = completions.create(**request, stream=True)
        return Chunks(await self._ask(opening.__aenter__, request["model"], math.inf))

    async def count(self, model: str, texts: Sequence[str]) -> list[int] | None:
        """How many tokens the texts have by the model's own tokenizer; None where the server does not tell."""
        field = TOKENIZERS.get((await self.offer()).owner)
        if field is None:
            return None

        async def one(text: str) -> int:
            body = {"model": model, field: text, "add_special_tokens": False}
            counted = await self.client.post(f"{self._root}/tokenize", body=body, cast_to=dict[str, Any])
            return len(counted["tokens"])

        async def all_of_them() -> list[int]:
            return list(await asyncio.gather(*map(one, texts)))

        return await self._ask(all_of_them, model)

    async def _ask(self, ask: Callable[[], Awaitable[T]], model: str = "", seconds: float = PROBE_SECONDS) -> T:
        """The answer to a request, unless the server is down: then nobody waits for it until it says it is healthy."""
        await self._check_health()
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                answer = await ask()
        except Exception as error:  # whatever an answer that is none makes the client stumble over
            said = self._unavailable(error, model)
            if _is_down(error):
                self._fell(said.message)
            elif _is_late(error):
                await self.suspect(said.message)
            raise said from error
        self._down = ""
        return answer

    async def suspect(self, problem: str) -> None:
        """Note that an answer did not begin in time. A healthy server is only busy; another counts as down."""
        if not self._down and not await self._healthy():
            self._fell(problem)

    def _fell(self, problem: str) -> None:
        self._down, self._looked, self._offer = problem, time.monotonic(), None

    async def _check_health(self) -> None:
        if not self._down:
            return
        if time.monotonic() - self._looked < DOWN_SECONDS or not await self._healthy():
            raise GeneratorUnavailable(self._down)
        self._down = ""

    async def _healthy(self) -> bool:
        self._looked = time.monotonic()
        quick = self.client.with_options(max_retries=0)
        for address in (f"{self._root}/health", f"{self.base_url}/models"):  # not every server has the first
            try:
                async with asyncio.timeout(HEALTH_SECONDS):
                    await quick.get(address, cast_to=object)
                return True
            except Exception as error:
                if getattr(error, "status_code", None) != 404:
                    return False
        return False

    def _unavailable(self, error: Exception, model: str) -> GeneratorUnavailable:
        """What went wrong, for a person."""
        from openai import APIConnectionError, APIStatusError

        named = f' (model "{model}")' if model else ""
        where = f"The language model server at {self.base_url}{named}"
        if _is_late(error):
            return GeneratorUnavailable(f"{where} did not answer in time.")
        if isinstance(error, APIConnectionError):
            return GeneratorUnavailable(f"{where} cannot be reached. Start it, or correct its URL in the settings.")
        if isinstance(error, APIStatusError):
            cure = _CURES.get(error.status_code, "Its log says more.")
            return GeneratorUnavailable(f"{where} answered {error.status_code}: {_said(error)} {cure}")
        return GeneratorUnavailable(f"{where} sent something that is no answer: {reason(error)}.")


_connected: dict[tuple[str, str], ModelServer] = {}


def connected(base_url: str, api_key: str) -> ModelServer:
    """The server at an address: one for all answers, so that they share its connections and what is known of it."""
    return _connected.setdefault((base_url, api_key), ModelServer(base_url, api_key))


async def disconnect() -> None:
    """Close all connections to all servers, and forget what is known of them."""
    while _connected:
        await _connected.popitem()[1].client.close()


_CURES = {
    400: "If the prompt is too long for the model, lower context_tokens in the answer recipe.",
    401: "Correct the API key in the settings.",
    403: "The API key may not use this model: correct the key or the model in the settings.",
    404: "Correct the model or the URL in the settings; the URL usually ends in /v1.",
    429: "It is busy: ask again in a moment.",
    503: "It is busy or still loading its model: ask again in a moment.",
}


def _is_down(error: Exception) -> bool:
    from openai import APIConnectionError

    away = isinstance(error, APIConnectionError) and not _is_late(error)
    return away or getattr(error, "status_code", 0) in (500, 502, 503, 504)


def _is_late(error: Exception) -> bool:
    from openai import APITimeoutError

    return isinstance(error, APITimeoutError | TimeoutError)


def _said(error: Any) -> str:
    """The server's own words, on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    text = _plain(str(body.get("message") or error.response.text or "no reason given"))
    return text[:300].rstrip(".") + "."


def reason(error: Exception) -> str:
    """An error of the client, as the end of a sentence."""
    return f"broke off the answer ({type(error).__name__}: {_plain(str(error))[:200]})"


def _plain(text: str) -> str:
    """A server's words on one line, without what can be neither stored nor shown."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
