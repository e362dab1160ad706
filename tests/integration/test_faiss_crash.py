"""kill -9 at random moments and between any two steps: the vector follower ends where an undisturbed one ends."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from indexer.followers import faiss
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.faiss import FaissFollower

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 60
KILLS = 25
D = 16


def change(number: int) -> list[DocumentEntries]:
    """The same documents every time for the same change: new ones, replaced ones, removed ones."""
    dice = np.random.default_rng(number)
    changed = []
    for document_id in dice.choice(40, 12, replace=False).tolist():
        vectors = dice.standard_normal((int(dice.integers(0, 9)), D)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        changed.append(
            DocumentEntries(document_id, tuple(Entry(document_id * 10 + n, v) for n, v in enumerate(vectors)))
        )
    return changed


def follow(folder: Path) -> None:
    """Apply every change above the watermark, with structures as for many rows."""
    faiss.EXACT_ROWS = 40
    follower = FaissFollower(folder, D)
    for number in range(follower.watermark() + 1, CHANGES + 1):
        follower.apply(change(number), number)
        follower.build()
    follower.build()  # once more: the last kill may have left something to sweep, and no change


def contents(folder: Path) -> dict[int, bytes]:
    """Every vector by its chunk id, as it lies on disk."""
    rows = FaissFollower(folder, D)._current().rows
    return {int(rows.ids[row, 0]): rows.vectors[row].tobytes() for row in np.flatnonzero(rows.alive)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """An index that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    subprocess.run(command(folder), check=True, stdout=subprocess.DEVNULL)
    assert FaissFollower(folder, D).watermark() == CHANGES
    return folder


def command(folder: Path, last_step: int = 0) -> list[str]:
    """Follow in a process of its own, which kills itself before step ``last_step`` on disk unless that is 0."""
    return ["env", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1", sys.executable, __file__, str(folder), str(last_step)]


def same_as(calm: Path, folder: Path) -> None:
    one, other = FaissFollower(folder, D), FaissFollower(calm, D)
    assert one.watermark() == other.watermark() == CHANGES
    assert one.count() == other.count()
    assert contents(folder) == contents(calm)
    for query in np.eye(D, dtype=np.float32):
        assert one.search(query, 1000) == other.search(query, 1000)


@pytest.mark.timeout(300)
def test_killed_at_any_moment_it_ends_as_if_undisturbed(tmp_path, calm):
    dice = random.Random(os.environ.get("RAGPLAT_TEST_SEED", "5"))
    kills, reached = 0, []
    for _ in range(KILLS):
        process = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE)
        process.stdout.readline()  # it has imported everything and starts to open the folder
        time.sleep(dice.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        kills += process.wait() == -signal.SIGKILL
        reached.append(FaissFollower(tmp_path, D).watermark())
    assert kills > KILLS // 2
    assert reached == sorted(reached), "a kill lost changes that had been applied"
    subprocess.run(command(tmp_path), check=True, stdout=subprocess.DEVNULL)
    same_as(calm, tmp_path)


@pytest.mark.timeout(300)
def test_killed_before_any_step_on_disk_it_ends_as_if_undisturbed(tmp_path, calm, caplog):
    reached, step = [0], 20  # the folder is made
    while True:
        process = subprocess.run(command(tmp_path, last_step=step), stdout=subprocess.DEVNULL)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        reached.append(FaissFollower(tmp_path, D).watermark())
        step = 2 + (step * 7) % 193  # from where it was left, never the same way
    assert len(reached) > 10
    assert reached == sorted(reached), "a kill lost changes that had been applied"
    assert "built again" not in caplog.text, "a kill cost the whole index"
    same_as(calm, tmp_path)
    files = {path.name.split("-")[0] for path in (tmp_path / "rows").rglob("*") if path.is_file()}
    assert files <= {"vectors", "ids", "dead", "built"}
    assert len(list((tmp_path / "rows").iterdir())) == 1, "left-over files"


def test_what_a_kill_left_behind_does_not_count(tmp_path):
    """The moment before the manifest: the rows are on disk, and not yet said to be."""
    before, folder = tmp_path / "before", tmp_path / "index"
    follower = FaissFollower(folder, D)
    follower.apply(change(1), 1)
    shutil.copytree(folder, before)
    follower.apply(change(2), 2)
    shutil.copy(before / "manifest.json", folder)
    again = FaissFollower(folder, D)
    assert again.watermark() == 1
    assert contents(folder) == contents(before)
    again.apply(change(3), 3)
    other = FaissFollower(before, D)
    other.apply(change(3), 3)
    assert contents(folder) == contents(before)


def die_before(last_step: int) -> None:
    """Count what changes the disk in this process, and end it like kill -9 before that step."""
    steps = 0

    def counted(function):
        def step(*arguments, **named):
            nonlocal steps
            steps += 1
            if steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return step

    os.fsync, shutil.rmtree = counted(os.fsync), counted(shutil.rmtree)
    for name in ("mkdir", "replace", "unlink", "open"):
        setattr(Path, name, counted(getattr(Path, name)))
    faiss.kinds.build = counted(faiss.kinds.build)


if __name__ == "__main__":
    print("ready", flush=True)
    if last := int(sys.argv[2]):
        die_before(last)
    follow(Path(sys.argv[1]))
