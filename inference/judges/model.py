"""Asks a language model whether sources bear claims out: one request for all claims of an answer.

What stands word for word in its source is not asked about, and what the model leaves out or answers wrongly is judged
by words.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from inference.judges.base import Claim, Judge, Place, Verdict
from inference.judges.words import settled
from ragplat.errors import GeneratorUnavailable
from ragplat.signature import signature
from ragplat.text import storable
from ragplat.types import Support

SUPPORTS: tuple[Support, ...] = ("supported", "partly", "unsupported")
LONGEST_REASON = 200  # characters of a model's reason that are kept
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "claim": {"type": "integer"},
                    "reason": {"type": "string"},
                    "support": {"enum": list(SUPPORTS)},
                },
                "required": ["claim", "reason", "support"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["verdicts"],
    "additionalProperties": False,
}
_FOLDER = Path(__file__).parents[1] / "prompt_files" / "judging"
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)


class Complete(Protocol):
    """A model's whole reply to ``messages`` (role and content), held to a JSON schema where the server can do that.

    Raises GeneratorUnavailable when there is none.
    """

    def __call__(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None = None) -> str: ...


class ModelJudge:
    """A language model as judge. ``stand_in`` judges what the model does not; ``how`` then says why."""

    name = "model"

    def __init__(self, complete: Complete, stand_in: Judge):
        self._complete = complete
        self._stand_in = stand_in

    def signature(self) -> str:
        """Does not name the model: whoever gives ``complete`` knows it."""
        return signature("judge", name=self.name, prompt="support@1", v=1)

    def judge(self, claims: Sequence[Claim]) -> list[Verdict]:
        verdicts = [settled(claim) for claim in claims]
        asked = iter(self._ask([claim for claim, one in zip(claims, verdicts, strict=True) if one is None]))
        return [verdict or next(asked) for verdict in verdicts]

    def _ask(self, claims: Sequence[Claim]) -> list[Verdict]:
        """The model's verdicts, and those of the stand-in where there is none."""
        if not claims:
            return []
        try:
            said, problems = read(self._complete(messages(claims), schema=SCHEMA), len(claims))
        except GeneratorUnavailable as error:
            said, problems = {}, dict.fromkeys(range(1, len(claims) + 1), error.message)
        instead = self._stand_in.judge([claims[n - 1] for n in problems])
        for (n, problem), verdict in zip(problems.items(), instead, strict=True):
            said[n] = replace(verdict, how=f"{verdict.how} (judged by {self._stand_in.name}: {problem})")
        return [said[n] for n in sorted(said)]


# --- what the model is asked -----------------------------------------------------------------------------------------


def messages(claims: Sequence[Claim]) -> list[Mapping[str, str]]:
    """The request: rules, every cited chunk once, then the claims with the numbers of their sources."""
    wording = _wording("zh" if claims[0].language == "zh" else "en")
    shown = {(place.document, place.context, place.text): place for claim in claims for place in claim.places}
    number = {key: n for n, key in enumerate(shown, start=1)}
    parts = [_source(wording["source"], n, place) for n, place in enumerate(shown.values(), start=1)]
    for n, claim in enumerate(claims, start=1):
        mine = dict.fromkeys(number[place.document, place.context, place.text] for place in claim.places)
        fields = {"n": str(n), "sources": ",".join(map(str, mine)), "text": _inert(claim.text)}
        parts.append(_filled(wording["claim"], fields))
    return [{"role": "system", "content": wording["system"].strip()}, {"role": "user", "content": "\n\n".join(parts)}]


@cache
def _wording(language: str) -> Mapping[str, str]:
    return tomllib.loads((_FOLDER / f"support-{language}@1.toml").read_text(encoding="utf-8"))


def _source(template: str, n: int, place: Place) -> str:
    name = _inert(" ".join(place.document.split())).replace('"', "'")
    body = "\n".join(part for part in (place.context, place.text.strip()) if part)
    return _filled(template.strip(), {"n": str(n), "document": name, "text": _inert(body)})


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """``template`` with its fields; braces in what is filled in stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: fields[match.group(1)], template)


def _inert(text: str) -> str:
    """``text`` unable to end the source or claim it stands in, or to begin another."""
    return re.sub(r"<(?=\s*/?\s*(?:source|claim)\b)", "&lt;", text, flags=re.IGNORECASE)


# --- what the model said ---------------------------------------------------------------------------------------------


def read(reply: str, claims: int) -> tuple[dict[int, Verdict], dict[int, str]]:
    """The verdicts of a reply by the numbers of the claims, 1 to ``claims``, and why there is none on the others.

    A claim counts as judged when the reply has exactly one verdict on it, in one of the three words. Verdicts on
    numbers that were not asked about are left out.
    """
    found = _verdicts(reply)
    if found is None:
        return {}, dict.fromkeys(range(1, claims + 1), "the model's reply is not the JSON asked for")
    said: dict[int, Verdict] = {}
    problems: dict[int, str] = {}
    for n in range(1, claims + 1):
        mine = [one for one in found if _number(one) == n]
        if len(mine) != 1:
            problems[n] = f"the model judged it {len(mine)} times" if mine else "the model left it out"
        elif mine[0].get("support") not in SUPPORTS:
            problems[n] = "the model's verdict is none of the three"
        else:
            reason = " ".join(storable(str(mine[0].get("reason") or "no reason given")).split())
            said[n] = Verdict(support=mine[0]["support"], how=_shortened(reason))
    return said, problems


def _verdicts(reply: str) -> list[Mapping[str, Any]] | None:
    """The list of verdicts in a reply, whatever stands around it; None when there is none."""
    for value in _json_values(_THOUGHTS.sub("", reply)):
        listed = value.get("verdicts") if isinstance(value, dict) else value
        if isinstance(listed, list) and any(isinstance(one, dict) for one in listed):
            return [one for one in listed if isinstance(one, dict)]
    return None


def _json_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists that stand in ``text``, outermost ones first."""
    decoder, opening, at = json.JSONDecoder(), re.compile(r"[\[{]"), 0
    while match := opening.search(text, at):
        try:
            value, at = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):  # a number of thousands of digits is no JSONDecodeError
            at = match.start() + 1


def _number(verdict: Mapping[str, Any]) -> int | None:
    said = verdict.get("claim")
    if isinstance(said, str) and re.fullmatch(r"\s*[0-9]{1,4}\s*", said):
        return int(said)
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 1].rstrip() + "…"
