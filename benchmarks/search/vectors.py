"""Vector search at 10 thousand, 100 thousand and a million rows: how fast, how right, how large.

    RAGPLAT_VAR_DIR=... python benchmarks/search/vectors.py COLLECTION... [--rows 10000,100000,1000000] \\
        [--stores exact,hnsw,ivfflat,ivfflat-root,faiss-flat,faiss-hnsw,faiss-ivfpq]

COLLECTION is a folder in BEIR form. Half of the rows are vectors of its texts, repeated with changes, half are
synthetic clusters. A third of the queries are its questions, a third held-out changed texts, a third held-out synthetic
rows; recall is told of each, since an index finds rows of its own kind more easily. PostgreSQL's stores work on
the partition of a corpus that was filled with COPY. With "exact" and "hnsw", the platform's own search is compared with
the bare SQL; with "hnsw", filters that keep few rows are too.

Each finished store is kept in benchmarks/results/vectors-ROWS.json, so that a run can go on store by store. Memory is
that of the processes, without the files they map or read: fast searches need index and rows in the kernel's cache too.
"""

import argparse
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation

QUERIES = 420
RESULTS = installation.ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+", metavar="COLLECTION")
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--stores", default="exact,hnsw,ivfflat,ivfflat-root,faiss-flat,faiss-hnsw,faiss-ivfpq")
    options = parser.parse_args()
    installation.setup()
    from vector_stores import STORES

    if unknown := set(options.stores.split(",")) - set(STORES):
        parser.error(f"there is no store {', '.join(unknown)}. Choose some of: {', '.join(STORES)}.")
    with installation.running():
        for rows in map(int, options.rows.split(",")):
            made = compare(options.collections, rows, options.stores.split(","))
    growth(made)


def compare(collections: list[Path], rows: int, stores: list[str]) -> str:
    """Measure these stores with this many rows, keep and print the results; returns the name of the material."""
    import material
    import partition
    from django.conf import settings

    cache = settings.VAR_DIR / "bench"
    made = material.load(collections, cache)
    vectors = material.mixed(made, rows, cache)
    queries = material.queries(made, QUERIES)
    corpus = partition.filled(f"bench-vectors-{rows}-{made.name}", vectors, material.varied(made.texts, rows))
    truth = material.nearest(vectors, queries, 10)
    path = RESULTS / f"vectors-{rows}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if results.get("material") != made.name:  # numbers of another collection do not belong into this table
        results = {"material": made.name}
    results |= {"texts": len(made.texts), "rows": rows, "machine": installation.machine(), "versions": versions()}
    for name in stores:
        results.setdefault("stores", {})[name] = measured(
            name, corpus, vectors, queries, truth, made.questions, results
        )
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results), flush=True)
    return made.name


def measured(name, corpus, vectors, queries, truth, questions, results: dict) -> dict:
    """Build one store and search it with each setting."""
    from platform_search import against_bare_sql, filtered
    from timing import peak_memory
    from vector_stores import STORES

    index = corpus.active_index()
    store = STORES[name](index, vectors)
    print(f"{time.strftime('%H:%M:%S')} {len(vectors):,} rows, {name}: building ...", flush=True)
    gc.collect()
    with peak_memory(store.processes) as building:
        started = time.perf_counter()
        store.build()
        seconds = time.perf_counter() - started
    print(f"{time.strftime('%H:%M:%S')} built in {seconds:.1f} s; searching ...", flush=True)
    with peak_memory(store.processes) as searching:
        searches = [searched(store, setting, queries, truth) for setting in store.settings()]
    kept = {
        "build_seconds": round(seconds, 1),
        "bytes": store.bytes(),
        "peak_bytes_building": building.bytes,
        "peak_bytes_searching": searching.bytes,
        "searches": searches,
    }
    if name in ("exact", "hnsw"):
        results.setdefault("platform", {})[name] = against_bare_sql(corpus, store, queries, questions)
    if name == "hnsw":
        results["filters"] = filtered(corpus, store, vectors, queries)
    store.drop()
    return kept


def searched(store, setting: str, queries: np.ndarray, truth: np.ndarray) -> dict:
    """Times, rates and recall@10 of one setting; the kinds of queries take turns."""
    from material import KINDS
    from timing import milliseconds, one_by_one, rate, recall

    times, found = one_by_one(store.search(setting), queries)
    return {
        "setting": setting,
        "recall": recall(found, truth),
        "recall_of": {kind: recall(found[place::3], truth[place::3]) for place, kind in enumerate(KINDS)},
        "p50_ms": milliseconds(times),
        "p95_ms": milliseconds(times, 95),
        "qps_1_thread": round(len(times) / sum(times), 1),
        "qps_2_threads": round(rate(lambda: store.search(setting), queries, threads=2), 1),
    }


def table(results: dict) -> str:
    """The results of one number of rows, in Markdown."""
    lines = [
        f"\n### {results['rows']:,} rows\n{results['machine']}; {results['versions']}; "
        f"{results['texts']:,} texts, each {results['rows'] / 2 / results['texts']:.1f} times\n",
        "| store | build s | index MB | peak MB build / search | setting | recall@10 (questions, texts, synthetic) "
        "| p50 ms | p95 ms | QPS 1 thread | QPS 2 threads |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results["stores"].items():
        peaks = f"{one['peak_bytes_building'] / 1e6:,.0f} / {one['peak_bytes_searching'] / 1e6:,.0f}"
        for s in one["searches"]:
            recall = f"{s['recall']:.4f} ({', '.join(f'{one:.3f}' for one in s['recall_of'].values())})"
            lines.append(
                f"| {name} | {one['build_seconds']:,.1f} | {one['bytes'] / 1e6:,.0f} | {peaks} | {s['setting']} "
                f"| {recall} | {s['p50_ms']:.2f} | {s['p95_ms']:.2f} | {s['qps_1_thread']:,.0f} "
                f"| {s['qps_2_threads']:,.0f} |"
            )
    for name, one in results.get("platform", {}).items():
        lines.append(f"\nPlatform, {name}, p50 ms: {one}")
    if "filters" in results:
        lines += ["\n| kept | rows | method | recall@10 | p50 ms | p95 ms |", "|---|---|---|---|---|---|"]
        for f in results["filters"]:
            line = f"| {f['share']:.1%} | {f['rows']:,} | {f['method']} | {f['recall']:.4f} | {f['p50_ms']:.2f} "
            lines.append(line + f"| {f['p95_ms']:.2f} |")
    return "\n".join(lines)


def growth(material: str) -> None:
    """p50 from size to size of the same material, and what it comes to at a hundred million rows."""
    kept = (json.loads(path.read_text()) for path in RESULTS.glob("vectors-*.json"))
    found = sorted((one for one in kept if one["material"] == material), key=lambda one: one["rows"])
    print("\n### Growth\n")
    for name in dict.fromkeys(name for results in found for name in results["stores"]):
        points = [(results["rows"], results["stores"][name]) for results in found if name in results["stores"]]
        shown = ", ".join(f"{rows:,} rows {spoken(one)}" for rows, one in points)
        print(f"{name} ({middle(points[-1][1])['setting'] or 'exact'}): p50 (recall@10) {shown}")
        if len(points) > 1:
            (few, less), (many, more) = points[-2:]
            print("   " + at_hundred_million(few, less, many, more))


def spoken(one: dict) -> str:
    return f"{middle(one)['p50_ms']:.2f} ms ({middle(one)['recall']:.3f})"


def at_hundred_million(few: int, less: dict, many: int, more: dict) -> str:
    """The arithmetic: bytes and building grow with the rows, p50 by the same factor for each further tenfold.

    The factor is at most 10, that of comparing every row: a small set can be faster than its share because it fits into
    the processor's cache. Settings stay as they are, so where recall fell on the way it goes on falling.
    """
    tens = np.log10(1e8 / many)
    factor = min(10.0, (middle(more)["p50_ms"] / middle(less)["p50_ms"]) ** (1 / np.log10(many / few)))
    per_row, now = more["bytes"] / many, middle(more)
    said = (
        f"100 million rows: index {per_row:,.0f} bytes a row x 1e8 = {per_row / 10:,.0f} GB, halfvec rows 776 bytes "
        f"x 1e8 = 78 GB; p50 x {factor:.2f} for each tenfold: {now['p50_ms']:.2f} ms x {factor:.2f}^{tens:.1f} = "
        f"{now['p50_ms'] * factor**tens:,.1f} ms while all of it is in memory"
    )
    if more["build_seconds"] >= 1:
        said += f"; built in at least {more['build_seconds'] * 1e8 / many / 3600:,.1f} h on this machine"
    if now["recall"] < middle(less)["recall"] - 0.005:
        said += f". NOT at equal recall: it fell from {middle(less)['recall']:.3f} to {now['recall']:.3f}"
    return said


def middle(one: dict) -> dict:
    """The setting that stands for a store where there is room for one only."""
    return one["searches"][len(one["searches"]) // 2]


def versions() -> str:
    """What was measured, in one line."""
    import faiss
    import partition

    with partition.connect() as connection:
        pgvector = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
        server = connection.info.server_version // 10000
    return f"PostgreSQL {server}, pgvector {pgvector}, FAISS {faiss.__version__}, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    main()
