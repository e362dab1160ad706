"""One event loop in a thread of its own: every connection to a model server lives on it, whoever asks.

Answers are made by ordinary threads, and tokens of many of them come in at once; connections are shared between them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

TICK = 0.1  # seconds between two looks at whether to stop
PACE = 0.04  # seconds between two handovers: 25 a second look like a steady flow
_END = object()


_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:  # the first questions may come together, and connections belong to the loop they began on
        return _only_loop()


@cache
def _only_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="model-servers", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, done on the loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


def iterate(source: AsyncIterator[T], stopped: threading.Event | None = None) -> Iterator[T]:
    """The items of ``source``, which runs on the loop and waits for no reader.

    The first item, the end and errors come at once; what lies between at most every ``PACE`` seconds, all of it: for
    each item by itself, many streams would spend more time on waking threads than on reading.

    Ends within ``TICK`` once ``stopped`` is set. Then, and when this iterator is closed, ``source`` is cancelled where
    it waits, so that what it holds open is closed at once. What it raises is raised here.
    """
    handover = _Handover()
    pumping = asyncio.run_coroutine_threadsafe(handover.fill(source), _loop())
    try:
        while not (stopped and stopped.is_set()):
            handover.ready.wait(TICK)
            handover.ready.clear()  # before looking what is there: what comes in later sets it again
            while handover.items:
                item, error = handover.items.popleft()
                if error:
                    raise error
                if item is _END:
                    return
                yield item
    finally:
        pumping.cancel()


class _Handover:
    """Items on their way from the loop to a thread."""

    def __init__(self):
        self.items: deque[tuple[Any, Exception | None]] = deque()
        self.ready = threading.Event()
        self._later: asyncio.TimerHandle | None = None

    async def fill(self, source: AsyncIterator[Any]) -> None:
        try:
            async for item in source:
                self._put(item)
            self._end(None)
        except Exception as error:  # raised again where the items are read
            self._end(error)
        finally:
            if self._later:
                self._later.cancel()

    def _put(self, item: Any) -> None:
        self.items.append((item, None))
        if self._later is None:  # the first
            self._later = asyncio.get_running_loop().call_later(PACE, self._tell)
            self.ready.set()

    def _tell(self) -> None:
        self._later = asyncio.get_running_loop().call_later(PACE, self._tell)
        if self.items:
            self.ready.set()

    def _end(self, error: Exception | None) -> None:
        self.items.append((_END, error))
        self.ready.set()
