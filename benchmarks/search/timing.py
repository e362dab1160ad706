"""How long searches take, alone and two at a time, and how much memory stands behind them."""

import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

K = 10
SECONDS = 4.0  # of one measurement
WARM, LEAST = 10, 20  # searches before each measurement, and at least of each
Search = Callable[[np.ndarray], list[int]]  # a query vector to the rows found, best first


@dataclass
class Peak:
    """The most memory seen, in bytes: private and shared pages, without those of files."""

    bytes: int = 0


def milliseconds(seconds: list[float], percent: int = 50) -> float:
    """A percentile of these times, in milliseconds."""
    return round(float(np.percentile(seconds, percent)) * 1000, 3)


def one_by_one(search: Search, queries: np.ndarray, seconds: float = SECONDS) -> tuple[list[float], list[list[int]]]:
    """Search after search for about ``seconds``, beginning again after the last query.

    Returns the time of each, and what the queries of the first round found (fewer than asked where time ran out).
    """
    for query in queries[:WARM]:  # pages, plans
        search(query)
    times, found = [], []
    end = time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        number = len(times)
        began = time.perf_counter()
        answer = search(queries[number % len(queries)])
        times.append(time.perf_counter() - began)
        if number < len(queries):
            found.append(answer)
    return times, found


def rate(open_search: Callable[[], Search], queries: np.ndarray, threads: int, seconds: float = SECONDS) -> float:
    """Searches per second of several threads, each with a search of its own."""
    searches = [open_search() for _ in range(threads)]
    counts = [0] * threads

    def run(thread: int) -> None:
        while time.perf_counter() < end:
            searches[thread](queries[(counts[thread] * threads + thread) % len(queries)])
            counts[thread] += 1

    end = time.perf_counter() + seconds
    started = time.perf_counter()
    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def recall(found: list[list[int]], truth: np.ndarray) -> float:
    """Mean share of the true nearest rows among as many found (recall@k, k = truth.shape[1])."""
    k = truth.shape[1]
    shares = [len(set(rows[:k]) & set(true.tolist())) / k for rows, true in zip(found, truth, strict=False)]
    return round(statistics.mean(shares), 4)


@contextmanager
def peak_memory(processes: Callable[[], list[int]]) -> Iterator[Peak]:
    """Watch these processes, twice a second, for the time of the block."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while True:
            peak.bytes = max(peak.bytes, sum(map(_memory, processes())))
            if done.wait(0.5):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _memory(pid: int) -> int:
    try:
        sizes = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0
    return sum(int(size) for size in re.findall(r"^Pss_(?:Anon|Shmem): *(\d+) kB", sizes, re.MULTILINE)) * 1024
