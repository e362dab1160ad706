"""Recipes from JSON: every field known, of its type, and within bounds that make sense."""

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from indexer.fusion import METHODS
from ragplat.errors import BadInput
from ragplat.types import AnswerRecipe, IndexRecipe

R = TypeVar("R", IndexRecipe, AnswerRecipe)

MOST_TEXTS, LONGEST_TEXT = 8, 100  # of a field that holds several texts

BOUNDS: dict[str, tuple[float, float]] = {
    "chunk_tokens": (16, 8192), "overlap_tokens": (0, 4096), "max_tokens": (8, 65_536),
    "k": (1, 1000), "candidates": (1, 10_000), "ef_search": (1, 1000), "probes": (0, 32_768), "recall_floor": (0, 1),
    "variants": (0, 10), "dense_weight": (0, 1), "rrf_k": (1, 10_000), "rerank_candidates": (1, 1000),
    "threshold": (-1e6, 1e6), "collapse": (0.01, 1), "diversity": (0, 1),
    "temperature": (0, 2), "top_p": (0.001, 1), "top_k": (0, 1_000_000), "seed": (0, 2**31 - 1),
    "max_answer_tokens": (1, 1_000_000), "context_tokens": (1, 10_000_000), "history_tokens": (0, 10_000_000),
}  # fmt: skip


def read(kind: type[R], params: Any) -> R:
    """A recipe of ``kind`` with the fields of ``params``; those not given keep their defaults.

    Raises BadInput for what is no object, an unknown field, and a value of the wrong type or out of bounds.
    """
    if not isinstance(params, Mapping):
        raise BadInput(f"A recipe is an object of fields and values, not {params!r}.")
    hints = get_type_hints(kind)
    if unknown := sorted(set(params) - set(hints)):
        raise BadInput(f"Unknown fields in the recipe: {', '.join(unknown)}. Known: {', '.join(hints)}.")
    return kind(**{name: _checked(name, hints[name], value) for name, value in params.items()})


def _checked(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        return _texts(name, value)
    allowed = get_args(hint) if get_origin(hint) in (types.UnionType, Literal) else (hint,)
    if get_origin(hint) is Literal:
        choices: tuple[str, ...] = allowed
    else:
        choices = tuple(METHODS) if name == "fusion" else ()
        _check_type(name, allowed, value)
    if choices and value not in choices:
        raise BadInput(f"{name} is {value!r}. Choose one of: {', '.join(choices)}.")
    low, high = BOUNDS.get(name, (-math.inf, math.inf))
    if isinstance(value, int | float) and not low <= value <= high:  # NaN is not either
        raise BadInput(f"{name} is {value}. Allowed: {low:g} to {high:g}.")
    return float(value) if float in allowed and type(value) is int else value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MOST_TEXTS:
        raise BadInput(f"{name} is {value!r}; it has to be a list of at most {MOST_TEXTS} texts.")
    for text in value:
        _check_type(name, (str,), text)
        if not 1 <= len(text) <= LONGEST_TEXT:
            raise BadInput(f"{name} holds a text of {len(text)} characters. Allowed: 1 to {LONGEST_TEXT}.")
    return tuple(value)


def _check_type(name: str, allowed: tuple[Any, ...], value: Any) -> None:
    fits = type(value) in allowed or (float in allowed and type(value) is int)
    if not fits:
        wanted = " or ".join("null" if one is types.NoneType else one.__name__ for one in allowed)
        raise BadInput(f"{name} is {value!r}; it has to be of the type {wanted}.")
    if isinstance(value, str) and ("\x00" in value or value.encode("utf-8", "ignore").decode() != value):
        raise BadInput(f"{name} is {value!r}, which is no text.")
