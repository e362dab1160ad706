"""The recall probe: what it measures, and that a bad index is named with the cure."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse

from indexer import probe as probing
from indexer import vectors
from tests.integration.test_vectors import fill, make_index

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def index(monkeypatch):
    monkeypatch.setattr(vectors, "EXACT_SCAN_ROWS", 1000)
    made = make_index("probed")
    fill(made, documents=300)
    return made


def test_exact_and_index_are_compared(index):
    (exact,) = probing.probe(index, queries=10)
    assert (exact.store, exact.recall, exact.rows, exact.ok) == ("exact", 1.0, 3600, True)
    vectors.build(index)
    (hnsw,) = probing.probe(index, queries=10)
    assert (hnsw.store, hnsw.ok) == ("hnsw", True)
    assert hnsw.recall >= 0.95


def test_an_empty_index_has_nothing_to_measure():
    assert probing.probe(make_index("empty")) == []


def test_doctor_and_the_admin_panel_name_a_bad_index_and_the_cure(index, client, monkeypatch):
    vectors.build(index)
    indexed = vectors._indexed
    # As bad as can be: what lies opposite.
    monkeypatch.setattr(vectors, "_indexed", lambda index, vector, *rest: indexed(index, -vector, *rest))
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", index="probed", json=True, stdout=out)
    (finding,) = json.loads(out.getvalue())
    assert finding["ok"] is False
    assert "larger ef_search" in finding["cure"]
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(reverse("admin:indexer_index_recall", args=[index.pk])).content.decode()
    assert "below the floor" in page
    assert "larger ef_search" in page
    assert client.get(reverse("admin:indexer_index_recall", args=[999])).status_code == 404


def test_doctor_says_which_corpora_there_are():
    from ragplat.errors import NotFound

    with pytest.raises(NotFound, match="nowhere"):
        call_command("doctor", index="nowhere", stdout=StringIO())
