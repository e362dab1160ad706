"""What a generator is: a prompt goes in, the answer comes out piece by piece."""

from collections.abc import Iterator
from typing import Protocol

from ragplat.types import Delta, Prompt


class Generator(Protocol):
    """Writes an answer with markers [n] from ``prompt.chunks``.

    The last Delta, and only that one, carries a finish reason. Closing the iterator stops the work behind it. What
    fails before the first piece raises GeneratorUnavailable; what fails later ends with a Delta whose finish reason is
    "error" and whose ``error`` says why, so that what was received is kept.
    """

    name: str

    def signature(self) -> str:
        """Two generators with equal signatures write alike."""

    def generate(self, prompt: Prompt) -> Iterator[Delta]: ...
