"""What a chunker is, and how a chunk becomes the text that is embedded."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from ragplat.types import Chunk, Page, Parsed


class Tokenizer(Protocol):
    """Counts text the way the embedding model does (see indexer.embedding.tokenizer.ModelTokenizer)."""

    special_tokens: int  # markers the model adds to every input; 2 for BERT
    max_tokens: int  # longest input of the model, those markers included

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """(start, end) in code points of each token of ``text``, without markers, never cut short."""
        ...


class Chunker(Protocol):
    """Splits a document into chunks."""

    name: str

    def signature(self) -> str:
        """Names the chunker and its settings: equal signatures give equal chunks for equal documents."""
        ...

    def split(self, parsed: Parsed, tokenizer: Tokenizer) -> list[Chunk]:
        """The chunks of a document, in order; together they hold every non-blank character of its text."""
        ...


def join(context: str, text: str) -> str:
    """A context line and a text as one input for the embedding model."""
    return f"{context}\n{text}" if context else text


def embedding_text(chunk: Chunk) -> str:
    """What is embedded for a chunk: its context, a line break, its text."""
    return join(chunk.context, chunk.text)


def count_tokens(tokenizer: Tokenizer, text: str) -> int:
    """Length of ``text`` as an input of the model, markers included."""
    return len(tokenizer.offsets(text)) + tokenizer.special_tokens


def page_at(pages: Sequence[Page], offset: int) -> int | None:
    """Number of the page that holds ``offset``; between two pages the next one; None without pages."""
    if not pages:
        return None
    return pages[min(bisect_right(pages, offset, key=lambda page: page.end), len(pages) - 1)].number
