"""Registry, errors and signatures; and what the documentation says of the tree."""

import re
from pathlib import Path

import pytest

from ragplat import errors
from ragplat.errors import BadInput, BadSetting, RagplatError
from ragplat.registry import Registry
from ragplat.signature import digest, signature

ROOT = Path(__file__).resolve().parents[2]


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(BadInput, match=r'no parser named "x"\. Choose one of: a, b'):
        Registry("parser", {"b": "m:b", "a": "m:a"}).get("x")


def test_a_part_that_cannot_be_loaded_is_a_wrong_setting():
    with pytest.raises(BadSetting, match="nowhere:Thing"):
        Registry("parser", {"a": "nowhere:Thing"}).get("a")


def test_own_parts_extend_the_registry():
    registry = Registry("thing", {})
    registry.extend({"path": "pathlib:Path"})
    assert registry.get("path") is Path


def test_every_error_is_drawn_and_speaks():
    drawn = errors.__doc__
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, RagplatError)]
    for one in classes:
        assert one.__name__ in drawn, f"{one.__name__} is missing from the tree"
        assert len(str(one())) > 10, f"{one.__name__} has nothing to say"
        assert 400 <= one.status < 600


def test_passing_errors_are_retried_and_others_not():
    assert not errors.EmbedderUnavailable("x").permanent
    assert errors.CorruptDocument("x").permanent


def test_signatures_keep_their_order_and_digests_do_not_care():
    assert signature("bleu", nrefs=1, case="mixed") == "bleu|nrefs:1|case:mixed"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_architecture_page_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`([a-z_.]+(?:/[a-z_.-]+)*/?)`", page)
    paths = [name for name in named if "/" in name or name.endswith((".py", ".yml"))]
    paths = [path for path in paths if not path.startswith("var/")]  # made by an installation
    assert len(paths) > 15
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"docs/architecture.md names what is not there: {missing}"
