"""Chunks as a search gives them, for tests of what comes after."""

from typing import Any

from ragplat.types import ScoredChunk


def scored(i: int, text: str, document: int = 1, start: int = 0, **more: Any) -> ScoredChunk:
    """The chunk with the id and ordinal ``i`` that lies at ``start`` of a document."""
    fields = {
        "chunk_id": i,
        "document_id": document,
        "document": f"doc-{document}.md",
        "ordinal": i,
        "start": start,
        "end": start + len(text),
        "page": None,
        "context": "",
        "text": text,
        "score": 1 - i / 1000,
        "rank": i,
    }
    return ScoredChunk(**fields | more)
