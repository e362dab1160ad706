"""The question, rewritten for the search: made to stand on its own, worded otherwise, or answered from imagination.

A model writes where there is one; a follow-up is completed by the rules of inference/followups.py otherwise. What a
model writes is never trusted: what cannot be used is left out, and ``how`` says so.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from inference import followups
from inference.words import content_terms, numbers
from ragplat.errors import GeneratorUnavailable
from ragplat.text import detect_language, is_cjk

Messages = Sequence[Mapping[str, str]]  # role and content
Complete = Callable[[Messages], str]  # a model's whole reply; raises GeneratorUnavailable
Turn = tuple[str, str]  # a question and its answer

TURNS = 3  # of the conversation that are looked at: what a follow-up refers to was said just before
ANSWER_CHARACTERS = 500  # of each answer that a model sees
LONGEST = 400  # characters that a rewriting may have more than the question
_FOLDER = Path(__file__).parent / "prompt_files" / "rewriting"


class Rewritten(NamedTuple):
    """One text to search with, and where it comes from."""

    text: str
    how: str  # "as asked", "rules", or the prompt's name; then, after a colon, why a model's words were not used


class Variants(NamedTuple):
    """Further texts to search with, beside the question."""

    texts: list[str]
    how: str  # as in Rewritten


def condense(question: str, history: Sequence[Turn], complete: Complete | None = None) -> Rewritten:
    """``question`` so that it can be understood without the conversation before it, (question, answer) pairs.

    ``complete`` asks a model; without one, or where its reply cannot be used, rules bring the subject of the question
    before along. A question that stands on its own comes back as it is.
    """
    history = history[-TURNS:]
    if not history:
        return Rewritten(question, "as asked")
    if complete is None:
        return _by_rules(question, history)
    version, wording = _wording("condense", question)
    turns = [
        wording["turn"].strip().replace("{question}", asked).replace("{answer}", answer[:ANSWER_CHARACTERS])
        for asked, answer in history
    ]
    told = "\n\n".join([*turns, wording["question"].replace("{question}", question)])
    try:
        lines = _lines(_reply(complete, wording["system"], told))
    except GeneratorUnavailable as error:
        return _by_rules(question, history, error.message)
    if len(lines) != 1:
        return _by_rules(question, history, f"the model wrote {len(lines)} lines instead of one question")
    problem = _damage(question, lines[0], history)
    return _by_rules(question, history, problem) if problem else Rewritten(lines[0], version)


def variants(question: str, n: int, complete: Complete) -> Variants:
    """At most ``n`` other wordings of ``question``, for RAG-Fusion (Rackauckas 2024, arXiv:2402.03367).

    Fewer where the model gives fewer that can be used, none where it does not answer.
    """
    if n < 1:
        return Variants([], "as asked")
    version, wording = _wording("variants", question)
    told = wording["question"].replace("{question}", question)
    try:
        lines = _lines(_reply(complete, wording["system"].replace("{n}", str(n)), told))
    except GeneratorUnavailable as error:
        return Variants([], f"as asked: {error.message}")
    seen, found = {_letters(question)}, []
    for line in lines:
        if _letters(line) not in seen and not _unusable(question, line):
            seen.add(_letters(line))
            found.append(line)
    if len(found) < n:
        return Variants(found, f"{version if found else 'as asked'}: {len(found)} of {n} wordings could be used")
    return Variants(found[:n], version)


def passage(question: str, complete: Complete) -> Rewritten:
    """A passage that could answer ``question``, to search with in its place (HyDE; Gao et al., ACL 2023).

    ``question`` itself where the model refuses, says nothing or does not answer.
    """
    version, wording = _wording("passage", question)
    told = wording["question"].replace("{question}", question)
    try:
        text = " ".join(_lines(_reply(complete, wording["system"], told)))
    except GeneratorUnavailable as error:
        return Rewritten(question, f"as asked: {error.message}")
    if not text or _REFUSAL.match(text):
        return Rewritten(question, f"as asked: the model {'refused' if text else 'wrote nothing'}")
    return Rewritten(text, version)


def _by_rules(question: str, history: Sequence[Turn], problem: str = "") -> Rewritten:
    standalone = ""
    for asked, _ in history:  # the question before may be a follow-up itself
        standalone = followups.complete(asked, standalone) if standalone else asked
    text = followups.complete(question, standalone)
    how = "as asked" if text == question else "rules"
    return Rewritten(text, f"{how}: {problem}" if problem else how)


def _reply(complete: Complete, system: str, user: str) -> str:
    return complete([{"role": "system", "content": system.strip()}, {"role": "user", "content": user}])


@cache
def _prompt(version: str) -> Mapping[str, str]:
    return tomllib.loads((_FOLDER / f"{version}.toml").read_text(encoding="utf-8"))


def _wording(name: str, question: str) -> tuple[str, Mapping[str, str]]:
    """The version of the prompt of a name in the question's language, and its texts."""
    # A Chinese question full of English names has few Chinese letters, but they decide.
    chinese = any(map(is_cjk, question)) and detect_language(question) not in ("ja", "ko")
    version = f"{name}-{'zh' if chinese else 'en'}@1"
    return version, _prompt(version)


# --- what a model wrote ----------------------------------------------------------------------------------------------

_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*(?:```|~~~).*$", re.MULTILINE)
_MARK = re.compile(
    r"^\s*(?:[-*+•·>#]+\s+|[(（]?\d{1,2}(?:[.):：]\s+|[）、]|\.(?=[^\W\da-z]))|[a-z][.)]\s+)", re.IGNORECASE
)
_LABEL = re.compile(
    r"^\W*(?:(?:the )?(?:rewritten|standalone|stand-alone|last|condensed|final|alternative)?\s*"
    r"(?:question|query|wording|variant|passage|answer)\s*\d*"
    r"|(?:改写后的|最后一个|完整的|其他)?(?:问题|说法|查询|段落|回答)\s*\d*)"
    r"\W{0,3}[:：]\W{0,3}\s*",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(r".*[:：]\s*$")
_REFUSAL = re.compile(
    r"(?:i['’]?m|i am) (?:very |so )?(?:sorry|unable|not able)|(?:i )?(?:apologi[sz]e|sorry)\b"
    r"|i (?:can(?:not|['’]?t)|won['’]?t|do(?: not|n['’]t) (?:know|have))\b|as an? (?:ai|language model)|no_answer"
    r"|(?:很|非常)?(?:抱歉|对不起)|我(?:无法|不能|不知道)|作为(?:一个|一名)?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»", "`": "`", "**": "**", "*": "*"}


def _lines(reply: str) -> list[str]:
    """The lines of a reply without what models put around them: thoughts, fences, numbers, labels, quotes."""
    text = _FENCE.sub("", _THOUGHTS.sub("", reply))
    lines = (_bare(line) for line in text.splitlines() if not _PREAMBLE.match(line))
    return [line for line in lines if line]


def _bare(line: str) -> str:
    line = _LABEL.sub("", _MARK.sub("", line)).strip()
    for opening, closing in _QUOTES.items():
        inner = line[len(opening) : -len(closing)]
        if line.startswith(opening) and line.endswith(closing) and inner and opening not in inner:
            return inner.strip()
    return line


def _unusable(question: str, text: str) -> str:
    """Why ``text`` is no other wording of ``question``; "" when it may be one."""
    if _REFUSAL.match(text) and not _REFUSAL.match(question):
        return "the model refused"
    if len(text) > len(question) + LONGEST:
        return f"the model wrote {len(text)} characters"
    if any(map(is_cjk, question)) != any(map(is_cjk, text)):
        return "the model changed the language"
    return ""


def _damage(question: str, text: str, history: Sequence[Turn]) -> str:
    """Why ``text`` cannot stand for ``question``; "" when it keeps what the question says and adds nothing."""
    lost = sorted(numbers(question) - numbers(text))
    if lost:
        return f"the model left out {', '.join(lost)}"
    language = detect_language(question) or "en"
    said = {term for term in content_terms(question, language) if not term.isdecimal()} - _POINTING
    if said and not said & set(content_terms(text, language)):
        return "the model kept no word of the question"
    return _unusable(question, text) or _invention(question, text, history)


def _invention(question: str, text: str, history: Sequence[Turn]) -> str:
    """Why ``text`` says more than a question may; "" when it does not."""
    if question.rstrip().endswith(("?", "？")) and text.endswith((".", "。", "!", "！")):
        return "the model answered instead of asking"
    known = numbers(question).union(*(numbers(said) for turn in history for said in turn))
    made_up = sorted(numbers(text) - known)
    return f"the model made up {', '.join(made_up)}" if made_up else ""


_POINTING = {"one", "former", "latter", "thing", "else"}


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", text).casefold()
