"""The parts of a text that can be quoted, and the terms that carry what it says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from indexer.analyzer import analyze
from ragplat.text import is_cjk, sentences

Kind = Literal["prose", "item", "code", "heading", "row", "sign"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch ``text[start:end]`` that is quoted or judged as one piece."""

    start: int
    end: int
    kind: Kind


ROOM = 0.7  # of the width of a paragraph: a line that ends before it did not end for want of room
_TITLE = re.compile(r"(?:\d{1,2}(?:\.\d{1,2})*\.?[ ])?[A-Z](?:[^\W\d_]|[ '’&/-]){2,78}")
_BEGINS = re.compile(r"(?=[A-Z\"“(])(?=.*[a-z].*[a-z])")

_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n.*?(?:^[ \t]*\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("heading", re.compile(r"#{1,6}\s|\*\*[^*]+\*\*$")),
    ("sign", re.compile(r"\|?[\s|:=*_~`-]+\|?$|[^\w`]+$|!?\[[^\]]*\]\([^)]*\)$|<[^>]*>$")),
    ("row", re.compile(r"\|")),
    ("item", re.compile(r"(?:[-*+•‣◦·–][ \t]|\(?\d{1,3}[.)][ \t]|[（(]?[一二三四五六七八九十]{1,3}[、）)])")),
)


def units(text: str) -> list[Unit]:
    """The sentences of ``text`` with their kind. A fenced code block is one unit; a "sign" says nothing by itself:
    a rule, a table separator, a lone link or image."""
    found: list[Unit] = []
    begin = 0
    for block in _FENCE.finditer(text):
        found += _plain(text, begin, block.start())
        start = block.start() + len(block.group()) - len(block.group().lstrip())
        found.append(Unit(start, block.start() + len(block.group().rstrip()), "code"))
        begin = block.end()
    return [*found, *_plain(text, begin, len(text))]


def _plain(text: str, begin: int, end: int) -> Iterator[Unit]:
    for start, stop in sentences(text[begin:end]):
        start, stop = begin + start, begin + stop
        kind = next((kind for kind, pattern in _KINDS if pattern.match(text[start:stop])), "prose")
        if kind == "prose" and (size := _heading_above(text, start, stop)):
            yield Unit(start, start + size, "heading")
            start += size + 1
        yield Unit(start, stop, kind)


def _heading_above(text: str, start: int, stop: int) -> int:
    """Length of a line that is a heading although no blank line parts it from its paragraph, as in many PDFs; else 0.

    A line is wrapped where the next word has no room. After a heading it would have had plenty.
    """
    line, _, rest = text[start:stop].partition("\n")
    if not _TITLE.fullmatch(line) or not _BEGINS.match(rest) or text[start - 1 : start] not in ("", "\n"):
        return 0
    width = max(len(other) for other in rest.split("\n"))
    return len(line) if len(line) + 1 + len(rest.split()[0]) < ROOM * width else 0


_STOP_WORDS = frozenset(
    analyze(
        """a an the this that these those it its he him his she her they them their we us our you your i me my is are
        was were be been being am do does did done have has had having will would can could shall should may might must
        of in on at by for from with to as into about between among during than then there here and or but not no nor so
        if when where which who whom whose what why how much many any some all each also such only just very more most
        other s t name called""",
        "en",
    )
)
_FUNCTION_CHARACTERS = frozenset("的了是么什谁哪吗呢怎几")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_NAME = re.compile(r"(?<![\w.])[A-Z][\w'’-]*")


def content_terms(text: str, language: str) -> list[str]:
    """The terms of ``text`` that say something: no stop words, and pairs of characters rather than single ones."""
    return [term for term in analyze(text, language) if term not in _STOP_WORDS and not _empty(term)]


def _empty(term: str) -> bool:
    """Whether a term of Chinese text is a single character or holds one that only joins words."""
    return is_cjk(term[:1]) and (len(term) == 1 or not _FUNCTION_CHARACTERS.isdisjoint(term))


def numbers(text: str) -> set[str]:
    """The numbers of ``text``, without thousands separators."""
    return {match.replace(",", "").rstrip(".") for match in _NUMBER.findall(text)}


def names(text: str) -> set[str]:
    """Words with a capital that do not begin ``text`` and are no stop words, lower case."""
    found = (match for match in _NAME.finditer(text) if re.search(r"\w", text[: match.start()]))
    return {match.group().lower() for match in found if content_terms(match.group(), "en")}
