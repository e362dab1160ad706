"""What a model has said so far in a stream of chat completion chunks, with what is agreed for "no answer" taken out."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from inference.generators.recital import Rules
from inference.prompts import NO_ANSWER, REFUSALS, general_beginning
from ragplat.text import storable
from ragplat.types import Delta, FinishReason

LONGEST = 200_000  # characters of an answer
_LETTER = re.compile(r"\w")
_AROUND = " \t\n*_.:：。"  # models write "**NO_ANSWER**." too
_MARKER = re.compile(r"[\[【]\d")
_REFUSAL = re.compile(rf"[\W_]*{NO_ANSWER}")
_AT_AN_END = re.compile(rf"{NO_ANSWER}[^\w\n]*(?:\n|\Z)")


class Said(NamedTuple):
    """What a model has said: ``text`` from the sources, and what it wrote after saying that they do not answer."""

    text: str
    general: str | None = None  # None: it has not said so


class Form(Protocol):
    """How a model was asked to write."""

    def read(self, raw: str, complete: bool) -> Said:
        """What ``raw``, all it has written, says for certain: both texts only ever grow until it is ``complete``."""


class Marked:
    """Text with markers [n], and NO_ANSWER for no answer."""

    def read(self, raw: str, complete: bool) -> Said:
        """See Form."""
        if refused := _REFUSAL.match(raw):
            return Said("", raw[refused.end() :].lstrip(_AROUND))
        if ended := _AT_AN_END.search(raw):
            text = raw[: ended.start()]
            return Said(text, None if _MARKER.search(text) else "")  # what is cited is an answer all the same
        return Said(raw if complete else raw[: len(raw) - _tail(raw)])


class Reply:
    """Takes in chunks one by one and lets out text as soon as it is certain to belong to the answer.

    ``language`` is that of the words which stand for NO_ANSWER. With ``strict`` nothing follows on them.
    """

    def __init__(self, language: str = "en", strict: bool = True, form: Form | None = None, rules: Rules | None = None):
        self.begun = False  # whether the model has written anything, reasoning included
        self.out = ""  # what was let out
        self.finish: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.error = ""
        self.over = False  # whether nothing that follows can be part of the answer
        self._language, self._strict, self._form = language, strict, form or Marked()
        self._rules = rules
        self._raw = ""

    def add(self, chunk: Mapping[str, Any]) -> str:
        """Take in a chunk of the stream and return the text that can be let out. Raises ValueError for no chunk."""
        self.usage = chunk.get("usage") or self.usage
        try:
            for choice in (chunk.get("choices") or [])[:1]:
                said = choice.get("delta") or {}
                self.begun = self.begun or any(value for key, value in said.items() if key != "role")
                self._raw += said.get("content") or ""
                self.finish = choice.get("finish_reason") or self.finish
        except (AttributeError, TypeError) as error:
            raise ValueError(f"a chunk of another form: {str(chunk)[:80]}") from error
        if len(self._raw) > LONGEST:
            self.error = f"wrote more than {LONGEST:,} characters, whatever it was allowed"
        return self._release(self._read(complete=False))

    def problem(self) -> str:
        """Why this is no complete answer, as the end of a sentence; "" when it is one."""
        said = self._read(complete=True)
        refused = said.general is not None
        if refused and (self._strict or not self.error):
            return ""
        if self.error:
            return self.error
        if self.finish is None:
            return "ended the answer without finishing it"
        if self.finish in ("content_filter", "abort", "error"):
            return f'ended the answer early ("{self.finish}")'
        if not self.out and not said.text.strip():
            used_up = "used up the whole answer length without writing a word; raise max_answer_tokens"
            return used_up if self.finish == "length" else "gave an empty answer"
        return ""

    def end(self, error: str = "") -> Delta:
        """The last delta, with what was held back."""
        said = self._read(complete=True)
        text = self._release(said) or ("" if self.out else said.text)
        finish: FinishReason = "length" if self.finish == "length" else "stop"
        if said.general is not None and (said.text or not self.out):
            finish, text = "no_answer", text if self.out else REFUSALS[self._language]
        elif said.general is not None:
            finish = "length" if self.finish == "length" else "general"
        usage = _mapping(self.usage)
        details = _mapping(usage.get("prompt_tokens_details"))
        return Delta(
            text=text,
            finish_reason="error" if error else finish,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            cached_tokens=_count(details.get("cached_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            error=error,
        )

    def _read(self, complete: bool) -> Said:
        try:
            said = self._form.read(self._raw, complete)
            return Said(storable(said.text), said.general if said.general is None else storable(said.general))
        except ValueError:
            self.error = f"did not write the JSON it was asked for, but {self._raw.strip()[:60]!r}"
            return Said("")

    def _release(self, said: Said) -> str:
        shown = said.text
        self.over = bool(said.general) and (self._strict or bool(said.text))
        if said.general and not said.text and not self._strict and _LETTER.search(said.general):
            shown = general_beginning(self._language) + said.general
        if not _LETTER.search(shown):
            return ""
        fresh = shown[len(self.out) :]
        if fresh and self._rules and self._rules.told(shown, len(fresh)):
            self.error = "began to tell its instructions, which are not for readers"
            return ""
        self.out = shown
        return fresh


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _tail(text: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of NO_ANSWER."""
    sizes = range(min(len(NO_ANSWER), len(text)), 0, -1)
    return next((size for size in sizes if NO_ANSWER.startswith(text[-size:])), 0)
