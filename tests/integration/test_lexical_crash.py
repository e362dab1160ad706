"""kill -9 at random moments: the lexical follower opens, and ends where an undisturbed one ends."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 60
KILLS = 25
WORDS = ["alpha", "bravo", "delta", "gamma"]


def follower(folder: Path) -> LexicalFollower:
    return LexicalFollower(folder, analyzer="words-cjk@1", language="en")


def change(number: int) -> list[DocumentEntries]:
    """The same documents every time for the same change: new ones, replaced ones, removed ones."""
    dice = random.Random(number)
    changed = []
    for document_id in dice.sample(range(1, 40), 12):
        texts = [" ".join(dice.choices(WORDS, k=40)) for _ in range(dice.randint(0, 8))]
        changed.append(DocumentEntries(document_id, tuple(Entry(document_id * 10 + n, t) for n, t in enumerate(texts))))
    return changed


def follow(folder: Path) -> None:
    """Apply every change above the watermark."""
    one = follower(folder)
    for number in range(one.watermark() + 1, CHANGES + 1):
        one.apply(change(number), number)


@pytest.mark.timeout(300)
def test_killed_at_any_moment_it_ends_as_if_undisturbed(tmp_path):
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    dice = random.Random(os.environ.get("RAGPLAT_TEST_SEED", "5"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    kills, reached = 0, []
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, __file__, str(disturbed)], env=environment, stdout=subprocess.PIPE)
        process.stdout.readline()  # it has imported everything and starts to apply
        time.sleep(dice.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        kills += process.wait() == -signal.SIGKILL
        reached.append(follower(disturbed).watermark())
    assert kills > KILLS // 2
    assert reached == sorted(reached), "a kill lost changes that had been applied"
    follow(disturbed)
    follow(calm)
    one, other = follower(disturbed), follower(calm)
    assert one.watermark() == other.watermark() == CHANGES
    assert one.chunk_ids() == other.chunk_ids()
    assert one.count() == other.count()
    for word in WORDS:
        assert {hit for hit, _ in one.search(word, 1000)} == {hit for hit, _ in other.search(word, 1000)}


def test_files_a_kill_left_half_written_do_not_matter(tmp_path, caplog):
    """The moment before tantivy's commit: the new files are there, the list of files is still the old one."""
    folder, before = tmp_path / "index", tmp_path / "before"
    one = follower(folder)
    one.apply([DocumentEntries(n, (Entry(n, "alpha"), Entry(n + 100, "bravo"))) for n in range(1, 20)], 1)
    one.apply([DocumentEntries(1, ())], 2)
    shutil.copytree(folder, before)
    one.apply([DocumentEntries(2, ())], 3)
    deletions = [path for path in (folder / "tantivy").glob("*.del") if not (before / "tantivy" / path.name).exists()]
    assert deletions
    for path in deletions:
        path.write_bytes(b"half")
    managed = (folder / "tantivy" / ".managed.json").read_bytes()  # tantivy lists a file before it writes it
    shutil.copytree(before, folder, dirs_exist_ok=True)
    (folder / "tantivy" / ".managed.json").write_bytes(managed)

    again = follower(folder)
    assert (again.watermark(), again.count()) == (2, 36)
    again.apply([DocumentEntries(2, ())], 3)
    assert (again.watermark(), again.count()) == (3, 34)
    assert caplog.text == ""


if __name__ == "__main__":
    print("ready", flush=True)
    follow(Path(sys.argv[1]))
