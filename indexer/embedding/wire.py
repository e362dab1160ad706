"""The binary protocol between client and service, and the service's closed list of errors.

A request is little-endian: uint32 count, int32 lengths[count], int32 ids[sum of lengths].
The answer is raw float32 [count, dimensions], row by row, also little-endian.

Reranking speaks JSON in the form of text-embeddings-inference: {query, texts} gives [{index, score}], best first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ragplat.errors import BadInput

FINGERPRINT_HEADER = "x-ragplat-fingerprint"
CUT_HEADER = "x-ragplat-cut"  # of a reranking: how many texts were too long and lost their end
LANES = ("query", "bulk")  # most urgent first
MAX_REQUEST_TOKENS = 16_384  # about 5 s of one CPU core's work: larger bodies gain nothing
MAX_BODY = 4 * (1 + 2 * MAX_REQUEST_TOKENS)  # bytes; a text has at least one token
MAX_RERANK_TOKENS = 32_768  # of all pairs: 100 chunks of 200 tokens with their questions, some 10 s of one CPU core
MAX_RERANK_BODY = 2**20  # bytes; what is over a model's limit is cut, so texts may be longer than what is read


class ErrorType(StrEnum):
    """Every kind of error the service answers with."""

    MALFORMED = "malformed"  # 400: the body or the lane makes no sense
    EMPTY = "empty"  # 400: no texts or query, or a text without tokens
    NOT_FOUND = "not_found"  # 404, 405: no such endpoint or method
    NO_RERANKER = "no_reranker"  # 404: the service runs no reranker, or another one
    TOO_LARGE = "too_large"  # 413: the request has too many tokens
    INVALID_ID = "invalid_id"  # 422: a token id outside the vocabulary
    TOO_LONG = "too_long"  # 422: a text over the model's limit
    OVERLOADED = "overloaded"  # 429: the queue is full; Retry-After says when to come back
    BACKEND = "backend"  # 500: the model failed
    STOPPING = "stopping"  # 503: the service is going down


class Rejected(BadInput):
    """The service does not accept this request."""

    def __init__(self, error_type: ErrorType, status: int, message: str):
        super().__init__(message)
        self.error_type = error_type
        self.status = status


def pack(ids: Sequence[np.ndarray]) -> bytes:
    """The request body for the token ids of each text (int32)."""
    lengths = [len(text) for text in ids]
    return np.concatenate([np.asarray([len(ids), *lengths]), *ids]).astype("<i4").tobytes()


def unpack(body: bytes, *, vocabulary: int, max_tokens: int) -> list[np.ndarray]:
    """The token ids in a request body: int32, each of 1 to ``max_tokens`` ids from 0 to ``vocabulary`` - 1.

    Raises Rejected for anything else.
    """
    lengths, ids = _parts(body)
    if len(lengths) == 0:
        raise Rejected(ErrorType.EMPTY, 400, "The request holds no texts.")
    if (lengths < 1).any():
        index = int(np.argmax(lengths < 1))
        kind = ErrorType.EMPTY if lengths[index] == 0 else ErrorType.MALFORMED
        raise Rejected(kind, 400, f"Text {index} has {lengths[index]} tokens; it needs at least 1.")
    total = int(lengths.sum())
    if total != len(ids):
        raise Rejected(
            ErrorType.MALFORMED, 400, f"The lengths add up to {total} tokens, but {len(ids)} token ids were sent."
        )
    if (lengths > max_tokens).any():
        index = int(np.argmax(lengths > max_tokens))
        raise Rejected(
            ErrorType.TOO_LONG, 422, f"Text {index} has {lengths[index]} tokens; at most {max_tokens} are accepted."
        )
    if total > MAX_REQUEST_TOKENS:
        raise Rejected(ErrorType.TOO_LARGE, 413, f"{total} tokens in one request; at most {MAX_REQUEST_TOKENS}.")
    outside = (ids < 0) | (ids >= vocabulary)
    if outside.any():
        wrong = int(ids[np.argmax(outside)])
        raise Rejected(ErrorType.INVALID_ID, 422, f"Token id {wrong} is outside the vocabulary 0..{vocabulary - 1}.")
    return np.split(ids, np.cumsum(lengths)[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """What POST /rerank takes."""

    query: str
    texts: list[str]
    model: str = ""  # name of the reranker wanted; "" for any


def rerank_request(body: bytes) -> RerankRequest:
    """The request in a JSON body. Raises Rejected for anything else than its fields."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise Rejected(ErrorType.MALFORMED, 400, f"The body is not JSON: {error}.") from None
    known = set(RerankRequest.__slots__)
    if not isinstance(fields, dict) or not {"query", "texts"} <= fields.keys() <= known:
        raise Rejected(
            ErrorType.MALFORMED, 400, 'The body is an object with "query", "texts" and perhaps "model", and no more.'
        )
    texts = fields["texts"]
    plain = [fields["query"], fields.get("model", ""), *(texts if isinstance(texts, list) else [None])]
    if not all(isinstance(text, str) for text in plain):
        raise Rejected(ErrorType.MALFORMED, 400, '"query" and "model" are texts, "texts" is a list of texts.')
    if not texts or not fields["query"].strip():
        raise Rejected(ErrorType.EMPTY, 400, f"The request holds no {'query' if texts else 'texts'}.")
    return RerankRequest(**fields)


def check_rerank_tokens(total: int) -> None:
    """Raise Rejected when all pairs of a reranking have more tokens than one request may."""
    if total > MAX_RERANK_TOKENS:
        raise Rejected(
            ErrorType.TOO_LARGE,
            413,
            f"The texts to rerank have {total} tokens with the query; at most {MAX_RERANK_TOKENS} are taken. Send "
            "fewer texts: lower rerank_candidates in the answer recipe.",
        )


def _parts(body: bytes) -> tuple[np.ndarray, np.ndarray]:
    if len(body) < 4 or len(body) % 4:
        raise Rejected(
            ErrorType.MALFORMED, 400, f"The body has {len(body)} bytes; a multiple of 4, and at least 4, is needed."
        )
    count = int.from_bytes(body[:4], "little")
    numbers = np.frombuffer(body, dtype="<i4", offset=4)
    if count > len(numbers):
        raise Rejected(
            ErrorType.MALFORMED, 400, f"{count} texts are announced, but only {len(numbers)} numbers follow."
        )
    return numbers[:count].astype(np.int64), numbers[count:]
