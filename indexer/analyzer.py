"""From text to terms, for the lexical index and its queries alike.

Words of scripts with spaces are lower-cased, stemmed by language and freed of accents. Scripts without spaces, and
Korean, become single characters and overlapping pairs, so no dictionary is needed. Compounds (code identifiers,
dotted names, hyphenated words) give the whole and its parts, so that either finds them. What stands in a row in the
text stands in a row among the terms, so that a quoted phrase is a run of terms.
"""

import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from ragplat.registry import Registry
from ragplat.signature import signature as join_signature

ANALYZERS = Registry("analyzer", {"words-cjk@1": "indexer.analyzer:terms_of"})

_SNOWBALL = {  # ISO 639-1 code -> snowball algorithm
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish",
    "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian",
    "nb": "norwegian", "ne": "nepali", "nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil",
    "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
_OTHER_SCRIPT = {"ar", "el", "fa", "hi", "hy", "ne", "ru", "ta", "yi"}  # Latin words in these are mostly English

_UNSPACED = (
    "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3105-\u312f"  # kana, bopomofo
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
)
# Accents and vowel signs are part of a word, but Python's \w leaves combining marks out.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u0900-\u0963\u0970-\u0df3"  # the Indic blocks as a whole: letters and signs alike
)


def _words(character: str) -> str:
    """Pattern for a number with thousands separators, a word, or up to 8 words joined by ``_ . -``, as in
    ``snake_case``, ``.NET`` and ``well-known``; ``++`` or ``#`` may end them (C++, C#).

    Words are cut after 128 characters (base64, hex dumps): terms stay bounded and nothing is dropped.
    """
    word = f"{character}{{1,128}}"
    number = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?"
    words = rf"{word}(?:(?:_{{1,4}}|[.\-\u2010]){word}){{0,7}}"
    return rf"{number}|{words}(?:(?:\+\+|\#)(?![A-Za-z_+#]))?|(?<![\w.])\.(?=[A-Za-z]){words}"


_ASCII_TOKEN = re.compile(_words("[A-Za-z0-9]"))
# Two groups: words, and runs of unspaced script, which go on across a line break.
_SPACED_CHARACTER = rf"(?:[^\W_{_UNSPACED}]|[{_MARKS}])"
_TOKEN = re.compile(rf"({_words(_SPACED_CHARACTER)})|([{_UNSPACED}]+(?:\n[{_UNSPACED}]+)*)")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")  # soft hyphens and the like, inside words
_JOINT = re.compile(r"[_.\-]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")  # camel|Case, HTTP|Response, but mRNAs
_ACCENT = re.compile("[\u0300-\u036f]")
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a text, repeats included; no term holds white space."""

    row: list[str] = field(default_factory=list)  # as their words stand in the text, one after another
    forms: list[tuple[str, ...]] = field(default_factory=list)  # what else its compounds are found by, each a row

    def all(self) -> list[str]:
        return [*self.row, *(term for form in self.forms for term in form)]


def terms_of(text: str, language: str) -> Terms:
    """The terms of ``text``.

    ``language``: ISO 639-1 code that chooses the stemmer of Latin (or the language's own) words. Where snowball has
    none, or the script is another, ASCII words are stemmed as English. Queries need the language the index was made
    with.

    A word is one term of the row, whatever its capitals; words joined by ``_ . -`` are one each. Forms are a joined
    compound as a whole, and the parts of a word that its capitals show: ``my.getUser`` gives the row my, getuser and
    the forms my.getuser and get, user.
    """
    terms = Terms()
    expand = _expander(language)
    if text.isascii():
        for word in _ASCII_TOKEN.findall(text):
            row, forms = expand(word)
            terms.row.extend(row)
            terms.forms.extend(forms)
        return terms
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    for word, run in _TOKEN.findall(text):
        row, forms = expand(word) if word else (_grams(run.replace("\n", "")), ())
        terms.row.extend(row)
        terms.forms.extend(forms)
    return terms


def analyze(text: str, language: str) -> list[str]:
    """All terms of ``text`` (see ``terms_of``): the row, then the forms."""
    return terms_of(text, language).all()


def analyzer_signature(name: str, language: str) -> str:
    """What an index of these terms depends on; raises BadInput for an unknown ``name``."""
    ANALYZERS.get(name)
    return join_signature(
        "analyzer",
        name=name,
        language=language,
        snowball=version("snowballstemmer"),
        unicode=unicodedata.unidata_version,
    )


def _grams(run: str) -> list[str]:
    """The characters and pairs of a run, in the order they begin: 中国人 gives 中 中国 国 国人 人."""
    grams = [gram for first, second in pairwise(run) for gram in (first, first + second)]
    return [*grams, run[-1]]


@lru_cache(maxsize=8)
def _expander(language: str) -> Callable[[str], tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
    """The function from a word or compound to its row and forms, with a bounded memory: few words make up most text."""
    stem = _stem(language)

    def expand(word: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        if word[0].isdecimal() and word.replace(",", "").replace(".", "").isdecimal():
            return (word.replace(",", ""),), ()
        if word[-1] in "+#":
            if len(word.rstrip("+#")) == 1:
                return (_fold(word.lower()),), ()  # C++ and C# are not about the letter C
            word = word.rstrip("+#")
        word = word.replace("\u2010", "-")
        joined = [part for part in _JOINT.split(word) if part]
        row = tuple(stem(part.lower()) for part in joined)
        humps = [_HUMP.split(part) for part in joined]
        forms = [tuple(stem(part.lower()) for part in parts) for parts in humps if len(parts) > 1]
        if joined != [word]:
            forms.append((_fold(word.lower()),))
        return row, tuple(forms)

    return lru_cache(maxsize=65536)(expand)


def _stem(language: str) -> Callable[[str], str]:
    """The function from a lower-case word to its stem without accents."""
    lock = threading.Lock()  # a snowball stemmer keeps its word in itself
    english = _snowball("en")
    own = _snowball(language) if language in _SNOWBALL and language != "en" else None
    ascii_stemmer = english if own is None or language in _OTHER_SCRIPT else own

    def stem(word: str) -> str:
        if own is None:
            word = _fold(word)  # English rules know no accents; those of other languages need them
        stemmer = ascii_stemmer if word.isascii() else own
        if stemmer is not None:
            with lock:
                word = stemmer.stemWord(word)
        return _fold(word)

    return stem


def _snowball(language: str) -> Any:
    # Not snowballstemmer.stemmer(): that swaps in PyStemmer where installed, whose version may stem otherwise.
    name = _SNOWBALL[language]
    return getattr(import_module(f"snowballstemmer.{name}_stemmer"), f"{name.title()}Stemmer")()


def _fold(word: str) -> str:
    """``word`` without accents; marks of other scripts, which change the letter, stay."""
    if word.isascii():
        return word
    if any("\u0400" <= character <= "\u04ff" for character in word):
        return word  # Cyrillic й is a letter of its own, not an accented и
    decomposed = unicodedata.normalize("NFKD", word.translate(_LETTERS))
    return unicodedata.normalize("NFC", _ACCENT.sub("", decomposed)) or word
