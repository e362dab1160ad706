"""Corpora and documents: lists, upload, live states, retry, delete."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from indexer.models import Document
from tests.rows import make_corpus, make_document

pytestmark = pytest.mark.django_db
NASTY = '<img src=x onerror="alert(1)">.md'


def files(*names: str) -> list[SimpleUploadedFile]:
    return [SimpleUploadedFile(name, f"Text of {name}".encode()) for name in names]


def test_the_list_shows_each_corpus_with_its_numbers(client, corpus):
    make_document(corpus, "a.md")
    make_document(corpus, "b.md", "Other.", state="failed", reason="Broken.")
    make_corpus("strangers")
    html = client.get("/corpora/").content.decode()
    assert "Harbour" in html and "1 ready" in html and "1 failed" in html
    assert "strangers" not in html


def test_without_a_corpus_the_next_step_is_shown(client, user):
    assert b"No corpus yet" in client.get("/corpora/").content
    assert b"Nothing to ask yet" in client.get("/").content


def test_a_corpus_without_a_ready_document_cannot_be_asked_yet(client, corpus):
    html = client.get("/").content.decode()
    assert "has no document ready" in html
    assert "/corpora/harbour/" in html


def test_names_of_files_are_never_markup(client, corpus):
    make_document(corpus, NASTY, title="<script>alert(2)</script>", reason="<b>bold</b>", state="failed")
    for address in ("/corpora/harbour/", f"/documents/{Document.objects.get().pk}/"):
        html = client.get(address).content.decode()
        assert "<img src=x" not in html and "<script>alert" not in html and "<b>bold" not in html
        assert "&lt;img src=x" in html


def test_the_table_filters_sorts_and_pages(client, corpus):
    for number in range(60):
        make_document(corpus, f"file-{number:02}.md", f"Text {number}")
    make_document(corpus, "broken.pdf", "no", state="failed", reason="Damaged.")
    html = client.get("/corpora/harbour/").content.decode()
    assert "broken.pdf" in html and "file-48.md" in html and "file-49.md" not in html
    assert "51–61 of 61" in client.get("/corpora/harbour/?page=2").content.decode()
    failed = client.get("/corpora/harbour/?state=failed").content.decode()
    assert "broken.pdf" in failed and "Damaged." in failed and "file-00.md" not in failed
    assert "file-07.md" in client.get("/corpora/harbour/?q=-07").content.decode()
    assert "No document matches" in client.get("/corpora/harbour/?q=absent").content.decode()
    assert "file-59.md" in client.get("/corpora/harbour/?sort=-name").content.decode()
    assert client.get("/corpora/harbour/?sort=nonsense&page=x&state=y").status_code == 200


@pytest.mark.parametrize("address", ["/corpora/", "/corpora/harbour/", "/"])
def test_the_number_of_queries_does_not_grow(client, corpus, address):
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(address).status_code == 200
        return len(seen)

    make_document(corpus, "a.md")
    queries()  # the session's own
    before = queries()
    for number in range(20):
        make_document(corpus, f"{number}.md", f"Text {number}", title=f"Title {number}")
    assert queries() == before


def test_several_files_without_scripts_each_with_its_outcome(client, corpus):
    response = client.post("/corpora/harbour/upload/", {"files": files("a.md", "b.md")})
    html = response.content.decode()
    assert response.status_code == 200
    assert "was added" in html
    assert set(corpus.documents.values_list("name", "state")) == {("a.md", "queued"), ("b.md", "queued")}
    again = client.post("/corpora/harbour/upload/", {"files": files("a.md")}).content.decode()
    assert "is in this corpus already" in again
    assert corpus.documents.count() == 2


def test_a_refused_file_does_not_keep_the_others_out(client, corpus, settings):
    settings.MAX_UPLOAD_MB = 1
    huge = SimpleUploadedFile("huge.txt", b"x" * (2**20 + 1))
    accept = {"Accept": "application/json"}
    response = client.post("/corpora/harbour/upload/", {"files": [huge, *files("ok.md")]}, headers=accept)
    results = response.json()["results"]
    assert response.status_code == 200
    assert [one["outcome"] for one in results] == ["refused", "added"]
    assert "larger than 1 MB" in results[0]["message"]
    alone = client.post(
        "/corpora/harbour/upload/", {"files": [SimpleUploadedFile("huge.txt", b"y" * 2**21)]}, headers=accept
    )
    assert alone.status_code == 413


def test_a_folders_path_is_kept_as_the_name(client, corpus):
    client.post("/corpora/harbour/upload/", {"files": files("a.md"), "path": ["manuals/2024/a.md"]})
    assert corpus.documents.get().name == "manuals/2024/a.md"


def test_no_file_is_one_clear_line(client, corpus):
    response = client.post("/corpora/harbour/upload/", {})
    assert response.status_code == 400
    assert b"No file was chosen." in response.content


def test_rows_under_way_are_polled_until_they_are_settled(client, corpus):
    document = make_document(corpus, "a.md", state="parsing")
    page = client.get("/corpora/harbour/").content.decode()
    assert f"live/?ids={document.pk}" in page
    document.state = "embedding"
    document.save()
    assert f"live/?ids={document.pk}" in client.get(f"/corpora/harbour/live/?ids={document.pk}").content.decode()
    document.state, document.reason = "failed", "The file is damaged."
    document.save()
    last = client.get(f"/corpora/harbour/live/?ids={document.pk}").content.decode()
    assert "The file is damaged." in last and 'hx-get="/corpora/harbour/live' not in last
    states = client.get(f"/corpora/harbour/states/?ids={document.pk},x,99999").json()["documents"]
    assert states == {
        str(document.pk): {
            "state": "failed",
            "reason": "The file is damaged.",
            "settled": True,
            "stored": 0,
            "chunks": 1,
        }
    }


def test_polling_never_shows_documents_of_another_corpus(client, corpus):
    foreign = make_document(make_corpus("strangers"), "secret.md", state="parsing")
    assert b"secret.md" not in client.get(f"/corpora/harbour/live/?ids={foreign.pk}").content
    assert client.get(f"/corpora/harbour/states/?ids={foreign.pk}").json() == {"documents": {}}


def test_a_failed_document_is_retried(client, corpus):
    document = make_document(corpus, "a.md", state="failed", reason="Damaged.")
    response = client.post(f"/documents/{document.pk}/retry/", follow=True)
    document.refresh_from_db()
    assert document.state == "queued"
    assert "is in the queue again" in response.content.decode()
    assert client.post(f"/documents/{document.pk}/retry/").status_code == 400


def test_deleting_asks_first(client, corpus):
    document = make_document(corpus, "a.md")
    assert "Delete “a.md”?" in client.get(f"/documents/{document.pk}/delete/").content.decode()
    assert Document.objects.exists()
    response = client.post(
        f"/documents/{document.pk}/delete/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/corpora/harbour/?page=2"},
    )
    assert response.headers["HX-Redirect"] == "http://testserver/corpora/harbour/?page=2"
    assert not Document.objects.exists()


def test_a_corpus_is_made_or_the_reason_is_told(client, user, monkeypatch):
    info = {"fingerprint": "test", "dimensions": 384}
    monkeypatch.setattr("indexer.corpora.embedder_info", lambda recipe: info)
    response = client.post("/corpora/new/", {"title": "Product manuals", "language": "en"})
    assert response.url == "/corpora/product-manuals/"
    assert client.get(response.url).status_code == 200
    taken = client.post("/corpora/new/", {"title": "Product manuals", "language": "en"})
    assert taken.status_code == 400
    assert "already" in taken.content.decode()
    assert client.post("/corpora/new/", {"title": " ", "language": "en"}).status_code == 400
