"""From a question in a conversation to the chunks for its answer: rewritten as the recipe says, then searched."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from indexer.models import Corpus
from indexer.search import Found, search
from inference import rewriting
from inference.history import Past
from inference.rewriting import Complete
from inference.trace import stage
from ragplat.types import AnswerRecipe, ScoredChunk

NO_MODEL = "skipped: it needs a language model"


def retrieve(
    corpus: Corpus,
    question: str,
    recipe: AnswerRecipe,
    history: Sequence[Past],
    complete: Complete | None,
    trace: dict[str, Any],
) -> tuple[str, Found]:
    """The question as it stands on its own, and what a search for it found.

    ``history``: the conversation before it, oldest first. ``complete`` asks the language model; None without one. What
    each rewriting made, and how, goes into ``trace["rewriting"]``.
    """
    noted = trace["rewriting"] = {}
    variants, passages = [], []
    with stage(trace, "condense", question=question, earlier=len(history)) as output:
        # A question that was refused has no answer to refer to; its words would lead this one astray as well.
        answered = [(one.question, one.answer) for one in history if one.finish_reason != "no_answer"]
        if recipe.condense and answered:
            condensed = rewriting.condense(question, answered, complete)
            noted["question"] = condensed._asdict()
            question = condensed.text
        if recipe.variants:
            none = rewriting.Variants([], NO_MODEL)
            made = rewriting.variants(question, recipe.variants, complete) if complete else none
            noted["variants"] = made._asdict()
            variants = made.texts
        if recipe.hyde:
            passage = rewriting.passage(question, complete) if complete else rewriting.Rewritten("", NO_MODEL)
            noted["passage"] = passage._asdict()
            passages = [passage.text] if passage.text not in ("", question) else []
        output |= {"question": question, "variants": len(variants), "passages": len(passages)}
    wanted = {"mode": recipe.mode, "k": recipe.k, "candidates": recipe.candidates, "reranker": recipe.reranker}
    with stage(trace, "search", query=question, **wanted) as output:
        found = search(corpus, question, k=recipe.k, recipe=recipe, variants=variants, passages=passages)
        output |= {"found": len(found.chunks), "dropped": len(found.trace.dropped)}
    trace["search"] = asdict(found.trace)
    trace["chunks"] = [_ranks(chunk) for chunk in found.chunks]
    return question, found


def _ranks(chunk: ScoredChunk) -> dict[str, Any]:
    """A chunk as the trace shows it: where each leg put it. Its words and names stay in the corpus alone."""
    return {name: value for name, value in asdict(chunk).items() if name not in ("document", "context", "text")}
