"""`manage.py search CORPUS "query"`: ranked chunks with every rank and score."""

from collections import Counter
from dataclasses import asdict

from django.core.management import BaseCommand

from indexer.corpora import named
from indexer.search import MODES, Found, search
from indexer.trace import Trace
from ragplat import supervisor
from ragplat.printing import one_line, printable, to_json
from ragplat.types import Rank, ScoredChunk

DROPPED = {
    "deleted": "deleted or disabled a moment ago",
    "collapse": "nearly the same as a better one",
    "threshold": "score below the recipe's threshold",
    "expand": "in the surroundings of a better one",
}


class Command(BaseCommand):
    help = """Search a corpus; prints the dense, lexical and fused rank and score of each chunk.

A query may hold operators: "these words in a row", -without, folder:guides, name:report, tag:draft, type:pdf,
lang:en, after:2024-05, before:2025, meta.author:Ada."""

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        parser.add_argument("query")
        parser.add_argument("--mode", choices=MODES, help="Default: the corpus's answer recipe.")
        parser.add_argument("-k", type=int, default=10, help="How many chunks (default 10).")
        parser.add_argument("--json", action="store_true", help="Print chunks and trace as JSON.")

    def handle(self, *args, corpus, query, mode, k, json, **options):
        target = named(corpus)
        if mode == "lexical":
            found = search(target, query, k=k, mode=mode, syntax=True)
        else:
            with supervisor.embedding_service(self.stderr.write):
                found = search(target, query, k=k, mode=mode, syntax=True)
        if json:
            self.stdout.write(to_json(asdict(found), indent=1))
        else:
            self._print(found)

    def _print(self, found: Found) -> None:
        if not found.chunks:
            self.stdout.write("Nothing found.")
        for chunk in found.chunks:
            self.stdout.write(
                f"{chunk.rank:3}. {chunk.score:.4f}  dense {_leg(chunk.dense)}  lexical {_leg(chunk.lexical)}  "
                f"{printable(_place(chunk))}"
            )
            self.stdout.write(f"     {one_line(chunk.text, 160)}")
        self._explain(found.trace)

    def _explain(self, trace: Trace) -> None:
        if trace.scope is not None:
            self.stdout.write(f"(searched {trace.scope['documents']:,} documents, {trace.scope['chunks']:,} chunks)")
        for step, dropped in Counter(one.step for one in trace.dropped).items():
            self.stdout.write(f"({dropped} dropped: {DROPPED[step]})")
        for note in trace.notes:
            self.stdout.write(printable(f"({note})"))
        seconds = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in trace.seconds.items())
        self.stdout.write(f"({seconds})")


def _leg(rank: Rank | None) -> str:
    return f"#{rank.rank:<3} {rank.score:7.4f}" if rank else "-".ljust(12)


def _place(chunk: ScoredChunk) -> str:
    page = f", page {chunk.page}" if chunk.page else ""
    return f"{chunk.document}{page} [{chunk.start}:{chunk.end}]"
