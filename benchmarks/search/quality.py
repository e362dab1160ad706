"""nDCG@10 and Recall of dense, lexical and hybrid search on a collection in BEIR form, through the whole platform.

    python benchmarks/search/quality.py BEIR_FOLDER [--recipe beir default] [--language en]

The collection's documents are written as text files (title, space, text), ingested with each recipe, and every
test query is searched. A document scores as its best chunk. Measures are pytrec_eval's (trec_eval). "beir" makes one
chunk of a document, cut at the model's limit, as published numbers are made; "default" is what people get.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation

K = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", nargs="+", default=["beir"], help="index recipes (default beir)")
    parser.add_argument("--language", default="en")
    options = parser.parse_args()
    installation.setup()
    queries, qrels = read_queries(options.folder)
    print(f"{options.folder.name}, {len(queries)} queries; {installation.machine()}")
    with installation.running(worker=True):
        for recipe in options.recipe:
            corpus = ingest(options.folder, recipe, options.language)
            chunks = corpus.active_index().chunks.count()
            print(f"\nindex recipe {corpus.active_index().recipe}, {chunks:,} chunks; answer {corpus.answer_recipe}")
            print("mode      nDCG@10 Recall@5 Recall@100   p50 ms")
            for mode in ("dense", "lexical", "hybrid"):
                run, p50 = search_all(corpus, queries, mode)
                scores = measure(qrels, run)
                shown = f"{scores['ndcg_cut_10']:7.4f} {scores['recall_5']:8.4f} {scores['recall_100']:10.4f}"
                print(f"{mode:<9} {shown} {p50:8.1f}", flush=True)


def read_queries(folder: Path) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """The queries with a judgement in the test split, and the judgements."""
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / "test.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    lines = (json.loads(line) for line in (folder / "queries.jsonl").open())
    return {line["_id"]: line["text"] for line in lines if line["_id"] in qrels}, qrels


def ingest(folder: Path, recipe: str, language: str):
    """The collection as a corpus of the platform; made when it is not there yet."""
    from django.utils.text import slugify

    from indexer import corpora
    from indexer.ingest import ingest_paths, settled
    from indexer.models import Corpus, Document

    slug = slugify(f"{folder.name}-{recipe}")[:60]
    corpus = Corpus.objects.filter(slug=slug).first()
    if corpus is None:
        corpus = corpora.create(slug, slug=slug, language=language, recipe=recipe)
        with tempfile.TemporaryDirectory() as scratch:
            for line in (folder / "corpus.jsonl").open():
                row = json.loads(line)
                text = f"{row.get('title', '')} {row['text']}".strip()
                Path(scratch, f"{row['_id']}.txt").write_text(text)
            started = time.perf_counter()
            report = ingest_paths(corpus, [Path(scratch)])
            print(f"{len(report.added)} files queued in {time.perf_counter() - started:.1f} s", flush=True)
            for name in report.duplicates:
                print(f"warning: {name} has the same bytes as another document and cannot be found by its own name")
    ids = list(corpus.documents.values_list("pk", flat=True))
    started = time.perf_counter()
    while sum(settled(ids).get(state, 0) for state in Document.UNDER_WAY):
        time.sleep(3)
    print(f"{settled(ids)} after another {time.perf_counter() - started:.0f} s", flush=True)
    return corpus


def search_all(corpus, queries: dict[str, str], mode: str) -> tuple[dict[str, dict[str, float]], float]:
    """The best chunk's score for each document found, by query; and the median time of a search in milliseconds."""
    from indexer.search import search

    run, times = {}, []
    for query_id, text in queries.items():
        started = time.perf_counter()
        found = search(corpus, text, k=K, mode=mode)
        times.append(time.perf_counter() - started)
        scores: dict[str, float] = {}
        for chunk in found.chunks:
            name = chunk.document.removesuffix(".txt")
            scores[name] = max(scores.get(name, float("-inf")), chunk.score)
        run[query_id] = scores
    return run, sorted(times)[len(times) // 2] * 1000


def measure(qrels: dict, run: dict) -> dict[str, float]:
    """The mean of each measure over all judged queries; a query that found nothing counts as 0."""
    import pytrec_eval

    names = {"ndcg_cut_10", "recall_5", "recall_100"}
    rows = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.5,100"}).evaluate(run)
    return {name: sum(rows.get(q, {}).get(name, 0.0) for q in qrels) / len(qrels) for name in names}


if __name__ == "__main__":
    main()
