"""Words of documents and models on a terminal and as JSON: none of them may steer what shows them."""

import json
import re
from typing import Any

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but tab and line feed; among them those that begin escape sequences
_TURNS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of what follows
_UNPRINTABLE = re.compile(rf"[{_CONTROL}{_TURNS}\ud800-\udfff]")
_TO_ESCAPE = re.compile(rf"[\x7f-\x9f\u2028\u2029{_TURNS}\ud800-\udfff]")  # that JSON leaves as they are


def printable(text: str) -> str:
    """``text`` without what a terminal would obey instead of show."""
    return _UNPRINTABLE.sub("", text)


def one_line(text: str, most: int = 300) -> str:
    """``text`` on one line of at most ``most`` characters; a cut is marked."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def to_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON that says exactly the same, is one line without ``indent``, and does no harm to a terminal."""
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match.group()):04x}", written)
