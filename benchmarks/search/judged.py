"""Retrieval collections made of the data sets, and what the two legs find in them, computed once and kept.

A document is one chunk: title, space, text. Dense scores are exact inner products with all documents.
"""

import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.analyzer import analyzer_signature
from indexer.embedding.backends import BACKENDS
from indexer.embedding.engine import Engine
from indexer.embedding.tokenizer import ModelTokenizer
from indexer.followers.base import DocumentEntries, Entry
from indexer.followers.lexical import LexicalFollower
from ragplat.signature import digest

ANALYZER = "words-cjk@1"
QUERIES = 1200  # at most, of each collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    name: str
    language: str
    texts: list[str]  # of the documents, whose ids are their places here
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]  # query id to document id, as a string, to grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What both legs give every document: float32 [queries, documents]; 0 in `lexical`: no term in common."""

    dense: np.ndarray
    lexical: np.ndarray


def load(data: Path) -> Iterator[Collection]:
    """Every collection that the folder of data sets gives."""
    yield _beir("scifact", "en", data / "beir_scifact", ("train", "test"))
    yield _beir("squad", "en", data / "derived_retrieval" / "squad_dev", ("test",))
    yield _pairs("clapnq", "en", _clapnq(data / "clapnq" / "annotated_data" / "dev"))
    yield _pairs("fastapi_en", "en", _sections(data / "docs_tree_fastapi" / "en"))
    yield _beir("xquad_zh", "zh", data / "derived_retrieval" / "xquad_zh", ("test",))
    yield _pairs("cmrc_zh", "zh", _squad_form(data / "cmrc2018" / "cmrc2018_trial.json"))
    yield _pairs("csl_zh", "zh", _csl(data / "csl_zh" / "ts" / "test.tsv"))
    yield _pairs("fastapi_zh", "zh", _sections(data / "docs_tree_fastapi" / "zh"))
    yield _pairs("fastapi_ja", "ja", _sections(data / "docs_tree_fastapi" / "ja"))


def score(collection: Collection, model: str, cache: Path) -> Scores:
    """Both legs for every query and document; each kept in ``cache`` under a name made of all that matters."""
    tokenizer = ModelTokenizer.load(model)
    texts = [collection.texts, list(collection.queries.values())]
    made_with = {
        "dense": [tokenizer.files.name, tokenizer.signature(), tokenizer.max_tokens, texts],
        "lexical": [analyzer_signature(ANALYZER, collection.language), texts],
    }
    compute = {"dense": lambda: _dense(collection, tokenizer), "lexical": lambda: _lexical(collection)}
    cache.mkdir(parents=True, exist_ok=True)
    found = {}
    for leg, key in made_with.items():
        path = cache / f"{collection.name}-{leg}-{digest(key)}.npy"
        if not path.exists():
            print(f"{collection.name}: {leg} scores of {len(collection.texts)} documents ...", file=sys.stderr)
            np.save(path, compute[leg]())
        found[leg] = np.load(path)
    return Scores(**found)


def _dense(collection: Collection, tokenizer: ModelTokenizer) -> np.ndarray:
    files = tokenizer.files
    engine = Engine(lambda: BACKENDS.get(files.backend)(files, threads=1), queue_tokens=10**9)

    def embed(texts: list[str], prompt: str) -> np.ndarray:
        ids = tokenizer.encode([files.prompts[prompt] + text for text in texts], truncate=True)
        return engine.submit(ids).result()

    queries = embed(list(collection.queries.values()), "query")
    scores = queries @ embed(collection.texts, "document").T
    engine.close()
    return scores


def _lexical(collection: Collection) -> np.ndarray:
    scores = np.zeros((len(collection.queries), len(collection.texts)), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        follower = LexicalFollower(Path(folder), analyzer=ANALYZER, language=collection.language)
        entries = (DocumentEntries(n, (Entry(n, text),)) for n, text in enumerate(collection.texts))
        follower.apply(entries, watermark=1)
        for row, query in enumerate(collection.queries.values()):
            for document, found in follower.search(query, len(collection.texts)):
                scores[row, document] = found
    return scores


def _fewer(queries: dict[str, str]) -> dict[str, str]:
    """At most QUERIES of them, the same ones every time, whatever their order."""
    kept = sorted(queries, key=digest)[:QUERIES]
    return {one: queries[one] for one in sorted(kept)}


def _beir(name: str, language: str, folder: Path, splits: tuple[str, ...]) -> Collection:
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    place = {row["_id"]: str(n) for n, row in enumerate(rows)}
    qrels: dict[str, dict[str, int]] = {}
    for split in splits:
        with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                qrels.setdefault(row["query-id"], {})[place[row["corpus-id"]]] = int(row["score"])
    lines = (json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8"))
    queries = _fewer({line["_id"]: line["text"] for line in lines if line["_id"] in qrels})
    texts = [f"{row.get('title', '')} {row['text']}".strip() for row in rows]
    return Collection(name=name, language=language, texts=texts, queries=queries, qrels={q: qrels[q] for q in queries})


def _pairs(name: str, language: str, pairs: Iterator[tuple[str, str]]) -> Collection:
    """From (question, its text) pairs; a question "" only adds its text as one more that can be found."""
    places: dict[str, int] = {}
    asked: dict[str, set[int]] = {}
    for question, text in pairs:
        place = places.setdefault(text, len(places))
        if question:
            asked.setdefault(question, set()).add(place)
    # A question asked of two texts (such as the heading "Recap") tells neither from the other.
    queries = _fewer({digest(question): question for question, found in asked.items() if len(found) == 1})
    qrels = {one: {str(place): 1 for place in asked[question]} for one, question in queries.items()}
    return Collection(name=name, language=language, texts=list(places), queries=queries, qrels=qrels)


def _clapnq(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.open(encoding="utf-8"):
            row = json.loads(line)
            for passage in row["passages"]:
                yield row["input"] if "_answerable" in path.name else "", f"{passage['title']} {passage['text']}"


def _squad_form(path: Path) -> Iterator[tuple[str, str]]:
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield question["question"], paragraph["context"]


def _csl(path: Path) -> Iterator[tuple[str, str]]:
    """A title as the question, its abstract as the text."""
    with path.open(encoding="utf-8") as file:
        for _, abstract, title in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield title, abstract


def _sections(folder: Path) -> Iterator[tuple[str, str]]:
    """The headings of a documentation as questions, each with the text below it; code is left where it stands."""
    for path in sorted(folder.rglob("*.md")):
        content = path.read_text(encoding="utf-8")
        fenced = re.sub(r"^(`{3,}).*?^\1", lambda code: code[0].replace("\n#", "\n\0"), content, flags=re.S | re.M)
        for section in re.split(r"^#{1,4} ", fenced, flags=re.M)[1:]:
            heading, _, body = section.replace("\0", "#").partition("\n")
            heading = re.sub(r"\{.*?\}|[`*_]", "", heading).strip()
            if len(body.strip()) > 200:
                yield heading, body.strip()
