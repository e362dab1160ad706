"""How well judges tell sentences that their source bears out from altered ones, and the weights of the default judge.

    python benchmarks/generation/support.py DATA_FOLDER [--fit] [--cache /tmp/support]

No data set here has verdicts, so they are made: "own" is what a person wrote from a passage, cited to that passage
(answers of CLAP NQ; question and answer of SQuAD and XQuAD zh put together into a sentence, hence in other words than
the passage). The other kinds are the same sentences, made wrong by a rule: see ``altered``. Half of the articles is for
fitting (fit), the other half for the report (test).
"""

import argparse
import hashlib
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.embedding.backends import BACKENDS
from indexer.embedding.engine import Engine
from indexer.embedding.models import BUILT_IN
from indexer.embedding.tokenizer import ModelTokenizer
from inference.citations import claims, resolve
from inference.judges import words
from inference.judges.base import Claim, Verdict
from inference.words import content_terms, names, units
from ragplat.types import Prompt, ScoredChunk

KEPT = {"en": (0.93, 0.99), "zh": (0.78, 0.99)}  # shares of people's sentences that --fit lets be supported, or partly
LEARNED = ("own", "other", "answer", "name", "added")  # kinds that --fit tells apart; rules see to numbers and negation


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


@dataclass(frozen=True)
class Foreign:
    """What other articles say: names, and the last words of sentences, without names and numbers."""

    names: list[str]
    endings: list[str]


@dataclass(frozen=True)
class Sample:
    data: str
    language: str
    kind: str
    split: str  # "fit" or "test"
    claim: Claim


class Vectors:
    """Unit vectors of texts by the built-in model, kept in a file: the same sentences come again and again."""

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, np.ndarray] = {}
        if path.exists():
            stored = np.load(path)
            self.known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        keys = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if new:
            self.known |= dict(zip(new, self._embed(list(new.values())), strict=True))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(self.path, keys=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        return np.stack([self.known[key] for key in keys])

    def _embed(self, texts: list[str]) -> np.ndarray:
        print(f"embedding {len(texts)} texts ...", file=sys.stderr)
        tokenizer = ModelTokenizer.load(BUILT_IN)
        engine = Engine(lambda: BACKENDS.get(tokenizer.files.backend)(tokenizer.files, threads=1), queue_tokens=10**9)
        try:
            return engine.submit(tokenizer.encode(texts, truncate=True)).result()
        finally:
            engine.close()


def sample(data: str, language: str, kind: str, text: str, passage: Passage) -> Sample:
    """``text`` cited to ``passage``, with the quote that an answer would have."""
    chunk = ScoredChunk(
        chunk_id=1,
        document_id=1,
        document=passage.title,
        ordinal=0,
        start=0,
        end=len(passage.text),
        page=None,
        context=passage.title,
        text=passage.text,
        score=1.0,
        rank=1,
    )
    prompt = Prompt(question="", chunks=(chunk,), dropped=(), messages=(), version="", language=language)
    (claim, *_) = claims(resolve(f"{text} [1]", prompt), prompt)
    split = "fit" if hashlib.md5((passage.title or passage.text).encode()).digest()[0] % 2 else "test"
    return Sample(data, language, kind, split, claim)


# --- what people wrote -----------------------------------------------------------------------------------------------


def clapnq(path: Path, rng: random.Random) -> Iterator[Sample]:
    items = [json.loads(line) for line in path.read_text().splitlines()]
    passages = [Passage(item["passages"][0]["title"], item["passages"][0]["text"]) for item in items]
    foreign = foreign_to(passages, "en")
    for item, passage in zip(items, passages, strict=True):
        others = [other for other in passages if other.title != passage.title]
        answer = item["output"][0]["answer"]
        for unit in units(answer):
            text = answer[unit.start : unit.end]
            if len(text) >= 15:
                kinds = altered(text, passage, others, foreign, "en", rng)
                yield from (sample("CLAP NQ", "en", kind, said, cited) for kind, said, cited in kinds)


def squad(data: str, path: Path, language: str, most: int | None, rng: random.Random) -> Iterator[Sample]:
    """At most ``most`` questions of each paragraph, as sentences."""
    articles = json.loads(path.read_text())["data"]
    foreign = foreign_to([Passage("", part["context"]) for one in articles for part in one["paragraphs"]], language)
    declare = {"en": declare_english, "zh": declare_chinese}[language]
    for article in articles:
        title = article.get("title", "").replace("_", " ")
        passages = [Passage(title, part["context"]) for part in article["paragraphs"]]
        for part, passage in zip(article["paragraphs"], passages, strict=True):
            asked = [(qa["question"].strip(), qa["answers"][0]["text"].strip()) for qa in part["qas"]]
            for question, answer in rng.sample(asked, min(most or len(asked), len(asked))):
                if text := declare(question, answer):
                    others = [other for other in passages if other != passage]
                    kinds = [*altered(text, passage, others, foreign, language, rng)]
                    wrong = [a for _, a in asked if alike(a, answer)]
                    kinds += [("answer", declare(question, rng.choice(wrong)), passage)] if wrong else []
                    yield from (sample(data, language, *kind) for kind in kinds)


def alike(a: str, b: str) -> bool:
    """Whether two answers are different ones of the same sort."""
    return a not in b and b not in a and bool(re.search(r"\d", a)) == bool(re.search(r"\d", b))


def declare_english(question: str, answer: str) -> str:
    """Question and answer as one sentence, where a simple rule can; not always well-formed, but in other words."""
    question, answer = question.rstrip("? "), answer.rstrip(".")
    for pattern, template in _DECLARATIONS:
        if match := re.match(pattern, question):
            said = template.format(*match.groups(), answer=answer)
            return f"{said[0].upper()}{said[1:]}."
    return ""


_IN_WHICH = r"[Ii]n (?:what|which)"
_DECLARATIONS = (
    (r"Who (?!did\b|does\b|do\b)(.+)", "{answer} {0}"),
    (r"What (is|was|are|were) ((?:the|a|an) .+)", "{1} {0} {answer}"),
    (rf"(?:When|{_IN_WHICH} (?:year|century|month|decade)|What year) (?:did|does) (.+)", "{0} in {answer}"),
    (rf"(?:Where|{_IN_WHICH} (?:city|country|state)) (?:did|does|do) (.+)", "{0} in {answer}"),
    (r"How many ([\w ]+? (?:are|were|is|was|have|had|has) .+)", "{answer} {0}"),
    (r"(?:What|Which) (?:\w+ )?((?:\w+ed|won|led|made|gave|began|became) .+)", "{answer} {0}"),
)
_ASKING = re.compile("哪一年|哪年|哪个|哪种|哪位|哪些|哪里|哪儿|哪两个|哪|何时|什么时候|什么|谁|多少|几")


def declare_chinese(question: str, answer: str) -> str:
    """The answer in the place of the one word that asks for it."""
    question = question.rstrip("?？ ")
    if len(_ASKING.findall(question)) != 1 or re.search("为什么|怎么|如何|吗", question):
        return ""
    return _ASKING.sub(lambda _: answer.rstrip("。"), question) + "。"


# --- what was made wrong ---------------------------------------------------------------------------------------------

_NAME = re.compile(r"(?<!^)(?<![.!?] )\b[A-Z][a-z]{2,}\b")
_DENIES = re.compile(r"\b(?:not|never|no|cannot|without)\b|n ?['’] ?t\b|[不没未无非]")
_AUXILIARY = re.compile(r"\b(is|are|was|were|has|have|had|can|could|will|would|may|should|must|did)\b")
_COPULA = re.compile("是|有(?![关限效机所])|被|可以|能够")


def foreign_to(passages: Sequence[Passage], language: str) -> Foreign:
    said = [one.text[unit.start : unit.end].rstrip(" .。") for one in passages for unit in units(one.text)]
    ends = [" ".join(one.split()[-8:]) if language == "en" else one[-16:] for one in said]
    plain = {end for end in ends if not re.search(r"[A-Z0-9]", end) and len(end) >= 16}
    return Foreign(sorted({name for one in passages for name in _NAME.findall(one.text)}), sorted(plain))


def altered(
    text: str, passage: Passage, others: Sequence[Passage], foreign: Foreign, language: str, rng: random.Random
) -> Iterator[tuple[str, str, Passage]]:
    """Kind, sentence and the passage it is cited to: what stands there, then what the passage does not bear out.

    - other: cited to the passage sharing most words, of another article (CLAP NQ) or of the same one
    - added: and words from elsewhere, without a name or number; half of the sentence is true
    - number: 7 more than every number
    - name, foreign: one name is another of the passage, or of any other article
    - exchanged: the first and the last name have changed places
    - negated, no longer: "not" or "no longer" after the first auxiliary verb; in Chinese 不 or 没有
    - affirmed: "not" left out
    - shuffled: its words in any order
    """
    yield "own", text, passage
    if others:
        said = set(content_terms(text, language))
        yield "other", text, max(others, key=lambda other: len(said & _terms(other.text, language)))
    link = {"en": " and ", "zh": "，并且"}[language]
    makers = {
        "added": lambda: text.rstrip(" .。") + link + rng.choice(foreign.endings) + text[-1],
        "number": lambda: re.sub(r"(?<![\d,.])\d+", lambda match: str(int(match[0]) + 7), text),
        "name": lambda: _renamed(text, _NAME.findall(passage.text), rng),
        "foreign": lambda: _renamed(text, [n for n in foreign.names if n not in passage.text + passage.title], rng),
        "exchanged": lambda: _exchanged(text),
        "negated": lambda: _negated(text, "not", language),
        "no longer": lambda: _negated(text, "no longer", language) if language == "en" else text,
        "affirmed": lambda: re.sub(r"\bnot ", "", text, count=1) if language == "en" else text,
        "shuffled": lambda: " ".join(rng.sample(text.split(), len(text.split()))),
    }
    for kind, make in makers.items():
        if (made := make()) != text:
            yield kind, made, passage


_known: dict[tuple[str, str], set[str]] = {}


def _terms(text: str, language: str) -> set[str]:
    if (text, language) not in _known:
        _known[text, language] = set(content_terms(text, language))
    return _known[text, language]


def _renamed(text: str, candidates: Sequence[str], rng: random.Random) -> str:
    mine = [match for match in _NAME.finditer(text) if content_terms(match[0], "en")]
    new = sorted({name for name in candidates if name not in text and names(f"x {name}")})
    if not mine or not new:
        return text
    match = rng.choice(mine)
    return text[: match.start()] + rng.choice(new) + text[match.end() :]


def _exchanged(text: str) -> str:
    mine = [match for match in _NAME.finditer(text) if content_terms(match[0], "en")]
    if len(mine) < 2:
        return text
    a, b = mine[0], mine[-1]
    return text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]


def _negated(text: str, how: str, language: str) -> str:
    if _DENIES.search(text):
        return text
    if language == "zh":
        denied = {"有": "没有", "被": "没有被"}
        return _COPULA.sub(lambda match: denied.get(match[0], f"不{match[0]}"), text, count=1)
    return _AUXILIARY.sub(lambda match: f"{match[0]} {how}", text, count=1)


# --- report and weights ----------------------------------------------------------------------------------------------


def report(samples: Sequence[Sample], judge: words.WordsJudge) -> None:
    """Verdicts on the sentences of the test split, by data set and kind."""
    mine = [one for one in samples if one.split == "test"]
    verdicts = judge.judge([one.claim for one in mine])
    print(f"\n{judge.signature()}")
    for data in dict.fromkeys(one.data for one in mine):
        found: dict[str, list[Verdict]] = {}
        for one, verdict in zip(mine, verdicts, strict=True):
            if one.data == data:
                found.setdefault(one.kind, []).append(verdict)
                if one.kind == "own" and not words.settled(one.claim):
                    found.setdefault("own, reworded", []).append(verdict)
        for kind, some in found.items():
            counts = Counter(verdict.support for verdict in some)
            shares = "  ".join(f"{s} {counts[s] / len(some):.3f}" for s in ("supported", "partly", "unsupported"))
            print(f"{data:<9} {kind:<14} n={len(some):<5} {shares}")


def fit(samples: Sequence[Sample], embed: Vectors) -> None:
    """Print WEIGHTS and LEVELS for both languages, with and without an embedder, from the fit split.

    Those for Chinese with an embedder are for comparison only: see EMBEDDED.
    """
    from sklearn.linear_model import LogisticRegression

    mine = [one for one in samples if one.split == "fit" and one.kind in LEARNED and not words.settled(one.claim)]
    cases = [words.Case(one.claim) for one in mine]
    rows = np.column_stack([words.features(cases), words.similarity([case.claim for case in cases], embed)])
    own = np.array([one.kind == "own" for one in mine])
    fair = np.array([not words.contradiction(case) for case in cases])
    for language in ("en", "zh"):
        here = np.array([one.language == language for one in mine])
        for embedded in (True, False):
            columns = rows if embedded else rows[:, :-1]
            learned = here & fair
            model = LogisticRegression(max_iter=5000, class_weight="balanced").fit(columns[learned], own[learned])
            written = columns[here & own]
            levels = tuple(
                round(float(np.quantile(model.predict_proba(some)[:, 1], 1 - kept)), 3)
                for some, kept in zip((written, words.related_rows(written)), KEPT[language], strict=True)
            )
            weights = tuple(model.coef_[0].round(2).tolist())
            print((language, embedded), "weights", weights, "bias", model.intercept_.round(2).item(), "levels", levels)


def timing(samples: Sequence[Sample], embed: Vectors) -> None:
    """Seconds for 40 reworded sentences, beyond embedding."""
    forty = [one.claim for one in samples if one.kind == "own" and not words.settled(one.claim)][:40]
    judge = words.WordsJudge(embed)
    judge.judge(forty)
    start = time.perf_counter()
    judge.judge(forty)
    print(f"\n40 sentences in other words: {1000 * (time.perf_counter() - start):.1f} ms, vectors at hand")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="print weights fitted on the fit split instead of a report")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/support"), help="folder that keeps the vectors")
    parser.add_argument("data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    data, rng = arguments.data, random.Random(5)
    samples = [
        *clapnq(data / "clapnq/annotated_data/dev/clapnq_dev_answerable.jsonl", rng),
        *squad("SQuAD", data / "squad_v1.1_dev/dev-v1.1.json", "en", 1, rng),
        *squad("XQuAD zh", data / "xquad/xquad.zh.json", "zh", None, rng),
    ]
    embed = Vectors(arguments.cache / "vectors.npz")
    if arguments.fit:
        fit(samples, embed)
    else:
        for judge in (words.WordsJudge(), words.WordsJudge(embed)):
            report(samples, judge)
        timing(samples, embed)


if __name__ == "__main__":
    main()
