"""`manage.py tune CORPUS --queries FILE --qrels FILE`: the dense weight that suits a corpus."""

import json as jsonlib
import sys
from dataclasses import asdict, replace
from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand
from django.core.validators import validate_slug
from django.db.models import Max
from django.urls import reverse
from tqdm import tqdm

from indexer import embedder
from indexer.corpora import builtin_recipes, named
from indexer.models import Corpus, Document, Recipe, recipe_value
from indexer.search import search
from indexer.tuning import Legs, Qrels, Report, by_name, read_qrels, read_queries, tune
from ragplat import supervisor
from ragplat.errors import BadInput
from ragplat.types import AnswerRecipe


class Command(BaseCommand):
    help = (
        "Find the dense weight of the fusion that suits a corpus: fitted on one part of judged queries, compared with "
        "the present weight on the other part. Nothing changes unless --save is given and the new recipe is chosen."
    )

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        parser.add_argument("--queries", required=True, type=Path, help='Lines of JSON with "_id" and "text" (BEIR).')
        parser.add_argument(
            "--qrels", required=True, type=Path, help="Tab-separated lines: query id, document name, grade (BEIR)."
        )
        parser.add_argument("--train", type=float, default=0.5, help="Share of the queries to fit on (default 0.5).")
        parser.add_argument("--seed", type=int, default=0, help="Another number splits otherwise (default 0).")
        parser.add_argument(
            "--save", metavar="NAME", default="", help="Save an answer recipe if the tuned weight is better."
        )
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args, corpus, queries, qrels, train, seed, save, json, **options):
        target = named(corpus)
        recipe = recipe_value(target.answer_recipe_id)
        _check_name(save)
        asked, judged, notes = _judged(target, read_queries(queries), read_qrels(qrels))
        with supervisor.embedding_service(self.stderr.write):
            found, documents = _legs(target, recipe, asked)
        report = tune(
            found,
            documents,
            judged,
            method=recipe.fusion,
            present=recipe.dense_weight,
            rrf_k=recipe.rrf_k,
            train=train,
            seed=seed,
        )
        better = report.recommended == report.tuned != report.present
        saved = _save(save, recipe, report.tuned) if save and better else None
        if json:
            name = str(saved) if saved else None
            self.stdout.write(jsonlib.dumps(asdict(report) | {"notes": notes, "saved": name}, indent=1))
            return
        self._print(report, notes)
        if saved:
            address = reverse("admin:indexer_corpus_change", args=[target.pk])
            self.stdout.write(
                f"Saved as the answer recipe {saved}, with number {saved.pk}. To use it, enter {saved.pk} as answer "
                f"recipe of the corpus in the administration ({address})."
            )
        elif save:
            self.stdout.write("No recipe was saved: it would not be surely better than the present one.")

    def _print(self, report: Report, notes: list[str]) -> None:
        for note in notes:
            self.stdout.write(f"Note: {note}")
        self.stdout.write(f"\nDense weight and mean nDCG@10 on {report.train_queries} train queries:")
        for weight, ndcg in report.curve:
            mark = " (tuned)" * (weight == report.tuned) + " (present)" * (weight == report.present)
            self.stdout.write(f"  {weight:.2f}  {ndcg:.4f}{mark}")
        self.stdout.write(f"\n{f'On {report.test_queries} test queries':<24}method  weight  nDCG@10")
        for row in report.rows:
            self.stdout.write(f"{row.name:<24}{row.method:<6}  {row.weight:6.2f}  {row.ndcg:7.4f}")
        self.stdout.write(
            f"\nTuned minus present: {report.gain:+.4f}, 95 % interval {report.low:+.4f} to {report.high:+.4f}."
        )
        for warning in report.warnings:
            self.stdout.write(warning)
        if not report.warnings:
            self.stdout.write(f"Recommended: dense weight {report.recommended:.2f}.")


def _judged(
    corpus: Corpus, queries: dict[str, str], qrels: Qrels
) -> tuple[dict[str, str], dict[str, dict[str, int]], list[str]]:
    """The queries to search, their judgements by document name, and what was left out."""
    ready = corpus.documents.filter(state=Document.State.READY)
    names = list(ready.values_list("name", flat=True))
    if not names:
        raise BadInput(f'The corpus "{corpus.slug}" has no document that is ready. Add some with `manage.py ingest`.')
    judged, unknown = by_name(qrels, names)
    if not judged:
        said = next(iter(next(iter(qrels.values()))))
        raise BadInput(
            f"The judgements name no relevant document that is ready in the corpus. They name documents such as "
            f'"{said}"; the corpus has documents such as "{min(names)}".'
        )
    asked = {query: queries[query] for query in judged if query in queries}
    if not asked:
        raise BadInput(f'No judged query is among the queries: there is no query with the id "{min(judged)}".')
    notes = []
    if unknown:
        notes.append(f'{len(unknown)} judged documents are not ready in the corpus, such as "{min(unknown)}".')
    if missing := len(qrels) - len(judged):
        notes.append(f"{missing} judged queries have no relevant document in the corpus and are left out.")
    if missing := len(judged) - len(asked):
        notes.append(f"{missing} judged queries are not among the queries and are left out.")
    return asked, judged, notes


def _legs(corpus: Corpus, recipe: AnswerRecipe, queries: dict[str, str]) -> tuple[dict[str, Legs], dict[int, str]]:
    """What each leg finds for each query, and the documents of all chunks found."""
    # What is tuned is the fusion: nothing that comes before it or after it may add or drop a chunk.
    bare = replace(
        recipe,
        variants=0,
        hyde=False,
        reranker="",
        threshold=None,
        collapse=None,
        diversity=0.0,
        expand="none",
    )
    tokenizer = embedder.for_index(corpus.active_index()).tokenizer
    documents: dict[int, str] = {}
    found: dict[str, Legs] = {}
    for query, text in tqdm(queries.items(), unit=" queries", disable=None, file=sys.stderr):
        hits = {}
        for mode in ("dense", "lexical"):
            chunks = search(corpus, text, k=recipe.candidates, mode=mode, recipe=bare).chunks
            hits[mode] = [(chunk.chunk_id, getattr(chunk, mode).score) for chunk in chunks]
            documents |= {chunk.chunk_id: chunk.document for chunk in chunks}
        found[query] = Legs(**hits, known=tokenizer.known_share(text))
    return found, documents


def _check_name(name: str) -> None:
    """Raises BadInput before any work is done for a name that a recipe cannot have."""
    if not name:
        return
    try:
        validate_slug(name)
    except ValidationError:
        raise BadInput(f'A recipe cannot be named "{name}". Use letters, digits, "-" and "_".') from None
    if len(name) > 60:
        raise BadInput(f"The name of the recipe has {len(name)} characters; at most 60 are kept.")
    if (Recipe.Kind.ANSWER, name) in builtin_recipes():
        raise BadInput(f'The recipe "{name}" is built in. Save under another name.')


def _save(name: str, recipe: AnswerRecipe, weight: float) -> Recipe:
    """The next version of the recipe ``name``: ``recipe`` with another dense weight."""
    rows = Recipe.objects.filter(kind=Recipe.Kind.ANSWER, name=name)
    version = (rows.aggregate(latest=Max("version"))["latest"] or 0) + 1
    value = replace(recipe, mode="hybrid", dense_weight=weight)
    return Recipe.objects.create(kind=Recipe.Kind.ANSWER, name=name, version=version, params=asdict(value))
