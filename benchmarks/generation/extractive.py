"""How well answers quoted from the documents answer, cite and refuse, and the weights they are chosen with.

    python benchmarks/generation/extractive.py DATA_FOLDER [--fit] [--limit 1000] [--only squad]

Every answer is the platform's own: articles ingested into an installation (RAGPLAT_VAR_DIR, by default var/bench),
`inference.pipeline.answer` with the default recipe and the generator "extractive". questions.py says what is asked.
The weights are fitted on the articles of the split "tune" alone; the report is on the others.
"""

import argparse
import re
import statistics
import string
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation
from questions import UNANSWERABLE, Material, Question, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one question was answered; of questions without an answer only ``refused`` counts."""

    refused: bool
    found: bool  # a gold span lies in a chunk that the search found
    contains: bool  # the answer holds a gold answer
    citations: int
    right: int  # citations that overlap a gold span
    sentences: int
    characters: int
    supported: bool  # all of its sentences
    seconds: float  # to write and to cite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true", help="print weights fitted on the tune split instead of a report")
    parser.add_argument("--limit", type=int, default=1000, help="answerable questions of a data set and split")
    parser.add_argument("--only", default="", help="corpora whose names begin so")
    options = parser.parse_args()
    materials = load(options.data, options.limit)
    installation.setup()
    from ingested import prepare

    with installation.running(worker=True):
        prepare([material for material in materials if next(iter(material.corpora)).startswith(options.only)])
        if options.fit:
            fit(_asked(materials, "tune", options.only))
        else:
            print(installation.machine())
            report(_asked(materials, "test", options.only))


def _asked(materials: Iterable[Material], split: str, only: str) -> list[Question]:
    every = [question for material in materials for question in material.questions]
    return [one for one in every if one.split == split and one.corpus.startswith(only)]


def fit(questions: list[Question]) -> None:
    """Print the weights for what the platform's search finds. Sentences are embedded once, however often they come."""
    import fitting

    from indexer import embedder
    from indexer.corpora import named
    from indexer.search import search
    from inference import prompts

    client = embedder.for_index(named(questions[0].corpus).active_index())
    known = cache(lambda text: client.embed_queries([text], truncate=True)[0])
    asked = []
    for question in questions:
        corpus = named(question.corpus)
        recipe = corpus.answer_recipe.value()
        chunks = search(corpus, question.text, k=recipe.k, recipe=recipe).chunks
        count = lambda texts: [0] * len(texts)  # noqa: E731  (all of them fit)
        asked.append((question, prompts.build(question.text, chunks, 1, count, question.language, strict=True)))
    fitting.fit(asked, lambda texts: np.stack([known(text) for text in texts]))


def report(questions: list[Question]) -> None:
    """Two tables: what was answered and how well, and what was refused."""
    outcomes: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for number, question in enumerate(questions, start=1):
        outcomes[question.language, question.kind].append(ask(question))
        if number % 500 == 0:
            print(f"{number} of {len(questions)}", file=sys.stderr, flush=True)
    print(
        "\n| | questions | retrieved | answered | contains gold | ... of those answered | citation precision "
        "| citation recall | sentences | characters | ms, p50 |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for (language, kind), some in outcomes.items():
        if kind not in UNANSWERABLE:
            print(_answered(f"{language}, {kind}", some))
    print("\n| | kind | questions | refused |\n|---|---|---|---|")
    for (language, kind), some in outcomes.items():
        if kind in UNANSWERABLE:
            print(f"| {language} | {kind} | {len(some)} | {_share(one.refused for one in some):.3f} |")
    for language in ("en", "zh"):
        _balance(language, {kind: some for (spoken, kind), some in outcomes.items() if spoken == language})


def _answered(name: str, some: list[Outcome]) -> str:
    answered = [one for one in some if not one.refused]
    cited = sum(one.citations for one in answered)
    figures = (
        f"{len(some)}",
        f"{_share(one.found for one in some):.3f}",
        f"{len(answered) / len(some):.3f}",
        f"{_share(one.contains for one in some):.3f}",
        f"{_share(one.contains for one in answered):.3f}",
        f"{sum(one.right for one in answered) / max(cited, 1):.3f}",
        f"{_share(one.right > 0 for one in some):.3f}",
        f"{statistics.mean(one.sentences for one in answered):.2f}",
        f"{statistics.mean(one.characters for one in answered):.0f}",
        f"{1000 * statistics.median(one.seconds for one in some):.0f}",
    )
    return f"| {name} | {' | '.join(figures)} |"


def _balance(language: str, kinds: dict[str, list[Outcome]]) -> None:
    """Balanced accuracy: the mean of the shares of answerable questions answered and of others refused."""
    pairs = [("haystack", ("squad2",)), ("answerable", ("article", "paragraph", "off-topic"))]
    for yes, no in pairs:
        if yes in kinds and all(kind in kinds for kind in no):
            answered = 1 - _share(one.refused for one in kinds[yes])
            refused = statistics.mean(_share(one.refused for one in kinds[kind]) for kind in no)
            print(f"{language}: {yes} answered {answered:.3f}, {', '.join(no)} refused {refused:.3f}, ", end="")
            print(f"balanced accuracy {(answered + refused) / 2:.3f}")


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted) if counted else float("nan")


# --- one question ----------------------------------------------------------------------------------------------------


def ask(question: Question) -> Outcome:
    from indexer.corpora import named
    from inference.pipeline import Done, answer

    corpus = named(question.corpus)
    recipe = replace(corpus.answer_recipe.value(), generator="extractive")
    *_, done = answer(corpus, question.text, recipe)
    assert isinstance(done, Done)
    given = done.answer
    refused = given.finish_reason == "no_answer"
    words = " ".join(sentence.text for sentence in given.sentences)
    seconds = {stage["name"]: stage["seconds"] for stage in given.trace["stages"]}
    return Outcome(
        refused=refused,
        found=any(_overlaps(question, one.document, one.start, one.end) for one in done.prompt.chunks),
        contains=not refused and contains(words, question.golds, question.language),
        citations=len(given.citations),
        right=sum(_overlaps(question, one.document, one.start, one.end) for one in given.citations),
        sentences=len(given.sentences),
        characters=len(words),
        supported=all(sentence.support == "supported" for sentence in given.sentences),
        seconds=seconds["generate"] + seconds["cite"],
    )


def _overlaps(question: Question, document: str, start: int, end: int) -> bool:
    return document == question.document and any(start < b and a < end for a, b in question.spans)


_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "，。、；：？！“”‘’（）《》〈〉「」『』…—·")


def contains(answer: str, golds: Iterable[str], language: str) -> bool:
    """Whether a gold answer is in the answer, both normalised as SQuAD's own evaluation script does.

    Lower case, without punctuation and articles, whole words; of Chinese every character counts as a word.
    """

    def normal(text: str) -> str:
        bare = text.lower().translate(_PUNCTUATION)
        if language == "zh":
            return "".join(bare.split())
        return " ".join(["", *_ARTICLE.sub(" ", bare).split(), ""])

    return any(normal(gold).strip() and normal(gold) in normal(answer) for gold in golds)


if __name__ == "__main__":
    main()
