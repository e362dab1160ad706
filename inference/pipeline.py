"""One question: condense > search > prompt > generate > cite > verify. Events as they happen, the answer last."""

import threading
import time
from collections import Counter
from collections.abc import Generator as Generating
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from indexer.models import Corpus, Document, Index
from inference import citations
from inference.generators.base import Generator
from inference.history import Past
from inference.retrieval import retrieve
from inference.trace import stage
from inference.writing import make_generator, make_judge, make_prompt, stand_in
from ragplat.database import give_back_connections
from ragplat.errors import BadInput, GeneratorUnavailable
from ragplat.types import Answer, AnswerRecipe, Citation, Delta, Prompt, ScoredChunk

LONGEST_QUESTION = 4_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The pipeline begins a stage: understanding (a follow-up, by a model) or searching, reading, writing."""

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
Pages = Mapping[int, list[tuple[int, int, int]]]  # by document: number, start and end of each page


def answer(
    corpus: Corpus,
    question: str,
    recipe: AnswerRecipe | None = None,
    history: Sequence[Past] = (),
    *,
    batch: bool = False,
    stopped: threading.Event | None = None,
) -> Iterator[Event]:
    """Answer a question from a corpus. The last event is Done.

    ``history``: the conversation before it, oldest first; a follow-up is completed from it, and a language model reads
    it. ``batch``: nobody waits for it. Once ``stopped`` is set, the answer ends with what is there, finish reason
    "stopped"; closing the iterator stops the work, too. Raises BadInput for an empty or too long question,
    EmbedderUnavailable, GeneratorUnavailable when the model server that the recipe names fails before its first word
    (where any generator will do, the extractive one answers, and the trace has a "notice"); what fails later ends as an
    Answer whose finish reason is "error".
    """
    question = checked(question)
    recipe = recipe or corpus.answer_recipe.value()
    index = corpus.active_index()
    trace: dict[str, Any] = {"recipe": asdict(recipe), "stages": []}

    generator = make_generator(recipe, index, batch=batch)
    complete = getattr(generator, "complete", None)  # of language models
    yield Stage(name="understanding" if complete and history and recipe.condense else "searching")
    question, found = retrieve(corpus, question, recipe, history, complete, trace)
    asked = _Asked(question, found.chunks, history, recipe, index, stopped)
    try:
        prompt, pages, text, last = yield from _write(asked, generator, trace)
    except GeneratorUnavailable as error:
        if (other := stand_in(generator, recipe, index)) is None:
            raise
        trace["notice"] = f"{error.message} Until then, answers are quoted from the documents."
        prompt, pages, text, last = yield from _write(asked, other, trace)

    with stage(trace, "cite", characters=len(text), sources=len(prompt.chunks)) as output:
        cited = _paged(citations.cite(text, prompt, last.finish_reason), pages)
        output |= {"sentences": len(cited.sentences), "citations": len(cited.citations)}
        output |= {"unknown_markers": cited.unknown_markers}
    with stage(trace, "verify", judge=recipe.judge, sentences=len(cited.sentences)) as output:
        judge = make_judge(recipe, index, complete)
        trace["judge"] = judge.signature()
        judged = citations.verify(cited, prompt, judge)
        output |= Counter(sentence.support for sentence in judged.sentences)
    yield Done(answer=replace(judged, trace=trace), prompt=prompt)


def checked(question: str) -> str:
    """The question without what cannot be kept. Raises BadInput when it is empty or too long."""
    question = question.replace("\x00", " ").encode("utf-8", "ignore").decode().strip()
    if not question:
        raise BadInput("The question is empty. Type what you would like to know.")
    if len(question) > LONGEST_QUESTION:
        raise BadInput(f"The question has {len(question):,} characters; at most {LONGEST_QUESTION:,} are taken.")
    return question


@dataclass(frozen=True, slots=True)
class _Asked:
    """Everything that an answer is written from, whoever writes it."""

    question: str  # as it stands on its own
    chunks: tuple[ScoredChunk, ...]
    history: Sequence[Past]
    recipe: AnswerRecipe
    index: Index
    stopped: threading.Event | None


def _write(
    asked: _Asked, generator: Generator, trace: dict[str, Any]
) -> Generating[Event, None, tuple[Prompt, Pages, str, Delta]]:
    """Write the answer. Returns its prompt, the pages of its sources, its text and the delta it ended with."""
    trace["generator"] = generator.name
    yield Stage(name="reading")
    with stage(trace, "prompt", chunks=len(asked.chunks), earlier=len(asked.history)) as output:
        prompt = make_prompt(asked.question, asked.chunks, asked.history, asked.recipe, asked.index, generator, trace)
        output |= {"version": prompt.version, "sources": len(prompt.chunks), "history": prompt.history}
        output |= {"dropped": len(prompt.dropped)}
    yield Sources(chunks=prompt.chunks)
    pages = _pages(prompt)
    if hasattr(generator, "complete"):  # a language model
        give_back_connections()  # a model writes for long: a restart of the database must not cost the answer

    yield Stage(name="writing")
    text, last = "", Delta(text="")
    with stage(trace, "generate", generator=generator.name, messages=len(prompt.messages)) as output:
        started = time.perf_counter()
        for delta in generator.generate(prompt, asked.stopped):
            if delta.text and not text:
                trace["seconds_to_first_text"] = round(time.perf_counter() - started, 3)
            text, last = text + delta.text, delta
            if delta.text:
                yield Text(text=delta.text)
        if last.finish_reason is None:
            last = _unfinished(asked.stopped)
        output |= {"characters": len(text), "finish_reason": last.finish_reason}
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        trace[name] = getattr(last, name)
    if last.error:
        trace["error"] = last.error
    return prompt, pages, text, last


def _unfinished(stopped: threading.Event | None) -> Delta:
    if stopped and stopped.is_set():
        return Delta(text="", finish_reason="stopped")
    return Delta(text="", finish_reason="error", error="The generator ended in the middle of the answer.")


def _pages(prompt: Prompt) -> Pages:
    shown = {chunk.document_id for chunk in prompt.chunks}
    return dict(Document.objects.filter(pk__in=shown).values_list("pk", "pages"))


def _paged(resolved: Answer, pages: Pages) -> Answer:
    """Give each citation the page its quote begins on: a chunk that runs over a page break knows only its first."""

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
