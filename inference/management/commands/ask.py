"""`manage.py ask CORPUS "question"`: a streamed answer with its citations, a dialogue, or answers to a whole file."""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from django.core.management import BaseCommand
from tqdm import tqdm

from indexer.corpora import named
from indexer.models import Corpus, Document
from inference import batch
from inference.batch_files import AnswerFile, read_questions
from inference.explanation import explained, fields
from inference.generators import registry
from inference.history import Past
from inference.pipeline import Done, Text, answer
from ragplat import supervisor
from ragplat.errors import BadInput, RagplatError
from ragplat.printing import one_line, printable, to_json
from ragplat.types import Answer, AnswerRecipe

ENDINGS = {
    "length": "The answer reached its longest length and stops here.",
    "stopped": "The answer was stopped here.",
}


class Command(BaseCommand):
    help = """Ask a corpus; the answer streams, then its citations follow. Without a question, on a terminal: a
dialogue, in which a question may refer to those before it. With --file and --out: every question of a file, many at
once. Run the same command again after a break: only what has no answer yet is asked."""

    def add_arguments(self, parser):
        parser.add_argument("corpus", help="Short name of the corpus.")
        parser.add_argument("question", nargs="?", default="")
        parser.add_argument("--generator", default="", help=f"One of: auto, {', '.join(registry.names())}.")
        parser.add_argument("--json", action="store_true", help="Print answer, sentences, citations and trace as JSON.")
        parser.add_argument("--why", action="store_true", help="Print how the answer came about.")
        parser.add_argument(
            "--file", type=Path, help="Questions: .jsonl (question, id), .csv (the same) or .txt (lines)."
        )
        parser.add_argument("--out", type=Path, help="With --file: where the answers go, as lines of JSON.")

    def handle(self, *args, corpus, question, generator, file, out, json, why, **options):
        self._check(question, file, out, json or why)
        target = named(corpus)
        recipe = target.answer_recipe.value()
        if generator:
            recipe = replace(recipe, generator=generator)
        questions = read_questions(file) if file else []
        with supervisor.embedding_service(self.stderr.write):
            if file:
                failed = self._ask_all(target, recipe, questions, out)
            elif question:
                failed = self._ask(target, recipe, question, [], json, why).finish_reason == "error"
            else:
                failed = self._converse(target, recipe, json, why)
        if failed:
            sys.exit(1)

    def _check(self, question: str, file: Path | None, out: Path | None, printed: bool) -> None:
        if bool(file) != bool(out):
            raise BadInput("--file and --out go together: the questions of one are answered into the other.")
        if file and (question or printed):
            raise BadInput("With --file neither a question nor --json or --why is taken: every answer goes to --out.")
        if not question and not file and not sys.stdin.isatty():
            raise BadInput('Give a question, as in `ask CORPUS "question"`, or --file and --out.')

    # --- one question

    def _ask(
        self,
        corpus: Corpus,
        recipe: AnswerRecipe,
        question: str,
        history: Sequence[Past],
        json: bool,
        why: bool,
        stopped: threading.Event | None = None,
    ) -> Answer:
        for event in answer(corpus, question, recipe, history, stopped=stopped):
            if isinstance(event, Text) and not json:
                self.stdout.write(printable(event.text), ending="")
                self.stdout.flush()
            elif isinstance(event, Done):
                made = event.answer
        if made.trace.get("notice"):
            self.stderr.write(printable(made.trace["notice"]))
        if json:
            self.stdout.write(to_json(fields(made), indent=1))
        else:
            self._print_ending(made)
            if why:
                self._print_trace(made)
        if made.finish_reason == "error":
            self.stderr.write(printable(f"Error: {made.trace.get('error', 'the generator failed')}"))
        return made

    def _print_ending(self, made: Answer) -> None:
        self.stdout.write("\n")
        if made.finish_reason in ENDINGS:
            self.stdout.write(f"({ENDINGS[made.finish_reason]})")
        for citation in made.citations:
            page = f", page {citation.page}" if citation.page else ""
            place = f"[{citation.number}] {citation.document}{page} [{citation.start}:{citation.end}]"
            self.stdout.write(printable(place))
            self.stdout.write(f"    {one_line(citation.quote)}")
        unsupported = [sentence for sentence in made.sentences if sentence.support == "unsupported"]
        if unsupported:
            self.stdout.write(
                f"{len(unsupported)} of {len(made.sentences)} sentences are not borne out by their sources."
            )

    def _print_trace(self, made: Answer) -> None:
        found = {one["document_id"] for one in made.trace["chunks"]}
        names = dict(Document.objects.filter(pk__in=found).values_list("pk", "name"))
        for line in explained(made.trace, names):
            self.stdout.write(printable(line.replace("\n", " ")))

    # --- a dialogue

    def _converse(self, corpus: Corpus, recipe: AnswerRecipe, json: bool, why: bool) -> bool:
        with suppress(ImportError):
            import readline  # noqa: F401  (gives the line an editor and a history)
        history: list[Past] = []
        while True:
            try:
                question = input("> ").strip()
            except EOFError:
                self.stdout.write("")
                return False
            except KeyboardInterrupt:
                self.stdout.write("\n(Ctrl-D ends the dialogue.)")
                continue
            if not question:
                continue
            try:
                with _ctrl_c() as stopped:
                    made = self._ask(corpus, recipe, question, history, json, why, stopped)
                kept = {"answer": made.text, "finish_reason": made.finish_reason, "shown": made.trace.get("shown")}
                history.append(Past(question=question, **kept))
            except RagplatError as error:
                self.stderr.write(printable(f"Error: {error}"))
            except KeyboardInterrupt:
                self.stdout.write("\n(Stopped. Ctrl-D ends the dialogue.)")

    # --- a file

    def _ask_all(self, corpus: Corpus, recipe: AnswerRecipe, questions: list[batch.Question], out: Path) -> bool:
        started = time.monotonic()
        finished: Counter[str] = Counter()
        failures: dict[str, list[str]] = {}
        with AnswerFile(out, batch.made_with(corpus, recipe)) as file:
            asked = file.still(questions)
            for note in file.notes:
                self.stderr.write(note)
            known = len(questions) - len(asked)
            bar = tqdm(total=len(questions), initial=known, unit=" questions", disable=None, file=sys.stderr)
            try:
                with bar, closing(batch.answer_many(corpus, asked, recipe)) as results:
                    for result in results:
                        file.add(result)
                        bar.update()
                        if result.error:
                            failures.setdefault(result.error, []).append(result.question.id)
                        else:
                            finished[result.answer.finish_reason] += 1
            except KeyboardInterrupt:
                self.stderr.write(f"\n{known + finished.total():,} answers are kept in {out}; run this again to go on.")
                raise
        self._sum_up(known, finished, failures, time.monotonic() - started)
        return bool(failures)

    def _sum_up(self, known: int, finished: Counter[str], failures: dict[str, list[str]], seconds: float) -> None:
        failed = sum(map(len, failures.values()))
        before = f", {known:,} had an answer already" if known else ""
        self.stderr.write(f"{finished.total():,} answered, {failed:,} failed{before}; {seconds:.1f} s.")
        for reason, count in sorted(finished.items()):
            self.stderr.write(f"{count:6,} {reason}")
        for error, ids in sorted(failures.items(), key=lambda one: -len(one[1])):
            some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
            self.stderr.write(printable(f"{len(ids):6,} failed ({some}): {error}"))
        if failures:
            self.stderr.write("Run the same command again to ask what failed once more.")


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """While the block runs, Ctrl-C ends the answer with what is there; a second one ends the wait for that."""
    stopped = threading.Event()

    def stop(*_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
