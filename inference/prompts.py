"""From a question and its chunks to a prompt whose beginning stays the same, byte for byte.

The order is fixed: rules, sources by document and position, question. Two questions that find the same sources share
everything before the question, so a server with a prefix cache reads them once.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from ragplat.errors import BadInput
from ragplat.text import detect_language
from ragplat.types import Prompt, ScoredChunk

NO_ANSWER = "NO_ANSWER"  # what the prompt files ask a model to reply when the sources do not answer
REFUSALS = {
    "en": "The documents do not answer this question.",
    "zh": "这些文档没有回答这个问题。",
}
AROUND_MESSAGES = 32  # tokens that a chat template puts around two messages, at most
Count = Callable[[Sequence[str]], Sequence[int]]  # texts to their lengths in tokens
_FOLDER = Path(__file__).parent / "prompt_files"


def build(
    question: str,
    chunks: Sequence[ScoredChunk],
    context_tokens: int,
    count: Count,
    language: str,
    strict: bool,
    prompt: str = "answer@1",
    window: int | None = None,
) -> Prompt:
    """The prompt for ``question`` over the best of ``chunks``.

    ``count`` gives the lengths of texts in tokens; the sources shown take at most ``context_tokens`` of them, and the
    whole prompt at most ``window``, where that is known. The chunks that do not fit are listed in ``dropped``, the
    worst first. ``language`` is the ISO 639-1 code to answer in; "" takes it from the question, and a language without
    a prompt file gets the English one, whose rules ask for the question's language. ``strict`` asks the model to refuse
    when the sources do not answer.

    Raises BadInput when there is no prompt of that name, or when not one chunk fits the budget.
    """
    language = language or detect_language(question)
    language = language if language in REFUSALS else "en"
    version, wording = _wording(prompt, language)
    rules = wording["system"].strip() + "\n\n" + wording["strict" if strict else "open"].strip()
    asked = wording["question"].replace("{question}", question)
    budget = context_tokens if window is None else min(context_tokens, _room(window, count([rules, asked])))
    shown, dropped = _fit(chunks, budget, count)
    sources = "\n\n".join(_sources(shown)) or wording["no_sources"]
    return Prompt(
        question=question,
        chunks=shown,
        dropped=dropped,
        messages=(
            {"role": "system", "content": rules},
            {"role": "user", "content": f"{sources}\n\n{asked}"},
        ),
        version=version,
        language=language,
    )


@cache
def _wording(prompt: str, language: str) -> tuple[str, Mapping[str, str]]:
    """The version string and the texts of a prompt file: "answer@1" in English is answer-en@1.toml."""
    name, _, number = prompt.partition("@")
    version = f"{name}-{language}@{number}"
    files = {path.stem: path for path in _FOLDER.glob("*.toml")}
    if version not in files:
        known = sorted({re.sub(r"-[a-z]+@", "@", stem) for stem in files})
        raise BadInput(f'There is no prompt named "{prompt}". Choose one of: {", ".join(known)}.')
    return version, tomllib.loads(files[version].read_text(encoding="utf-8"))


def _room(window: int, fixed: Sequence[int]) -> int:
    """What is left for the sources in a model's window beside the rules and the question."""
    room = window - sum(fixed) - AROUND_MESSAGES
    if room <= 0:
        raise BadInput(
            f"Rules and question take {sum(fixed)} tokens, and the model can read {window}: ask more briefly, lower "
            "max_answer_tokens in the answer recipe, or start the model server with a longer context."
        )
    return room


def _fit(chunks: Sequence[ScoredChunk], budget: int, count: Count) -> tuple[tuple[ScoredChunk, ...], tuple[int, ...]]:
    """The best chunks that fit, in canonical order, and the ids of the others, the worst first."""
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
    if dropped and not shown:
        raise BadInput(
            f"None of the {len(chunks)} passages found fits into {budget} tokens: the shortest takes {min(costs)}."
            " Raise context_tokens in the answer recipe, or index with smaller chunks."
        )
    shown.sort(key=lambda chunk: (chunk.document_id, chunk.start, chunk.chunk_id))
    return tuple(shown), tuple(reversed(dropped))


def _sources(chunks: Sequence[ScoredChunk]) -> list[str]:
    """Each chunk as a numbered source; what the one before it already shows is not shown again."""
    sources = []
    document, end = None, 0
    for number, chunk in enumerate(chunks, start=1):
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
