"""From a question and its chunks to a prompt whose beginning stays the same, byte for byte.

The order is fixed: rules, then for each question of the conversation its sources by document and position, the question
and the answer; the new question last. What a follow-up sends begins with all that was sent before it, and two questions
that find the same sources share everything before the question, so a server with a prefix cache reads that once.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path

from inference.generators.plain import plain
from ragplat.errors import BadInput
from ragplat.text import detect_language
from ragplat.types import Prompt, ScoredChunk

NO_ANSWER = "NO_ANSWER"  # what the prompt files ask a model to reply when the sources do not answer
REFUSALS = {
    "en": "The documents do not answer this question.",
    "zh": "这些文档没有回答这个问题。",
}
GENERAL = {  # stands between a refusal and what a model knows without the documents
    "en": "From general knowledge, not from the documents:",
    "zh": "以下内容出自常识，并非来自文档：",
}
AROUND_MESSAGE = 16  # tokens that a chat template puts around a message, at most
Count = Callable[[Sequence[str]], Sequence[int]]  # texts to their lengths in tokens
_FOLDER = Path(__file__).parent / "prompt_files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as its prompt shows it: with the sources that came in with it, and its answer."""

    question: str
    sources: tuple[ScoredChunk, ...]  # in canonical order
    again: tuple[int, ...] = ()  # numbers of sources shown before that were found for this question, too
    answer: str = ""  # of a question asked earlier


def general_beginning(language: str) -> str:
    """What stands before an answer from general knowledge."""
    return f"{REFUSALS[language]}\n\n{GENERAL[language]}\n\n"


def is_general(text: str) -> bool:
    """Whether an answer comes from general knowledge, not from the sources."""
    return text.startswith(tuple(map(general_beginning, REFUSALS)))


def build(
    question: str,
    chunks: Sequence[ScoredChunk],
    context_tokens: int,
    count: Count,
    language: str,
    strict: bool,
    prompt: str = "answer@2",
    window: int | None = None,
    earlier: Sequence[Asked] = (),
    history_tokens: int = 6000,
    structured: bool = False,
) -> Prompt:
    """The prompt for ``question`` over the best of ``chunks``.

    ``count`` gives the lengths of texts in tokens; the sources it brings take at most ``context_tokens`` of them, and
    the whole prompt at most ``window``, where that is known. The chunks that do not fit are listed in ``dropped``, the
    worst first. ``language`` is the ISO 639-1 code to answer in; "" takes it from the question, and a language without
    a prompt file gets the English one, whose rules ask for the question's language. ``strict`` asks the model to refuse
    when the sources do not answer. ``earlier`` are the questions of the conversation before it, oldest first; their
    sources keep their numbers. All of them are left out when they take more than ``history_tokens`` or half the window:
    leaving out the oldest would change the beginning again with every question. ``structured`` asks for JSON (see
    generators/structured.py).

    Raises BadInput when there is no prompt of that name, or when not one chunk fits the budget.
    """
    language = language or detect_language(question)
    language = language if language in REFUSALS else "en"
    most = history_tokens if window is None else min(history_tokens, window // 2)
    earlier = _kept(earlier, prompt, count, most)
    version = _version(prompt, _first_language(earlier) or language)
    known = [one for asked in earlier for one in asked.sources]
    numbers = {one.chunk_id: n for n, one in enumerate(known, start=1)}
    again = tuple(sorted(numbers[chunk.chunk_id] for chunk in chunks if chunk.chunk_id in numbers))
    asked = Asked(question=question, sources=(), again=again)
    bare = [message["content"] for message in render([*earlier, asked], version, strict, structured)]
    budget = context_tokens if window is None else min(context_tokens, _room(window, count(bare)))
    shown, dropped = _fit([chunk for chunk in chunks if chunk.chunk_id not in numbers], budget, count, bool(again))
    found = {chunk.chunk_id: chunk for chunk in chunks}  # with the ranks that they have this time
    return Prompt(
        question=question,
        chunks=(*(found.get(one.chunk_id, one) for one in known), *shown),
        dropped=dropped,
        messages=render([*earlier, replace(asked, sources=shown)], version, strict, structured),
        version=version,
        language=language,
        earlier=len(known),
        history=len(earlier),
    )


def render(asked: Sequence[Asked], version: str, strict: bool, structured: bool) -> tuple[Mapping[str, str], ...]:
    """The messages of a prompt whose last question is asked now; equal arguments give equal bytes."""
    wording = _wording(version)
    parts = ("system", "strict" if strict else "open", *["structured"] * structured)
    rules = {"role": "system", "content": "\n\n".join(wording[part].strip() for part in parts)}
    messages = (rules, *_conversation(asked, wording)[:-1])
    return tuple(message | {"content": plain(message["content"])} for message in messages)


def _first_language(earlier: Sequence[Asked]) -> str:
    """The language of the rules: a conversation keeps those that it began with, as a server has read them before."""
    first = detect_language(earlier[0].question) if earlier else ""
    return first if first in REFUSALS or not earlier else "en"


def _kept(earlier: Sequence[Asked], prompt: str, count: Count, most: int) -> Sequence[Asked]:
    """The conversation, if it takes at most ``most`` tokens."""
    if not earlier:
        return ()
    messages = _conversation(earlier, _wording(_version(prompt, _first_language(earlier))))
    cost = sum(count([message["content"] for message in messages])) + AROUND_MESSAGE * len(messages)
    return earlier if cost <= most else ()


def _conversation(asked: Sequence[Asked], wording: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The messages of questions, each followed by its answer."""
    counts = accumulate((len(one.sources) for one in asked), initial=0)
    return [
        message
        for one, before in zip(asked, counts, strict=False)
        for message in (
            {"role": "user", "content": _shown(one, wording, before)},
            {"role": "assistant", "content": one.answer},
        )
    ]


def _shown(one: Asked, wording: Mapping[str, str], before: int) -> str:
    """A question's message: its sources, numbered after the ``before`` ones that stand above, then the question."""
    sources = _sources(one.sources, before + 1) or [wording["no_sources"]] * (not one.again)
    return "\n\n".join([*sources, *_after_sources(one, wording)])


def _after_sources(one: Asked, wording: Mapping[str, str]) -> list[str]:
    again = [wording["again"].replace("{numbers}", "".join(f"[{n}]" for n in one.again))] * bool(one.again)
    return [*again, wording["question"].replace("{question}", one.question)]


def _version(prompt: str, language: str) -> str:
    """The name of a prompt file: "answer@1" in English is answer-en@1."""
    name, _, number = prompt.partition("@")
    version = f"{name}-{language}@{number}"
    files = {path.stem for path in _FOLDER.glob("*.toml")}
    if version not in files:
        known = sorted({re.sub(r"-[a-z]+@", "@", stem) for stem in files})
        raise BadInput(f'There is no prompt named "{prompt}". Choose one of: {", ".join(known)}.')
    return version


@cache
def _wording(version: str) -> Mapping[str, str]:
    return tomllib.loads((_FOLDER / f"{version}.toml").read_text(encoding="utf-8"))


def _room(window: int, fixed: Sequence[int]) -> int:
    """What is left for the sources in a model's window beside the rules and the question."""
    room = window - sum(fixed) - AROUND_MESSAGE * len(fixed)
    if room <= 0:
        raise BadInput(
            f"Rules and question take {sum(fixed)} tokens, and the model can read {window}: ask more briefly, lower "
            "max_answer_tokens in the answer recipe, or start the model server with a longer context."
        )
    return room


def _fit(
    chunks: Sequence[ScoredChunk], budget: int, count: Count, enough: bool
) -> tuple[tuple[ScoredChunk, ...], tuple[int, ...]]:
    """The best chunks that fit, in canonical order, and the ids of the others, the worst first.

    ``enough``: the prompt has sources without them.
    """
    shown: list[ScoredChunk] = []
    dropped: list[int] = []
    ranked = sorted(chunks, key=lambda chunk: chunk.rank)
    costs = count([_source(len(chunks), chunk, chunk.text) for chunk in ranked])
    left = budget
    for chunk, cost in zip(ranked, costs, strict=True):
        if cost <= left:
            left -= cost
            shown.append(chunk)
        else:
            dropped.append(chunk.chunk_id)
    if dropped and not shown and not enough:
        raise BadInput(
            f"None of the {len(chunks)} passages found fits into {budget} tokens: the shortest takes {min(costs)}."
            " Raise context_tokens in the answer recipe, or index with smaller chunks."
        )
    shown.sort(key=lambda chunk: (chunk.document_id, chunk.start, chunk.chunk_id))
    return tuple(shown), tuple(reversed(dropped))


def _sources(chunks: Sequence[ScoredChunk], first: int) -> list[str]:
    """Each chunk as a numbered source; what the one before it already shows is not shown again."""
    sources = []
    document, end = None, 0
    for number, chunk in enumerate(chunks, start=first):
        overlap = end - chunk.start if chunk.document_id == document and chunk.start < end < chunk.end else 0
        sources.append(_source(number, chunk, chunk.text[overlap:]))
        document, end = chunk.document_id, chunk.end
    return sources


def _source(number: int, chunk: ScoredChunk, text: str) -> str:
    name = _inert(" ".join(chunk.document.split())).replace('"', "'")
    page = f' page="{chunk.page}"' if chunk.page is not None else ""
    body = "\n".join(part for part in (chunk.context, text.strip()) if part)
    return f'<source n="{number}" document="{name}"{page}>\n{_inert(body)}\n</source>'


def _inert(text: str) -> str:
    """``text`` unable to end the source it stands in or to begin another."""
    return re.sub(r"<(?=\s*/?\s*source\b)", "&lt;", text, flags=re.IGNORECASE)
