"""One question: condense > retrieve > prompt > generate > cite. Events come out as they happen, the answer last."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from django.conf import settings

from indexer import embedder
from indexer.models import Corpus, Document, Index
from inference import citations, prompts
from inference.generators import registry
from inference.generators.base import Generator
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
    corpus: Corpus, question: str, recipe: AnswerRecipe | None = None, history: Sequence[tuple[str, str]] = ()
) -> Iterator[Event]:
    """Answer a question from a corpus. The last event is Done.

    ``history``: (question, answer) pairs of the conversation before it, oldest first; a follow-up is completed from
    them. Closing the iterator stops the work. Raises BadInput for an empty or too long question, EmbedderUnavailable,
    GeneratorUnavailable when the model server fails before its first word; what fails later ends as an Answer whose
    finish reason is "error".
    """
    question = checked(question)
    recipe = recipe or corpus.answer_recipe.value()
    index = corpus.active_index()
    trace: dict[str, Any] = {"recipe": asdict(recipe), "stages": []}

    yield Stage(name="searching")
    generator = make_generator(recipe, index)
    with _timed(trace, "search"):
        complete = getattr(generator, "complete", None)  # of language models
        question, found = retrieve(corpus, question, recipe, history, complete, trace)
    trace["search"] = asdict(found.trace)
    trace["chunks"] = [_ranks(chunk) for chunk in found.chunks]

    yield Stage(name="reading")
    with _timed(trace, "prompt"):
        prompt = _prompt(question, found.chunks, recipe, index)
    trace |= {"prompt": prompt.version, "dropped": list(prompt.dropped), "generator": generator.name}
    yield Sources(chunks=prompt.chunks)

    yield Stage(name="writing")
    text, last = "", Delta(text="", finish_reason="error", error="The generator ended without a word.")
    with _timed(trace, "generate"):
        for delta in generator.generate(prompt):
            if delta.text and not text:
                trace["seconds_to_first_text"] = round(time.perf_counter() - trace["stages"][-1]["started"], 3)
            text, last = text + delta.text, delta
            if delta.text:
                yield Text(text=delta.text)
    trace |= {"prompt_tokens": last.prompt_tokens, "completion_tokens": last.completion_tokens}
    if last.error:
        trace["error"] = last.error

    with _timed(trace, "cite"):
        resolved = _paged(citations.resolve(text, prompt, last.finish_reason or "stop"))
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


def make_generator(recipe: AnswerRecipe, index: Index) -> Generator:
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
        base_url=settings.GENERATOR_URL,
        model=settings.GENERATOR_MODEL,
        api_key=settings.GENERATOR_API_KEY,
        temperature=recipe.temperature,
        max_tokens=recipe.max_answer_tokens,
    )


def _prompt(question: str, chunks: tuple[ScoredChunk, ...], recipe: AnswerRecipe, index: Index) -> Prompt:
    tokenizer = embedder.for_index(index).tokenizer
    return prompts.build(
        question,
        chunks,
        context_tokens=recipe.context_tokens,
        count=lambda text: len(tokenizer.offsets(text)),
        language=detect_language(question),
        strict=recipe.strict,
        prompt=recipe.prompt,
    )


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
