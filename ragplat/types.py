"""The values that cross app borders. Plain data: no behaviour beyond what a field means.

All offsets are counted in Unicode code points of ``Document.text``; ``start`` is inclusive, ``end`` exclusive,
so ``document.text[start:end]`` is always the text meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Mode = Literal["dense", "lexical", "hybrid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page, slide or sheet of a document, as a stretch of its text."""

    number: int  # 1-based, as a person counts
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a parser made of a file. ``text`` is canonical: every later offset points into it."""

    text: str  # no NUL, no lone surrogate, "\n" line ends
    pages: tuple[Page, ...]  # in order, not overlapping; empty for formats without pages
    markup: Literal["markdown", "plain"]  # how headings, lists, tables and code are written in `text`
    title: str = ""  # from the file's metadata or first heading; "" when it has none
    language: str = ""  # ISO 639-1 code such as "en", "zh"; "" when unknown
    parser: str = ""  # signature of the parser that made this
    ocr_pages: tuple[int, ...] = ()  # page numbers read by OCR
    blank_pages: tuple[int, ...] = ()  # page numbers that gave no text at all
    tables: int = 0  # tables found
    warnings: tuple[str, ...] = ()  # sentences for a person: what was left out or looked wrong
    metadata: Mapping[str, Any] = field(default_factory=dict)  # author, dates...: JSON-serialisable


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on a page, as shares (0..1) of its width and height; the origin is the top left corner."""

    page: int  # 1-based
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A stretch of a document small enough to embed. ``text == document.text[start:end]``, always."""

    ordinal: int  # 0-based place in the document
    start: int
    end: int
    text: str
    page: int | None  # page on which it starts; None for formats without pages
    context: str  # title, heading path, table header: embedded and indexed with it, no part of `text`
    tokens: int  # length of `context` + `text` in the embedding model's tokens, special tokens included


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a search is restricted to. Every field that is given must hold; within a field, one of its values."""

    documents: tuple[int, ...] | None = None  # ids; None: any
    names: tuple[str, ...] = ()  # parts of the document's name, in any case
    folders: tuple[str, ...] = ()  # beginnings of its name by whole folders, such as "guides/en"
    tags: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()  # such as "application/pdf", or "text/*"
    languages: tuple[str, ...] = ()  # ISO 639-1 codes
    after: date | None = None  # the document's date, this day included
    before: date | None = None  # the document's date, this day excluded
    metadata: tuple[tuple[str, str], ...] = ()  # (key, value): what its parser found; every pair must hold
    labels: tuple[str, ...] | None = None  # access labels the reader holds; None: no restriction


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Where one retriever put a chunk."""

    rank: int  # 1 is best
    score: float  # the retriever's own scale: inner product or BM25


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredChunk:
    """A chunk found for a query, with everything needed to show, cite and explain it."""

    chunk_id: int
    document_id: int
    document: str  # the document's name
    ordinal: int
    start: int
    end: int
    page: int | None
    context: str
    text: str
    score: float  # the fused score the list is ordered by
    rank: int  # 1 is best
    dense: Rank | None = None  # None: this retriever did not find it, or was not asked
    lexical: Rank | None = None
    reranked: Rank | None = None  # by a cross-encoder; None: it was not asked
    matched: tuple[int, int] | None = None  # start and end of the chunk found, where it brought its surroundings along


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a generator gets: the question and the chunks that fit its budget, numbered from 1 in this order."""

    question: str
    chunks: tuple[ScoredChunk, ...]  # shown: marker [n] means chunks[n - 1]
    dropped: tuple[int, ...]  # ids of chunks that did not fit the token budget
    messages: tuple[Mapping[str, str], ...]  # role and content, as an OpenAI-compatible server takes them
    version: str  # name and version of the prompt file, such as "answer-en@1"
    language: str  # language to answer in: "en" or "zh"
    earlier: int = 0  # how many of `chunks`, the first ones, were shown with earlier questions of the conversation
    history: int = 0  # how many earlier questions stand before this one


# "general": the documents do not answer, and what follows is the model's own knowledge, as the text says.
FinishReason = Literal["stop", "length", "no_answer", "general", "stopped", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a streamed generation; the last one carries the finish reason."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt, that the server had read before
    completion_tokens: int | None = None
    error: str = ""  # with finish reason "error": what went wrong, for a person


Support = Literal["supported", "partly", "unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """The place in a document that a sentence rests on. ``quote == document.text[start:end]``, always."""

    number: int  # the n of the marker [n] in the answer
    chunk_id: int
    document_id: int
    document: str  # the document's name
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of an answer, its citations, and whether they bear it out."""

    text: str  # without markers
    start: int  # offsets into Answer.text, markers included
    end: int
    citations: tuple[Citation, ...]
    support: Support
    why: str = ""  # what the judge gives as its reason, for a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer whose sentences are tied to the documents."""

    text: str  # with markers [n]
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]  # each place once, in order of appearance
    finish_reason: FinishReason
    unknown_markers: int = 0  # markers that pointed at nothing; removed from `text`
    trace: Mapping[str, Any] = field(default_factory=dict)  # stages with their input, output and seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecipe:
    """How documents become an index. Immutable: a change is a new version."""

    parser: str = "auto"  # "auto" picks by media type
    chunker: str = "structure"  # "structure" or "whole" (one chunk a document)
    chunk_tokens: int = 200  # aim of the chunker, in the embedder's tokens
    overlap_tokens: int = 20
    embedder: str = "all-MiniLM-L6-v2"  # a sentence-transformers model name or folder
    max_tokens: int = 256  # longest input the embedder is given, special tokens included
    truncate: bool = False  # True: cut longer inputs, as published benchmark runs do
    analyzer: str = "words-cjk@1"  # analyzer of the lexical follower
    vector_store: Literal["pgvector", "faiss"] = "pgvector"  # where the dense leg searches
    vector_index: Literal["hnsw", "ivfflat"] = "hnsw"  # of pgvector, above some thousand rows


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecipe:
    """How a question becomes an answer. Immutable: a change is a new version."""

    mode: Mode = "hybrid"
    k: int = 8  # chunks given to the generator
    candidates: int = 100  # chunks each leg hands to the fusion
    ef_search: int = 100  # of HNSW: candidates kept while searching; more find more and take longer
    probes: int = 0  # of IVFFlat: lists looked into; 0 for the square root of their number
    recall_floor: float = 0.95  # below this recall@10 against the exact scan, `doctor --index` warns
    condense: bool = True  # make a follow-up question stand on its own before searching
    variants: int = 0  # other wordings of the question that a model writes, each searched too (RAG-Fusion)
    hyde: bool = False  # also search with a passage that a model makes up as an answer (HyDE)
    fusion: str = "minmax"  # a method of indexer/fusion.py
    dense_weight: float = 0.4  # share of the dense leg in the fusion; the rest is lexical (measured: docs/log.md)
    rrf_k: int = 60  # constant of the method "rrf"
    reranker: str = ""  # cross-encoder that the embedding service runs; "" for none
    rerank_candidates: int = 30  # best chunks it reads
    # Drop chunks whose final score is lower. Scores of minmax and max are 0..1, a leg's best hit has 1; zscore counts
    # deviations, rrf adds up 1 / (rrf_k + rank), and a reranker has a scale of its own.
    threshold: float | None = None
    collapse: float | None = 0.9  # drop a chunk whose words overlap this much (Jaccard) with a better one
    diversity: float = 0.0  # of maximal marginal relevance: 0 asks for relevance alone, 1 for difference alone
    expand: Literal["none", "neighbours", "section"] = "none"  # what a hit brings along
    prompt: str = "answer@2"
    structured: bool = False  # have the model write JSON by a schema instead of markers, where the server can
    judge: str = "words"  # of whether sources bear a sentence out: "words", or "model" to ask the language model
    generator: str = "auto"  # "auto": "openai" where a server is set, else "extractive"
    temperature: float = 0.0
    top_p: float = 1.0  # of the model's words, only the likeliest that together have this probability
    top_k: int = 0  # of the model's words, only so many of the likeliest; 0 for all
    seed: int | None = None  # equal seeds give equal answers, as far as the server can
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    max_answer_tokens: int = 512
    context_tokens: int = 3000  # budget for the chunks that a question brings into the prompt
    history_tokens: int = 6000  # budget for the conversation before it, with the chunks it was answered from
    strict: bool = True  # refuse when the documents do not answer; else use general knowledge, and say so
