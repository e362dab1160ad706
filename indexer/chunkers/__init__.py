"""Chunkers: from a parsed document to chunks small enough to embed."""

from indexer.chunkers.base import Chunker
from ragplat.registry import Registry

CHUNKERS = Registry(
    "chunker",
    {
        "structure": "indexer.chunkers.structure:StructureChunker",
        "whole": "indexer.chunkers.whole:WholeChunker",
    },
)


def make(name: str, chunk_tokens: int, overlap_tokens: int) -> Chunker:
    """The chunker called ``name`` with a recipe's values. Raises BadInput for an unknown name or senseless values."""
    return CHUNKERS.get(name)(chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens)
