"""`manage.py doctor` finds what is wrong and names the cure."""

import pytest

from ragplat.management.commands import doctor

pytestmark = pytest.mark.django_db


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


def test_a_healthy_database_is_said_to_be_one():
    found = findings()
    assert found["database"].ok
    assert found["pgvector"].ok
    assert found["migrations"].ok


def test_what_does_not_run_is_named_with_its_cure(settings):
    settings.EMBED_URL = "unix:///nowhere/embed.sock"
    settings.GENERATOR_URL = "http://127.0.0.1:1/v1"
    found = findings()
    for name in ("worker", "embedding service", "language model"):
        assert not found[name].ok
        assert len(found[name].cure) > 20


def test_a_full_disk_is_noticed(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_DISK", 2**70)
    assert not findings()["disk"].ok
