"""Re-index: the shadow follows all that happens, the swap fails no search, the way back is complete."""

import io
import re
import threading
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from indexer import corpora, embedder, reindex, store, tasks
from indexer.models import Chunk, Document, Index, IndexedDocument, Recipe
from indexer.search import search
from indexer.upload import accept
from ragplat.errors import BadInput, EmbedderUnavailable
from tests.jobs import clear_jobs, run_jobs
from tests.rows import make_turn

pytestmark = pytest.mark.django_db(transaction=True)
State = Index.State


@pytest.fixture(autouse=True)
def _toy(settings, toy_embedding_service):
    settings.EMBED_URL, settings.EMBED_MODEL = toy_embedding_service, "hashing"
    embedder._client.cache_clear()
    clear_jobs()
    yield
    embedder._client.cache_clear()


@pytest.fixture
def corpus():
    return corpora.create("Harbour")


@pytest.fixture
def small() -> Recipe:
    return recipe("small", chunk_tokens=30, overlap_tokens=0)


def recipe(name: str, **values) -> Recipe:
    return Recipe.objects.create(kind=Recipe.Kind.INDEX, name=name, params={"embedder": "hashing", **values})


def text(n: int) -> str:
    """A document of several chunks, with words of its own."""
    parts = (f"## Part {p}\n\n" + f"Ship{n} carries cargo{n}x{p} to berth{n}. " * 12 for p in range(6))
    return f"# Ship{n}\n\n" + "\n\n".join(parts)


def add(corpus, n: int, name: str = "") -> Document:
    return accept(corpus, name or f"ship-{n}.md", io.BytesIO(text(n).encode())).document


def filled(corpus, count: int = 5) -> list[Document]:
    documents = [add(corpus, n) for n in range(count)]
    run_jobs()
    return documents


def found(corpus, query: str, mode: str, k: int = 50) -> set[str]:
    """The documents of the chunks found that hold the word."""
    chunks = search(corpus, query, k=k, mode=mode).chunks
    return {chunk.document for chunk in chunks if re.search(rf"\b{query}\b", chunk.text)}


def rows(index: Index) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM indexer_chunk WHERE index_id = %s), "
            "(SELECT count(*) FROM indexer_vector WHERE index_id = %s)",
            [index.pk, index.pk],
        )
        return cursor.fetchone()


def built(corpus, small) -> Index:
    index = reindex.start(corpus, small.name)
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.READY
    return index


def test_a_shadow_is_built_swapped_and_taken_back(corpus, small):
    documents = filled(corpus)
    old = corpus.active_index()
    before = Document.objects.get(pk=documents[0].pk)
    index = reindex.start(corpus, "small")
    assert index.state == State.BUILDING
    assert reindex.progress(index).missing == 5
    with pytest.raises(BadInput, match="0 of 5 documents"):
        reindex.swap(index)
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.READY
    assert rows(index)[0] == rows(index)[1] > rows(old)[0]
    assert corpus.active_index() == old
    assert reindex.swap(index) == old
    old.refresh_from_db()
    assert (corpus.active_index(), old.state) == (index, State.RETIRED)
    after = Document.objects.get(pk=documents[0].pk)
    assert after.chunk_count == after.stored_count == after.chunks.filter(index=index).count() > before.chunk_count
    assert after.text == before.text
    for mode in ("dense", "lexical", "hybrid"):
        assert found(corpus, "berth3", mode) == {"ship-3.md"}
    back = reindex.reopen(corpus)
    run_jobs()
    reindex.swap(Index.objects.get(pk=back.pk))
    assert corpus.active_index() == old
    assert Document.objects.get(pk=documents[0].pk).chunk_count == before.chunk_count


def test_every_chunk_of_every_index_is_its_stretch_of_the_text(corpus, small):
    filled(corpus, 3)
    index = built(corpus, small)
    chunks = list(Chunk.objects.filter(index=index).select_related("document"))
    assert chunks
    assert all(chunk.document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


def test_what_is_added_replaced_and_deleted_meanwhile_ends_up_right_in_both(corpus, small, tmp_path):
    from indexer.ingest import ingest_paths

    documents = filled(corpus)
    path = tmp_path / "edited.md"
    path.write_text(text(50))
    ingest_paths(corpus, [path])
    run_jobs()
    index = reindex.start(corpus, "small")
    added = add(corpus, 60)
    path.write_text(text(51))
    ingest_paths(corpus, [path])
    documents[1].delete()
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.READY
    late = add(corpus, 61)  # after it was ready
    run_jobs()
    documents[2].delete()
    expected = {"berth0", "berth3", "berth4", "berth51", "berth60", "berth61"}
    for one in (corpus.active_index(), index):
        names = set(Chunk.objects.filter(index=one).values_list("document__name", flat=True))
        assert names == {"ship-0.md", "ship-3.md", "ship-4.md", "edited.md", added.name, late.name}
        assert rows(one)[0] == rows(one)[1]
    reindex.swap(index)
    everything = {f"berth{n}" for n in (*range(5), 50, 51, 60, 61)}
    for mode in ("dense", "lexical", "hybrid"):
        assert {word for word in everything if found(corpus, word, mode)} == expected


def test_a_document_that_became_ready_a_moment_before_the_swap_is_brought_in(corpus, small):
    filled(corpus, 2)
    index = built(corpus, small)
    document = add(corpus, 7)
    tasks.pipeline.index_document(document.pk)  # and nobody has told the new index yet
    assert reindex.progress(index).missing == 1
    reindex.swap(index)
    assert found(corpus, "berth7", "dense") == found(corpus, "berth7", "lexical") == {"ship-7.md"}


def test_many_late_documents_are_waited_for(corpus, small, monkeypatch):
    filled(corpus, 2)
    index = built(corpus, small)
    document = add(corpus, 7)
    tasks.pipeline.index_document(document.pk)
    monkeypatch.setattr(reindex, "CHUNKS_AT_SWAP", 1)
    with pytest.raises(BadInput, match="1 documents were added since"):
        reindex.swap(index)
    assert corpus.active_index() != index


@pytest.mark.parametrize("step", ["_chunk", "_embed", "_finish"])
def test_a_document_under_way_at_the_swap_ends_in_the_new_index_only(corpus, small, monkeypatch, step):
    filled(corpus, 2)
    old, index = corpus.active_index(), built(corpus, small)
    document = add(corpus, 8)
    original, swapped = getattr(tasks.pipeline, step), []

    def swap_first(*args):
        if not swapped:
            swapped.append(reindex.swap(index))
        return original(*args)

    monkeypatch.setattr(tasks.pipeline, step, swap_first)
    tasks.pipeline.index_document(document.pk)
    document.refresh_from_db()
    assert (document.state, swapped) == ("ready", [old])
    assert not Chunk.objects.filter(index=old, document=document).exists()
    assert Chunk.objects.filter(index=index, document=document).count() == document.chunk_count > 0
    assert found(corpus, "berth8", "dense") == {"ship-8.md"}


def test_a_document_whose_worker_was_killed_before_the_swap_goes_on_in_the_new_index(corpus, small, monkeypatch):
    filled(corpus, 1)
    index = built(corpus, small)
    document = add(corpus, 9)

    def killed(*args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(tasks.pipeline, "_embed", killed)
        with pytest.raises(SystemExit):
            run_jobs()
    document.refresh_from_db()
    assert document.state == "embedding"
    reindex.swap(index)
    run_jobs()
    document.refresh_from_db()
    assert document.state == "ready", document.reason
    assert document.chunks.filter(index=index).count() == document.chunk_count


def test_a_killed_extension_resumes_at_its_last_batch(corpus, small, monkeypatch):
    (document,) = filled(corpus, 1)
    monkeypatch.setattr(tasks.pipeline, "BATCH_CHUNKS", 2)
    index = reindex.start(corpus, "small")
    client = embedder.for_index(index)
    sent = []

    def twice(texts, **options):
        if len(sent) == 2:
            raise EmbedderUnavailable("The service is away.")
        sent.append(len(texts))
        return type(client).embed_documents(client, texts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "embed_documents", twice)
        with pytest.raises(EmbedderUnavailable):
            run_jobs()
    first = set(Chunk.objects.filter(index=index).values_list("pk", flat=True))
    assert rows(index)[1] == 4 < len(first)
    run_jobs()
    assert set(Chunk.objects.filter(index=index).values_list("pk", flat=True)) == first
    assert rows(index)[1] == len(first) == IndexedDocument.objects.get(index=index, document=document).chunks


def test_vectors_of_equal_chunks_are_taken_over(corpus, monkeypatch):
    filled(corpus, 2)
    recipe("same", analyzer="words-cjk@1", vector_index="ivfflat")

    def never(*args, **options):
        raise AssertionError("embedded again")

    index = reindex.start(corpus, "same")
    monkeypatch.setattr(embedder.for_index(index), "embed_documents", never)
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.READY
    assert rows(index) == rows(corpus.active_index())


def test_the_way_back_brings_in_what_was_added_since(corpus, small):
    documents = filled(corpus, 3)
    old, index = corpus.active_index(), built(corpus, small)
    reindex.swap(index)
    add(corpus, 20)
    run_jobs()
    documents[0].delete()
    assert not Chunk.objects.filter(index=old, document__name="ship-20.md").exists()
    assert not Chunk.objects.filter(index=old, document_id=documents[0].pk).exists()
    back = reindex.reopen(corpus)
    assert (back.pk, reindex.progress(back).missing) == (old.pk, 1)
    run_jobs()
    reindex.swap(Index.objects.get(pk=old.pk))
    for mode in ("dense", "lexical", "hybrid"):
        assert {n for n in (0, 1, 2, 20) if found(corpus, f"berth{n}", mode)} == {1, 2, 20}


def test_disabled_chunks_stay_disabled_through_a_swap_and_back(corpus, small):
    filled(corpus, 2)
    chunk = Chunk.objects.filter(document__name="ship-1.md", text__contains="cargo1x2").first()
    store.set_enabled([chunk.pk], False)
    old, index = corpus.active_index(), built(corpus, small)
    assert reindex.uncovered(index, old) == 0
    reindex.swap(index)
    hidden = Chunk.objects.filter(index=index, enabled=False)
    assert hidden.exists()
    assert all(chunk.start < one.end and one.start < chunk.end for one in hidden)
    for mode in ("dense", "lexical", "hybrid"):
        assert not found(corpus, "cargo1x2", mode)
        assert found(corpus, "cargo1x4", mode) == {"ship-1.md"}
    store.set_enabled([one.pk for one in hidden], True)
    reindex.reopen(corpus)
    run_jobs()
    reindex.swap(Index.objects.get(pk=old.pk))
    assert found(corpus, "cargo1x2", "lexical") == {"ship-1.md"}


def test_disabled_chunks_that_a_larger_one_would_bring_back_are_counted(corpus):
    filled(corpus, 1)
    chunk = Chunk.objects.filter(text__contains="cargo0x2").first()
    store.set_enabled([chunk.pk], False)
    recipe("whole", chunker="whole", truncate=True)
    old, index = corpus.active_index(), reindex.start(corpus, "whole")
    run_jobs()
    assert reindex.uncovered(index, old) == 1


def test_another_parser_is_refused(corpus):
    recipe("other", parser="plain")
    with pytest.raises(BadInput, match=r"point into this one: ingest the files into a new corpus"):
        reindex.start(corpus, "other")


@pytest.mark.parametrize(
    ("values", "message"), [({"chunker": "nonsense"}, "chunker"), ({"analyzer": "nonsense"}, "analyzer")]
)
def test_a_recipe_that_makes_no_sense_is_refused_before_anything_is_made(corpus, values, message):
    recipe("odd", **values)
    with pytest.raises(BadInput, match=message):
        reindex.start(corpus, "odd")
    assert corpus.indexes.count() == 1


def test_another_model_is_refused_with_the_cure(corpus):
    Recipe.objects.create(kind=Recipe.Kind.INDEX, name="real", params={"embedder": "all-MiniLM-L6-v2"})
    with pytest.raises(EmbedderUnavailable, match="RAGPLAT_EMBED_URL"):
        reindex.start(corpus, "real")
    assert corpus.indexes.count() == 1


def test_one_index_is_built_at_a_time_and_beginning_again_goes_on(corpus, small):
    filled(corpus, 2)
    recipe("third", chunk_tokens=50)
    index = reindex.start(corpus, "small")
    assert reindex.start(corpus, "small") == index
    with pytest.raises(BadInput, match="--drop"):
        reindex.start(corpus, "third")
    with pytest.raises(BadInput, match="--drop"):
        reindex.reopen(corpus)
    run_jobs()
    assert rows(index)[0] == rows(index)[1] > 0


def test_a_document_the_recipe_cannot_take_is_named_and_keeps_the_swap_away(corpus, small, monkeypatch):
    documents = filled(corpus, 2)
    cut = tasks.pipeline._cut

    def refuse(document, index):
        if document.pk == documents[0].pk:
            raise BadInput("A chunk is too long.")
        return cut(document, index)

    monkeypatch.setattr(tasks.pipeline, "_cut", refuse)
    index = reindex.start(corpus, "small")
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.BUILDING
    assert reindex.progress(index).unfit == (("ship-0.md", "A chunk is too long."),)
    with pytest.raises(BadInput, match=r"ship-0.md: A chunk is too long"):
        reindex.swap(index)
    monkeypatch.setattr(tasks.pipeline, "_cut", cut)
    reindex.start(corpus, "small")
    run_jobs()
    index.refresh_from_db()
    assert index.state == State.READY


def test_dropping_removes_all_but_the_active_index(corpus, small, monkeypatch):
    monkeypatch.setattr(reindex, "SEARCHES_END", 0.0)
    filled(corpus, 2)
    old, index = corpus.active_index(), built(corpus, small)
    folder = tasks.catch_up.__globals__["folder_of"](old)
    reindex.swap(index)
    assert folder.exists()
    assert [one.pk for one in reindex.drop(corpus)] == [old.pk]
    assert not folder.exists()
    assert not IndexedDocument.objects.filter(index_id=old.pk).exists()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass(%s), to_regclass(%s)", [f"indexer_chunk_{old.pk}", f"indexer_vector_{old.pk}"]
        )
        assert cursor.fetchone() == (None, None)
    assert found(corpus, "berth1", "dense") == {"ship-1.md"}
    with pytest.raises(BadInput, match="no earlier index"):
        reindex.reopen(corpus)


def test_an_index_may_be_given_up_while_it_is_built(corpus, small, monkeypatch):
    filled(corpus, 3)
    index = reindex.start(corpus, "small")
    extend = tasks.pipeline._embed_pending

    def dropped_meanwhile(*args, **options):
        reindex.drop(corpus)
        return extend(*args, **options)

    monkeypatch.setattr(tasks.pipeline, "_embed_pending", dropped_meanwhile)
    run_jobs()
    assert corpus.indexes.count() == 1
    assert not IndexedDocument.objects.filter(index_id=index.pk).exists()
    assert found(corpus, "berth1", "hybrid") == {"ship-1.md"}


def test_searches_and_writes_go_on_through_swaps(corpus, small):
    """Four threads search, one adds, while indexes are swapped to and fro: no search fails or misses what was there."""
    filled(corpus, 4)
    old, index = corpus.active_index(), built(corpus, small)
    stop, failures, counted = threading.Event(), [], [0] * 4

    def searching(number: int) -> None:
        try:
            while not stop.is_set():
                mode = ("dense", "lexical", "hybrid")[counted[number] % 3]
                names = found(corpus, f"berth{number}", mode)
                assert names == {f"ship-{number}.md"}, (mode, names)
                counted[number] += 1
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    def adding() -> None:
        try:
            for n in range(100, 1000):
                if stop.is_set():
                    return
                document = add(corpus, n)
                tasks.pipeline.index_document(document.pk)
                if n % 3 == 0:
                    document.delete()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=searching, args=(n,)) for n in range(4)] + [threading.Thread(target=adding)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            for one in (index, old):
                reindex.swap(Index.objects.get(pk=one.pk))
                back = reindex.reopen(corpus)
                while not reindex.is_close(Index.objects.get(pk=back.pk)):
                    for document in reindex.missing(back).values_list("pk", flat=True):
                        tasks.pipeline.extend_index(back.pk, document)
                    reindex.settle(back)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    assert min(counted) > 5
    active = corpus.active_index()
    assert not reindex.missing(active).exists()
    assert rows(active)[0] == rows(active)[1]


def test_a_killed_workers_job_does_not_block_the_queue_when_its_twin_is_queued(corpus):
    """A catch-up was running when its worker was killed, and the next one is queued already."""
    document = filled(corpus, 1)[0]
    clear_jobs()
    index = corpus.active_index()
    tasks.enqueue_follow(index.pk)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 h') RETURNING id"
        )
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", cursor.fetchone())
    tasks.enqueue_follow(index.pk)
    tasks.enqueue_extensions(index.pk, [document.pk])
    async_to_sync(tasks.requeue_stalled.func)(SimpleNamespace(app=app), 0)
    jobs = ProcrastinateJob.objects.values_list("task_name", "status").order_by("task_name")
    assert list(jobs) == [("extend_index", "todo"), ("follow_index", "todo")]


def test_the_command_builds_compares_swaps_and_drops(corpus, small, monkeypatch, capsys):
    filled(corpus, 3)
    monkeypatch.setattr(reindex, "SEARCHES_END", 0.0)
    call_command("reindex", "harbour", "--recipe", "small")
    run_jobs()
    call_command("reindex", "harbour")
    shown = capsys.readouterr().out
    assert "3 of 3 documents" in shown
    assert "as queries" in shown
    call_command("reindex", "harbour", "--swap")
    assert "small@1 now" in capsys.readouterr().err.replace("is searched by ", "")
    assert corpus.active_index().recipe == small
    call_command("reindex", "harbour", "--drop")
    assert corpus.indexes.count() == 1
    with pytest.raises(BadInput, match="No index is being built"):
        call_command("reindex", "harbour", "--swap")


def test_the_same_recipe_agrees_with_itself(corpus):
    filled(corpus, 4)
    recipe("same", vector_index="ivfflat")
    old, index = corpus.active_index(), reindex.start(corpus, "same")
    run_jobs()
    same = reindex.agreement(old, index)
    assert (same.dense, same.lexical) == (1.0, 1.0)
    assert same.queries > 0


def test_citations_survive_the_end_of_the_index_they_came_from(corpus, small, monkeypatch, client, admin_user):
    monkeypatch.setattr(reindex, "SEARCHES_END", 0.0)
    filled(corpus, 2)
    chunk = search(corpus, "berth1", mode="lexical").chunks[0]
    place = {name: getattr(chunk, name) for name in ("chunk_id", "document_id", "document", "page", "start", "end")}
    citation = place | {"number": 1, "quote": chunk.text}
    turn = make_turn(admin_user, corpus, text="To its berth. [1]", citations=[citation])
    reindex.swap(built(corpus, small))
    reindex.drop(corpus)
    assert not Chunk.objects.filter(pk=chunk.chunk_id).exists()
    document = Document.objects.get(pk=chunk.document_id)
    assert document.text[chunk.start : chunk.end] == citation["quote"]
    client.force_login(admin_user)
    link = f"/documents/{document.pk}/?start={chunk.start}&amp;end={chunk.end}"
    assert link in client.get(f"/conversations/{turn.conversation_id}/").content.decode()
    assert "<mark" in client.get(link.replace("&amp;", "&")).content.decode()
