"""The toy generator: says back the question, with a marker per source. For tests and for trying the pages."""

import threading
from collections.abc import Iterator

from inference.prompts import REFUSALS
from ragplat.signature import signature
from ragplat.types import Delta, Prompt


class EchoGenerator:
    """Answers "{question} [1][2]..." word by word, or refuses when there are no sources."""

    name = "echo"

    def signature(self) -> str:
        return signature("generator", name=self.name, v=1)

    def generate(self, prompt: Prompt, stopped: threading.Event | None = None) -> Iterator[Delta]:
        if not prompt.chunks:
            yield Delta(text=REFUSALS[prompt.language], finish_reason="no_answer")
            return
        for word in prompt.question.split():
            if stopped and stopped.is_set():
                return
            yield Delta(text=f"{word} ")
        yield Delta(text="".join(f"[{n}]" for n in range(1, len(prompt.chunks) + 1)), finish_reason="stop")
