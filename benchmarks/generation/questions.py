"""Questions with an answer in the documents and without, made of public data sets, and the corpora they are put to.

Every data set gives two corpora: a whole one, and a thin one that lacks every fourth article and every third paragraph
of the others (for data of short articles: one paragraph of each). What was asked about those has no answer there.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNANSWERABLE = ("off-topic", "article", "paragraph", "squad2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    text: str
    kind: str  # "answerable", or why it has no answer: UNANSWERABLE
    split: str  # "tune" or "test": the articles are shared out between them
    corpus: str
    language: str
    document: str = ""  # name of the one that answers
    spans: tuple[tuple[int, int], ...] = ()  # gold answers, as places in its text
    golds: tuple[str, ...] = ()  # their words


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a data set gives: documents by corpus and name, and questions."""

    language: str
    corpora: dict[str, dict[str, str]]
    questions: list[Question]


def load(data: Path, limit: int) -> list[Material]:
    """The data sets below ``data``; ``limit`` answerable questions of each and split, and shares of that of others."""
    rng = random.Random(7)
    found = [
        _squad(data / "squad_v1.1_dev/dev-v1.1.json", "squad", "en", limit, rng),
        _squad(data / "xquad/xquad.zh.json", "xquad-zh", "zh", limit, rng),
        _squad(data / "cmrc2018/cmrc2018_trial.json", "cmrc", "zh", limit, rng),
    ]
    found[0].questions.extend(_haystack(data / "haystack_squad_small/small.json", found[0]))
    for language in ("en", "zh"):
        found.append(_off_topic(data / "docs_tree_fastapi" / language, language, found, limit // 5))
    return found


def _squad(path: Path, name: str, language: str, limit: int, rng: random.Random) -> Material:
    whole: dict[str, str] = {}
    thin: dict[str, str] = {}
    asked: dict[tuple[str, str], list[Question]] = {}
    for number, article in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        title = article.get("title", f"{name} {number}")
        document, split = f"{title}.md", _split(title, name)
        parts = article["paragraphs"]
        missing = set(range(len(parts))) if number % 4 == 3 else set(range(1, len(parts), 3))
        whole[document] = text = _text(title, [part["context"] for part in parts], language)
        if kept := [part["context"] for n, part in enumerate(parts) if n not in missing]:
            thin[document] = _text(title, kept, language)
        for n, part in enumerate(parts):
            reason = "article" if number % 4 == 3 else "paragraph"
            at = text.index(part["context"].strip()) - (len(part["context"]) - len(part["context"].lstrip()))
            for qa in [qa for qa in part["qas"] if qa["question"].strip()]:
                spans, golds = _golds(qa["answers"], at)
                common = {"text": qa["question"].strip(), "split": split, "language": language}
                asked.setdefault((split, "answerable"), []).append(
                    Question(kind="answerable", corpus=name, document=document, spans=spans, golds=golds, **common)
                )
                if n in missing:
                    asked.setdefault((split, reason), []).append(Question(kind=reason, corpus=f"{name}-thin", **common))
    shares = {"answerable": limit, "paragraph": limit // 2, "article": limit // 4}
    questions = [q for (_, kind), some in sorted(asked.items()) for q in _some(some, shares[kind], rng)]
    return Material(language=language, corpora={name: whole, f"{name}-thin": thin}, questions=questions)


def _text(title: str, paragraphs: list[str], language: str) -> str:
    """An article as a Markdown file. The titles of the Chinese data are English or numbers, and so left out."""
    head = [f"# {title.replace('_', ' ')}"] if language == "en" else []
    return "\n\n".join([*head, *(paragraph.strip() for paragraph in paragraphs)]) + "\n"


def _golds(answers: list[dict], at: int) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    starts = {(at + one["answer_start"], one["text"]) for one in answers}
    spans = sorted({(start, start + len(text)) for start, text in starts})
    return tuple(spans), tuple(sorted({text for _, text in starts}))


def _some(questions: list[Question], limit: int, rng: random.Random) -> list[Question]:
    return questions if len(questions) <= limit else rng.sample(questions, limit)


def _split(title: str, name: str) -> str:
    """CMRC is for tuning alone; the two articles of SQuAD 2 are for testing alone."""
    if name == "cmrc":
        return "tune"
    tune = hashlib.md5(title.replace("_", " ").encode()).digest()[0] % 2
    return "tune" if tune and title not in ("Normans", "Computational_complexity_theory") else "test"


def _haystack(path: Path, squad: Material) -> Iterator[Question]:
    """All questions of two articles of SQuAD 2; its paragraphs are among those of SQuAD 1.1."""
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        document = f"{article['title']}.md"
        text = squad.corpora["squad"][document]
        for part in article["paragraphs"]:
            at = text.index(part["context"].strip())
            for qa in part["qas"]:
                spans, golds = _golds(qa["answers"], at)
                common = {"text": qa["question"].strip(), "split": "test", "corpus": "squad", "language": "en"}
                if qa["is_impossible"]:
                    yield Question(kind="squad2", **common)
                else:
                    yield Question(kind="haystack", document=document, spans=spans, golds=golds, **common)


def _off_topic(folder: Path, language: str, others: list[Material], limit: int) -> Material:
    """A software documentation, asked about what the articles of the data sets are about."""
    name = f"fastapi-{language}"
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("docs/tutorial/*.md"))}
    questions = [
        Question(text=q.text, kind="off-topic", split=split, corpus=name, language=language)
        for material in others
        if material.language == language
        for split in ("tune", "test")
        for q in [q for q in material.questions if (q.kind, q.split) == ("answerable", split)][:limit]
    ]
    return Material(language=language, corpora={name: pages}, questions=questions)
