"""Recipes from JSON."""

from dataclasses import asdict

import pytest

from indexer.recipes import BOUNDS, read
from ragplat.errors import BadInput
from ragplat.types import AnswerRecipe, IndexRecipe


@pytest.mark.parametrize("kind", [IndexRecipe, AnswerRecipe])
def test_what_is_built_in_is_within_bounds(kind):
    assert read(kind, asdict(kind())) == kind()
    assert read(kind, {}) == kind()


def test_every_bound_is_of_a_field():
    assert set(BOUNDS) <= {*asdict(IndexRecipe()), *asdict(AnswerRecipe())}


@pytest.mark.parametrize(
    "params",
    [
        5, [1], None, {"colour": 1}, {"candidates": "100"}, {"candidates": 10**30}, {"candidates": None}, {"k": 0},
        {"k": True}, {"k": 2.5}, {"mode": "foo"}, {"expand": None}, {"dense_weight": -1}, {"strict": 1},
        {"dense_weight": float("nan")}, {"threshold": float("inf")}, {"collapse": 0}, {"fusion": "sum"},
        {"reranker": "a\x00"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_name(params):
    with pytest.raises(BadInput) as caught:
        read(AnswerRecipe, params)
    if isinstance(params, dict):
        assert next(iter(params)) in caught.value.message


@pytest.mark.parametrize("params", [{"vector_store": "foo"}, {"vector_index": "x; drop table y"}, {"chunk_tokens": -5}])
def test_index_recipes_too(params):
    with pytest.raises(BadInput, match=next(iter(params))):
        read(IndexRecipe, params)


def test_whole_numbers_are_numbers():
    assert read(AnswerRecipe, {"dense_weight": 1, "threshold": None}).dense_weight == 1.0
