"""What a generator is: a prompt goes in, the answer comes out piece by piece."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ragplat.types import Delta, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model chooses its words. What stands at its default is left to the server."""

    temperature: float = 0.0
    top_p: float = 1.0  # only the likeliest words that together have this probability
    top_k: int = 0  # only so many of the likeliest words; 0 for all
    seed: int | None = None  # equal seeds give equal answers, as far as the server can
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    max_tokens: int = 512  # longest answer


class Generator(Protocol):
    """Writes an answer with markers [n] from ``prompt.chunks``.

    The last Delta, and only that one, carries a finish reason. Closing the iterator stops the work behind it, and so
    does setting ``stopped``, from any thread: then the iterator ends without a finish reason. What fails before the
    first piece raises GeneratorUnavailable; what fails later ends with a Delta whose finish reason is "error" and whose
    ``error`` says why, so that what was received is kept.
    """

    name: str

    def signature(self) -> str:
        """Two generators with equal signatures write alike."""

    def generate(self, prompt: Prompt, stopped: threading.Event | None = None) -> Iterator[Delta]: ...
