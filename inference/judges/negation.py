"""Whether a claim denies what its source says, or says what its source denies.

Cues and scopes after NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029): a cue denies the next few terms up to the
end of its clause. Opposites ("rose" and "fell") and denials in other words ("the claim is a myth") are not seen.
"""

import re
from collections.abc import Sequence

from inference.words import content_terms

WIDTH = {"en": 4, "zh": 8}  # terms that a cue denies; in Chinese, characters
HELD = 0.75  # share of what a source denies, or of the claim, that the two must have in common to contradict

ALIKE = 0.8  # share of their terms that two sentences have in common which say nearly the same

_CUES = {
    "en": re.compile(
        r"\b(?:not(?! (?:only|just|merely)\b)|never|no(?!\.? ?\d|[.,])|nor|neither|none|nobody|nothing|nowhere|without"
        r"|cannot|hardly|scarcely|unable|lack(?:s|ed|ing)?|(?:fail(?:s|ed)?|refuse[sd]?) to|den(?:y|ies|ied)"
        r"|rather than|instead of)\b|n\s?['’]\s?t\b",
        re.IGNORECASE,
    ),
    "zh": re.compile("没有|[不没未无非]|禁止|拒绝|否认"),
}
_CLAUSE_ENDS = {
    "en": re.compile(r"[,;:.!?]|\b(?:but|although|while)\b", re.IGNORECASE),
    "zh": re.compile("[，。；：！？、,;.!?]|但"),
}
_NO_CUES = re.compile("不[同断仅但少过管久]|非[常洲]|[南除]非|无[论数]|未来")  # such a character, but no denial


def contradiction(claim: str, sentences: Sequence[str], language: str) -> str:
    """Why ``claim`` and the ``sentences`` it cites cannot both be meant, for a person; "" when nothing speaks for that.

    Either one denies what the other says, or one of the sentences says nearly the same in the same words and one of the
    two has more cues.
    """
    language = language if language in _CUES else "en"
    source = "\n".join(sentences)
    said, mine, theirs = set(content_terms(claim, language)), _denials(claim, language), _denials(source, language)
    denied = {term for _, terms in theirs for term in terms}
    plain = set(content_terms(_without(source, language), language))
    for cue, terms in mine:
        if not theirs or (plain.intersection(terms) and denied.isdisjoint(terms)):
            return f'it says "{cue}", what it cites does not'
    for cue, terms in () if mine else theirs:
        only_denied = said.intersection(terms) - plain
        if only_denied and len(only_denied) >= HELD * min(len(set(terms)), len(said)):
            return f'what it cites says "{cue}", it does not'
    return next(filter(None, (_more_cues(claim, sentence, said, language) for sentence in sentences)), "")


def _more_cues(claim: str, sentence: str, said: set[str], language: str) -> str:
    terms = set(content_terms(sentence, language))
    mine, theirs = ([cue for cue, *_ in _scopes(text, language)] for text in (claim, sentence))
    if len(mine) == len(theirs) or len(said & terms) < ALIKE * len(said | terms):
        return ""
    one, other = ("it", "what it cites") if len(mine) > len(theirs) else ("what it cites", "it")
    return f'{one} says "{max(mine, theirs, key=len)[-1]}" where {other} does not'


def _denials(text: str, language: str) -> list[tuple[str, list[str]]]:
    """Each cue of ``text`` and the terms it denies."""
    return [(cue, content_terms(text[start:end], language)) for cue, start, end in _scopes(text, language)]


def _scopes(text: str, language: str) -> list[tuple[str, int, int]]:
    """Each cue of ``text`` and the stretch it denies."""
    text = _NO_CUES.sub(lambda match: " " * len(match.group()), text) if language == "zh" else text
    scopes = []
    for match in _CUES[language].finditer(text):
        clause = _CLAUSE_ENDS[language].search(text, match.end())
        end = clause.start() if clause else len(text)
        if language == "zh":
            end = min(end, match.end() + WIDTH["zh"])
        else:
            words = list(re.finditer(r"\w+", text[match.end() : end]))
            telling = [word for word in words if content_terms(word.group(), "en")]
            end = match.end() + telling[WIDTH["en"] - 1].end() if len(telling) >= WIDTH["en"] else end
        scopes.append((match.group(), match.end(), end))
    return scopes


def _without(text: str, language: str) -> str:
    """``text`` without the stretches that are denied in it."""
    kept, at = [], 0
    for _, start, end in _scopes(text, language):
        kept.append(text[at:start])
        at = max(at, end)
    return " ".join([*kept, text[at:]])


def cues(text: str, language: str) -> int:
    """How many words of ``text`` deny something."""
    return len(_scopes(text, language if language in _CUES else "en"))
