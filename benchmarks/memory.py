"""Resident memory of all processes of a running installation together, shared pages counted once (PSS).

    RAGPLAT_VAR_DIR=... python benchmarks/memory.py

Start `make up` first and let it idle for a minute. Needs to run as the same user, or as root.
"""

import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
import installation  # noqa: F401  (puts the project on the path)


def main() -> None:
    from ragplat.paths import run_dir, var_dir

    pid = int((run_dir() / "up.lock").read_text())
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    postmaster = var_dir() / "pg" / "postmaster.pid"
    if postmaster.exists():
        server = psutil.Process(int(postmaster.read_text().splitlines()[0]))
        processes += [server, *server.children(recursive=True)]
    total = 0.0
    for process in processes:
        if process.status() == psutil.STATUS_ZOMBIE:  # ended, holds nothing
            continue
        size = process.memory_full_info().pss / 2**20
        total += size
        print(f"{size:8.1f} MiB  {' '.join(process.cmdline())[:90]}")
    print(f"{total:8.1f} MiB  together")


if __name__ == "__main__":
    main()
