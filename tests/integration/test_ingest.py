"""Folders into a corpus: incremental, changed files replace, removed ones are reported."""

import os
from pathlib import Path

import pytest

from indexer import corpora, tasks
from indexer.ingest import ingest_paths, settled
from indexer.models import Document, Source
from indexer.search import search
from ragplat.errors import BadInput

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("embed")]


@pytest.fixture
def corpus():
    return corpora.create("Folder")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.md").write_text("# A\n\nThe anchor weighs 300 kilograms.\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("The buoy is painted red.\n")
    (tmp_path / ".hidden.md").write_text("secret")
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)) * 20)
    return tmp_path


def run_jobs(report) -> None:
    for document_id in report.documents:
        tasks.index_document(document_id=document_id)


def answers(corpus, query: str) -> str:
    return " ".join(chunk.text for chunk in search(corpus, query, mode="lexical").chunks)


def test_a_folder_is_taken_once(corpus, folder):
    report = ingest_paths(corpus, [folder])
    assert sorted(report.added) == ["a.md", "sub/b.txt"]
    assert {Path(name).name for name, _ in report.skipped} == {".hidden.md", "picture.bin"}
    run_jobs(report)
    again = ingest_paths(corpus, [folder])
    assert (again.added, again.changed, sorted(again.unchanged)) == ([], [], ["a.md", "sub/b.txt"])


def test_an_untouched_file_is_not_even_read(corpus, folder, monkeypatch):
    ingest_paths(corpus, [folder / "a.md"])
    monkeypatch.setattr("indexer.ingest.accept", lambda *args, **kwargs: pytest.fail("read again"))
    assert ingest_paths(corpus, [folder / "a.md"]).unchanged == ["a.md"]


def test_a_changed_file_replaces_its_earlier_version_when_it_is_ready(corpus, folder):
    run_jobs(ingest_paths(corpus, [folder]))
    (folder / "a.md").write_text("# A\n\nThe anchor weighs 450 kilograms now.\n")
    report = ingest_paths(corpus, [folder])
    assert report.changed == ["a.md"]
    assert "300 kilograms" in answers(corpus, "anchor")  # the old version answers until the new one can
    run_jobs(report)
    assert "450 kilograms" in answers(corpus, "anchor")
    assert "300 kilograms" not in answers(corpus, "anchor")
    assert Document.objects.filter(name="a.md").count() == 1


def test_a_broken_new_version_does_not_take_the_old_one_away(corpus, folder):
    run_jobs(ingest_paths(corpus, [folder]))
    (folder / "a.md").write_text("")
    run_jobs(ingest_paths(corpus, [folder]))
    assert "300 kilograms" in answers(corpus, "anchor")
    assert Document.objects.get(name="a.md", state="empty").reason


def test_a_file_changed_back_is_current_again(corpus, folder):
    first = (folder / "a.md").read_text()
    run_jobs(ingest_paths(corpus, [folder]))
    (folder / "a.md").write_text("Something else about anchors.")
    changed = ingest_paths(corpus, [folder])
    (folder / "a.md").write_text(first)
    os.utime(folder / "a.md", ns=(1, 1))
    ingest_paths(corpus, [folder])
    run_jobs(changed)  # the version in between comes too late
    assert "300 kilograms" in answers(corpus, "anchor")
    assert Document.objects.filter(name="a.md").count() == 1


def test_removed_files_are_reported_and_stay(corpus, folder):
    run_jobs(ingest_paths(corpus, [folder]))
    (folder / "a.md").unlink()
    report = ingest_paths(corpus, [folder])
    assert report.removed == [str(folder / "a.md")]
    assert "300 kilograms" in answers(corpus, "anchor")


def test_what_failed_before_is_not_forgotten(corpus, folder):
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    run_jobs(ingest_paths(corpus, [folder]))
    again = ingest_paths(corpus, [folder])
    assert settled(again.documents + again.known) == {"ready": 2, "failed": 1}


def test_two_files_with_the_same_bytes_are_one_document_with_two_sources(corpus, folder):
    (folder / "copy.md").write_bytes((folder / "a.md").read_bytes())
    report = ingest_paths(corpus, [folder])
    assert report.duplicates == ["copy.md"]
    run_jobs(report)
    assert Source.objects.filter(document__name="a.md").count() == 2
    (folder / "a.md").write_text("# A\n\nA new anchor.\n")
    run_jobs(ingest_paths(corpus, [folder]))
    assert "300 kilograms" in answers(corpus, "anchor kilograms")  # copy.md still says so


def test_a_name_that_is_no_text_is_passed_over_and_said(corpus, folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.md")).write_text("x")
    report = ingest_paths(corpus, [folder])
    assert sorted(report.added) == ["a.md", "sub/b.txt"]
    assert any("UTF-8" in reason for _, reason in report.skipped)


def test_a_path_that_does_not_exist_is_named(corpus, tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        ingest_paths(corpus, [tmp_path / "nowhere"])
