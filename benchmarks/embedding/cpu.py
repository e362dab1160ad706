"""Our engine beside SentenceTransformer.encode on the CPU: tokens per second on the same real texts.

    python benchmarks/embedding/cpu.py FOLDER [--texts 300] [--rounds 3] [--threads 1]

FOLDER is searched for .txt, .md and .rst files, which are cut into passages of mixed length. The two take turns, so
that other load on the machine hits both alike; process CPU time is counted. Both include tokenisation.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.embedding.backends import BACKENDS
from indexer.embedding.engine import BATCH_TOKENS, Engine
from indexer.embedding.models import BUILT_IN
from indexer.embedding.tokenizer import ModelTokenizer


def passages(folder: Path, count: int) -> list[str]:
    """``count`` stretches of 100 to 1,600 characters from the text files under ``folder``, the same every time."""
    chooser = random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md", ".rst") and path.is_file())
    texts = []
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        place = 0
        while place < len(text):
            size = chooser.choice((100, 200, 400, 800, 1600))
            texts.append(text[place : place + size])
            place += size
    texts = [text for text in texts if len(text.split()) > 5]
    if len(texts) < count:
        sys.exit(f"{folder} gives only {len(texts)} passages; {count} are needed. Name a larger folder.")
    return chooser.sample(texts, count)


def cpu_seconds(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[BATCH_TOKENS])
    options = parser.parse_args()

    from sentence_transformers import SentenceTransformer

    tokenizer = ModelTokenizer.load(BUILT_IN)
    embedder = BACKENDS.get("torch-cpu")(tokenizer.files, threads=options.threads)
    reference = SentenceTransformer(str(tokenizer.files.folder), device="cpu")
    texts = passages(options.folder, options.texts)
    tokens = sum(len(ids) for ids in tokenizer.encode(texts, truncate=True))

    def ours(engine: Engine) -> np.ndarray:
        return engine.submit(tokenizer.encode(texts, truncate=True)).result()

    runs = {"SentenceTransformer.encode(batch_size=32)": lambda: reference.encode(texts, batch_size=32)}
    for budget in options.batch_tokens:
        engine = Engine(lambda: embedder, batch_tokens=budget, queue_tokens=10 * tokens)
        runs[f"engine, batches of {budget} tokens"] = lambda engine=engine: ours(engine)
    seconds = {name: [] for name in runs}
    vectors = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            spent, vectors[name] = cpu_seconds(run)
            seconds[name].append(spent)

    print(
        f"{len(texts)} texts, {tokens} tokens, {options.threads} threads, CPU time, median of {options.rounds} rounds"
    )
    first = next(iter(runs))
    for name, spent in seconds.items():
        rate = tokens / statistics.median(spent)
        ratio = statistics.median(spent_first / mine for spent_first, mine in zip(seconds[first], spent, strict=True))
        cosine = (vectors[first] * vectors[name]).sum(axis=1).min()
        print(f"{name:45} {rate:8.0f} tokens/s   x{ratio:.2f}   min cosine {cosine:.7f}")


if __name__ == "__main__":
    main()
