"""Judges by words, numbers, names and negation and, where an embedder is at hand, by nearness of meaning. No model.

``benchmarks/generation/support.py --fit`` prints the weights below from sentences that people wrote and what was
altered in them; ``docs/quality.md`` has what the rule is worth.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.judges import negation
from inference.judges.base import Claim, Place, Verdict
from inference.words import content_terms, numbers, units
from ragplat.errors import Unavailable
from ragplat.signature import signature
from ragplat.text import is_cjk
from ragplat.types import Support

Embed = Callable[[list[str]], np.ndarray]  # texts to unit vectors, float (n, d)

FEATURES = ("words", "names", "gap", "similarity")
LONG_GAP = {"en": 4, "zh": 8}  # terms in a row that are not there; in Chinese they are pairs of characters
WEIGHTS = {  # by language and whether there is the last feature: weights and bias
    ("en", True): ((1.23, -3.47, -2.64, 2.15), -1.46),
    ("en", False): ((2.12, -3.44, -2.42), -0.64),
    ("zh", False): ((2.93, -1.15, -2.94), 0.17),
}
LEVELS = {  # least likelihoods of "supported" and, of what is there alone, of "partly"
    ("en", True): (0.295, 0.528),
    ("en", False): (0.273, 0.516),
    ("zh", False): (0.534, 0.699),
}
EMBEDDED = ("en",)  # measured: in Chinese the built-in embedder, which knows English, adds nothing to the words
UNRELATED = (  # to anything asked about: some embedders give any two texts a cosine of 0.7
    "The bus to the old mill leaves from behind the bakery.",
    "Her violin needs new strings before the concert.",
    "Tighten the four screws with the key that came in the box.",
    "Frost is expected in the valleys on Thursday night.",
)

_LIST_MARK = re.compile(r"\s*(?:[-*+•]|\(?\d{1,3}[.)])\s+")
_EDGES = " \t\n.,;:!?。，；：！？、\"'“”‘’*_"
_NAME = re.compile(r"(?<![\w.])[A-Z][A-Za-z\u00c0-\u024f]*")
_NUMBER_WORDS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15",
    "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30",
    "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
}  # fmt: skip


class WordsJudge:
    """The judge that is always there.

    ``embed`` maps texts to unit vectors, float (n, d); without it, or while it is unavailable, words alone decide. It
    is asked once for all claims, and not at all when every claim is Chinese or stands word for word in what it cites.
    """

    name = "words"

    def __init__(self, embed: Embed | None = None):
        self._embed = embed

    def signature(self) -> str:
        return signature("judge", name=self.name, embedding=self._embed is not None, v=2)

    def judge(self, claims: Sequence[Claim]) -> list[Verdict]:
        verdicts = [settled(claim) for claim in claims]
        weighed = iter(self._weighed([claim for claim, one in zip(claims, verdicts, strict=True) if not one]))
        return [verdict or next(weighed) for verdict in verdicts]

    def _weighed(self, claims: Sequence[Claim]) -> list[Verdict]:
        """The verdicts on claims that cite something in other words."""
        if not claims:
            return []
        cases, missing = [Case(claim) for claim in claims], ""
        rows = list(features(cases))
        embedded = [i for i, case in enumerate(cases) if case.language in EMBEDDED]
        try:
            near = similarity([claims[i] for i in embedded], self._embed) if self._embed and embedded else ()
            for i, one in zip(embedded, near, strict=False):
                rows[i] = np.append(rows[i], one)
        except Unavailable as error:
            missing = f" (by words alone: {error.message})"
        return [_verdict(case, row, missing) for case, row in zip(cases, rows, strict=True)]


def settled(claim: Claim) -> Verdict | None:
    """The verdict on a claim that cites nothing, or stands word for word in what it cites; None for any other."""
    if not claim.places:
        return Verdict(support="unsupported", how="it cites nothing", score=0.0)
    if any(_word_for_word(claim, place) for place in claim.places):
        return Verdict(support="supported", how="word for word", score=1.0)
    return None


def _word_for_word(claim: Claim, place: Place) -> bool:
    """Whether the quote is the claim, whatever the white space and the punctuation at their ends.

    Words taken from a longer sentence do not count when something else in it denies.
    """
    if not _bare(claim.text) or _bare(claim.text) != _bare(place.quote):
        return False
    whole = " ".join(_sentences(place))
    return negation.cues(claim.text, claim.language) == negation.cues(whole, claim.language)


def _bare(text: str) -> str:
    return "".join(_LIST_MARK.sub("", text, count=1).strip(_EDGES).split())


def _sentences(place: Place) -> list[str]:
    """The whole sentences that the quote touches."""
    touched = [unit for unit in units(place.text) if unit.start < place.end and place.start < unit.end]
    return [place.text[unit.start : unit.end] for unit in touched] or [place.quote]


@dataclass(frozen=True)
class Case:
    """A claim that cites something, and what is asked of its places again and again."""

    claim: Claim

    @property
    def language(self) -> str:
        """The language whose weights and cues fit it."""
        return "zh" if self.claim.language == "zh" else "en"

    @cached_property
    def sentences(self) -> list[str]:
        """The whole sentences it cites."""
        return [sentence for place in self.claim.places for sentence in _sentences(place)]

    @cached_property
    def headings(self) -> str:
        return "\n".join(f"{place.context}\n{place.document}" for place in self.claim.places)

    @cached_property
    def terms(self) -> list[str]:
        return content_terms(self.claim.text, self.language)

    @cached_property
    def cited(self) -> list[set[str]]:
        """The terms of each sentence it cites, with those of the headings."""
        heading = set(content_terms(self.headings, self.language))
        return [heading.union(content_terms(sentence, self.language)) for sentence in self.sentences]

    @cached_property
    def names(self) -> list[str]:
        """Latin words with a capital that do not begin it and are no stop words, without 's."""
        text = self.claim.text
        found = (match for match in _NAME.finditer(text) if re.search(r"\w", text[: match.start()]))
        return [match.group() for match in found if content_terms(match.group(), "en")]


def _verdict(case: Case, row: np.ndarray, missing: str) -> Verdict:
    kind = (case.language, len(row) == len(FEATURES))
    least_supported, least_partly = LEVELS[kind]
    likely, related = probability(np.stack([row, related_rows(row)]), *kind)
    how = _measured(case, row) + missing
    problem = contradiction(case)
    support: Support = "unsupported"
    if related >= least_partly:
        support = "supported" if likely >= least_supported and not problem else "partly"
    elif not _same_script(case.claim):
        support, how = "partly", "its source is in another language: words cannot be compared" + missing
    return Verdict(support=support, how=f"{problem}; {how}" if problem else how, score=round(float(likely), 3))


def _measured(case: Case, row: np.ndarray) -> str:
    """The features, for a person."""
    said = f"{row[0]:.0%} of its words are there"
    if row[0] and (gap := _gap(case)) > 1:
        said += f", {gap} in a row are not"
    if len(row) == len(FEATURES):
        said += f", likeness of meaning {row[3]:.2f}"
    return said


def related_rows(rows: np.ndarray) -> np.ndarray:
    """``rows`` without what speaks against a claim: how much of it is there tells "partly" from "unsupported"."""
    return np.where([name in ("names", "gap") for name in FEATURES[: rows.shape[-1]]], 0.0, rows)


def _same_script(claim: Claim) -> bool:
    cited = "".join(place.text for place in claim.places)
    return any(map(is_cjk, claim.text)) == any(map(is_cjk, cited))


# --- what keeps a claim from being supported -------------------------------------------------------------------------


def contradiction(case: Case) -> str:
    """What a claim says that its source does not, for a person; "" when nothing was found.

    A number that is not in the cited sentences, a name that is not even around them (headings and document names count
    for both), or a negation. Those are what models get wrong.
    """
    cited = "\n".join(case.sentences)
    strange = _figures(case.claim.text) - _figures(f"{cited}\n{case.headings}")
    if strange:
        return f"{min(strange)} is not in what it cites"
    around = "\n".join([case.headings, *(place.text for place in case.claim.places)])
    unknown = _unknown(case.names, around)
    if unknown:
        return f'"{unknown[0]}" is not in its source'
    return negation.contradiction(case.claim.text, case.sentences, case.language)


def _unknown(names: Sequence[str], text: str) -> list[str]:
    """The names that ``text`` does not have, in any case and with or without accents."""
    known = _plain(text)
    return [name for name in names if _plain(name) not in known]


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


def _figures(text: str) -> set[str]:
    """The numbers of ``text``, in digits or, from two on, as an English word."""
    words = re.findall(r"[a-z]+", text.lower())
    return numbers(text) | {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS}


# --- how likely it is supported --------------------------------------------------------------------------------------


def probability(rows: np.ndarray, language: str, embedded: bool) -> np.ndarray:
    """How likely each claim is supported, from its features: float64, (claims,)."""
    weights, bias = WEIGHTS[language, embedded]
    return 1 / (1 + np.exp(-(rows @ np.array(weights) + bias)))


def features(cases: Sequence[Case]) -> np.ndarray:
    """FEATURES but the last: float64, (cases, 3).

    - words: share of the claim's terms in the one cited sentence, with its heading, that holds most of them
    - names: share of its names that are not in the cited sentences, their headings and document names
    - gap: the most terms in a row that are in none of these, as a share of LONG_GAP, or of all if it has fewer. Who
      says a thing in other words changes one here and there; what was added comes in one piece
    """
    return np.array([(_shared(case), _missing_names(case), _gap_share(case)) for case in cases], dtype=float)


def _shared(case: Case) -> float:
    wanted = set(case.terms)
    held = (len(wanted & terms) for terms in case.cited)
    return max(held) / len(wanted) if wanted else 1.0


def _gap_share(case: Case) -> float:
    return min(1.0, _gap(case) / max(1, min(LONG_GAP[case.language], len(case.terms))))


def _gap(case: Case) -> int:
    known = set().union(*case.cited)
    longest = run = 0
    for term in case.terms:
        run = 0 if term in known else run + 1
        longest = max(longest, run)
    return longest


def _missing_names(case: Case) -> float:
    near = "\n".join([*case.sentences, case.headings])
    return len(_unknown(case.names, near)) / len(case.names) if case.names else 0.0


def similarity(claims: Sequence[Claim], embed: Embed) -> np.ndarray:
    """How near each claim is to the nearest of its quotes: float64, (claims,); 1 is the same, 0 unrelated.

    Cosines c are rescaled to (c - u) / (1 - u), where u is the mean cosine of claim and quotes to the sentences of
    UNRELATED, so that the level of the embedder does not matter.
    """
    said = [text for claim in claims for text in (claim.text, *(place.quote for place in claim.places))]
    texts = list(dict.fromkeys([*said, *UNRELATED]))
    vectors = dict(zip(texts, np.asarray(embed(texts), dtype=float), strict=True))
    far = np.stack([vectors[text] for text in UNRELATED])
    near = np.zeros(len(claims))
    for i, claim in enumerate(claims):
        quotes = np.stack([vectors[place.quote] for place in claim.places])
        unrelated = float((np.vstack([vectors[claim.text], quotes]) @ far.T).mean())
        near[i] = (float((quotes @ vectors[claim.text]).max()) - unrelated) / max(1 - unrelated, 1e-6)
    return near
