"""One event loop in a thread of its own: every connection to a model server lives on it, whoever asks.

Answers are made by ordinary threads, and tokens of many of them come in at once; connections are shared between them.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

TICK = 0.1  # seconds between two looks at whether to stop
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

    Ends within ``TICK`` once ``stopped`` is set. Then, and when this iterator is closed, ``source`` is cancelled where
    it waits, so that what it holds open is closed at once. What it raises is raised here.
    """
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for item in source:
                items.put((item, None))
            items.put((_END, None))
        except Exception as error:  # raised again where the items are read
            items.put((_END, error))

    pumping = asyncio.run_coroutine_threadsafe(pump(), _loop())
    try:
        while not (stopped and stopped.is_set()):
            try:
                item, error = items.get(timeout=TICK)
            except queue.Empty:
                continue
            if error:
                raise error
            if item is _END:
                return
            yield item
    finally:
        pumping.cancel()
