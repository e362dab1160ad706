"""Answers as JSON by a schema, where the server holds the model to it: no sentence is without its sources' numbers.

The text that comes of it is what a model that writes markers would have written, so everything after is the same.
"""

from collections.abc import Mapping
from typing import Any

from inference.generators.reply import Said
from ragplat.text import is_cjk


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field of the chat API that holds a reply to a JSON schema."""
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}
    }


def answer_schema(sources: int, strict: bool) -> dict[str, Any]:
    """The JSON schema of an answer from so many sources; ``strict``: no sentence is without one."""
    number = {"type": "integer", "minimum": 1, "maximum": sources} if sources else {"type": "integer"}
    numbers = {"type": "array", "items": number} | ({"minItems": 1} if strict and sources else {})
    return _object(
        answered={"type": "boolean"},
        sentences={"type": "array", "items": _object(text={"type": "string"}, sources=numbers)},
    )


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class Structured:
    """Reads such an answer while it is written. See reply.Form."""

    def read(self, raw: str, complete: bool) -> Said:
        """Raises ValueError for what is no such JSON. It may break off anywhere: at its longest length, or stopped."""
        from jiter import from_json

        if not raw.strip():
            return Said("")
        made = from_json(raw.strip().encode(), partial_mode="trailing-strings")
        try:
            sentences = [(one.get("text", ""), one.get("sources", [])) for one in made.get("sentences", [])]
            text = ""
            for place, (words, sources) in enumerate(sentences):
                words = words.strip()
                text += " " * bool(text and words and not is_cjk(words[0])) + words
                if complete or place < len(sentences) - 1:
                    text += "".join(f"[{number}]" for number in sources if type(number) is int and 0 < number < 1000)
            silent = complete and not sentences and raw.rstrip().endswith("}")  # not broken off: it says nothing
            return Said(text) if made.get("answered", True) and not silent else Said("", text)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no answer by the schema: {error}") from error
