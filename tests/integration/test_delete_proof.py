"""Whatever happens in whatever order, a search finds what a plain model says, and nothing of what was deleted."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from procrastinate.contrib.django.models import ProcrastinateJob

from indexer import corpora, follow, fsck, pipeline, reindex, store
from indexer.documents import path_of
from indexer.ingest import ingest_paths
from indexer.models import Chunk, Corpus, Document, Index, Recipe
from indexer.search import MODES, search
from indexer.upload import accept
from ragplat.paths import BASE_DIR
from ragplat.types import AnswerRecipe
from ragplat.types import Chunk as Cut
from tests.jobs import clear_jobs, run_job, run_jobs
from tests.rows import make_corpus

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("anchor.md", "beacon.md", "crane.md")
EVERYTHING = AnswerRecipe(collapse=None)  # near duplicates are wanted here
LIVES, CHANGES = 8, 25
STEPS = ("_chunk", "_embed", "_finish", "_extend", "_complete")  # of the pipeline, where a worker may die


class Killed(BaseException):
    """The worker dies here."""


@pytest.fixture(autouse=True)
def _clean(toy_platform, monkeypatch):
    monkeypatch.setattr(reindex, "SEARCHES_END", 0.0)


def content(name: str, version: int) -> str:
    """A document of three chunks or more; each chunk has the word "ship" and the version's own word."""
    word = word_of(name, version)
    parts = (f"## Part {p}\n\n" + f"The ship {word} carries cargo {p} of {word}. " * 7 for p in range(3))
    return f"# About {word}\n\n" + "\n\n".join(parts)


def word_of(name: str, version: int) -> str:
    return f"{name.removesuffix('.md')}{version}"


def has_jobs() -> bool:
    return ProcrastinateJob.objects.filter(status="todo").exists()


def recipes() -> tuple[str, str]:
    for name, tokens in (("large", 100), ("small", 32)):
        values = {"embedder": "hashing", "chunk_tokens": tokens, "overlap_tokens": 0}
        Recipe.objects.get_or_create(kind=Recipe.Kind.INDEX, name=name, version=1, defaults={"params": values})
    return "large", "small"


class Life(RuleBasedStateMachine):
    """Documents come, change and go while workers die and indexes are swapped."""

    def __init__(self):
        super().__init__()
        clear_jobs()
        self.folder = Path(tempfile.mkdtemp())
        self.recipes = recipes()
        self.corpus = corpora.create("Life", recipe="large")
        self.version = 0
        self.live: dict[str, str] = {}  # name of the document: the word of the version that is found
        self.coming: dict[str, list[str]] = {}  # versions that are on their way
        self.unsure: set[str] = set()  # names of which a dying worker may have finished a version, or not
        self.hidden: dict[str, set[tuple[int, int]]] = {}  # spans of disabled chunks, by word
        self.documents: dict[str, int] = {}  # ids, by word

    def teardown(self):
        try:
            clear_jobs()
            self.corpus.delete()
            assert list(fsck.examine()) == []
            assert not [path for path in Path(default_storage.path("")).rglob("*") if path.is_file()]
        finally:
            shutil.rmtree(self.folder)

    @rule(name=st.sampled_from(NAMES))
    def add_or_edit(self, name):
        self.version += 1
        (self.folder / name).write_text(content(name, self.version))
        (document,) = ingest_paths(self.corpus, [self.folder / name]).documents
        word = word_of(name, self.version)
        self.documents[word] = document
        self.coming.setdefault(name, []).append(word)

    @initialize(shadow=st.booleans())
    def begin(self, shadow):
        for name in NAMES[:2]:
            self.add_or_edit(name)
        if shadow:
            reindex.start(self.corpus, "small")
        self.work()

    @rule(name=st.sampled_from(NAMES))
    def edit_and_die_before_anybody_is_told(self, name):
        """The document is ready, and its job is still in the queue."""
        self.add_or_edit(name)
        word = self.coming.pop(name)[-1]
        pipeline.index_document(self.documents[word])
        self.live[name] = word
        self.unsure.discard(name)

    @precondition(lambda self: has_jobs())
    @rule()
    def one_job(self):
        run_job()
        self.unsure.update(self.coming)

    @precondition(lambda self: has_jobs())
    @rule()
    def work(self):
        run_jobs()
        for name, words in self.coming.items():
            self.live[name] = words[-1]
        self.coming.clear()
        self.unsure.clear()

    @precondition(lambda self: has_jobs())
    @rule(step=st.sampled_from(STEPS), at=st.integers(0, 4), after=st.booleans())
    def worker_dies(self, step, at, after):
        original, calls = getattr(pipeline, step), []

        def dying(*args):
            calls.append(step)
            if len(calls) > at and not after:
                raise Killed
            result = original(*args)
            if len(calls) > at:
                raise Killed
            return result

        setattr(pipeline, step, dying)
        try:
            run_jobs()
        except Killed:
            self.unsure.update(self.coming)
        else:
            for name, words in self.coming.items():
                self.live[name] = words[-1]
            self.coming.clear()
            self.unsure.clear()
        finally:
            setattr(pipeline, step, original)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name):
        documents = list(self.corpus.documents.filter(name=name))
        gone = [(one.pk, path_of(one)) for one in documents]
        for one in documents:
            one.delete()
        self.live.pop(name, None)
        self.coming.pop(name, None)
        self.unsure.discard(name)
        for document_id, path in gone:
            assert not path.exists()
            assert not Chunk.objects.filter(document_id=document_id).exists()

    @rule(data=st.data())
    def disable_or_enable(self, data):
        chunks = list(self.corpus.active_index().chunks.filter(document__state="ready").order_by("pk"))
        if not chunks:
            return
        chunk = data.draw(st.sampled_from(chunks))
        store.set_enabled([chunk.pk], not chunk.enabled)
        spans = self.hidden.setdefault(self._word(chunk.document_id), set())
        (spans.add if chunk.enabled else spans.discard)((chunk.start, chunk.end))

    @precondition(lambda self: reindex.shadow(self.corpus) is None)
    @rule()
    def begin_reindex(self):
        active = self.corpus.active_index().recipe.name
        reindex.start(self.corpus, next(name for name in self.recipes if name != active))

    @precondition(lambda self: (one := reindex.shadow(self.corpus)) is not None and one.state == "ready")
    @rule()
    def swap(self):
        reindex.swap(reindex.shadow(self.corpus))
        self._take_hidden_over()

    @precondition(lambda self: reindex.shadow(self.corpus) is None and self.corpus.indexes.count() > 1)
    @rule()
    def roll_back(self):
        index = reindex.reopen(self.corpus)
        self.work()
        reindex.swap(Index.objects.get(pk=index.pk))
        self._take_hidden_over()

    @precondition(lambda self: reindex.shadow(self.corpus) is None and self.corpus.indexes.count() > 1)
    @rule()
    def drop(self):
        reindex.drop(self.corpus)

    @invariant()
    def every_mode_finds_what_the_model_says(self):
        for mode in MODES:
            found: dict[str, set[tuple[int, int]]] = {}
            for chunk in search(self.corpus, "ship", k=1000, mode=mode, recipe=EVERYTHING).chunks:
                word = self._word(chunk.document_id)
                assert word in chunk.text, (mode, word, chunk.text)
                found.setdefault(chunk.document, set()).add((word, chunk.start, chunk.end))
            for name in NAMES:
                word = self._version(name)
                expected = self._expected(word) if word else set()
                assert found.get(name, set()) == expected, (mode, name)

    def _version(self, name: str) -> str | None:
        """The version of a document that has to be found; where a worker died, the one that is said to be ready."""
        if name not in self.unsure:
            return self.live.get(name)
        versions = [word for word in {self.live.get(name), *self.coming[name]} if word]
        ids = [self.documents[word] for word in versions]
        ready = [self._word(one.pk) for one in Document.objects.filter(pk__in=ids, state="ready")]
        assert len(ready) == 1 or (not ready and name not in self.live), (name, ready)
        return ready[0] if ready else None

    def _expected(self, word: str) -> set[tuple[str, int, int]]:
        chunks = self.corpus.active_index().chunks.filter(document=self.documents[word])
        assert len(chunks) >= 3, word
        spans = {(chunk.start, chunk.end) for chunk in chunks} - self.hidden.get(word, set())
        return {(word, start, end) for start, end in spans}

    def _word(self, document_id: int) -> str:
        return next(word for word, one in self.documents.items() if one == document_id)

    def _take_hidden_over(self) -> None:
        """What lies at least by half in what was hidden is hidden."""
        for word, old in self.hidden.items():
            chunks = self.corpus.active_index().chunks.filter(document=self.documents[word])
            new = {(chunk.start, chunk.end) for chunk in chunks}
            letters = {letter for start, end in old for letter in range(start, end)}
            self.hidden[word] = {
                (start, end) for start, end in new if 2 * len(letters & set(range(start, end))) >= end - start
            }


def test_any_life_of_a_corpus():
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=CHANGES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_answers_for_a_deleted_document(client, admin_user):
    """Pages, passages, downloads, the stored file, every mode, every follower, every index."""
    recipes()
    corpus = corpora.create("Life")
    kept, document = (
        accept(corpus, name, io.BytesIO(content(name, 1).encode())).document for name in ("kept.md", "gone.md")
    )
    run_jobs()
    reindex.swap(_built(corpus, "small"))
    _built(corpus, "large")
    client.force_login(admin_user)
    addresses = [f"/documents/{document.pk}/{part}" for part in ("", "passage/?start=0&end=9", "file/", "delete/")]
    chunk = document.chunks.first()
    assert all(client.get(address).status_code in (200, 302) for address in addresses)
    path, chunk_ids = path_of(document), set(document.chunks.values_list("pk", flat=True))
    assert client.post(f"/documents/{document.pk}/delete/").status_code == 302
    assert [client.get(address).status_code for address in addresses] == [404] * len(addresses)
    client.get("/corpora/life/")  # says once that it was deleted
    assert "gone.md" not in client.get("/corpora/life/").content.decode()
    assert client.get(f"/admin/indexer/chunk/{chunk.pk}/change/").status_code == 302
    assert not path.exists()
    assert path_of(kept).exists()
    for mode in MODES:
        chunks = search(corpus, "gone1 ship", k=1000, mode=mode, recipe=EVERYTHING).chunks
        assert {chunk.document for chunk in chunks} == {"kept.md"}
    run_jobs()  # without a search: the deletion itself has queued this
    for index in corpus.indexes.all():
        assert not store.hits(index, chunk_ids)
        assert not follow.lexical(index).chunk_ids() & chunk_ids
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM indexer_vector WHERE document_id = %s OR chunk_id = ANY(%s)", [0, list(chunk_ids)]
        )
        assert cursor.fetchone() == (0,)
    assert list(fsck.examine(read_bytes=True)) == []


def _built(corpus: Corpus, recipe: str) -> Index:
    index = reindex.start(corpus, recipe)
    run_jobs()
    index.refresh_from_db()
    assert index.state == "ready"
    return index


def at_once(*actions) -> None:
    """Run functions in threads of their own that begin in one moment; the first error goes to the caller."""
    barrier, errors = threading.Barrier(len(actions)), []

    def run(action) -> None:
        try:
            barrier.wait(10)
            action()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def fill(slug: str, documents: int) -> Corpus:
    """A corpus with many documents in its index, without the way there."""
    corpus = make_corpus(slug)
    index = corpus.active_index()
    for n in range(documents):
        document = Document.objects.create(
            corpus=corpus, name=f"{n}.md", sha256=f"{slug}{n}", size=1, state="ready", text="text"
        )
        Chunk.objects.create(index=index, document=document, ordinal=0, start=0, end=4, text="text", tokens=3)
    return corpus


def test_corpora_are_deleted_at_the_same_time():
    for attempt in range(3):
        made = [fill(f"corpus-{attempt}-{n}", 40) for n in range(3)]
        at_once(*(one.delete for one in made))
        assert not Corpus.objects.exists()
    assert list(fsck.examine()) == []


def test_a_corpus_is_deleted_while_its_documents_are_indexed():
    recipes()
    for _ in range(2):
        corpus = corpora.create("Life", recipe="large")
        documents = [accept(corpus, f"{n}.md", io.BytesIO(content(f"ship{n}x", 1).encode())).document for n in range(6)]

        def index(some) -> None:
            for document in some:
                pipeline.index_document(document.pk)

        def delete(corpus=corpus) -> None:
            time.sleep(0.4)
            corpus.delete()

        at_once(partial(index, documents[:3]), partial(index, documents[3:]), delete)
        clear_jobs()
        assert list(fsck.examine()) == []


def test_deleting_a_document_waits_for_no_other_corpus():
    """Even where PostgreSQL thinks that a plan for all partitions costs less."""
    one, other = fill("one", 10), fill("other", 10)

    def delete_documents() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET plan_cache_mode = force_generic_plan; SET lock_timeout = '1s'")
        one.documents.all().delete()

    with transaction.atomic():
        other.delete()
        at_once(delete_documents)
    assert not Document.objects.exists()


def test_corpora_are_made_and_deleted_while_others_are_written():
    """Making and dropping partitions must not stand in the way of writers, nor they in theirs."""
    busy = fill("busy", 5)
    index, stop = busy.active_index(), threading.Event()

    def write() -> None:
        document = busy.documents.first()
        while not stop.is_set():
            cuts = [Cut(ordinal=n, start=0, end=4, text="text", page=None, context="", tokens=3) for n in range(20)]
            with transaction.atomic():
                store.write_chunks(index, document.pk, cuts)
                store.log_change(index.pk, document.pk)

    def make_and_delete() -> None:
        try:
            for n in range(8):
                fill(f"short-lived-{n}", 8).delete()
        finally:
            stop.set()

    at_once(write, make_and_delete)
    assert Corpus.objects.get() == busy


def test_a_worker_killed_again_and_again_loses_nothing(settings, toy_embedding_service):
    """Real workers, killed with SIGKILL while a corpus is filled and indexed anew; then all is as if undisturbed."""
    recipes()
    corpus = corpora.create("Life", recipe="large")
    for n in range(12):
        accept(corpus, f"{n}.md", io.BytesIO(content(f"ship{n}x", 1).encode()))
    for kills in range(3):
        worker = _worker(settings, toy_embedding_service)
        done = corpus.documents.filter(state="ready").count()
        _wait(lambda done=done: corpus.documents.filter(state="ready").count() > done or not _under_way(corpus))
        worker.kill()
        worker.wait()
        if kills == 0:
            reindex.start(corpus, "small")
            corpus.documents.filter(state="ready").first().delete()
    worker = _worker(settings, toy_embedding_service)
    try:
        index = reindex.shadow(corpus)
        _wait(lambda: Index.objects.get(pk=index.pk).state == "ready" and not _under_way(corpus), seconds=90)
        _wait(lambda: not reindex.missing(index).exists())
    finally:
        worker.terminate()
        worker.wait()
    assert set(corpus.documents.values_list("state", flat=True)) == {"ready"}
    assert corpus.documents.count() == 11
    reindex.swap(Index.objects.get(pk=index.pk))
    for mode in MODES:
        chunks = search(corpus, "ship", k=1000, mode=mode, recipe=EVERYTHING).chunks
        assert len({chunk.document for chunk in chunks}) == 11
    assert list(fsck.examine(read_bytes=True)) == []


def _under_way(corpus: Corpus) -> bool:
    return corpus.documents.filter(state__in=Document.UNDER_WAY).exists()


def _worker(settings, url: str) -> subprocess.Popen:
    database = connection.settings_dict
    address = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    environment = {**os.environ, "DATABASE_URL": address, "RAGPLAT_EMBED_URL": url, "RAGPLAT_EMBED_MODEL": "hashing"}
    return subprocess.Popen([sys.executable, str(BASE_DIR / "manage.py"), "worker"], env=environment)


def _wait(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, list(ProcrastinateJob.objects.values("task_name", "status", "args"))
        time.sleep(0.05)
