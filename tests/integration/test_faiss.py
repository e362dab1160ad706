"""The vector follower: every structure against plain numpy, damage, other versions, a full disk, several processes."""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.followers import faiss, faiss_kinds
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.faiss import FaissFollower
from indexer.followers.faiss_rows import Extent
from ragplat.errors import BadInput, Unavailable
from tests.damage import cut_manifest, damage_manifest, remove_manifest

ROOT = Path(__file__).resolve().parents[2]
D = 16


def unit(seed: int, rows: int = 1, dimensions: int = D) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def documents(vectors: np.ndarray, size: int = 4) -> list[DocumentEntries]:
    """Documents 0, 1, ... of ``size`` chunks; chunk n has vector n."""
    return [
        DocumentEntries(
            first // size,
            tuple(Entry(first + n, vector) for n, vector in enumerate(vectors[first : first + size])),
        )
        for first in range(0, len(vectors), size)
    ]


def best(vectors: np.ndarray, query: np.ndarray, k: int, chunk_ids=None) -> list[int]:
    """The right answer, without faiss."""
    ids = np.arange(len(vectors)) if chunk_ids is None else np.array(sorted(chunk_ids), dtype=int)
    scores = vectors.astype(np.float16).astype(np.float64)[ids] @ query
    return ids[np.lexsort((ids, -scores))][:k].tolist()


def found(hits: list[tuple[int, float]]) -> list[int]:
    return [chunk_id for chunk_id, _ in hits]


def kind(follower: FaissFollower) -> str | None:
    built = follower._current().built
    return built.kind if built else None


@pytest.fixture(params=["hnsw", "ivfpq"])
def small_limits(request, monkeypatch) -> str:
    """Lets a few hundred vectors be as many as usually need that structure."""
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    monkeypatch.setattr(faiss, "HNSW_ROWS", 100 if request.param == "ivfpq" else 10**9)
    return request.param


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An index of 300 rows with an HNSW graph over most of them, and some dead."""
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(unit(1, 280)), 6)
    follower.build()
    follower.apply([DocumentEntries(0, ()), *documents(unit(1, 300))[70:]], 7)
    return tmp_path


def test_scores_are_inner_products(tmp_path):
    vectors = unit(3, 50)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors), 1)
    for chunk_id, score in follower.search(vectors[7], 50):
        assert score == pytest.approx(float(vectors[chunk_id] @ vectors[7]), abs=2e-3)
    assert found(follower.search(vectors[7], 1)) == [7]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_exact_scan_equals_numpy(data):
    rows, k = data.draw(st.integers(0, 200)), data.draw(st.integers(1, 250))
    vectors = unit(data.draw(st.integers(0, 99)), rows) if rows else np.empty((0, D), np.float32)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # every vector twice: equal scores everywhere
    scope = data.draw(st.none() | st.sets(st.integers(0, 60)))
    query = unit(1000)[0]
    with tempfile.TemporaryDirectory() as folder:
        follower = FaissFollower(Path(folder), D)
        follower.apply(documents(vectors), 1)
        within = None if scope is None else {c for c in range(rows) if c // 4 in scope}
        assert found(follower.search(query, k, scope)) == best(vectors, query, k, within)


def test_every_structure_finds_what_numpy_finds(tmp_path, small_limits):
    vectors = unit(4, 2000)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:1500]), 1)
    assert follower.build() and kind(follower) == small_limits
    follower.apply(documents(vectors)[375:], 2)  # not in the structure, and found all the same
    assert follower._current().built_rows == 1500
    for scope, within in [(None, None), (range(0, 500, 2), {c for c in range(2000) if c // 4 % 2 == 0})]:
        shares = []
        for query in unit(5, 40):
            hits = found(follower.search(query, 10, scope))
            assert len(hits) == 10 and (within is None or set(hits) <= within)
            shares.append(len(set(hits) & set(best(vectors, query, 10, within))) / 10)
        assert np.mean(shares) >= 0.85


def test_no_structure_is_kept_from_filling_k(tmp_path, small_limits):
    vectors = unit(4, 1000)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors), 1)
    follower.build()
    for size in (1, 3, 26, 30, 120):
        for k in (1, 10, 100, 400):
            hits = found(follower.search(vectors[0], k, range(size)))
            assert len(hits) == len(set(hits)) == min(k, size * 4)
            assert set(hits) <= set(range(size * 4))
    assert found(follower.search(vectors[0], 1000)) == best(vectors, vectors[0], 1000)


def test_a_structure_that_finds_too_little_gives_way_to_the_exact_scan(tmp_path, small_limits, monkeypatch):
    vectors = unit(4, 800)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:600]), 1)
    follower.build()
    follower.apply(documents(vectors)[150:], 2)
    search = faiss_kinds.Searcher.search

    def search_badly(self, *arguments):
        return search(self, *arguments) if self.kind == "flat" else search(self, *arguments)[:2]

    monkeypatch.setattr(faiss_kinds.Searcher, "search", search_badly)
    even = {c for c in range(800) if c // 4 % 2 == 0}
    assert found(follower.search(vectors[0], 20)) == best(vectors, vectors[0], 20)
    assert found(follower.search(vectors[0], 20, range(0, 200, 2))) == best(vectors, vectors[0], 20, even)


def test_a_structure_grows_and_leaves_the_dead_out(tmp_path, small_limits):
    vectors = unit(6, 800)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:400]), 1)
    assert follower.build() and not follower.build()
    generation = follower._current().generation
    follower.apply(documents(vectors)[100:], 2)
    assert follower.build()
    view = follower._current()
    assert (view.generation, view.built_rows) == (generation, 800)
    assert found(follower.search(vectors[700], 1)) == [700]

    follower.apply([DocumentEntries(n, ()) for n in range(100)], 3)
    assert follower.build()
    view = follower._current()
    assert view.generation != generation
    assert (view.rows.count, view.rows.dead, view.built_rows, view.watermark) == (400, 0, 400, 3)
    assert follower.chunk_ids() == set(range(400, 800))
    assert found(follower.search(vectors[700], 1)) == [700]
    files = [path.name for path in (tmp_path / "rows").rglob("*") if path.is_file()]
    assert len(files) == 4, f"left over: {files}"


def test_an_index_that_outgrows_hnsw_becomes_ivfpq(tmp_path, monkeypatch):
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    monkeypatch.setattr(faiss, "HNSW_ROWS", 500)
    vectors = unit(6, 700)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:400]), 1)
    follower.build()
    assert kind(follower) == "hnsw"
    follower.apply(documents(vectors)[100:], 2)
    follower.build()
    assert kind(follower) == "ivfpq"
    assert found(follower.search(vectors[650], 1)) == [650]


def test_changes_during_a_build_come_along(tmp_path, monkeypatch):
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    vectors = unit(8, 600)
    one, other = FaissFollower(tmp_path, D), FaissFollower(tmp_path, D)
    one.apply(documents(vectors[:500]), 1)
    one.apply(documents(vectors[:500])[:50], 2)
    one.apply(documents(vectors[:500])[:50], 3)
    build = faiss_kinds.build

    def slow_build(*arguments):
        other.apply([DocumentEntries(3, ()), DocumentEntries(99, ()), *documents(vectors)[125:]], 4)
        build(*arguments)

    monkeypatch.setattr(faiss_kinds, "build", slow_build)
    generation = one._current().generation
    assert one.build()
    assert one._current().generation != generation
    left = set(range(600)) - set(range(12, 16)) - set(range(396, 400))
    for follower in (one, other, FaissFollower(tmp_path, D)):
        assert (follower.watermark(), follower.count(), follower.chunk_ids()) == (4, len(left), left)
        assert found(follower.search(vectors[13], 592)) == best(vectors, vectors[13], 592, left)


def test_a_build_overtaken_by_a_reset_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(unit(8, 500)), 1)
    build = faiss_kinds.build

    def slow_build(*arguments):
        build(*arguments)
        other = FaissFollower(tmp_path, D)
        other.reset()
        other.apply(documents(unit(9, 8)), 5)
        arguments[2].parent.mkdir()
        arguments[2].write_bytes(b"as if it were still there")

    monkeypatch.setattr(faiss_kinds, "build", slow_build)
    follower.build()
    assert (follower.count(), follower.watermark()) == (8, 5)
    assert len(list((tmp_path / "rows").iterdir())) == 1


def test_a_changed_document_costs_what_it_holds(tmp_path):
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(unit(1, 4000)), 1)
    rows = follower._current().rows
    before = {path: path.stat().st_size for path in (tmp_path / "rows").rglob("*") if path.is_file()}
    follower.apply(documents(unit(2, 4)), 2)
    grown = sum(path.stat().st_size - size for path, size in before.items())
    assert grown == 4 * (2 * D + 16 + 8)
    assert isinstance(rows.extents["vectors"], Extent)


@pytest.mark.parametrize("k", [0, -3])
def test_k_must_be_positive(folder, k):
    with pytest.raises(BadInput, match=f"at least 1, not {k}"):
        FaissFollower(folder, D).search(unit(1)[0], k)


BAD_VECTORS = {
    "shape 15;": np.ones(15, np.float32),
    "shape 2 x 16;": np.ones((2, 16), np.float32),
    "shape a single number;": 3.0,
    "is no vector, but str": "alpha",
    "holds NaN or numbers too large": np.full(D, np.nan),
    "numbers too large": np.full(D, np.inf),
    "too large for a unit vector": np.full(D, 70_000.0),
}


@pytest.mark.parametrize("message", BAD_VECTORS)
def test_a_bad_vector_is_refused_with_a_sentence(folder, message):
    follower = FaissFollower(folder, D)
    before = follower.chunk_ids()
    with pytest.raises(BadInput, match=message):
        follower.search(BAD_VECTORS[message], 5)
    with pytest.raises(BadInput, match=f"The vector of chunk 901 .*{message}"):
        good, bad = Entry(900, unit(1)[0]), Entry(901, BAD_VECTORS[message])
        follower.apply([DocumentEntries(90, (good, bad))], 8)
    assert (follower.watermark(), follower.chunk_ids()) == (7, before)


def test_reopening_an_index_keeps_it_without_a_warning(folder, caplog):
    again = FaissFollower(folder, D)
    assert (again.watermark(), again.count(), kind(again)) == (7, 296, "hnsw")
    assert found(again.search(unit(1, 300)[290], 1)) == [290]
    assert caplog.text == ""


def file_named(folder: Path, start: str) -> Path:
    return next(path for path in (folder / "rows").rglob(f"{start}*") if path.is_file())


def forge_a_structure(folder: Path) -> None:
    """A sound file of faiss, but another one."""
    faiss_kinds.build("hnsw", unit(9, 280).astype(np.float16), file_named(folder, "built-"))


def remove_the_rows(folder: Path) -> None:
    shutil.rmtree(next((folder / "rows").iterdir()))


def flip_a_bit(name: str):
    def damage(folder: Path) -> None:
        path = file_named(folder, name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return damage


def cut(name: str):
    return lambda folder: file_named(folder, name).write_bytes(file_named(folder, name).read_bytes()[:-3])


def remove(name: str):
    return lambda folder: file_named(folder, name).unlink()


FILES = ["vectors", "ids", "dead", "built-"]
DAMAGES = {
    **{f"{damage.__name__} {name}": damage(name) for name in FILES for damage in (flip_a_bit, cut, remove)},
    **{
        damage.__name__: damage
        for damage in (damage_manifest, cut_manifest, remove_manifest, forge_a_structure, remove_the_rows)
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_never_given_to_faiss_and_built_again_from_zero(folder, caplog, monkeypatch, damage):
    DAMAGES[damage](folder)

    def refuse(*arguments):
        raise AssertionError("a damaged file was given to faiss")

    monkeypatch.setattr(faiss_kinds, "load", refuse)
    again = FaissFollower(folder, D)
    assert (again.watermark(), again.count(), again.search(unit(1)[0], 5)) == (0, 0, [])
    assert "built again from zero" in caplog.text
    again.apply(documents(unit(1, 4)), 7)
    assert FaissFollower(folder, D).chunk_ids() == {0, 1, 2, 3}


def test_a_structure_faiss_cannot_read_is_built_again(folder, caplog, monkeypatch):
    monkeypatch.setattr(faiss, "_sha256", lambda path: "the same")
    FaissFollower(folder, D).reset()
    follower = FaissFollower(folder, D)
    follower.apply(documents(unit(1, 300)), 1)
    follower.build()
    file_named(folder, "built-").write_bytes(b"nothing faiss knows")
    assert FaissFollower(folder, D).count() == 0
    assert "cannot be opened" in caplog.text


def test_an_index_of_another_version_or_model_is_built_again(folder, caplog, monkeypatch):
    assert FaissFollower(folder, D + 1).count() == 0
    assert "'dimensions': 17" in caplog.text
    FaissFollower(folder, D).apply(documents(unit(1, 4)), 3)
    monkeypatch.setattr(faiss, "FORMAT", 2)
    assert FaissFollower(folder, D).watermark() == 0


def test_a_folder_removed_under_a_running_process_is_made_again(folder):
    one = FaissFollower(folder, D)
    assert one.count() == 296
    shutil.rmtree(folder)
    assert (one.watermark(), one.search(unit(1)[0], 5)) == (0, [])


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        FaissFollower(tmp_path / "file" / "index", D).count()


def test_files_are_read_once_while_they_stay_the_same(folder, monkeypatch):
    follower = FaissFollower(folder, D)
    follower.count()
    for name in FILES[:3]:  # a second look at what was read before would find this
        flip_a_bit(name)(folder)

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(faiss, "_sha256", refuse)
    follower.apply(documents(unit(1, 300))[-1:], 8)
    assert follower.watermark() == 8


RUN = """
import resource, sys
from pathlib import Path
import numpy as np
from indexer.followers import faiss
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.faiss import FaissFollower
from ragplat.errors import Unavailable

def document(number, rows, dimensions):
    vectors = np.random.default_rng(number).standard_normal((rows, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return DocumentEntries(number, tuple(Entry(number * 1000 + n, vector) for n, vector in enumerate(vectors)))

folder = Path(sys.argv[1])
"""
FULL_DISK = """
follower = FaissFollower(folder, 64)
follower.apply([document(1, 300, 64)], 7)
query = document(1, 1, 64).entries[0].content
before = follower.search(query, 50)
files = sum(path.stat().st_size for path in folder.rglob("*"))

def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def unchanged():
    assert (follower.watermark(), follower.count(), follower.search(query, 50)) == (7, 300, before)
    assert sum(path.stat().st_size for path in folder.rglob("*")) == files, "left-over files"

full()
try:
    follower.apply([document(2, 500, 64)], 8)
except Unavailable as error:
    print(error)
unchanged()
free()
faiss.EXACT_ROWS = 100
build = faiss.kinds.build

def build_on_a_full_disk(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    build(*arguments)

faiss.kinds.build = build_on_a_full_disk
try:
    follower.build()
except Unavailable as error:
    print(error)
free()
unchanged()
faiss.kinds.build = build
assert follower.build()
follower.apply([document(2, 500, 64)], 8)
assert (follower.watermark(), follower.count()) == (8, 800)
"""
APPEND = """
follower = FaissFollower(folder, 16)
first = int(sys.argv[2])
faiss.EXACT_ROWS = 20
for number in range(first, first + 15):
    follower.apply([document(number, 3, 16)], number)
    follower.build()
    assert number * 1000 in follower.chunk_ids()
    assert follower.search(document(number, 1, 16).entries[0].content, 1)[0][0] == number * 1000
"""


def test_a_disk_that_refuses_leaves_the_index_as_it_was(tmp_path):
    # A limit on file sizes fails the same writes as a full disk, and needs no disk of its own.
    process = subprocess.run(
        [sys.executable, "-c", RUN + FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("cannot be written, and stays as it was") == 2
    assert "File too large" in process.stdout
    assert FaissFollower(tmp_path, 64).count() == 800


def test_processes_write_and_build_one_after_another_while_others_read(tmp_path):
    reader = FaissFollower(tmp_path, D)
    command = [sys.executable, "-c", RUN + APPEND, str(tmp_path)]
    writers = [subprocess.Popen([*command, first], cwd=ROOT) for first in ("100", "200")]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        count = len(reader.search(unit(1)[0], 1000))
        assert count >= seen
        seen = count
    assert [writer.returncode for writer in writers] == [0, 0]
    assert reader.count() == 90
    assert kind(reader) == "hnsw"


def test_threads_search_while_another_changes(tmp_path, small_limits):
    vectors = unit(11, 600)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:400]), 1)
    follower.build()
    failures, done = [], threading.Event()

    def search(seed: int) -> None:
        try:
            while not done.is_set():
                number = (seed := (seed * 7 + 1) % 300)
                assert found(follower.search(vectors[number], 1)) == [number]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for change in range(10):
        follower.apply(documents(vectors)[75 + change : 150], 2 + change)
        follower.build()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_where_there_is_a_gpu_it_serves_what_it_can(tmp_path, monkeypatch):
    """Not the GPU itself: only that its answers are completed, filtered and kept in step like any others."""

    copies = []

    class Pretended:
        def __init__(self, vectors):
            self.vectors, self.count, self.asked = vectors, len(vectors), 0
            copies.append(self)

        def search(self, query):
            self.asked += 1
            return np.argsort(-(self.vectors.astype(np.float32) @ query))[:200]

    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    monkeypatch.setattr(faiss_kinds, "on_gpu", Pretended)
    vectors = unit(12, 500)
    follower = FaissFollower(tmp_path, D)
    follower.apply(documents(vectors[:400]), 1)
    assert follower.count() == 400 and not copies, "only a search needs the GPU"
    follower.search(vectors[0], 5)
    follower.apply([DocumentEntries(0, ()), *documents(vectors[:460])[100:]], 2)
    left = set(range(4, 460))
    for query in unit(13, 10):
        assert found(follower.search(query, 20)) == best(vectors[:460], query, 20, left)
        half = {c for c in left if c // 4 % 2 == 0}
        assert found(follower.search(query, 20, range(0, 115, 2))) == best(vectors[:460], query, 20, half)
    assert found(follower.search(vectors[5], 300)) == best(vectors[:460], vectors[5], 300, left)
    assert len(copies) == 1 and copies[0].asked > 20, "60 new rows are not worth a new copy"
    follower.apply(documents(vectors)[115:], 3)
    assert found(follower.search(vectors[490], 1)) == [490]
    assert [copy.count for copy in copies] == [400, 500]


@pytest.mark.data
def test_structures_find_nearly_all_of_real_vectors(data_dir, tmp_path, monkeypatch):
    """On MiniLM vectors of real sentences; the numbers at larger sizes are in benchmarks/search/vector_follower.py."""
    from sentence_transformers import SentenceTransformer

    from indexer.embedding.models import BUILT_IN, find

    with (data_dir / "beir_scifact" / "corpus.jsonl").open() as file:
        texts = [json.loads(line)["title"] for line in file][:1200]
    model = SentenceTransformer(str(find(BUILT_IN).folder), device="cpu", local_files_only=True)
    vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    monkeypatch.setattr(faiss, "EXACT_ROWS", 100)
    for largest_hnsw, floor in [(10**9, 0.97), (100, 0.95)]:
        monkeypatch.setattr(faiss, "HNSW_ROWS", largest_hnsw)
        follower = FaissFollower(tmp_path / str(largest_hnsw))
        follower.apply(documents(vectors[:1000]), 1)
        follower.build()
        shares = [
            len(set(found(follower.search(query, 10))) & set(best(vectors[:1000], query, 10))) / 10
            for query in vectors[1000:]
        ]
        assert np.mean(shares) >= floor


def test_the_log_is_silent_in_good_times(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        follower = FaissFollower(tmp_path, D)
        follower.apply(documents(unit(1, 40)), 1)
        follower.reset()
        assert follower.count() == 0
    assert caplog.text == ""
