"""fsck: everything that can be broken is broken by hand, named, mended, and then no longer there."""

import io
import json
import shutil

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from indexer import audit, corpora, follow, fsck, reindex, store
from indexer.documents import path_of
from indexer.followers.base import DocumentEntries, Entry
from indexer.models import Chunk, Corpus, Document, Index, IndexedDocument, Recipe
from indexer.search import search
from indexer.upload import accept
from tests.jobs import clear_jobs, run_jobs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("toy_platform")]
SHA = "ab" + "0" * 62


@pytest.fixture
def corpus() -> Corpus:
    made = corpora.create("Harbour")
    for n in range(3):
        parts = "\n\n".join(f"## Part {p}\n\n" + f"Ship{n} carries cargo{n}x{p}. " * 20 for p in range(6))
        accept(made, f"ship-{n}.md", io.BytesIO(f"# Ship{n}\n\n{parts}".encode()))
    run_jobs()
    assert list(fsck.examine(read_bytes=True)) == []
    return made


@pytest.fixture
def document(corpus) -> Document:
    return corpus.documents.get(name="ship-1.md")


@pytest.fixture
def index(corpus) -> Index:
    return corpus.active_index()


def sql(statement: str, *params) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def shadow_of(corpus: Corpus) -> Index:
    Recipe.objects.create(
        kind=Recipe.Kind.INDEX, name="small", params={"embedder": "hashing", "chunk_tokens": 30, "overlap_tokens": 0}
    )
    index = reindex.start(corpus, "small")
    run_jobs()
    index.refresh_from_db()
    return index


def named(*parts: str) -> list[fsck.Finding]:
    """The findings there are now; each part has to be in one of them."""
    found = list(fsck.examine(read_bytes=True))
    for part in parts:
        assert any(part in f"{one.where}: {one.what}" for one in found), (part, found)
    return found


def mended(*parts: str) -> None:
    """What is found is named, can be mended, and is gone once the queue has run."""
    for finding in named(*parts):
        assert finding.mend, finding
        finding.mend()
    run_jobs()
    assert list(fsck.examine(read_bytes=True)) == []


def is_found(corpus: Corpus, number: int) -> bool:
    """Whether every mode finds a document."""
    found = [search(corpus, f"cargo{number}x2", mode=mode, k=30).chunks for mode in ("dense", "lexical", "hybrid")]
    return all(any(f"cargo{number}x2" in chunk.text for chunk in chunks) for chunks in found)


def test_chunks_without_vectors_are_embedded_again_and_nothing_else(corpus, document, index):
    first = list(document.chunks.filter(index=index))
    store.set_enabled([first[0].pk], False)
    sql("DELETE FROM indexer_vector WHERE chunk_id = ANY(%s)", [chunk.pk for chunk in first[:2]])
    mended('"ship-1.md": 2 chunks have no vector')
    assert [chunk.pk for chunk in document.chunks.filter(index=index)] == [chunk.pk for chunk in first]
    assert not Chunk.objects.get(pk=first[0].pk).enabled
    document.refresh_from_db()
    assert document.state == "ready"
    assert is_found(corpus, 1)


def test_vectors_without_chunks_are_deleted(corpus, document, index):
    chunk = document.chunks.first()
    sql("UPDATE indexer_vector SET chunk_id = chunk_id + 100000 WHERE chunk_id = %s", chunk.pk)
    mended("1 chunks have no vector, 1 vectors have no chunk")
    assert is_found(corpus, 1)


def test_vectors_of_another_length_are_made_again(corpus, document):
    chunk = document.chunks.first()
    sql("UPDATE indexer_vector SET embedding = '[1,2,3]' WHERE chunk_id = %s", chunk.pk)
    mended("1 vectors have another length")


def test_lost_chunks_are_cut_again(corpus, document):
    last = document.chunks.last()
    sql("DELETE FROM indexer_vector WHERE chunk_id = %s", last.pk)
    sql("DELETE FROM indexer_chunk WHERE id = %s", last.pk)
    mended('"ship-1.md": 5 chunks are stored where 6 were made')
    assert document.chunks.count() == 6


def test_chunks_that_are_not_their_stretch_of_the_text_are_cut_again(corpus, document):
    chunk = document.chunks.last()
    sql("UPDATE indexer_chunk SET text = 'Something else.' WHERE id = %s", chunk.pk)
    mended('"ship-1.md": 1 chunks are not the stretch')
    document.refresh_from_db()
    assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in document.chunks.all())


def test_rows_of_a_document_that_is_gone_are_deleted(corpus, document, index):
    sql("ALTER TABLE indexer_document DISABLE TRIGGER indexer_document_deleted")
    document.delete()
    sql("ALTER TABLE indexer_document ENABLE TRIGGER indexer_document_deleted")
    mended(f"6 chunks and 6 vectors are of a document {document.pk or ''}".rstrip())
    assert not Chunk.objects.filter(index=index, document__isnull=False).exclude(document__in=corpus.documents.all())


def test_wrong_counts_are_put_right(corpus, document):
    Document.objects.filter(pk=document.pk).update(chunk_count=99, stored_count=1)
    mended('"ship-1.md" is shown with 99 chunks and 1 vectors, but there are 6 of both')
    document.refresh_from_db()
    assert (document.chunk_count, document.stored_count) == (6, 6)


def test_a_ready_document_that_is_not_noted_is_noted_or_made_again(corpus, document):
    IndexedDocument.objects.all().delete()
    other = corpus.documents.get(name="ship-2.md")
    sql("DELETE FROM indexer_vector WHERE document_id = %s", other.pk)
    mended("not noted that its 6 chunks", '"ship-2.md" is ready and should have 6 chunks, but 6 chunks and 0 vectors')
    assert IndexedDocument.objects.count() == 3
    assert is_found(corpus, 2)


def test_what_was_begun_and_left_is_deleted(corpus, document, index):
    IndexedDocument.objects.filter(document=document).delete()
    Document.objects.filter(pk=document.pk).update(state="failed", reason="Broken.")
    mended('6 chunks and 6 vectors of "ship-1.md" (failed) were begun and left')
    assert not document.chunks.exists()


def test_a_document_under_way_is_no_fault_but_needs_a_job(corpus, monkeypatch):
    accept(corpus, "new.md", io.BytesIO(b"# New\n\nA new ship."))
    assert list(fsck.examine()) == []
    clear_jobs()
    mended('"new.md" is queued, but no job is about it')
    assert corpus.documents.get(name="new.md").state == "ready"


def test_a_failed_document_needs_a_reason(corpus, document):
    sql("DELETE FROM indexer_vector WHERE document_id = %s", document.pk)
    sql("DELETE FROM indexer_chunk WHERE document_id = %s", document.pk)
    IndexedDocument.objects.filter(document=document).delete()
    Document.objects.filter(pk=document.pk).update(state="failed", reason="")
    (finding,) = [one for one in named('"ship-1.md" is failed, but nothing says why') if not one.mend]
    assert "Retry" in finding.cure


def test_a_change_log_that_lacks_a_document_is_completed(corpus, document, index):
    sql("DELETE FROM indexer_change WHERE document_id = %s", document.pk)
    shutil.rmtree(follow.folder_of(index))
    follow._lexical.cache_clear()
    mended('The change log does not know "ship-1.md"')
    assert is_found(corpus, 1)


def test_a_follower_with_other_ids_is_built_again(corpus, document, index):
    follower = follow.lexical(index)
    follower.apply([DocumentEntries(document.pk, (Entry(10**6, "nothing"),))], follower.watermark())
    mended("The lexical follower lacks 6 chunks and has 1 that are gone")
    assert is_found(corpus, 1)


def test_every_follower_of_an_index_is_compared(corpus, document):
    values = {"embedder": "hashing", "vector_store": "faiss"}
    Recipe.objects.create(kind=Recipe.Kind.INDEX, name="faiss", params=values)
    index = reindex.start(corpus, "faiss")
    run_jobs()
    follower = follow.faiss(index)
    assert len(follower.chunk_ids()) == 18
    follower.apply([DocumentEntries(document.pk, ())], follower.watermark())
    mended("The faiss follower lacks 6 chunks and has 0 that are gone")


def test_a_disabled_chunk_is_no_fault(corpus, document):
    store.set_enabled([document.chunks.first().pk], False)
    assert list(fsck.examine()) == []


def test_tables_and_rows_of_an_index_that_is_gone_are_removed(corpus, index):
    shadow = shadow_of(corpus)
    sql("ALTER TABLE indexer_index DISABLE TRIGGER indexer_index_deleted")
    sql("DELETE FROM indexer_index WHERE id = %s", shadow.pk)
    sql("ALTER TABLE indexer_index ENABLE TRIGGER indexer_index_deleted")
    mended(
        f"There are tables of an index {shadow.pk}",
        f"indexer_change has 3 rows of an index {shadow.pk}",
        f"indexer_indexeddocument has 3 rows of an index {shadow.pk}",
        "is a follower of an index that is gone",
    )
    assert shadow.pk not in audit.indexes_with_tables()
    assert not follow.folder_of(shadow).exists()


def test_a_shadow_is_examined_and_mended_too(corpus, document):
    shadow = shadow_of(corpus)
    chunk = document.chunks.filter(index=shadow).first()
    sql("DELETE FROM indexer_vector WHERE chunk_id = %s", chunk.pk)
    other = corpus.documents.get(name="ship-2.md")
    sql("UPDATE indexer_chunk SET text = 'else' WHERE index_id = %s AND document_id = %s", shadow.pk, other.pk)
    mended('"ship-1.md": 1 chunks have no vector', '"ship-2.md": ')
    document.refresh_from_db()
    assert document.state == "ready"  # it answered all the time


def test_a_retired_index_is_examined_and_mended_too(corpus, document, index):
    reindex.swap(shadow_of(corpus))
    sql("DELETE FROM indexer_vector WHERE index_id = %s AND document_id = %s", index.pk, document.pk)
    mended('"ship-1.md": 6 chunks have no vector')
    assert [one.pk for one in reindex.missing(index)] == [document.pk]
    reindex.reopen(corpus)
    run_jobs()
    reindex.swap(Index.objects.get(pk=index.pk))
    assert is_found(corpus, 1)


def test_a_shadow_without_jobs_is_queued(corpus):
    Recipe.objects.create(kind=Recipe.Kind.INDEX, name="small", params={"embedder": "hashing", "chunk_tokens": 90})
    index = reindex.start(corpus, "small")
    assert list(fsck.examine()) == []
    clear_jobs()
    mended("3 documents are to come into it, but no job is about them")
    index.refresh_from_db()
    assert index.state == "ready"
    Index.objects.filter(pk=index.pk).update(state="building")
    clear_jobs()
    mended("is still being built, and no job is about it")


def test_files_of_no_document_are_removed_and_strange_ones_named(corpus, settings):
    root = settings.VAR_DIR / "files"
    orphan = root / SHA[:2] / SHA
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    mended(f"{SHA} is a file of a document that is gone")
    assert not orphan.exists()
    (root / "notes.txt").write_text("mine")
    (finding,) = named("notes.txt was not put there by Ragplat")
    assert finding.mend is None


def test_missing_and_changed_bytes_are_named(corpus, document):
    path = path_of(document)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"X")
    assert not [one for one in fsck.examine() if "bytes" in one.what]  # of the same length: only reading tells
    assert named("has other bytes on disk than were uploaded")[0].mend is None
    path.write_bytes(content + b"more")
    named(f"has {len(content) + 4:,} bytes on disk instead of {len(content):,}")
    path.unlink()
    named('"ship-1.md" has no bytes on disk')


def test_a_corpus_without_an_active_index_is_named(corpus, index):
    Index.objects.filter(pk=index.pk).update(state="retired")
    assert named("It has no active index")[0].mend is None


def test_an_index_without_tables_is_named(corpus, index):
    sql(f"DROP TABLE indexer_vector_{index.pk}")
    named("Its tables are gone")


def test_one_corpus_is_examined_alone(corpus, document):
    other = corpora.create("Other")
    Document.objects.filter(pk=document.pk).update(chunk_count=99)
    assert list(fsck.examine(other)) == []
    assert len(list(fsck.examine(corpus))) == 1


def test_the_command_says_what_is_wrong_and_its_exit_code_whether_it_still_is(corpus, document, capsys):
    call_command("fsck")
    assert capsys.readouterr().out == "Everything agrees.\n"
    Document.objects.filter(pk=document.pk).update(chunk_count=99)
    with pytest.raises(SystemExit):
        call_command("fsck", "harbour")
    assert "`--repair` mends 1." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("fsck", "--json")
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["repairable"], finding["repaired"]) == (True, False)
    call_command("fsck", "--repair")
    assert "Repaired: The numbers are put right." in capsys.readouterr().out
    call_command("fsck", "--bytes")
    path_of(document).unlink()
    with pytest.raises(SystemExit):
        call_command("fsck", "--repair")


def test_work_that_goes_on_meanwhile_is_no_fault(corpus, index):
    """A batch is stored while the index is examined: it is seen as of one moment."""
    with audit.snapshot():
        first = next(iter(audit.documents(index)))
        assert first.chunks == first.vectors == 6
    with pytest.raises(Exception, match="read-only"), audit.snapshot():
        sql("DELETE FROM indexer_chunk")
    with transaction.atomic():
        assert len(audit.findable_chunks(index)) == 18
