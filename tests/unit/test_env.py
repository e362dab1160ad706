"""Settings: read, checked, declared, and documented in three places that agree."""

import re
from pathlib import Path

import pytest

from ragplat import env
from ragplat.errors import BadSetting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def declared(monkeypatch):
    monkeypatch.setattr(env, "DECLARED", {})


def test_a_number_out_of_range_names_the_variable_and_the_range(monkeypatch, declared):
    monkeypatch.setenv("RAGPLAT_X", "70000")
    with pytest.raises(BadSetting, match=r"RAGPLAT_X is 70000\. Allowed: a whole number from 1 to 65535"):
        env.envint("RAGPLAT_X", 1, "", low=1, high=65535)


@pytest.mark.parametrize("value", ["abc", "1.5", "1e3"])
def test_a_number_that_is_none_is_refused(monkeypatch, declared, value):
    monkeypatch.setenv("RAGPLAT_X", value)
    with pytest.raises(BadSetting, match="whole number"):
        env.envint("RAGPLAT_X", 1, "", low=1, high=10_000)


@pytest.mark.parametrize(("value", "expected"), [("yes", True), ("0", False), ("TRUE", True), ("", True)])
def test_yes_and_no(monkeypatch, declared, value, expected):
    monkeypatch.setenv("RAGPLAT_X", value)
    assert env.envbool("RAGPLAT_X", True, "") is expected


def test_a_wrong_yes_or_no_is_refused(monkeypatch, declared):
    monkeypatch.setenv("RAGPLAT_X", "maybe")
    with pytest.raises(BadSetting, match="true or false"):
        env.envbool("RAGPLAT_X", True, "")


def test_choices_are_listed(monkeypatch, declared):
    monkeypatch.setenv("RAGPLAT_X", "c")
    with pytest.raises(BadSetting, match="Allowed: a, b"):
        env.envstr("RAGPLAT_X", "a", "", choices=("a", "b"))


def test_a_secret_comes_from_its_file(monkeypatch, declared, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("RAGPLAT_X_FILE", str(tmp_path / "key"))
    assert env.envsecret("RAGPLAT_X", "") == "s3cret"


def test_a_secret_in_two_places_is_refused(monkeypatch, declared, tmp_path):
    monkeypatch.setenv("RAGPLAT_X", "a")
    monkeypatch.setenv("RAGPLAT_X_FILE", str(tmp_path / "key"))
    with pytest.raises(BadSetting, match="Both"):
        env.envsecret("RAGPLAT_X", "")


def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch, declared, tmp_path):
    monkeypatch.setenv("RAGPLAT_X_FILE", str(tmp_path / "missing"))
    with pytest.raises(BadSetting, match="missing"):
        env.envsecret("RAGPLAT_X", "")


def test_settings_example_and_page_agree():
    import ragplat.settings  # noqa: F401  (declares every variable)

    declared = dict(env.DECLARED)
    example = (ROOT / ".env.example").read_text()
    page = (ROOT / "docs" / "configuration.md").read_text()
    in_example = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", example, re.M))
    in_page = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", page, re.M))
    only_compose = {"POSTGRES_PASSWORD"}
    assert in_page == set(declared)
    assert in_example == set(declared) | only_compose
    for one in declared.values():
        assert one.meaning in page, f"docs/configuration.md says something else about {one.name}"
