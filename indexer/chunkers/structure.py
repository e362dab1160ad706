"""Chunks that follow a document's own structure, counted in the embedding model's tokens."""

from collections.abc import Iterator

from indexer.chunkers.atoms import trimmed
from indexer.chunkers.base import Tokenizer, count_tokens, join, page_at
from indexer.chunkers.blocks import blocks
from indexer.chunkers.context import Contexts
from indexer.chunkers.packing import Packer, Piece
from indexer.chunkers.sections import sections
from indexer.chunkers.tokens import TokenIndex
from ragplat.errors import BadInput
from ragplat.signature import signature
from ragplat.types import Chunk, Parsed

LEAST_TOKENS = 16
_MAX_INDENTATION = 80


class StructureChunker:
    """Splits along headings, paragraphs, list items, table rows, code lines and sentences, in that order.

    ``chunk_tokens`` is the aim for a chunk's text; to keep a section or paragraph whole it may be a quarter longer.
    Context, text and special tokens together never exceed the tokenizer's ``max_tokens``. ``overlap_tokens`` is about
    how much of the sentences before is repeated where a section's prose had to be cut.
    Raises BadInput for values that make no sense.
    """

    name = "structure"

    def __init__(self, chunk_tokens: int = 200, overlap_tokens: int = 20):
        if chunk_tokens < LEAST_TOKENS:
            raise BadInput(f"chunk_tokens is {chunk_tokens}; it must be at least {LEAST_TOKENS}.")
        if not 0 <= overlap_tokens <= chunk_tokens // 2:
            raise BadInput(
                f"overlap_tokens is {overlap_tokens}; it must be 0 to {chunk_tokens // 2}, half of chunk_tokens."
            )
        self.chunk_tokens = chunk_tokens
        self.overlap_tokens = overlap_tokens

    def signature(self) -> str:
        return signature("chunker", name=self.name, tokens=self.chunk_tokens, overlap=self.overlap_tokens, v=1)

    def split(self, parsed: Parsed, tokenizer: Tokenizer) -> list[Chunk]:
        """The chunks of a document, [] for a blank one. Raises BadInput if the model cannot take ``chunk_tokens``."""
        room = tokenizer.max_tokens - tokenizer.special_tokens
        if self.chunk_tokens > room:
            raise BadInput(
                f"chunk_tokens is {self.chunk_tokens}, but the embedding model takes {room} tokens of text at most. "
                "Set chunk_tokens lower, with some room for headings."
            )
        contexts = Contexts(parsed.title, tokenizer, min(room - self.chunk_tokens, self.chunk_tokens // 4))
        packer = Packer(
            parsed.text, TokenIndex(parsed.text, tokenizer), parsed.pages, self.chunk_tokens, self.overlap_tokens
        )
        groups = []
        for section in sections(blocks(parsed)):
            used = contexts.count(contexts.line(contexts.names(section.path, "")))
            groups.append(packer.pack_section(section, min(room - used, self.chunk_tokens * 5 // 4)))
        return _Writer(parsed, tokenizer, contexts).chunks(packer.merge(groups))


class _Writer:
    """Turns pieces into chunks with their exact token counts."""

    def __init__(self, parsed: Parsed, tokenizer: Tokenizer, contexts: Contexts):
        self.parsed = parsed
        self.tokenizer = tokenizer
        self.contexts = contexts

    def chunks(self, pieces: list[Piece]) -> list[Chunk]:
        written: list[Chunk] = []
        for piece in pieces:
            for start, end, context, tokens in self._fitting(piece):
                written.append(
                    Chunk(
                        ordinal=len(written),
                        start=start,
                        end=end,
                        text=self.parsed.text[start:end],
                        page=page_at(self.parsed.pages, start),
                        context=context,
                        tokens=tokens,
                    )
                )
        return written

    def _fitting(self, piece: Piece) -> Iterator[tuple[int, int, str, int]]:
        """(start, end, context, tokens) of a piece; of its halves where a cut inside a word made it too long."""
        start = self._with_indentation(piece.start)
        text = self.parsed.text[start : piece.end]
        for context in self._contexts(piece, text):
            tokens = count_tokens(self.tokenizer, join(context, text))
            if tokens <= self.tokenizer.max_tokens:
                yield start, piece.end, context, tokens
                return
        if piece.end - piece.start < 2:
            raise BadInput(
                f"One character of the document takes {tokens} tokens, more than {self.tokenizer.max_tokens}."
            )
        for half in _halves(self.parsed.text, piece):
            yield from self._fitting(half)

    def _contexts(self, piece: Piece, text: str) -> Iterator[str]:
        """Contexts to try, the fullest first."""
        line = self.contexts.line(self.contexts.names(piece.path, text))
        if piece.header:
            used = self.contexts.count(line) + count_tokens(self.tokenizer, text)
            header = self.parsed.text[slice(*piece.header)]
            header = self.contexts.table_header(header, self.tokenizer.max_tokens - used)
            yield f"{line}\n{header}" if line and header else line or header
        yield line
        yield ""

    def _with_indentation(self, start: int) -> int:
        """The start of the line, if only indentation lies between: code reads wrong without it."""
        before = self.parsed.text[max(0, start - _MAX_INDENTATION) : start]
        rest = before.rstrip(" \t")
        return start - len(before) + len(rest) if rest.endswith("\n") or len(rest) == start == 0 else start


def _halves(text: str, piece: Piece) -> tuple[Piece, Piece]:
    """A piece cut near its middle, at white space if there is any near."""
    middle = (piece.start + piece.end) // 2
    quarter = (piece.end - piece.start) // 4
    space = next((at for at in range(middle, middle - quarter, -1) if text[at].isspace()), middle)
    first, second = trimmed(text, piece.start, space), trimmed(text, space, piece.end)
    return Piece(*first, piece.path, piece.header), Piece(*second, piece.path, piece.header)
