"""The chunks of a streamed chat completion, as plain mappings.

Read from the lines themselves: building the client's typed objects takes four times as long, which many streams at
once feel.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

REST_SECONDS = 1.0  # for the end of the body after the last chunk: then the connection can be used again


class StreamError(Exception):
    """The server says in the middle of a stream that it failed."""


class Chunks:
    """Iterates over the chunks of a ``response`` of the openai package that streams. Raises StreamError, ValueError."""

    def __init__(self, response: Any):
        self._response = response
        self._lines = _lines(response)

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> dict[str, Any]:
        async for line in self._lines:
            name, _, data = line.partition(":")
            if name != "data" or not data.strip():
                continue
            if data.strip() == "[DONE]":
                break
            return _read(data)
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                async for _ in self._lines:
                    pass
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the request; a server that is still at work on it sees that."""
        await self._response.close()


async def _lines(response: Any) -> AsyncIterator[str]:
    """The lines of an event stream, which end at \\n, \\r or both; JSON may hold what else ends a line of text."""
    rest = b""
    async for piece in response.iter_bytes():
        rest += piece
        *whole, rest = rest.splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n"):
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.rstrip(b"\r\n").decode("utf-8-sig", "replace")
    if rest:
        yield rest.decode("utf-8-sig", "replace")


def _read(data: str) -> dict[str, Any]:
    chunk = json.loads(data)
    if not isinstance(chunk, dict):
        raise ValueError(f"a chunk that is no object: {data[:80]}")
    if error := chunk.get("error"):
        raise StreamError(error.get("message") if isinstance(error, dict) else str(error))
    return chunk
