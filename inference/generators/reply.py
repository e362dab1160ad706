"""What a model has said so far in a stream of chat completion chunks, with the token for "no answer" taken out."""

import re
from typing import Any

from inference.prompts import NO_ANSWER
from ragplat.types import Delta, FinishReason


class Reply:
    """Takes in chunks one by one and lets out text as soon as it cannot be part of the agreed refusal.

    ``refusal`` is what stands for a reply that refuses from the start.
    """

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
        """The last delta, with what was held back."""
        text, self.held = self.held, ""
        finish: FinishReason = "length" if self.finish == "length" else "stop"
        if self.refused:
            finish, text = "no_answer", "" if self.started else self.refusal
        details = getattr(self.usage, "prompt_tokens_details", None)
        return Delta(
            text=text,
            finish_reason="error" if error else finish,
            prompt_tokens=getattr(self.usage, "prompt_tokens", None),
            cached_tokens=getattr(details, "cached_tokens", None),
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
