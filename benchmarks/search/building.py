"""How hard to build and to search HNSW: recall@10 of real questions among real sentences, each of which is there once.

    RAGPLAT_VAR_DIR=... python benchmarks/search/building.py DATA_FOLDER [--sentences 60000] [--questions 600]

Sentences are those of all collections in BEIR form below DATA_FOLDER, questions their queries. (vectors.py repeats
texts to get to a million rows; many near copies of a text are harder to tell apart than any real collection.)
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation

EFFORTS = ((16, 64), (16, 128), (16, 200), (24, 200))  # m and ef_construction
SEARCHES = (40, 100, 200, 400)  # ef_search
SHORTEST = 30  # characters of a sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sentences", type=int, default=60_000)
    parser.add_argument("--questions", type=int, default=600)
    options = parser.parse_args()
    installation.setup()
    with installation.running():
        compare(options.folder, options.sentences, options.questions)


def compare(folder: Path, most_sentences: int, most_questions: int) -> None:
    import material
    import partition
    from django.conf import settings

    from ragplat.signature import digest
    from ragplat.text import sentences

    texts = (text for file in files(folder, "corpus.jsonl") for text in material.column(file))
    cut = (text[start:end].strip() for text in texts for start, end in sentences(text) if end - start > SHORTEST)
    known = some(list(dict.fromkeys(cut)), most_sentences)
    asked = some([text for file in files(folder, "queries.jsonl") for text in material.column(file)], most_questions)
    cache = settings.VAR_DIR / "bench"
    vectors = material.embedded(known, cache).astype(np.float16)
    questions = material.embedded(asked, cache).astype(np.float16).astype(np.float32)
    truth = material.nearest(vectors, questions, 10)
    index = partition.filled(f"building-{len(known)}-{digest(known, 8)}", vectors, iter(known)).active_index()
    print(f"{len(known):,} sentences, {len(asked)} questions; {installation.machine()}\n")
    print("| m | ef_construction | built in | ef_search | recall@10 | p50 |\n|---|---|---|---|---|---|")
    with partition.connect() as connection:
        for m, effort in EFFORTS:
            seconds = build(connection, index, m, effort)
            for search in SEARCHES:
                recall, p50 = searched(index, search, questions, truth)
                print(f"| {m} | {effort} | {seconds:.0f} s | {search} | {recall:.4f} | {p50:.2f} ms |", flush=True)
        connection.execute(f"DROP INDEX {name(index)}")


def files(folder: Path, kind: str) -> list[Path]:
    """English collections: the built-in model knows no other language."""
    return [file for file in sorted(folder.rglob(kind)) if "zh" not in str(file)]


def some(found: list[str], most: int) -> list[str]:
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))[:most]]


def name(index) -> str:
    return f"indexer_vector_{index.pk}_ann"


def build(connection, index, m: int, effort: int) -> float:
    connection.execute(f"DROP INDEX IF EXISTS {name(index)}")
    connection.execute("SET maintenance_work_mem = '2GB'")
    connection.execute("SET max_parallel_maintenance_workers = 2")
    started = time.perf_counter()
    connection.execute(
        f"CREATE INDEX {name(index)} ON indexer_vector_{index.pk} USING hnsw "
        f"((embedding::halfvec({index.dimensions})) halfvec_ip_ops) WITH (m = {m}, ef_construction = {effort})"
    )
    return time.perf_counter() - started


def searched(index, ef_search: int, questions: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """recall@10 and the median time in milliseconds."""
    from vector_stores import Hnsw

    store = Hnsw(index, truth)  # its rows are not looked at
    search = store.search(f"hnsw.ef_search = {ef_search}, enable_seqscan = off")
    times, hits = [], 0
    for question, nearest in zip(questions, truth, strict=True):
        began = time.perf_counter()
        found = search(question)
        times.append(time.perf_counter() - began)
        hits += len(set(found) & set(nearest.tolist()))
    return hits / truth.size, float(np.median(times)) * 1000


if __name__ == "__main__":
    main()
