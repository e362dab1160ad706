"""Answers from a language model behind any OpenAI-compatible server, such as vLLM."""

import asyncio
import hashlib
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from inference.generators import background
from inference.generators.base import Sampling
from inference.generators.plain import plain
from inference.generators.recital import Rules
from inference.generators.reply import Reply
from inference.generators.server import RETRIES, connected, reason
from inference.generators.structured import Structured, answer_schema, response_format
from ragplat.errors import GeneratorUnavailable
from ragplat.signature import signature
from ragplat.types import Delta, Prompt

log = logging.getLogger(__name__)

REST_SECONDS = 3.0  # for what a stream may still say once the answer has ended
COMPLETE_SECONDS = 20.0  # for a whole short reply: a person waits for it before anything is found
BATCH_PRIORITY = 10  # of vLLM's scheduler, where it is on; people asking have 0, which comes first
BATCH_RETRIES = 10  # a batch waits for a minute while the server is busy
JSON_OWNERS = ("vllm", "llamacpp", "library", "openai", "system")  # of servers that hold a model to a JSON schema
MOST_LENGTHS = 100_000  # texts whose token counts are remembered: rules, history and sources come again and again

_lengths: dict[tuple[str, bytes], int] = {}  # (model and server, hash of the text) to tokens


class OpenAIGenerator:
    """Streams from ``POST {base_url}/chat/completions``.

    ``base_url`` ends in "/v1". ``model`` may be "" where the server offers exactly one. Unless ``strict``, a model that
    finds no answer in the sources may go on from general knowledge. ``structured``: the prompts ask for JSON where the
    server holds a model to it. ``first_token_seconds`` and
    ``token_seconds`` are the longest waits for the first and for each further token. ``tenant`` names those who may
    share what the server has cached of their prompts; ``batch`` lets the answers of people go first. The two are for
    vLLM: other servers are not told.
    """

    name = "openai"

    def __init__(
        self,
        base_url: str,
        model: str = "",
        api_key: str = "",
        sampling: Sampling | None = None,
        *,
        strict: bool = True,
        structured: bool = False,
        tenant: str = "",
        batch: bool = False,
        first_token_seconds: float = 180.0,
        token_seconds: float = 20.0,
    ):
        self.base_url = base_url.rstrip("/")
        self._model = model
        self._server = connected(self.base_url, api_key)
        self.sampling = sampling or Sampling()
        self._strict, self._structured = strict, structured
        self._tenant = tenant
        self._batch = batch
        self.first_token_seconds = first_token_seconds
        self.token_seconds = token_seconds

    def signature(self) -> str:
        """Asks the server for its model when none was given; raises GeneratorUnavailable when that fails."""
        chosen = self.sampling
        return signature(
            "generator",
            name=self.name,
            model=self.model,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            top_k=chosen.top_k,
            seed=chosen.seed,
            stop="|".join(chosen.stop),
            max=chosen.max_tokens,
            strict=self._strict,
            structured=self._structured,
            v=3,
        )

    @property
    def model(self) -> str:
        """The model asked, or the only one the server offers."""
        self._model = self._model or background.run(self._only_model())
        return self._model

    def count(self, texts: Sequence[str]) -> list[int] | None:
        """How many tokens each text has by the model's own tokenizer; None where the server does not count."""
        whose = f"{self.base_url} {self.model}"
        keys = [(whose, hashlib.sha256(text.encode()).digest()) for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in _lengths}
        counted = background.run(self._server.count(self.model, list(map(plain, fresh.values()))))
        if counted is None:
            return None
        known = {key: _lengths[key] for key in keys if key not in fresh} | dict(zip(fresh, counted, strict=True))
        if len(_lengths) > MOST_LENGTHS:
            _lengths.clear()
        _lengths.update(known)
        return [known[key] for key in keys]

    def structures(self) -> bool:
        """Whether the server is known to hold a model to a JSON schema."""
        return background.run(self._server.offer()).owner.startswith(JSON_OWNERS)

    def context(self) -> int | None:
        """How many tokens prompt and answer may have together; None where the server does not tell."""
        return background.run(self._server.offer()).context.get(self.model)

    def generate(self, prompt: Prompt, stopped: threading.Event | None = None) -> Iterator[Delta]:
        """See Generator. Errors raised name the server and the model."""
        structured = self._structured and self.structures()
        reply = Reply(prompt.language, self._strict, Structured() if structured else None, Rules(prompt.messages))
        fields = response_format(answer_schema(len(prompt.chunks), self._strict)) if structured else {}
        return background.iterate(self._stream(prompt.messages, reply, fields), stopped)

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any] | None = None,
        seconds: float = COMPLETE_SECONDS,
    ) -> str:
        """The model's whole reply to ``messages`` (role and content). Asked once: whoever asks can do without it.

        ``schema``: a JSON schema that the reply is held to, where the server is known to do that.

        Raises GeneratorUnavailable when it is not complete within ``seconds``, is empty, cut short or broken off.
        """
        fields = response_format(schema) if schema and self.structures() else {}
        *_, last = deltas = list(background.iterate(self._stream(messages, Reply(), fields, within=seconds)))
        if last.finish_reason == "no_answer":
            return ""
        if last.finish_reason != "stop":
            most = self.sampling.max_tokens
            problem = f"The language model's reply is longer than {most} tokens; raise max_answer_tokens."
            raise GeneratorUnavailable(last.error or problem)
        return "".join(delta.text for delta in deltas)

    async def _only_model(self) -> str:
        names = (await self._server.offer()).models
        if len(names) != 1:
            offered = ", ".join(names) or "none"
            raise GeneratorUnavailable(f"Set the name of the model to use. {self.base_url} offers: {offered}.")
        return names[0]

    async def _stream(
        self,
        messages: Sequence[Mapping[str, str]],
        reply: Reply,
        fields: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> AsyncIterator[Delta]:
        stream = None
        end = math.inf if within is None else time.monotonic() + within
        seconds = within or self.first_token_seconds
        try:
            async with asyncio.timeout(min(seconds, end - time.monotonic())):
                request = await self._request(messages) | (fields or {})
                stream = await self._server.open(request, self._retries(within))
            while True:
                async with asyncio.timeout(min(seconds, end - time.monotonic())):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                if text := reply.add(chunk):
                    yield Delta(text=text)
                if reply.error or reply.over:
                    break
                seconds = self.token_seconds if reply.begun else seconds
                seconds = min(seconds, REST_SECONDS) if reply.finish else seconds  # only the usage may follow
        except GeneratorUnavailable:
            raise
        except TimeoutError:
            if not reply.finish:
                reply.error = f"was not done after {within:g} s" if within else f"sent nothing for {seconds:g} s"
            if not reply.begun:
                await self._server.suspect(self._told(reply.error))
        except Exception as error:  # the client lets through whatever a broken stream made it stumble over
            reply.error = reason(error)
        finally:
            if stream is not None:
                await stream.close()  # which ends the work on the server, too
        yield self._last(reply)

    def _retries(self, within: float | None) -> int:
        if within is not None:
            return 0
        return BATCH_RETRIES if self._batch else RETRIES

    def _last(self, reply: Reply) -> Delta:
        """The delta that ends the stream. Raises GeneratorUnavailable when there was no answer at all."""
        problem = reply.problem()
        if not problem:
            return reply.end()
        message = self._told(problem)
        if not reply.out:
            raise GeneratorUnavailable(message)
        log.warning("answer broken off: %s", message)
        return reply.end(message)

    def _told(self, problem: str) -> str:
        named = f' (model "{self._model}")' if self._model else ""
        return f"The language model server at {self.base_url}{named} {problem}."

    async def _request(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        chosen, offer = self.sampling, await self._server.offer()
        self._model = self._model or await self._only_model()
        optional = {"top_p": chosen.top_p} if chosen.top_p < 1 else {}
        optional |= {"seed": chosen.seed} if chosen.seed is not None else {}
        optional |= {"stop": list(chosen.stop)} if chosen.stop else {}
        beyond = {"top_k": chosen.top_k} if chosen.top_k else {}  # no part of OpenAI's API, but of most others
        if offer.owner == "vllm":
            beyond |= {"cache_salt": self._tenant} if self._tenant else {}
            beyond |= {"priority": BATCH_PRIORITY} if self._batch else {}
        return {
            "model": self._model,
            "messages": [{"role": one["role"], "content": plain(one["content"])} for one in messages],
            "temperature": chosen.temperature,
            "max_tokens": chosen.max_tokens,
            "stream_options": {"include_usage": True},
            "extra_body": beyond,
            **optional,
        }
