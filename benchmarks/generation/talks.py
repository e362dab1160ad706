"""How much of a conversation's prompts, and of many questions on one document, a server with a prefix cache knows.

Used by streams.py. The naive order is the usual one: the conversation's questions and answers, then the sources of the
new question; and the question before its sources.
"""

from collections.abc import Callable
from dataclasses import replace

from inference import prompts
from inference.prompts import Asked
from ragplat.types import Prompt
from tests.chunks import scored

SENTENCE = "The harbour has {} cranes, {} ferries and a lighthouse that is 31 metres tall. "
QUESTIONS, TURNS = 50, 5
Ask = Callable[[Prompt], tuple[int, int, str]]  # to the prompt's tokens, those known before, and the answer


def nothing(texts) -> list[int]:
    """Counts no tokens: all sources are shown."""
    return [0] * len(texts)


def build(question: str, chunks, **options) -> Prompt:
    """A prompt over all of some chunks."""
    return prompts.build(question, chunks, 10**6, nothing, "en", strict=True, **options)


def one_document(ask: Ask) -> dict[str, float]:
    """The share of the prompts' tokens known before, over many questions on the same sources."""
    shares = {}
    for name, order in (("sources first, as we do", 1), ("question first", -1)):
        found = []
        for number in range(QUESTIONS):
            chunks = [scored(n, SENTENCE.format(n, order), document=n, rank=n) for n in range(1, 5)]
            asked = build(f"Question {number}?", chunks)
            rules, told = asked.messages
            parts = told["content"].rsplit("\n\n", 1)[::order]
            found.append(ask(replace(asked, messages=(rules, {"role": "user", "content": "\n\n".join(parts)}))))
        shares[name] = sum(known for _, known, _ in found) / sum(size for size, _, _ in found)
    return shares


def conversation(ask: Ask) -> dict[str, float]:
    """The same over the turns of a conversation, each of which finds two sources, one of them known already."""
    shares = {}
    for name, build_turn in (("growing, as we do", _growing), ("sources of the last question only", _naive)):
        earlier: list[Asked] = []
        found = []
        for turn in range(TURNS):
            chunks = [scored(n, SENTENCE.format(n, name) * 3, document=n, rank=n - turn) for n in (turn + 1, turn + 2)]
            question = f"And what of number {turn}?"
            prompt = build_turn(question, chunks, earlier)
            found.append(ask(prompt))
            new = prompt.chunks[prompt.earlier :]
            again = tuple(
                n
                for n, one in enumerate(prompt.chunks[: prompt.earlier], start=1)
                if one.chunk_id in {chunk.chunk_id for chunk in chunks}
            )
            earlier.append(Asked(question=question, sources=new, again=again, answer=found[-1][2]))
        shares[name] = sum(known for _, known, _ in found) / sum(size for size, _, _ in found)
    return shares


def _growing(question: str, chunks, earlier: list[Asked]) -> Prompt:
    return build(question, chunks, earlier=earlier)


def _naive(question: str, chunks, earlier: list[Asked]) -> Prompt:
    alone = build(question, chunks)
    rules, told = alone.messages
    said = [
        message
        for one in earlier
        for message in ({"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer})
    ]
    return replace(alone, messages=(rules, *said, told))
