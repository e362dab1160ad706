"""How well the judgement "supported / partly / unsupported" tells true citations from false ones.

    RAGPLAT_DATA_DIR=... python -m benchmarks.generation.support

Answers people wrote from a passage (CLAP NQ), each sentence cited to that passage; the same answers cited to the
passage of another question that shares most words; and the same with one number or name changed.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

from inference.citations import resolve
from inference.words import content_terms, units
from ragplat.types import Prompt, ScoredChunk


def prompt_of(title: str, text: str) -> Prompt:
    chunk = ScoredChunk(
        chunk_id=1,
        document_id=1,
        document=title,
        ordinal=0,
        start=0,
        end=len(text),
        page=None,
        context=title,
        text=text,
        score=1.0,
        rank=1,
    )
    return Prompt(question="", chunks=(chunk,), dropped=(), messages=(), version="", language="en")


def cited(text: str) -> str:
    """``text`` with the marker [1] after each sentence."""
    return " ".join(f"{text[unit.start : unit.end]} [1]" for unit in units(text))


def judge(name: str, pairs: list[tuple[str, tuple[str, str]]], holding: str = "") -> None:
    counts = Counter(
        sentence.support
        for answer, passage in pairs
        for sentence in resolve(answer, prompt_of(*passage)).sentences
        if re.search(holding, sentence.text)
    )
    shares = "  ".join(f"{kind} {counts[kind] / counts.total():.3f}" for kind in ("supported", "partly", "unsupported"))
    print(f"{name:<22} sentences={counts.total():<5} {shares}")


def main() -> None:
    path = Path(os.environ["RAGPLAT_DATA_DIR"]) / "clapnq/annotated_data/dev/clapnq_dev_answerable.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    passages = [(item["passages"][0]["title"], item["passages"][0]["text"]) for item in items]
    terms = [set(content_terms(" ".join(passage), "en")) for passage in passages]
    answers = [cited(item["output"][0]["answer"]) for item in items]
    wrong = []
    for i, answer in enumerate(answers):
        said = set(content_terms(answer, "en"))
        others = (j for j in range(len(items)) if passages[j][0] != passages[i][0])
        wrong.append(passages[max(others, key=lambda j: len(said & terms[j]))])
    judge("own passage", list(zip(answers, passages, strict=True)))
    judge("most similar other", list(zip(answers, wrong, strict=True)))
    changed = [re.sub(r"\b(\d+)(?=[^\]\d])", lambda match: str(int(match[1]) + 7), answer) for answer in answers]
    judge("with its numbers", list(zip(answers, passages, strict=True)), holding=r"\d")
    judge("with other numbers", list(zip(changed, passages, strict=True)), holding=r"\d")


if __name__ == "__main__":
    main()
