"""An installation for measurements: database, embedding service and, where asked for, a worker, under one folder.

Set RAGPLAT_VAR_DIR to keep it between runs; documents that are in already are not indexed again.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("RAGPLAT_VAR_DIR", str(ROOT / "var" / "bench"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragplat.settings")


def setup() -> None:
    """Start the database, load Django and migrate."""
    from ragplat.cli import use_database

    use_database()
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@contextmanager
def running(worker: bool = False) -> Iterator[None]:
    """The embedding service, and a worker, for the time of the block."""
    from ragplat import supervisor

    with supervisor.embedding_service(print):
        process = supervisor.start(supervisor.services()["worker"]) if worker else None
        try:
            yield
        finally:
            if process:
                supervisor.stop([process])


def machine() -> str:
    """One line about the machine, to keep beside a number."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown processor",
    )
    return f"{model}, {os.cpu_count()} cores"
