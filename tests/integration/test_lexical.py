"""The lexical follower on disk: damage, other versions, a full disk, several processes, real data."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import indexer.followers.lexical as lexical
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from ragplat.errors import BadInput, Unavailable
from tests.damage import cut_manifest, damage_manifest, remove_manifest

ROOT = Path(__file__).resolve().parents[2]


def follower(folder: Path, language: str = "en") -> LexicalFollower:
    return LexicalFollower(folder, analyzer="words-cjk@1", language=language)


def document(document_id: int, text: str) -> DocumentEntries:
    return DocumentEntries(document_id, (Entry(document_id, text),))


@pytest.fixture
def folder(tmp_path) -> Path:
    follower(tmp_path).apply([document(n, f"alpha word{n}") for n in range(1, 30)], 7)
    return tmp_path


def run(code: str, *arguments: str) -> str:
    """Run ``code`` in a process of its own and return what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return process.stdout


@pytest.mark.parametrize("query", ["", "?!... —", "   "])
def test_a_query_without_terms_finds_nothing(folder, query):
    assert follower(folder).search(query, 5) == []


@pytest.mark.parametrize("query", ["alpha AND (", "terms:alpha", '"alpha', "-alpha", "alpha~2", "alpha [1 TO 5]"])
def test_query_syntax_is_only_text(folder, query):
    assert len(follower(folder).search(query, 50)) == 29
    assert follower(folder).search("alp*", 50) == []


def test_k_must_be_positive(folder):
    with pytest.raises(BadInput, match="at least 1, not 0"):
        follower(folder).search("alpha", 0)


def test_an_unknown_analyzer_is_refused(tmp_path):
    with pytest.raises(BadInput, match='no analyzer named "words@9"'):
        LexicalFollower(tmp_path, analyzer="words@9", language="en")


def test_a_very_long_query_is_searched_by_its_rarest_terms(tmp_path, caplog):
    words = [f"word{n}" for n in range(2000)]
    one = follower(tmp_path)
    one.apply([document(1, "rare"), *(document(n, " ".join(words)) for n in range(2, 12))], 1)
    unknown = [f"unknown{n}" for n in range(10_000)]
    with caplog.at_level(logging.WARNING):
        assert one.search(" ".join([*unknown, *words[:900], "rare"]), 1)[0][0] == 2
        assert caplog.text == ""
        assert {hit for hit, _ in one.search(" ".join([*unknown, *words, "rare"]), 20)} == set(range(1, 12))
    assert "2001 different terms; its 1024 rarest are searched" in caplog.text


def test_an_entry_without_terms_counts_but_is_not_found(tmp_path):
    one = follower(tmp_path)
    one.apply([document(1, "—"), document(2, "alpha")], 1)
    assert one.chunk_ids() == {1, 2}


def test_reopening_an_index_keeps_it_without_a_warning(folder, caplog):
    again = follower(folder)
    assert (again.watermark(), again.count(), len(again.search("alpha", 50))) == (7, 29, 29)
    assert caplog.text == ""


def flip_a_bit(folder: Path) -> None:
    path = next((folder / "tantivy").glob("*.idx"))
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)


def cut_a_file(folder: Path) -> None:
    path = next((folder / "tantivy").glob("*.term"))
    path.write_bytes(path.read_bytes()[:-20])


def empty_a_file(folder: Path) -> None:
    next((folder / "tantivy").glob("*.pos")).write_bytes(b"")


def remove_a_file(folder: Path) -> None:
    next((folder / "tantivy").glob("*.fast")).unlink()


def damage_meta(folder: Path) -> None:
    (folder / "tantivy" / "meta.json").write_text("{}")


def remove_meta(folder: Path) -> None:
    (folder / "tantivy" / "meta.json").unlink()


DAMAGES = [
    damage_manifest, cut_manifest, remove_manifest, flip_a_bit, cut_a_file, empty_a_file, remove_a_file, damage_meta,
    remove_meta,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_built_again_from_zero(folder, caplog, damage):
    damage(folder)
    again = follower(folder)
    assert (again.watermark(), again.count(), again.search("alpha", 5)) == (0, 0, [])
    assert "built again from zero" in caplog.text
    again.apply([document(1, "alpha")], 7)
    assert [chunk_id for chunk_id, _ in follower(folder).search("alpha", 5)] == [1]


def test_an_index_of_another_version_is_built_again(folder, caplog, monkeypatch):
    assert follower(folder, language="de").count() == 0
    assert "language:de" in caplog.text
    follower(folder).apply([document(1, "alpha")], 3)
    monkeypatch.setattr(lexical, "FORMAT", lexical.FORMAT + 1)
    assert follower(folder).watermark() == 0


def test_a_folder_removed_under_a_running_process_is_made_again(folder):
    one = follower(folder)
    assert one.count() == 29
    shutil.rmtree(folder)
    assert (one.watermark(), one.search("alpha", 5)) == (0, [])


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        follower(tmp_path / "file" / "index").count()


FULL_DISK = """
import random, resource, sys
from pathlib import Path
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from ragplat.errors import Unavailable

folder = Path(sys.argv[1])
follower = LexicalFollower(folder, analyzer="words-cjk@1", language="en")
before = follower.search("alpha", 50)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
texts = [" ".join(str(random.random()) for _ in range(100)) for _ in range(1500)]
try:
    follower.apply([DocumentEntries(n, (Entry(n, text),)) for n, text in enumerate(texts, 100)], 8)
except Unavailable as error:
    print(error)
assert (follower.watermark(), follower.count(), follower.search("alpha", 50)) == (7, 29, before)
assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 50_000, "left-over files"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
follower.apply([DocumentEntries(1, ())], 8)
assert (follower.watermark(), follower.count()) == (8, 28)
"""


def test_a_disk_that_refuses_leaves_the_index_as_it_was(folder):
    # A limit on file sizes fails the same writes as a full disk, and needs no disk of its own.
    message = run(FULL_DISK, str(folder))
    assert "cannot be written, and stays as it was" in message
    assert "File too large" in message
    assert follower(folder).count() == 28


APPEND = """
import sys
from pathlib import Path
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower

follower = LexicalFollower(Path(sys.argv[1]), analyzer="words-cjk@1", language="en")
first = int(sys.argv[2])
for n in range(first, first + 15):
    follower.apply([DocumentEntries(n, (Entry(n, "alpha"),))], n)
    assert n in {chunk_id for chunk_id, _ in follower.search("alpha", 100)}
"""


def test_processes_write_one_after_another_while_others_read(tmp_path):
    reader = follower(tmp_path)
    command = [sys.executable, "-c", APPEND, str(tmp_path)]
    writers = [subprocess.Popen([*command, first], cwd=ROOT) for first in ("100", "200")]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        count = len(reader.search("alpha", 100))
        assert count >= seen
        seen = count
    assert [writer.returncode for writer in writers] == [0, 0]
    assert reader.chunk_ids() == {*range(100, 115), *range(200, 215)}


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return [json.loads(line) for line in file]


def beir(folder: Path, language: str, tmp_path: Path, measure: str) -> float:
    """The mean of a pytrec_eval measure over the test queries of a BEIR collection."""
    import pytrec_eval

    corpus = rows(folder / "corpus.jsonl")
    queries = {row["_id"]: row["text"] for row in rows(folder / "queries.jsonl")}
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / "test.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    one = follower(tmp_path, language)
    one.apply([document(n, f"{row.get('title', '')} {row['text']}") for n, row in enumerate(corpus)], 1)
    run = {query: {corpus[n]["_id"]: score for n, score in one.search(queries[query], 10)} for query in qrels}
    values = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    return sum(value[measure.replace(".", "_")] for value in values.values()) / len(qrels)


@pytest.mark.data
def test_scifact_agrees_with_published_bm25(data_dir, tmp_path):
    assert beir(data_dir / "beir_scifact", "en", tmp_path, "ndcg_cut.10") == pytest.approx(0.6828, abs=0.0005)


@pytest.mark.data
def test_chinese_keyword_search_finds(data_dir, tmp_path):
    assert beir(data_dir / "derived_retrieval" / "xquad_zh", "zh", tmp_path, "recall.5") >= 0.98
