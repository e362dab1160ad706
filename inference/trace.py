"""What an answer's trace keeps of each stage: what went in, what came out, how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stage(trace: dict[str, Any], name: str, **given: Any) -> Iterator[dict[str, Any]]:
    """Add a stage to ``trace["stages"]``; the block puts what came out into the mapping it gets.

    None of the documents' words belong in there: a trace outlives them.
    """
    output: dict[str, Any] = {}
    entry = {"name": name, "input": given, "output": output}
    trace["stages"].append(entry)
    started = time.perf_counter()
    try:
        yield output
    except Exception as error:
        output["error"] = getattr(error, "message", type(error).__name__)
        raise
    finally:
        entry["seconds"] = round(time.perf_counter() - started, 4)
