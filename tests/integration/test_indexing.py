"""The way of a document, with the real parser, embedding service, PostgreSQL and queue tasks."""

import errno
import io

import pytest
from django.db import OperationalError, connection

from indexer import corpora, pipeline, store, tasks
from indexer.documents import path_of, retry
from indexer.follow import folder_of
from indexer.models import Chunk, Document
from indexer.search import search
from indexer.upload import accept
from ragplat.errors import BadInput, EmbedderUnavailable, TooLarge, Unavailable
from tests.pdf import make_pdf

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]

HARBOUR = "# Harbour\n\nThe breakwater is 640 metres long.\n\n## Lighthouse\n\nThe lighthouse is 31 metres tall.\n"


@pytest.fixture
def corpus():
    return corpora.create("Harbour")


def add(corpus, name: str, content: bytes | str) -> Document:
    data = content.encode() if isinstance(content, str) else content
    return accept(corpus, name, io.BytesIO(data)).document


def indexed(corpus, name: str, content: bytes | str) -> Document:
    document = add(corpus, name, content)
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    return document


def vectors(index) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM indexer_vector WHERE index_id = %s", [index.pk])
        return cursor.fetchone()[0]


def test_a_document_becomes_ready_and_is_found(corpus):
    document = indexed(corpus, "harbour.md", HARBOUR)
    assert document.state == "ready", document.reason
    index = corpus.active_index()
    chunks = list(Chunk.objects.filter(document=document))
    assert len(chunks) == vectors(index) == document.chunk_count == document.stored_count > 0
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
    for mode in ("dense", "lexical", "hybrid"):
        found = search(corpus, "How tall is the lighthouse?", mode=mode)
        assert "31 metres" in found.chunks[0].text
    assert document.coverage["characters"] == len(document.text)


def test_pages_of_a_pdf_are_kept(corpus):
    document = indexed(
        corpus, "report.pdf", make_pdf([["The first page speaks of cranes."], ["The second of ferries."]])
    )
    assert document.state == "ready", document.reason
    pages = [[number, document.text[start:end].strip()] for number, start, end in document.pages]
    assert pages == [[1, "The first page speaks of cranes."], [2, "The second of ferries."]]
    assert Chunk.objects.filter(document=document).first().page == 1


@pytest.mark.parametrize(
    ("name", "content", "state", "reason"),
    [
        ("empty.txt", b"", "empty", "empty"),
        ("blank.md", b" \n\n \t\n", "empty", "text"),
        ("program.exe", b"MZ\x90\x00" + bytes(200), "failed", "PDF"),
        ("broken.pdf", b"%PDF-1.7\nnothing of a PDF follows", "failed", "damaged"),
        ("no-text.pdf", make_pdf([[]]), "empty", "page"),
    ],
)
def test_what_cannot_be_indexed_ends_with_a_reason(corpus, name, content, state, reason):
    document = indexed(corpus, name, content)
    assert (document.state, document.permanent) == (state, True)
    assert reason in document.reason
    assert len(document.reason) > 20
    with pytest.raises(BadInput):
        retry(indexed(corpus, "good.md", HARBOUR))
    retry(document)
    document.refresh_from_db()
    assert document.state == "queued"


def test_the_same_bytes_are_the_same_document(corpus):
    first = accept(corpus, "a.md", io.BytesIO(HARBOUR.encode()))
    second = accept(corpus, "b.md", io.BytesIO(HARBOUR.encode()))
    assert (first.outcome, second.outcome) == ("added", "known")
    assert first.document == second.document
    assert 'already as "a.md"' in second.message


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(corpus, settings):
    settings.MAX_UPLOAD_MB = 1
    with pytest.raises(TooLarge, match="RAGPLAT_MAX_UPLOAD_MB"):
        add(corpus, "big.txt", b"x" * (2**20 + 1))
    assert not Document.objects.exists()
    assert not list((settings.VAR_DIR / "files" / "incoming").iterdir())


def test_deleting_stops_the_answers_at_once_and_removes_everything(corpus):
    document = indexed(corpus, "harbour.md", HARBOUR)
    search(corpus, "lighthouse", mode="lexical")  # the follower knows it
    path = path_of(document)
    assert path.exists()
    document.delete()
    for mode in ("dense", "lexical", "hybrid"):
        assert not search(corpus, "lighthouse", mode=mode).chunks
    assert vectors(corpus.active_index()) == 0
    assert not Chunk.objects.filter(index=corpus.active_index()).exists()
    assert not path.exists()


def test_bytes_stay_while_another_corpus_has_them(corpus):
    document = indexed(corpus, "harbour.md", HARBOUR)
    other = add(corpora.create("Other"), "harbour.md", HARBOUR)
    document.delete()
    assert path_of(other).exists()


def test_a_disabled_chunk_is_never_found(corpus):
    document = indexed(corpus, "harbour.md", HARBOUR)
    chunk = Chunk.objects.get(document=document, text__contains="31 metres")
    assert store.set_enabled([chunk.pk], False) == 1
    for mode in ("dense", "lexical", "hybrid"):
        assert chunk.pk not in {one.chunk_id for one in search(corpus, "lighthouse", mode=mode).chunks}
    store.set_enabled([chunk.pk], True)
    assert search(corpus, "lighthouse tall", mode="lexical").chunks[0].chunk_id == chunk.pk


def test_work_is_resumed_at_the_last_batch(corpus, monkeypatch):
    """The service goes away after the first batch: what is stored stays, and is not embedded again."""
    monkeypatch.setattr(pipeline, "BATCH_CHUNKS", 2)
    text = "\n\n".join(f"# Part {n}\n\n" + f"Berth {n} is {n} metres deep. " * 25 for n in range(1, 8))
    document = add(corpus, "berths.md", text)
    client = pipeline.embedder.for_index(corpus.active_index())
    calls = []

    def once(texts, **options):
        calls.append(len(texts))
        if len(calls) == 2:
            raise EmbedderUnavailable("The service is away.")
        return type(client).embed_documents(client, texts, **options)

    monkeypatch.setattr(client, "embed_documents", once)
    with pytest.raises(EmbedderUnavailable):
        tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert (document.state, document.stored_count) == ("embedding", 2)
    assert "Waiting" in document.reason
    assert vectors(corpus.active_index()) == 2
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert (document.state, document.reason) == ("ready", "")
    assert sum(calls) == document.chunk_count + 2  # only the failed batch was sent twice
    assert vectors(corpus.active_index()) == document.chunk_count


def test_a_document_that_kills_the_worker_is_given_up(corpus, monkeypatch):
    document = add(corpus, "poison.md", HARBOUR)

    def killed(*args):
        raise SystemExit  # as a kill: nothing after this line runs

    monkeypatch.setattr(pipeline, "_parse", killed)
    for _ in range(pipeline.MAX_ATTEMPTS):
        with pytest.raises(SystemExit):
            tasks.index_document(document_id=document.pk)
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert document.state == "failed"
    assert "5 attempts" in document.reason


def test_a_document_deleted_under_way_leaves_nothing(corpus, monkeypatch):
    document = add(corpus, "harbour.md", HARBOUR)
    chunk = pipeline._chunk

    def deleted_meanwhile(*args):
        Document.objects.get(pk=document.pk).delete()
        chunk(*args)

    monkeypatch.setattr(pipeline, "_chunk", deleted_meanwhile)
    tasks.index_document(document_id=document.pk)
    assert not Chunk.objects.filter(document_id=document.pk).exists()


def test_a_hit_of_a_stale_follower_is_not_shown(corpus, monkeypatch):
    """Followers may lag; what PostgreSQL no longer has is dropped when hits are joined back."""
    document = indexed(corpus, "harbour.md", HARBOUR)
    search(corpus, "lighthouse", mode="lexical")
    monkeypatch.setattr("indexer.follow.catch_up_for_search", lambda index: 0)
    document.delete()
    found = search(corpus, "lighthouse", mode="lexical")
    assert not found.chunks
    assert [one.step for one in found.trace.dropped] == ["deleted"] * len(found.trace.dropped) != []


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("", {}, "empty"),
        ("   ", {}, "empty"),
        ("x" * 10_001, {}, "10,001"),
        ("x", {"k": 0}, "k is 0"),
        ("x", {"k": 10**9}, "k is"),
        ("x", {"mode": "fuzzy"}, "dense, lexical, hybrid"),
    ],
)
def test_senseless_searches_are_refused(corpus, query, options, message):
    with pytest.raises(BadInput, match=message):
        search(corpus, query, **options)


@pytest.mark.parametrize(
    "query", ["?!...", "a", "'; DROP TABLE x; --", "text:foo AND (", "\x00nul", "灯塔 light", "\ud800x"]
)
def test_odd_queries_are_answered(corpus, query):
    indexed(corpus, "harbour.md", HARBOUR)
    search(corpus, query)


def test_chunks_of_a_wrong_count_never_become_ready(corpus, monkeypatch):
    document = add(corpus, "harbour.md", HARBOUR)
    monkeypatch.setattr(store, "counts", lambda *args: (3, 2))
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert document.state == "failed"
    assert "3 chunks and 2 vectors" in document.reason


def test_a_full_disk_is_said_and_leaves_nothing(corpus):
    class Full(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Unavailable, match=r"disk .* is full"):
        accept(corpus, "a.md", Full())
    assert not Document.objects.exists()


def test_a_lost_database_only_makes_the_document_wait(corpus, monkeypatch):
    document = add(corpus, "harbour.md", HARBOUR)
    write = store.write_vectors

    def lost(*args):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(store, "write_vectors", lost)
    for _ in range(pipeline.MAX_ATTEMPTS + 2):
        with pytest.raises(OperationalError):
            tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert document.state == "embedding"
    assert "database does not answer" in document.reason
    monkeypatch.setattr(store, "write_vectors", write)
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert document.state == "ready"


def test_a_deleted_corpus_leaves_no_tables_files_or_followers(corpus, settings):
    document = indexed(corpus, "harbour.md", HARBOUR)
    index = corpus.active_index()
    search(corpus, "lighthouse", mode="lexical")
    folder, path = folder_of(index), path_of(document)
    assert folder.exists()
    corpus.delete()
    assert not folder.exists()
    assert not path.exists()
    with connection.cursor() as cursor:
        names = [f"indexer_{table}_{index.pk}" for table in ("chunk", "vector")]
        cursor.execute("SELECT to_regclass(%s), to_regclass(%s)", names)
        assert cursor.fetchone() == (None, None)
        cursor.execute("SELECT count(*) FROM indexer_change WHERE index_id = %s", [index.pk])
        assert cursor.fetchone() == (0,)


def test_bytes_that_are_missing_are_said(corpus):
    document = add(corpus, "harbour.md", HARBOUR)
    path_of(document).unlink()
    tasks.index_document(document_id=document.pk)
    document.refresh_from_db()
    assert document.state == "failed"
    assert "missing" in document.reason
