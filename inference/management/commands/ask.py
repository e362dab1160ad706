"""`manage.py ask CORPUS "question"`: a streamed answer with its citations."""

import json as jsonlib
import sys
from dataclasses import asdict, replace

from django.core.management import BaseCommand

from indexer.corpora import named
from inference.generators import registry
from inference.pipeline import Done, Text, answer
from ragplat import supervisor
from ragplat.types import Answer


class Command(BaseCommand):
    help = "Ask a corpus; the answer streams, then its citations follow."

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        parser.add_argument("question")
        parser.add_argument("--generator", default="", help=f"One of: auto, {', '.join(registry.names())}.")
        parser.add_argument("--json", action="store_true", help="Print answer, sentences, citations and trace as JSON.")

    def handle(self, *args, corpus, question, generator, json, **options):
        target = named(corpus)
        recipe = target.answer_recipe.value()
        if generator:
            recipe = replace(recipe, generator=generator)
        with supervisor.embedding_service(self.stderr.write):
            for event in answer(target, question, recipe):
                if isinstance(event, Text) and not json:
                    self.stdout.write(event.text, ending="")
                    self.stdout.flush()
                elif isinstance(event, Done):
                    made = event.answer
        if made.trace.get("notice"):
            self.stderr.write(made.trace["notice"])
        if json:
            self.stdout.write(jsonlib.dumps(_as_json(made), ensure_ascii=False, indent=1))
        else:
            self._print_citations(made)
        if made.finish_reason == "error":
            self.stderr.write(f"Error: {made.trace.get('error', 'the generator failed')}")
            sys.exit(1)

    def _print_citations(self, made: Answer) -> None:
        self.stdout.write("\n")
        for citation in made.citations:
            page = f", page {citation.page}" if citation.page else ""
            self.stdout.write(f"[{citation.number}] {citation.document}{page} [{citation.start}:{citation.end}]")
            self.stdout.write(f"    {' '.join(citation.quote.split())[:300]}")
        unsupported = [sentence for sentence in made.sentences if sentence.support == "unsupported"]
        if unsupported:
            self.stdout.write(
                f"{len(unsupported)} of {len(made.sentences)} sentences are not borne out by their sources."
            )


def _as_json(made: Answer) -> dict:
    return {
        "answer": made.text,
        "finish_reason": made.finish_reason,
        "sentences": [asdict(sentence) for sentence in made.sentences],
        "citations": [asdict(citation) for citation in made.citations],
        "unknown_markers": made.unknown_markers,
        "trace": dict(made.trace),
    }
