"""The corpora of the questions in an installation."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from questions import Material

SETTLED = {"ready", "failed", "empty"}


def prepare(materials: Iterable[Material]) -> None:
    """Ingest what is not there yet, and wait until all is. Needs Django and a running worker."""
    from indexer import corpora, follow
    from indexer.ingest import ingest_paths
    from indexer.models import Corpus

    for material in materials:
        for slug, documents in material.corpora.items():
            corpus = Corpus.objects.filter(slug=slug).first() or corpora.create(slug, slug, language=material.language)
            with tempfile.TemporaryDirectory() as folder:
                for name, text in documents.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                ingest_paths(corpus, [Path(folder)])
            documents = corpus.documents.all()
            while (states := Counter(documents.values_list("state", flat=True))) and set(states) - SETTLED:
                time.sleep(1)
            follow.catch_up(corpus.active_index())
            print(slug, dict(states), flush=True)
