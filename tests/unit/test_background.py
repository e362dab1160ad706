"""The event loop that all connections to model servers share."""

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from inference.generators import background


async def loop_of() -> int:
    return id(asyncio.get_running_loop())


def test_whoever_comes_first_all_use_one_loop():
    """In a fresh process: the first to come make the loop, and sixteen come at once."""
    program = (
        "import asyncio, time\n"
        "new = asyncio.new_event_loop\n"
        "asyncio.new_event_loop = lambda: (time.sleep(0.05), new())[1]\n"  # the moment in which others come in
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from tests.unit.test_background import background, loop_of\n"
        "with ThreadPoolExecutor(16) as pool:\n"
        "    print(len(set(pool.map(lambda n: background.run(loop_of()), range(16)))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1", done.stderr


def test_a_stopped_iteration_cancels_its_source():
    cancelled, stopped = threading.Event(), threading.Event()

    async def numbers():
        try:
            for number in range(10**9):
                yield number
                await asyncio.sleep(0.01)
        finally:
            cancelled.set()

    got = []
    for number in background.iterate(numbers(), stopped):
        got.append(number)
        if len(got) == 3:
            stopped.set()
    assert got[:3] == [0, 1, 2]
    assert cancelled.wait(5)


def test_many_threads_read_their_own_streams():
    async def letters(which: int):
        for number in range(50):
            yield which, number
            await asyncio.sleep(0)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda which: list(background.iterate(letters(which))), range(8)))
    assert read == [[(which, number) for number in range(50)] for which in range(8)]


def test_the_first_comes_at_once_and_the_rest_together():
    async def letters():
        for number in range(100):
            yield number
            await asyncio.sleep(0.001)

    began, came = time.perf_counter(), []
    came.extend((number, time.perf_counter() - began) for number in background.iterate(letters()))
    assert [number for number, _ in came] == list(range(100))
    assert came[0][1] < background.PACE / 2
    handovers = 1 + sum(after - before > background.PACE / 4 for (_, before), (_, after) in pairwise(came))
    assert handovers < 20


def test_an_error_comes_after_what_came_before_it():
    async def broken():
        yield 1
        yield 2
        raise ValueError("broken")

    read = background.iterate(broken())
    assert [next(read), next(read)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(read)


def test_no_end_is_missed_however_it_falls_between_two_looks(monkeypatch):
    monkeypatch.setattr(background, "TICK", 0.0001)  # looks all the time, so that some ends come just then

    async def pausing():
        yield 1
        await asyncio.sleep(0.003)
        yield 2

    def read(_: int) -> list[int]:
        return list(background.iterate(pausing()))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(400))) == [[1, 2]] * 400
