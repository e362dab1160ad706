"""The whole pipeline, retrieval on, beside the bare client given the very messages that the pipeline makes.

Used by streams.py, under the installation of benchmarks/installation.py. The corpus is the project's own documentation.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import installation

from ragplat.types import Prompt

QUESTION = "How does number {} of the questions find its passages, and what does it cost?"
DOCS = installation.ROOT / "docs"


class Whole:
    """Questions through `inference.pipeline.answer`. Made once the services run."""

    def __init__(self, url: str, tokens: int):
        from django.conf import settings

        from indexer import corpora
        from indexer.ingest import ingest_paths, settled
        from indexer.models import Corpus, Document, recipe_value

        settings.GENERATOR_URL = url
        self.corpus = Corpus.objects.filter(slug="streams").first() or corpora.create("Streams", slug="streams")
        report = ingest_paths(self.corpus, [DOCS])
        while any(settled(report.documents + report.known).get(state, 0) for state in Document.UNDER_WAY):
            time.sleep(0.2)
        recipe = recipe_value(self.corpus.answer_recipe_id)
        self.recipe = replace(recipe, generator="openai", k=3, max_answer_tokens=tokens)

    def prompts(self, numbers: list[int]) -> list[Prompt]:
        """What the pipeline sends for these questions."""
        from inference.retrieval import retrieve
        from inference.writing import make_generator, make_prompt

        index = self.corpus.active_index()
        generator = make_generator(self.recipe, index)
        made = []
        for number in numbers:
            trace: dict = {"stages": []}
            question, found = retrieve(self.corpus, QUESTION.format(number), self.recipe, (), None, trace)
            made.append(make_prompt(question, found.chunks, (), self.recipe, index, generator, trace))
        return made

    def run(self, numbers: list[int], streams: int) -> tuple[float, list[float]]:
        """Output tokens per second of all together, and of each the seconds to its first text beyond retrieval."""
        from django.db import connections

        from inference.pipeline import answer

        def one(number: int) -> tuple[int, float]:
            (*_, done) = answer(self.corpus, QUESTION.format(number), self.recipe)
            connections.close_all()  # this thread's own
            trace = done.answer.trace
            seconds = {stage["name"]: stage["seconds"] for stage in trace["stages"]}
            return trace["completion_tokens"], seconds["prompt"] + trace["seconds_to_first_text"]

        started = time.perf_counter()
        with ThreadPoolExecutor(streams) as pool:
            done = list(pool.map(one, numbers))
        return sum(count for count, _ in done) / (time.perf_counter() - started), [first for _, first in done]
