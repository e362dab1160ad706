"""The way to the embedding service: texts in, unit vectors or reranking scores out."""

import json
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from indexer.embedding import wire
from indexer.embedding.connection import Broken, Connections, Response
from indexer.embedding.models import BUILT_IN
from indexer.embedding.tokenizer import ModelTokenizer, check_texts
from ragplat.errors import BadInput, EmbedderUnavailable

REQUEST_TOKENS = 8192  # of one bulk request: some 3 s of a CPU core, so that other jobs get their turn
PATIENCE = {"query": 10.0, "rerank": 30.0, "bulk": 120.0}  # seconds until one gives up: a person waits for a query
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries, doubling
CURE = "Start it with `make up` or `python -m indexer.embedding.service`; `manage.py doctor` says what is wrong."


class WrongEmbedder(EmbedderUnavailable):
    """The embedding service runs another model than the index was made with."""


class Reranked(NamedTuple):
    """How well texts answer a query, and what said so."""

    scores: np.ndarray  # float32 [texts], higher is better; 0..1 or logits, as the model's files say
    cut: int  # texts whose end was not read, being over the model's limit
    fingerprint: str  # of the reranker; scores of another one are on another scale


class EmbeddingClient:
    """Embeds texts through the service at ``url``: "unix:///path/embed.sock" or "http://host:port".

    ``model`` and ``max_tokens`` (its tokenizer's limit; None: as the model declares) must fit what the service runs.
    ``fingerprint`` is the one kept with an index: vectors of another kind raise WrongEmbedder. Without it, the service
    may be any, but not change while texts are embedded. Thread-safe; connections are pooled. A service that is
    restarted only causes a pause.
    """

    def __init__(self, url: str, model: str = BUILT_IN, *, max_tokens: int | None = None, fingerprint: str = ""):
        self.url = url
        self.fingerprint = fingerprint
        self.tokenizer = ModelTokenizer.load(model, max_tokens)
        self._connections = Connections(url)
        weakref.finalize(self, self._connections.close)  # nobody can tell when: clients are shared and cached
        self._service: dict[str, Any] | None = None  # its info, once seen and found to fit

    def embed_documents(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """Unit vectors of ``texts``, float32 [len(texts), dimensions], in order; in the bulk lane.

        A text over the token limit raises BadInput, or with ``truncate`` loses its end.
        Raises EmbedderUnavailable when the service stays away for two minutes, WrongEmbedder when it runs another
        model than expected.
        """
        return self._embed(texts, "document", "bulk", truncate)

    def embed_queries(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """Like embed_documents, with the model's prompt for queries, ahead of all bulk work, and 10 s of patience."""
        return self._embed(texts, "query", "query", truncate)

    def rerank(self, query: str, texts: Sequence[str], *, model: str = "") -> Reranked:
        """How well each of ``texts`` answers ``query``, by the service's cross-encoder, in the order of ``texts``.

        ``model`` is the one wanted, by name or folder; "" takes whichever the service runs. The service's embedding
        model does not matter. Raises BadInput when it runs no reranker or another one, for an empty query, and for more
        text than wire.MAX_RERANK_TOKENS; EmbedderUnavailable when it stays away or busy for half a minute.
        """
        check_texts([query, *texts])
        if not texts:
            return Reranked(np.empty(0, dtype=np.float32), 0, "")
        body = {"query": query, "texts": list(texts), "model": model}
        response = self._send("POST", "/rerank", "rerank", json.dumps(body).encode())
        scores = np.empty(len(texts), dtype=np.float32)
        for one in response.json():
            scores[one["index"]] = one["score"]
        return Reranked(scores, int(response.headers[wire.CUT_HEADER]), response.headers[wire.FINGERPRINT_HEADER])

    def info(self) -> dict[str, Any]:
        """What the service says about itself: model, revision, backend, precision, dimensions, max_tokens,
        vocabulary, tokenizer, fingerprint, reranker (None, or what it is). Asked anew each time. Raises as
        embed_queries does."""
        return self._ask("query")

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once the service answers. Raises EmbedderUnavailable after ``timeout`` seconds."""
        self._send("GET", "/health", "query", patience=timeout)

    def _ask(self, lane: str) -> dict[str, Any]:
        info = self._send("GET", "/info", lane).json()
        self._check(info)
        self._service = info
        return info

    def _embed(self, texts: Sequence[str], prompt: str, lane: str, truncate: bool) -> np.ndarray:
        prefix = self.tokenizer.files.prompts[prompt]
        ids = self.tokenizer.encode([prefix + text for text in texts] if prefix else texts, truncate=truncate)
        service = self._service or self._ask(lane)
        dimensions = service["dimensions"]
        vectors = np.empty((len(ids), dimensions), dtype=np.float32)
        for part in _requests(ids):
            response = self._send("POST", f"/packed?lane={lane}", lane, wire.pack(ids[part]))
            self._check_fingerprint(response.headers.get(wire.FINGERPRINT_HEADER, ""), service["fingerprint"])
            vectors[part] = np.frombuffer(response.body, dtype="<f4").reshape(-1, dimensions)
        return vectors

    def _check(self, info: dict[str, Any]) -> None:
        expected = self.tokenizer.signature()
        if info["tokenizer"] != expected:
            raise WrongEmbedder(
                f"The embedding service at {self.url} runs {info['model']} ({info['tokenizer']}), but "
                f"{self.tokenizer.files.name} ({expected}) is needed. Start it with `--model "
                f"{self.tokenizer.files.name}`, or set RAGPLAT_EMBED_URL to a service that has this model."
            )
        if info["max_tokens"] < self.tokenizer.max_tokens:
            raise WrongEmbedder(
                f"The embedding service at {self.url} takes {info['max_tokens']} tokens a text, but "
                f"{self.tokenizer.max_tokens} are asked for. Start it with `--max-tokens {self.tokenizer.max_tokens}`."
            )
        self._check_fingerprint(info["fingerprint"], self.fingerprint or info["fingerprint"])

    def _check_fingerprint(self, actual: str, expected: str) -> None:
        if actual != expected:
            self._service = None  # ask again next time: the service may be put right
            raise WrongEmbedder(
                f'This index is made with "{expected}", but the embedding service at {self.url} runs "{actual}". '
                "Their vectors must not be mixed: start the service with the index's model, or ingest "
                "the documents into a new corpus."
            )

    def _send(self, method: str, path: str, lane: str, body: bytes = b"", *, patience: float | None = None) -> Response:
        """One request, tried again while the service is away or busy. Embedding twice does no harm."""
        deadline = time.monotonic() + (patience or PATIENCE[lane])
        pause = FIRST_PAUSE
        while True:
            remaining = max(deadline - time.monotonic(), 0.001)
            try:
                response = self._connections.request(method, path, body, timeout=remaining)
            except Broken as error:
                problem, wait = getattr(error, "strerror", None) or str(error) or type(error).__name__, pause
            else:
                if response.status not in (429, 503):
                    return self._accept(response)
                problem, wait = _message(response), float(response.headers.get("retry-after", pause))
            wait = min(wait, LONGEST_PAUSE)
            if time.monotonic() + wait >= deadline:
                raise EmbedderUnavailable(f"The embedding service at {self.url} does not answer ({problem}). {CURE}")
            time.sleep(wait)
            pause *= 2

    def _accept(self, response: Response) -> Response:
        if 200 <= response.status < 300:
            return response
        if 400 <= response.status < 500:
            raise BadInput(f"The embedding service does not accept this: {_message(response)}")
        raise EmbedderUnavailable(f"The embedding service at {self.url} failed: {_message(response)}")


def _requests(ids: Sequence[np.ndarray]) -> Iterator[slice]:
    """Cut texts, in order, into requests of at most REQUEST_TOKENS tokens, or of one text."""
    start = tokens = 0
    for position, text in enumerate(ids):
        if position > start and tokens + len(text) > REQUEST_TOKENS:
            yield slice(start, position)
            start, tokens = position, 0
        tokens += len(text)
    if len(ids) > start:
        yield slice(start, len(ids))


def _message(response: Response) -> str:
    try:
        return response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status} without an explanation; is this address an embedding service?"
