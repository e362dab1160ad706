"""Many questions at once: as many answers at a time as what writes them can work on."""

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from indexer.models import Corpus
from inference.pipeline import Stage, answer
from inference.writing import make_generator
from ragplat.errors import RagplatError
from ragplat.signature import digest
from ragplat.types import Answer, AnswerRecipe, Prompt

log = logging.getLogger(__name__)

SERVER_CONCURRENCY = 32  # answers that a model server writes together; vLLM batches them
THREADS_PER_CORE = 2  # an answer without a model waits for the embedding service, too (measured: docs/log.md)
RERANKS_AT_ONCE = 2  # enough to keep the embedding service busy, few enough that none waits out its patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a batch. Its id is unique there."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a question. An answer that broke off has an error, too."""

    question: Question
    answer: Answer | None = None
    prompt: Prompt | None = None  # what it was written from
    error: str = ""  # why there is no complete answer, for a person


def settled(recipe: AnswerRecipe) -> AnswerRecipe:
    """The recipe with its generator decided: where half a batch came from another one, it would tell nothing."""
    if recipe.generator != "auto":
        return recipe
    return replace(recipe, generator="openai" if settings.GENERATOR_URL else "extractive")


def made_with(corpus: Corpus, recipe: AnswerRecipe) -> dict[str, Any]:
    """What the answers of a batch are made with: batches that agree in all of it may be put together.

    Raises BadInput for an unknown generator, GeneratorUnavailable when the model server does not tell its model.
    """
    recipe, index = settled(recipe), corpus.active_index()
    return {
        "corpus": corpus.slug,
        "index": index.pk,
        "recipe": digest(asdict(recipe)),
        "prompt": recipe.prompt,
        "generator": make_generator(recipe, index).signature(),
    }


def answer_many(
    corpus: Corpus, questions: Iterable[Question], recipe: AnswerRecipe | None = None, *, concurrency: int = 0
) -> Iterator[Result]:
    """Answer questions, many at a time; each result comes as soon as it is there, in any order.

    ``recipe``: None for the corpus's own; the generator "auto" is decided once for all, and nothing stands in for it.
    ``concurrency``: answers at a time; 0 for what suits the generator. A question that fails is a result with its
    error. ``questions`` is read as far as needed. Closing the iterator ends the answers being written; a result that
    was not yielded is lost.
    """
    recipe = settled(recipe or corpus.answer_recipe.value())
    concurrency = concurrency or _concurrency(recipe)
    stopped = threading.Event()
    searching = threading.Semaphore(RERANKS_AT_ONCE) if recipe.reranker else nullcontext()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="batch")
    running: set[Future[Result]] = set()
    try:
        for question in questions:
            running.add(pool.submit(_answer, corpus, question, recipe, searching, stopped))
            if len(running) >= 2 * concurrency:  # so that a thread that is done always has another one
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _concurrency(recipe: AnswerRecipe) -> int:
    cores = len(os.sched_getaffinity(0))
    return SERVER_CONCURRENCY if recipe.generator == "openai" else THREADS_PER_CORE * cores


def _answer(
    corpus: Corpus, question: Question, recipe: AnswerRecipe, searching: Any, stopped: threading.Event
) -> Result:
    """One question, in a thread of the pool."""
    try:
        events = answer(corpus, question.text, recipe, batch=True, stopped=stopped)
        with searching:
            while next(events) != Stage(name="reading"):
                pass
        (*_, done) = events
    except BaseException as error:  # a panic of a Rust library is no Exception; the others must go on
        return Result(question=question, error=_reason(question, error))
    finally:
        connections.close_all()  # this thread's own; the next question is not hurt by a database that was restarted
    error = done.answer.trace.get("error", "") if done.answer.finish_reason == "error" else ""
    return Result(question=question, answer=done.answer, prompt=done.prompt, error=error)


def _reason(question: Question, error: BaseException) -> str:
    if isinstance(error, RagplatError):
        return error.message
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OperationalError | InterfaceError):
        return f"The database does not answer: {said}"
    log.error("question %s", question.id, exc_info=error)
    return f"An unexpected error: {said}"
