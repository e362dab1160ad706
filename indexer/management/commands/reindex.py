"""`manage.py reindex CORPUS`: another index beside the active one, the swap, the way back."""

import json as jsonlib
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand
from tqdm import tqdm

from indexer import reindex
from indexer.corpora import named
from indexer.models import Corpus, Index
from indexer.tasks import working
from ragplat import supervisor
from ragplat.errors import BadInput, EmbedderUnavailable
from ragplat.printing import printable

POLL = 0.3  # seconds


class Command(BaseCommand):
    help = (
        "Index a corpus by another recipe while the old index goes on answering. Without an option: show its indexes. "
        "`--recipe R --swap` does it all; `--rollback` takes it back."
    )

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        verbs = parser.add_mutually_exclusive_group()
        verbs.add_argument("--recipe", default="", metavar="R", help="Begin, or go on with, an index by this recipe.")
        verbs.add_argument(
            "--rollback", action="store_true", help="Bring the index used before up to date, and use it again."
        )
        verbs.add_argument("--drop", action="store_true", help="Remove every index but the active one.")
        parser.add_argument("--swap", action="store_true", help="Use the new index from now on; keep the old one.")
        parser.add_argument("--wait", action="store_true", help="Wait until the new index is ready.")
        parser.add_argument("--json", action="store_true", help="Print the indexes as JSON.")

    def handle(self, *args, corpus, recipe, rollback, drop, swap, wait, json: bool, **options):
        target = named(corpus)
        with self._embedder(needed=not drop and bool(recipe or rollback or reindex.shadow(target))):
            if drop:
                for index in reindex.drop(target):
                    self._note(f"Removed the index {index.pk} by {index.recipe}.")
            elif rollback:
                self._bring_in(reindex.reopen(target), wait=True, swap=True)
            elif recipe:
                self._bring_in(reindex.start(target, recipe), wait=wait or swap, swap=swap)
            elif swap or wait:
                self._bring_in(_shadow(target), wait=wait, swap=swap)
            indexes, agreement = _described(target), self._agreement(target)
        if json:
            content = {"indexes": indexes, "agreement": agreement}
            self.stdout.write(jsonlib.dumps(content, ensure_ascii=False, indent=1, default=str))
        else:
            self._print(target, indexes, agreement)

    def _embedder(self, needed: bool) -> AbstractContextManager[None]:
        return supervisor.embedding_service(self._note) if needed else nullcontext()

    def _agreement(self, corpus: Corpus) -> dict[str, Any] | None:
        """The new index beside the active one, once it is ready."""
        new, old = reindex.shadow(corpus), corpus.active_index()
        if new is None or new.state != Index.State.READY:
            return None
        try:
            return asdict(reindex.agreement(old, new)) | {"uncovered": reindex.uncovered(new, old)}
        except EmbedderUnavailable as error:  # what was asked for is done; only the comparison is missing
            self._note(f"The two indexes were not compared. {error}")
            return None

    def _note(self, line: str) -> None:
        self.stderr.write(line)

    def _bring_in(self, index: Index, wait: bool, swap: bool) -> None:
        if wait:
            self._wait(index)
        if swap:
            old = reindex.swap(index)
            self._note(f"{index.corpus} is searched by {index.recipe} now; {old.recipe} is kept for --rollback.")

    def _wait(self, index: Index) -> None:
        """Follow an index until it may be swapped in, with a bar on a terminal."""
        with working(self._note) as check, tqdm(unit=" documents", disable=None, file=sys.stderr) as bar:
            while not reindex.is_close(index):
                far = reindex.progress(index)
                bar.total, bar.n = far.documents, far.done
                bar.refresh()
                if far.unfit and not far.missing:
                    listed = "".join(f"\n  {name}: {reason}" for name, reason in far.unfit)
                    raise BadInput(f"{len(far.unfit)} documents cannot be indexed by {index.recipe}:{listed}")
                check()
                time.sleep(POLL)
                index = _anew(index)

    def _print(self, corpus: Corpus, indexes: list[dict[str, Any]], agreement: dict[str, Any] | None) -> None:
        for one in indexes:
            self.stdout.write(
                f"{one['state']:<9} {one['recipe']:<14} {one['done']:,} of {one['documents']:,} documents, "
                f"{one['chunks']:,} chunks, {one['state']} since {one['since']:%Y-%m-%d %H:%M}"
            )
            if one["state"] == Index.State.BUILDING:
                self.stdout.write(f"  The worker builds it; `manage.py reindex {corpus.slug} --wait` waits for it.")
            for name, reason in one["unfit"]:
                self.stdout.write(printable(f"  cannot be indexed: {name}: {reason}"))
        if agreement:
            dense = "not comparable" if agreement["dense"] is None else f"{agreement['dense']:.0%}"
            self.stdout.write(
                f"Of the ten best passages of the active index, the new one has among its own: dense {dense}, "
                f"lexical {agreement['lexical']:.0%} ({agreement['queries']} passages of the corpus as queries)."
            )
            if agreement["uncovered"]:
                self.stdout.write(
                    f"{agreement['uncovered']} disabled chunks lie in larger chunks of the new index, which a swap "
                    "leaves enabled: disable those where need be."
                )
            self.stdout.write(f"Use it with `manage.py reindex {corpus.slug} --swap`.")


def _shadow(corpus: Corpus) -> Index:
    index = reindex.shadow(corpus)
    if index is None:
        raise BadInput(f"No index is being built. Begin with `manage.py reindex {corpus.slug} --recipe NAME`.")
    return index


def _anew(index: Index) -> Index:
    found = Index.objects.select_related("recipe", "corpus").filter(pk=index.pk).first()
    if found is None:
        raise BadInput(f"The index {index.pk} was removed meanwhile.")
    return found


def _described(corpus: Corpus) -> list[dict[str, Any]]:
    return [
        {"id": index.pk, "recipe": str(index.recipe), "state": index.state, "since": index.since}
        | asdict(reindex.progress(index))
        for index in corpus.indexes.select_related("recipe").order_by("pk")
    ]
