"""One question: condense > retrieve > prompt > generate > cite. Events come out as they happen, the answer last."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from indexer import embedder
from indexer.models import Corpus, Document, Index, recipe_value
from inference import citations, prompts
from inference.generators import registry
from inference.generators.base import Generator, Sampling
from inference.retrieval import retrieve
from ragplat.errors import BadInput, GeneratorUnavailable
from ragplat.text import detect_language
from ragplat.types import Answer, AnswerRecipe, Citation, Delta, Prompt, ScoredChunk

LONGEST_QUESTION = 4_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The pipeline begins a stage: searching, reading or writing."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The chunks the answer will be written from; marker [n] means ``chunks[n - 1]``."""

    chunks: tuple[ScoredChunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of the answer, as it is written."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The complete answer with its citations resolved."""

    answer: Answer
    prompt: Prompt


Event = Stage | Sources | Text | Done


def answer(
    corpus: Corpus,
    question: str,
    recipe: AnswerRecipe | None = None,
    history: Sequence[tuple[str, str]] = (),
    *,
    batch: bool = False,
    stopped: threading.Event | None = None,
) -> Iterator[Event]:
    """Answer a question from a corpus. The last event is Done.

    ``history``: (question, answer) pairs of the conversation before it, oldest first; a follow-up is completed from
    them. ``batch``: nobody waits for it. Once ``stopped`` is set, the answer ends with what is there, finish reason
    "stopped"; closing the iterator stops the work, too. Raises BadInput for an empty or too long question,
    EmbedderUnavailable, GeneratorUnavailable when the model server that the recipe names fails before its first word
    (where any generator will do, the extractive one answers, and the trace has a "notice"); what fails later ends as an
    Answer whose finish reason is "error".
    """
    question = checked(question)
    recipe = recipe or corpus.answer_recipe.value()
    index = corpus.active_index()
    trace: dict[str, Any] = {"recipe": asdict(recipe), "stages": []}

    yield Stage(name="searching")
    generator = make_generator(recipe, index, batch=batch)
    with _timed(trace, "search"):
        complete = getattr(generator, "complete", None)  # of language models
        question, found = retrieve(corpus, question, recipe, history, complete, trace)
    trace["search"] = asdict(found.trace)
    trace["chunks"] = [_ranks(chunk) for chunk in found.chunks]

    yield Stage(name="reading")
    with _timed(trace, "prompt"):
        generator, prompt = _prompt(question, found.chunks, recipe, index, generator, trace)
    trace |= {"prompt": prompt.version, "dropped": list(prompt.dropped)}
    yield Sources(chunks=prompt.chunks)

    yield Stage(name="writing")
    text, last = "", Delta(text="")
    with _timed(trace, "generate"):
        for delta in _generate(generator, prompt, recipe, index, trace, stopped):
            if delta.text and not text:
                trace["seconds_to_first_text"] = round(time.perf_counter() - trace["stages"][-1]["started"], 3)
            text, last = text + delta.text, delta
            if delta.text:
                yield Text(text=delta.text)
    if last.finish_reason is None:
        last = _unfinished(stopped)
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        trace[name] = getattr(last, name)
    if last.error:
        trace["error"] = last.error

    with _timed(trace, "cite"):
        resolved = _paged(citations.resolve(text, prompt, last.finish_reason))
    for stage in trace["stages"]:
        del stage["started"]
    yield Done(answer=replace(resolved, trace=trace), prompt=prompt)


def checked(question: str) -> str:
    """The question without what cannot be kept. Raises BadInput when it is empty or too long."""
    question = question.replace("\x00", " ").encode("utf-8", "ignore").decode().strip()
    if not question:
        raise BadInput("The question is empty. Type what you would like to know.")
    if len(question) > LONGEST_QUESTION:
        raise BadInput(f"The question has {len(question):,} characters; at most {LONGEST_QUESTION:,} are taken.")
    return question


def make_generator(recipe: AnswerRecipe, index: Index, *, batch: bool = False) -> Generator:
    """The generator a recipe names; "auto" is the model server where one is set, else extractive.

    Raises BadInput for an unknown name, GeneratorUnavailable when "openai" is named and no server is set.
    """
    name = recipe.generator
    if name == "auto":
        name = "openai" if settings.GENERATOR_URL else "extractive"
    kind = registry.get(name)
    if name == "extractive":
        return kind(embed=partial(embedder.for_index(index).embed_queries, truncate=True), strict=recipe.strict)
    if name != "openai":
        return kind()
    if not settings.GENERATOR_URL:
        raise GeneratorUnavailable(
            "No model server is set. Set RAGPLAT_GENERATOR_URL, or use the generator extractive, which needs none."
        )
    return kind(
        settings.GENERATOR_URL,
        settings.GENERATOR_MODEL,
        settings.GENERATOR_API_KEY,
        Sampling(
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            top_k=recipe.top_k,
            seed=recipe.seed,
            stop=recipe.stop,
            max_tokens=recipe.max_answer_tokens,
        ),
        # Corpora share nothing that the server has read: how fast an answer comes must not tell what others asked.
        tenant=salted_hmac("inference.tenant", str(index.corpus_id)).hexdigest()[:32],
        batch=batch,
    )


def _generate(
    generator: Generator,
    prompt: Prompt,
    recipe: AnswerRecipe,
    index: Index,
    trace: dict[str, Any],
    stopped: threading.Event | None,
) -> Iterator[Delta]:
    """The answer, by another generator where the model server is away and the recipe names none."""
    trace["generator"] = generator.name
    try:
        yield from generator.generate(prompt, stopped)
    except GeneratorUnavailable as error:
        if not _replaceable(recipe, generator):
            raise
        stand_in = _stand_in(recipe, index, error, trace)
        trace["generator"] = stand_in.name
        yield from stand_in.generate(prompt, stopped)


def _replaceable(recipe: AnswerRecipe, generator: Generator) -> bool:
    return recipe.generator == "auto" and generator.name != "extractive"


def _stand_in(recipe: AnswerRecipe, index: Index, error: GeneratorUnavailable, trace: dict[str, Any]) -> Generator:
    trace["notice"] = f"{error.message} Until then, answers are quoted from the documents."
    return make_generator(replace(recipe, generator="extractive"), index)


def _unfinished(stopped: threading.Event | None) -> Delta:
    if stopped and stopped.is_set():
        return Delta(text="", finish_reason="stopped")
    return Delta(text="", finish_reason="error", error="The generator ended in the middle of the answer.")


def _prompt(
    question: str,
    chunks: tuple[ScoredChunk, ...],
    recipe: AnswerRecipe,
    index: Index,
    generator: Generator,
    trace: dict[str, Any],
) -> tuple[Generator, Prompt]:
    """The prompt, counted in the tokens of the model that reads it; with the generator it is for."""
    try:
        count, window, trace["counted_by"] = _tokens(generator, recipe, index)
    except GeneratorUnavailable as error:
        if not _replaceable(recipe, generator):
            raise
        generator = _stand_in(recipe, index, error, trace)
        count, window, trace["counted_by"] = _tokens(generator, recipe, index)
    prompt = prompts.build(
        question,
        chunks,
        context_tokens=recipe.context_tokens,
        count=count,
        language=detect_language(question),
        strict=recipe.strict,
        prompt=recipe.prompt,
        window=window,
    )
    return generator, prompt


def _tokens(generator: Generator, recipe: AnswerRecipe, index: Index) -> tuple[prompts.Count, int | None, str]:
    """What counts tokens, how many a prompt may have at most, and whose tokens they are."""
    own = getattr(generator, "count", None)  # of model servers, some of which count
    if own and own([""]) is not None:
        context = generator.context()
        return own, context and context - recipe.max_answer_tokens, generator.model
    tokenizer = embedder.for_index(index).tokenizer
    return lambda texts: [len(tokenizer.offsets(text)) for text in texts], None, recipe_value(index.recipe_id).embedder


def _paged(resolved: Answer) -> Answer:
    """Give each citation the page its quote begins on: a chunk that runs over a page break knows only its first."""
    cited = {citation.document_id for citation in resolved.citations}
    pages = dict(Document.objects.filter(pk__in=cited).values_list("pk", "pages"))

    def paged(citation: Citation) -> Citation:
        number = citation.page
        for page, start, end in pages.get(citation.document_id, []):
            if start <= citation.start < end:
                number = page
        return replace(citation, page=number)

    return replace(
        resolved,
        citations=tuple(paged(citation) for citation in resolved.citations),
        sentences=tuple(
            replace(sentence, citations=tuple(paged(citation) for citation in sentence.citations))
            for sentence in resolved.sentences
        ),
    )


def _ranks(chunk: ScoredChunk) -> dict[str, Any]:
    """A chunk as the trace shows it: where each leg put it. Its words and names stay in the corpus alone."""
    return {name: value for name, value in asdict(chunk).items() if name not in ("document", "context", "text")}


@contextmanager
def _timed(trace: dict[str, Any], name: str) -> Iterator[None]:
    stage = {"name": name, "started": time.perf_counter()}
    trace["stages"].append(stage)
    try:
        yield
    finally:
        stage["seconds"] = round(time.perf_counter() - stage["started"], 4)
