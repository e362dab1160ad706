"""`manage.py ingest CORPUS PATH...`: files and folders into a corpus."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from django.core.management import BaseCommand
from tqdm import tqdm

from indexer import corpora
from indexer.documents import add_tags
from indexer.ingest import Report, ingest_paths, settled
from indexer.models import Corpus, Document, Recipe
from indexer.tasks import working
from ragplat import supervisor
from ragplat.errors import BadInput
from ragplat.printing import printable, to_json


class Command(BaseCommand):
    help = (
        "Take files and folders (recursively) into a corpus, which is made when missing. Unchanged files are skipped."
    )

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        parser.add_argument("paths", nargs="+", metavar="PATH", help="Files or folders.")
        parser.add_argument("--recipe", default="", help="Index recipe of a new corpus (default: default).")
        parser.add_argument("--language", default="en", help="Main language of a new corpus, such as en or zh.")
        parser.add_argument("--tag", action="append", default=[], help="Tag for these documents; may be repeated.")
        parser.add_argument("--wait", action="store_true", help="Wait until every document has settled.")
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args, corpus, paths, recipe, language, tag, wait, json: bool, **options):
        with ExitStack() as running:
            running.enter_context(supervisor.embedding_service(self._note))
            target = _corpus(corpus, recipe, language)
            with tqdm(unit=" files", disable=None, file=sys.stderr) as bar:
                report = ingest_paths(target, [Path(path) for path in paths], each=lambda name: bar.update())
            ids = report.documents + report.known
            if tag:
                add_tags(ids, tag)
            if wait and any(settled(ids).get(state) for state in Document.UNDER_WAY):
                _wait(ids, running.enter_context(working(self._note)))
        states = settled(ids)
        if json:
            self.stdout.write(_as_json(report, states))
        else:
            self._print(report, states, wait)
        if states.get(Document.State.FAILED):
            sys.exit(1)

    def _note(self, line: str) -> None:
        self.stderr.write(line)

    def _print(self, report: Report, states: dict[str, int], waited: bool) -> None:
        for label in ("added", "changed", "unchanged", "duplicates", "skipped", "removed"):
            entries = getattr(report, label)
            if entries:
                self.stdout.write(f"{len(entries):6} {LABELS[label]}")
        for name, reason in report.skipped:
            if reason != "hidden":
                self.stdout.write(printable(f"  skipped {name}: {reason}"))
        for name in report.removed:
            self.stdout.write(
                printable(f"  no longer in the folder: {name} (its document stays; delete it in the corpus)")
            )
        if not waited:
            if report.documents:
                self.stdout.write("The worker indexes them now; the corpus page shows how far it is.")
            return
        if states:
            self.stdout.write(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
        ids = report.documents + report.known
        unhappy = Document.objects.filter(pk__in=ids, state__in=(Document.State.FAILED, Document.State.EMPTY))
        for document in unhappy.only("name", "state", "reason"):
            self.stdout.write(printable(f"  {document.state}: {document.name}: {document.reason}"))


LABELS = {
    "added": "added",
    "changed": "changed since the last time",
    "unchanged": "unchanged",
    "duplicates": "with the same bytes as another document",
    "skipped": "skipped",
    "removed": "no longer there",
}


def _corpus(slug: str, recipe: str, language: str) -> Corpus:
    corpus = Corpus.objects.filter(slug=slug).first()
    if corpus is None:
        return corpora.create(slug, slug=slug, language=language, recipe=recipe or "default")
    if recipe:
        wanted, present = corpora.recipe_named(Recipe.Kind.INDEX, recipe), corpus.active_index().recipe
        if wanted != present:
            raise BadInput(f'The corpus "{slug}" uses the recipe {present}, not {wanted}. Ingest into a new corpus.')
    return corpus


def _wait(documents: list[int], check_worker: Callable[[], None]) -> None:
    """Follow the documents until none is under way, with a bar on a terminal; ``check_worker`` may raise."""
    with tqdm(total=len(documents), unit=" documents", disable=None, file=sys.stderr) as bar:
        while True:
            states = settled(documents)
            under_way = sum(states.get(state, 0) for state in Document.UNDER_WAY)
            bar.n = len(documents) - under_way
            bar.refresh()
            if not under_way:
                return
            check_worker()
            time.sleep(0.3)


def _as_json(report: Report, states: dict[str, int]) -> str:
    ids = report.documents + report.known
    documents = Document.objects.filter(pk__in=ids).values("id", "name", "state", "reason", "chunk_count")
    return to_json(asdict(report) | {"states": states, "documents": list(documents)}, indent=1)
