"""One chunk a document, as published retrieval benchmarks index theirs."""

from indexer.chunkers.base import Tokenizer, count_tokens, page_at
from ragplat.signature import signature
from ragplat.types import Chunk, Parsed


class WholeChunker:
    """The whole text as one chunk without context, however long: its recipe lets the embedder cut the end off."""

    name = "whole"

    def __init__(self, chunk_tokens: int = 0, overlap_tokens: int = 0):
        """Takes a recipe's values like every chunker; none of them means anything here."""

    def signature(self) -> str:
        return signature("chunker", name=self.name, v=1)

    def split(self, parsed: Parsed, tokenizer: Tokenizer) -> list[Chunk]:
        """One chunk from the first to the last non-blank character; none for a blank document."""
        text = parsed.text.strip()
        if not text:
            return []
        start = len(parsed.text) - len(parsed.text.lstrip())
        page = page_at(parsed.pages, start)
        tokens = count_tokens(tokenizer, text)
        return [Chunk(ordinal=0, start=start, end=start + len(text), text=text, page=page, context="", tokens=tokens)]
