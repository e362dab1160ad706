"""Texts, questions and vectors for measurements at sizes beyond the collections at hand.

A collection is a folder in BEIR form: corpus.jsonl and queries.jsonl. Its texts are embedded once; further rows are the
same texts with changes, and the same vectors moved.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.embedding.models import BUILT_IN
from ragplat.signature import digest

DIMENSIONS = 384  # of the built-in model
QUESTIONS = 2_000  # of one measurement, at most
MOVED = 0.3  # how far a repeated vector is moved, as a share of the distance between two texts
BLOCK = 10_000  # rows made at a time
EMBEDDED_AT_ONCE = 256
HELD_OUT = 10**9  # number of the first row that no set reaches
CENTRES, LATENT, SPREAD, FUZZ = 1_000, 32, 0.5, 0.1  # of the synthetic rows: see clustered()


@dataclass(frozen=True, slots=True)
class Material:
    """What a measurement is made of: texts with their vectors, and questions, which are never among the texts."""

    texts: list[str]
    vectors: np.ndarray  # float32 [texts, 384], unit
    questions: list[str]
    question_vectors: np.ndarray  # float32 [questions, 384], unit

    @property
    def name(self) -> str:
        """Tells apart what was made of other collections: nothing kept of them may serve this one."""
        return digest([self.texts, self.questions], 8)


def load(folders: list[Path], cache: Path) -> Material:
    """The texts and questions of these collections; embedded on first use by the embedding service, then kept."""
    texts = list(dict.fromkeys(text for folder in folders for text in column(folder / "corpus.jsonl")))
    questions = [text for folder in folders for text in column(folder / "queries.jsonl")]
    picked = np.random.default_rng(0).permutation(len(questions))[:QUESTIONS]
    questions = [questions[number] for number in picked]
    return Material(texts, embedded(texts, cache), questions, embedded(questions, cache))


def column(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield f"{row.get('title', '')} {row['text']}".strip()


def embedded(texts: list[str], cache: Path) -> np.ndarray:
    from django.conf import settings

    from indexer.embedding.client import EmbeddingClient

    kept = cache / f"embedded-{digest(texts)}.npy"
    if not kept.exists():
        client, parts = EmbeddingClient(settings.EMBED_URL, BUILT_IN, max_tokens=256), []
        for start in range(0, len(texts), EMBEDDED_AT_ONCE):
            parts.append(client.embed_documents(texts[start : start + EMBEDDED_AT_ONCE], truncate=True))
            print(f"embedding, once: {start:,} of {len(texts):,} texts", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.concatenate(parts))
    return np.load(kept)


def repeated(vectors: np.ndarray, first: int, count: int) -> np.ndarray:
    """Rows ``first`` to ``first + count`` of endlessly many: the vectors, and then again and again, moved.

    A repeated vector is moved by a part of the difference of two others, so that it strays as real texts differ:
    much in some directions, hardly in most. float32 [count, 384], unit.
    """
    numbers = np.arange(first, first + count)
    others = np.random.default_rng([1, first]).integers(len(vectors), size=(2, count))
    moved = MOVED * (vectors[others[0]] - vectors[others[1]])
    moved[numbers < len(vectors)] = 0
    return _unit(vectors[numbers % len(vectors)] + moved)


def clustered(first: int, count: int) -> np.ndarray:
    """Synthetic rows: clusters in a space of 32 dimensions, turned into 384, with a little noise in all of these.

    Without the narrow space all distances would be nearly equal, which no real embedding shows. float32, unit.
    """
    fixed = np.random.default_rng(2)
    centres = fixed.standard_normal((CENTRES, LATENT), dtype=np.float32)
    turned = fixed.standard_normal((LATENT, DIMENSIONS), dtype=np.float32) / np.sqrt(LATENT)
    random = np.random.default_rng([3, first])
    inner = centres[random.integers(CENTRES, size=count)]
    inner = inner + SPREAD * random.standard_normal((count, LATENT), dtype=np.float32)
    return _unit(inner @ turned + FUZZ * random.standard_normal((count, DIMENSIONS), dtype=np.float32))


def mixed(material: Material, rows: int, cache: Path) -> np.ndarray:
    """Even rows real, odd rows synthetic: float16 [rows, 384], read from disk as needed."""
    kept = cache / f"mixed-{rows}-{material.name}.npy"
    if not kept.exists():
        print(f"making {rows:,} vectors ...", flush=True)
        draft = kept.with_suffix(".draft")
        made = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float16, shape=(rows, DIMENSIONS))
        for start in range(0, rows, 2 * BLOCK):
            block = made[start : start + 2 * BLOCK]
            half = (len(block) + 1) // 2
            block[0::2] = repeated(material.vectors, start // 2, half)
            block[1::2] = clustered(start // 2, len(block) - half)
        made.flush()
        draft.rename(kept)
    return np.load(kept, mmap_mode="r")


KINDS = ("question", "text", "synthetic")


def queries(material: Material, count: int) -> np.ndarray:
    """Questions, held-out moved texts and held-out synthetic rows in turn; rounded as halfvec rounds them.

    Questions are what people send, but lie beside the texts rather than among them, which is harder for an index made
    of texts; the held-out rows are of the same kind as the rows. float32 [count, 384].
    """
    found = np.empty((count, DIMENSIONS), dtype=np.float16)
    found[0::3] = np.resize(material.question_vectors, (len(found[0::3]), DIMENSIONS))
    found[1::3] = repeated(material.vectors, HELD_OUT, len(found[1::3]))
    found[2::3] = clustered(HELD_OUT, len(found[2::3]))
    return found.astype(np.float32)


def nearest(vectors: np.ndarray, wanted: np.ndarray, k: int, rows: np.ndarray | None = None) -> np.ndarray:
    """The exact k nearest rows by inner product, int64 [queries, k]; of these ``rows`` only, where given (sorted)."""
    best = np.full((len(wanted), k), -np.inf, dtype=np.float32)
    ids = np.full((len(wanted), k), -1, dtype=np.int64)
    numbers = np.arange(len(vectors)) if rows is None else rows
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        scores = np.concatenate([best, wanted @ vectors[part].astype(np.float32).T], axis=1)
        candidates = np.concatenate([ids, np.broadcast_to(part, (len(wanted), len(part)))], axis=1)
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best, ids = np.take_along_axis(scores, top, 1), np.take_along_axis(candidates, top, 1)
    return np.take_along_axis(ids, np.argsort(-best, axis=1), 1)


def varied(texts: list[str], rows: int) -> Iterator[str]:
    """The texts, then the texts again with every second sentence taken from another one: alike, but not duplicates."""
    for row in range(rows):
        place, again = row % len(texts), row // len(texts)
        text = texts[place]
        if again:
            own, other = text.split(". "), texts[(place * 7919 + again) % len(texts)].split(". ")
            own[again % 2 :: 2] = [other[(again + at) % len(other)] for at in range(len(own[again % 2 :: 2]))]
            text = ". ".join(own)
        yield text


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
