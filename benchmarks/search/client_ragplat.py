"""Our search, for throughput.py.

python client_ragplat.py FOLDER THREADS SECONDS CORPUS MODE
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation
from clients import K, serve


def main(folder: str, threads: str, seconds: str, slug: str, mode: str) -> None:
    installation.setup()
    from partition import connect, first_chunk

    from indexer.models import Corpus
    from indexer.search import search

    corpus = Corpus.objects.get(slug=slug)
    with connect() as connection:
        first = first_chunk(connection, corpus.active_index().pk)

    def ask(question: str) -> list[int]:
        return [chunk.chunk_id - first for chunk in search(corpus, question, k=K, mode=mode).chunks]

    serve(lambda: ask, json.loads(Path(folder, "questions.json").read_text()), int(threads), float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
