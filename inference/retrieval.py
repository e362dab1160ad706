"""From a question in a conversation to the chunks for its answer: rewritten as the recipe says, then searched."""

from collections.abc import Sequence
from typing import Any

from indexer.models import Corpus
from indexer.search import Found, search
from inference import rewriting
from inference.rewriting import Complete
from ragplat.types import AnswerRecipe

NO_MODEL = "skipped: it needs a language model"


def retrieve(
    corpus: Corpus,
    question: str,
    recipe: AnswerRecipe,
    history: Sequence[rewriting.Turn],
    complete: Complete | None,
    trace: dict[str, Any],
) -> tuple[str, Found]:
    """The question as it stands on its own, and what a search for it found.

    ``history``: (question, answer) pairs before it, oldest first. ``complete`` asks the language model; None without
    one. What each rewriting made, and how, goes into ``trace["rewriting"]``.
    """
    noted = trace["rewriting"] = {}
    if recipe.condense and history:
        condensed = rewriting.condense(question, history, complete)
        noted["question"] = condensed._asdict()
        question = condensed.text
    variants, passages = [], []
    if recipe.variants:
        made = rewriting.variants(question, recipe.variants, complete) if complete else rewriting.Variants([], NO_MODEL)
        noted["variants"] = made._asdict()
        variants = made.texts
    if recipe.hyde:
        passage = rewriting.passage(question, complete) if complete else rewriting.Rewritten("", NO_MODEL)
        noted["passage"] = passage._asdict()
        passages = [passage.text] if passage.text not in ("", question) else []
    return question, search(corpus, question, k=recipe.k, recipe=recipe, variants=variants, passages=passages)
