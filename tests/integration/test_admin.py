"""The administration: every list and form opens, in few queries, and its actions do what they say."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob

from indexer.documents import enqueue
from indexer.models import Chunk, Corpus, Document, Index, Recipe
from inference.models import Conversation, Turn
from ragplat.admin import CappedPaginator
from tests.rows import cite, make_corpus, make_document, make_turn

pytestmark = pytest.mark.django_db
OURS = (Corpus, Document, Chunk, Index, Recipe, Conversation, Turn, ProcrastinateJob)


@pytest.fixture
def boss(client):
    made = User.objects.create_superuser("boss")
    client.force_login(made)
    return made


@pytest.fixture
def corpus(boss):
    return make_corpus("harbour", boss)


def fill(user, corpus, number: int) -> Turn:
    document = make_document(corpus, f"{number}.md", f"Text {number}", reason="<b>why</b>")
    make_document(corpus, f"{number}.pdf", f"Bad {number}", state="failed")
    enqueue(document)
    return make_turn(user, corpus, question=f"Why {number}?", citations=[cite(document, "Text")])


def page(kind: str, model, *arguments) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{kind}", args=arguments)


@pytest.mark.parametrize("model", OURS)
def test_lists_open_in_a_constant_number_of_queries(client, boss, corpus, model):
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            response = client.get(page("changelist", model))
            assert response.status_code == 200
            assert b"<b>why</b>" not in response.content
        return len(seen)

    fill(boss, corpus, 1)
    before = queries()
    for number in range(2, 8):
        fill(boss, corpus, number)
    assert queries() <= before


@pytest.mark.parametrize("model", OURS)
def test_rows_open_and_lists_can_be_searched(client, boss, corpus, model):
    fill(boss, corpus, 1)
    assert client.get(page("change", model, model.objects.first().pk)).status_code == 200
    assert client.get(page("changelist", model), {"q": "text"}).status_code == 200


def test_every_page_of_the_administration_obeys_the_policy(client, boss, corpus):
    fill(boss, corpus, 1)
    addresses = [reverse("admin:index"), page("add", Recipe), *(page("changelist", model) for model in OURS)]
    for address in [*addresses, *(page("change", model, model.objects.first().pk) for model in OURS)]:
        response = client.get(address)
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert " style=" not in response.content.decode(), address


def test_nothing_is_changed_behind_the_pipelines_back(client, boss, corpus):
    fill(boss, corpus, 1)
    for model in set(OURS) - {Corpus, Recipe}:
        assert client.get(page("add", model)).status_code == 403, model
        if model is not Document:
            assert client.post(page("change", model, model.objects.first().pk), {}).status_code == 403, model
    assert client.get(page("add", Corpus)).status_code == 403


def test_of_a_document_only_the_tags_are_changed(client, boss, corpus):
    document = make_document(corpus, "a.md")
    fields = {"tags": "draft,north", "name": "b.md", "state": "failed", "dated": "1999-01-01"}
    assert client.post(page("change", Document, document.pk), fields).status_code == 302
    document.refresh_from_db()
    assert (document.tags, document.name, document.state) == (["draft", "north"], "a.md", "ready")


def act(client, model, action: str, rows) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(page("changelist", model), data, follow=True).content.decode()


def test_failed_documents_are_retried_and_others_left_alone(client, boss, corpus):
    fill(boss, corpus, 1)
    said = act(client, Document, "retry", Document.objects.all())
    assert "1 in the queue again" in said and "only a failed or empty document" in said
    assert set(Document.objects.values_list("state", flat=True)) == {"ready", "queued"}


def test_documents_are_deleted_with_their_chunks(client, boss, corpus):
    document = make_document(corpus, "a.md")
    data = {"action": "delete_selected", "_selected_action": [document.pk], "post": "yes"}
    client.post(page("changelist", Document), data)
    assert not Document.objects.exists() and not Chunk.objects.exists()


def test_chunks_are_disabled_and_enabled_with_a_note_to_the_followers(client, boss, corpus):
    document = make_document(corpus, "a.md")

    def changes() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(number) FROM indexer_change WHERE document_id = %s", [document.pk])
            return cursor.fetchone()[0] or 0

    assert "1 chunks disabled" in act(client, Chunk, "disable", document.chunks.all())
    assert not document.chunks.get().enabled
    first = changes()
    assert first > 0
    act(client, Chunk, "enable", document.chunks.all())
    assert document.chunks.get().enabled
    assert changes() > first


def test_chunks_are_found_by_document_and_corpus(client, boss, corpus):
    document = make_document(corpus, "a.md", "Alpha")
    make_document(corpus, "b.md", "Beta")
    html = client.get(page("changelist", Chunk), {"document__id__exact": document.pk}).content.decode()
    assert "Alpha" in html and "Beta" not in html
    assert client.get(page("changelist", Chunk), {"index__corpus__id__exact": corpus.pk}).status_code == 200


def test_a_recipe_becomes_a_new_version(client, boss, corpus):
    old = corpus.answer_recipe
    form = client.get(page("add", Recipe), {"from": old.pk}).content.decode()
    assert "context_tokens" in form and f'value="{old.name}"' in form
    data = {"kind": old.kind, "name": old.name, "params": '{"k": 3}'}
    client.post(page("add", Recipe), data)
    latest = Recipe.objects.filter(kind=old.kind, name=old.name).order_by("-version").first()
    assert (latest.version, latest.params["k"]) == (old.version + 1, 3)
    refused = client.post(page("add", Recipe), data | {"params": '{"colour": "red"}'}).content.decode()
    assert "Unknown fields in the recipe: colour" in refused


def test_failed_jobs_run_again(client, boss, corpus):
    document = make_document(corpus, "a.md", state="queued")
    enqueue(document)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")
    assert "1 of 1 jobs queued again" in act(client, ProcrastinateJob, "retry", ProcrastinateJob.objects.all())
    assert ProcrastinateJob.objects.get().status == "todo"


def test_the_job_of_a_failed_document_begins_it_anew(client, boss, corpus):
    document = make_document(corpus, "a.md", state="failed")
    enqueue(document)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")
    act(client, ProcrastinateJob, "retry", ProcrastinateJob.objects.all())
    document.refresh_from_db()
    assert document.state == "queued"
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"failed", "todo"}


def test_people_without_the_right_stay_out(client, corpus):
    client.force_login(User.objects.create_user("ada", is_staff=True))
    for model in OURS:
        assert client.get(page("changelist", model)).status_code == 403


def test_millions_of_rows_are_not_counted(boss, corpus, monkeypatch):
    monkeypatch.setattr("ragplat.admin.COUNTED", 3)
    for number in range(5):
        make_document(corpus, f"{number}.md", f"Text {number}")
    with CaptureQueriesContext(connection) as seen:
        assert CappedPaginator(Chunk.objects.order_by("id"), 2).count == 3
    assert "LIMIT 3" in seen[0]["sql"]
    assert all(admin.site._registry[model].show_full_result_count is False for model in OURS)
