"""Signatures: short, stable names for "made exactly like this", so that results made differently never mix."""

import hashlib
import json
from typing import Any


def signature(kind: str, **fields: Any) -> str:
    """A readable signature such as ``chunker|name:structure|tokens:200|v:1`` (after sacrebleu's).

    Fields keep the order given; the values must not contain "|".
    """
    return "|".join([kind, *(f"{name}:{value}" for name, value in fields.items())])


def digest(value: Any, length: int = 12) -> str:
    """The first ``length`` hex digits of the SHA-256 of a JSON value, independent of key order."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
