"""The keyword index on a BEIR collection: how fast it is made and searched, and how well it ranks.

    python benchmarks/search/lexical.py FOLDER [--language en] [--k 100]

FOLDER holds corpus.jsonl, queries.jsonl and qrels/test.tsv. One chunk a document: title, space, text. A search
includes the analysis of the query; one thread. nDCG@10 is pytrec_eval's, over the queries of qrels/test.tsv.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pytrec_eval

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.analyzer import analyze
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def qrels(path: Path) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return judged


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--language", default="en")
    arguments.add_argument("--k", type=int, default=100, help="results of each search (default 100)")
    options = arguments.parse_args()

    corpus, judged = rows(options.folder / "corpus.jsonl"), qrels(options.folder / "qrels" / "test.tsv")
    texts = [f"{row.get('title', '')} {row['text']}" for row in corpus]
    queries = {row["_id"]: row["text"] for row in rows(options.folder / "queries.jsonl") if row["_id"] in judged}
    megabytes = sum(len(text.encode()) for text in texts) / 1e6

    with tempfile.TemporaryDirectory() as folder:
        follower = LexicalFollower(Path(folder), analyzer="words-cjk@1", language=options.language)
        follower.search("load everything", 1)
        start = time.perf_counter()
        follower.apply((DocumentEntries(n, (Entry(n, text),)) for n, text in enumerate(texts)), watermark=1)
        index_seconds = time.perf_counter() - start
        start = time.perf_counter()
        for text in texts:
            analyze(text, options.language)
        analyze_seconds = time.perf_counter() - start
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
        seconds, run = [], {}
        for query_id, query in queries.items():
            start = time.perf_counter()
            hits = follower.search(query, options.k)
            seconds.append(time.perf_counter() - start)
            run[query_id] = {corpus[n]["_id"]: score for n, score in hits}

    scores = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10"}).evaluate(run)
    ndcg = sum(score["ndcg_cut_10"] for score in scores.values()) / len(judged)
    slow = statistics.quantiles(seconds, n=20)[-1]
    print(f"{len(texts):,} entries, {megabytes:.1f} MB of text, {len(queries):,} queries")
    print(f"index   {megabytes / index_seconds:.2f} MB/s, {len(texts) / index_seconds:,.0f} entries/s, {disk:.1f} MB")
    print(f"analyze {megabytes / analyze_seconds:.2f} MB/s, words already met")
    print(f"search  p50 {statistics.median(seconds) * 1e3:.2f} ms, p95 {slow * 1e3:.2f} ms, k = {options.k}")
    print(f"nDCG@10 {ndcg:.4f}")


if __name__ == "__main__":
    main()
