"""Keyword search over many chunks: time, size and memory of the index, and the latency of searches.

    python benchmarks/search/lexical_million.py DATA_FOLDER [--chunks 1000000] [--index FOLDER]

Chunks are made of real sentences: each mixes seven of the paragraphs in the corpus.jsonl files below DATA_FOLDER;
twenty chunks are a document, and 200 documents are applied at once, as the worker does. Queries are cut out of the
questions of its queries.jsonl files. A search includes the analysis of the query; one thread, warm, k = 100.
``--index`` keeps the index there, and searches it again where it is already made.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from indexer.query import ParsedQuery, parse
from ragplat.text import sentences

DOCUMENTS_AT_ONCE = 200
CHUNKS_PER_DOCUMENT = 20
SENTENCES = 7
SEARCHES = 300  # of each kind
K = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--index", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.index or Path(scratch)
        follower = LexicalFollower(folder, analyzer="words-cjk@1", language="en")
        pool = [
            text[start:end]
            for text in texts(options.folder, "corpus.jsonl")
            for start, end in sentences(text)
            if end - start > 20
        ]
        if follower.count() < options.chunks:
            build(follower, pool, options.chunks)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{follower.count():,} chunks, {size / 1e6:,.0f} MB on disk, {memory()}")
        questions = [q for q in texts(options.folder, "queries.jsonl") if q.isascii() and len(q.split()) >= 10]
        measure(follower, pool, questions, options.chunks // CHUNKS_PER_DOCUMENT)
        print(memory())


def texts(folder: Path, name: str) -> list[str]:
    found = []
    for path in sorted(folder.rglob(name)):
        with path.open(encoding="utf-8") as file:
            found += [row["text"] for row in map(json.loads, file)]
    return found


def build(follower: LexicalFollower, pool: list[str], chunks: int) -> None:
    started, characters, slowest = time.perf_counter(), 0, 0.0
    follower.reset()
    documents = made(pool, chunks)
    watermark = 0
    while batch := [one for _, one in zip(range(DOCUMENTS_AT_ONCE), documents, strict=False)]:
        watermark += len(batch)
        began = time.perf_counter()
        follower.apply(batch, watermark)
        slowest = max(slowest, time.perf_counter() - began)
        characters += sum(len(entry.content) for one in batch for entry in one.entries)
    seconds = time.perf_counter() - started
    print(
        f"built in {seconds:,.0f} s: {chunks / seconds:,.0f} chunks/s, {characters / seconds / 1e6:.2f} M characters/s"
    )
    print(f"slowest commit of {DOCUMENTS_AT_ONCE} documents {slowest:.1f} s")


def made(pool: list[str], chunks: int) -> Iterator[DocumentEntries]:
    dice = random.Random(7)
    for first in range(0, chunks, CHUNKS_PER_DOCUMENT):
        numbers = range(first, min(first + CHUNKS_PER_DOCUMENT, chunks))
        entries = tuple(Entry(n, " ".join(dice.choices(pool, k=SENTENCES))) for n in numbers)
        yield DocumentEntries(first // CHUNKS_PER_DOCUMENT, entries)


def measure(follower: LexicalFollower, pool: list[str], questions: list[str], documents: int) -> None:
    dice = random.Random(11)
    some = [dice.choice(questions).split() for _ in range(SEARCHES)]
    ten = [ParsedQuery(" ".join(words[:10])) for words in some]
    starts = [dice.randrange(len(words) - 2) for words in some]
    lines = [dice.choice([line for line in pool if line.isascii() and len(line.split()) > 8]) for _ in range(SEARCHES)]
    pairs = [f'"{" ".join(line.replace(chr(34), " ").split()[2:4])}"' for line in lines]
    kinds: dict[str, list[ParsedQuery]] = {
        "1 word": [ParsedQuery(dice.choice([word for word in words if len(word) > 3])) for words in some],
        "3 words": [ParsedQuery(" ".join(words[n : n + 3])) for words, n in zip(some, starts, strict=True)],
        "10 words": ten,
        "30 words": [ParsedQuery(" ".join(dice.choice(questions) for _ in range(3))) for _ in some],
        "2-word phrase": [parse(pair) for pair in pairs],
        "phrase and 10 words": [parse(f"{pair} {one.text}") for pair, one in zip(pairs, ten, strict=True)],
        "10 words, one excluded": [parse(f"{one.text} -history") for one in ten],
    }
    print(f"{'':<34}   p50 ms   p95 ms   max ms")
    for name, queries in kinds.items():
        report(name, [timed(follower.search, query, K) for query in queries])
    for count in (10, 1_000, 10_000):
        scopes = [dice.sample(range(documents), min(count, documents)) for _ in ten]
        times = [timed(follower.search, query, K, scope) for query, scope in zip(ten, scopes, strict=True)]
        report(f"10 words in {len(scopes[0]):,} documents", times)
    matching = [dice.sample(range(documents * CHUNKS_PER_DOCUMENT), 100) for _ in pairs]
    asked = [parse(pair) for pair in pairs]
    report(
        "which of 100 chunks hold a phrase",
        [timed(follower.matching, *one) for one in zip(asked, matching, strict=True)],
    )


def timed(function, *arguments) -> float:
    """Milliseconds of the better of two calls: the second finds the files in memory."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def report(name: str, times: list[float]) -> None:
    print(f"{name:<34} {statistics.median(times):8.2f} {statistics.quantiles(times, n=20)[-1]:8.2f} {max(times):8.2f}")


def memory() -> str:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    shown = {name: int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "VmHWM")}
    return "memory: own {RssAnon:,.0f} MB, mapped files {RssFile:,.0f} MB, most so far {VmHWM:,.0f} MB".format(**shown)


if __name__ == "__main__":
    main()
