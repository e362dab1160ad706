"""Texts to token ids, exactly as the model wants them."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from indexer.embedding.backends.base import Pair
from indexer.embedding.models import ModelFiles, find
from ragplat.errors import BadInput, BadSetting
from ragplat.signature import signature

TEXTS_AT_ONCE = 256  # the library's intermediate results take some 100 bytes a token


class ModelTokenizer:
    """The tokenizer of one embedding model. Thread-safe: it keeps no state between calls.

    ``files`` describes the model, ``max_tokens`` is the longest input, ``special_tokens`` how many of those the
    model's own markers (such as [CLS] and [SEP]) take, so a text may have ``max_tokens - special_tokens`` tokens.
    """

    def __init__(self, files: ModelFiles, max_tokens: int | None = None):
        self.files = files
        self.max_tokens = _limit(files, max_tokens)
        self._tokenizer = _load(files)
        self._before, self._after = self._markers()
        # Vocabularies of bytes know everything and name no such token; SentencePiece's do not tell theirs.
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = self._tokenizer.token_to_id(unknown) if unknown else None
        self.special_tokens = len(self._before) + len(self._after)

    @classmethod
    def load(cls, model: str, max_tokens: int | None = None) -> "ModelTokenizer":
        """The tokenizer of ``model`` (see models.find); ``max_tokens`` defaults to what the model declares.

        Raises BadInput for an unknown model or a ``max_tokens`` it cannot take, BadSetting for broken files.
        """
        return cls(find(model), max_tokens)

    def encode(self, texts: Sequence[str], *, truncate: bool = False) -> list[np.ndarray]:
        """Token ids of each text, special tokens included: int32, at most ``max_tokens`` long.

        A longer text raises BadInput, or with ``truncate`` loses its end, as sentence-transformers would do.
        """
        room = self.max_tokens - self.special_tokens
        encoded = []
        for index, ids in enumerate(self._content(texts)):
            if len(ids) > room and not truncate:
                raise BadInput(
                    f"Text {index} has {len(ids) + self.special_tokens} tokens; {self.files.name} is given at most "
                    f"{self.max_tokens} here. Split the text, or ask for truncation."
                )
            encoded.append(np.concatenate([self._before, ids[:room], self._after]))
        return encoded

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token lies in ``text``: (start, end) in code points, without special tokens, at any length."""
        check_texts([text])
        return self._tokenizer.encode(text, add_special_tokens=False).offsets

    def known_share(self, text: str) -> float:
        """The share of a text's tokens that are in the model's vocabulary: 0..1, 1 for a text without tokens.

        A model has no idea of the others: all of them are one and the same token to it.
        """
        check_texts([text])
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return 1 - ids.count(self._unknown) / len(ids) if ids else 1.0

    def signature(self) -> str:
        """Names the tokenizer by content: equal signatures give equal ids."""
        content = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:12]
        return signature("tokenizer", model=self.files.name, content=content, v=1)

    def _content(self, texts: Sequence[str]):
        check_texts(texts)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = list(texts[start : start + TEXTS_AT_ONCE])
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.asarray(encoding.ids, dtype=np.int32)

    def _markers(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids the model puts before and after a text."""
        encoding = self._tokenizer.encode("a")
        content = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
        ids = np.asarray(encoding.ids, dtype=np.int32)
        return ids[: content[0]], ids[content[-1] + 1 :]


class PairTokenizer:
    """The tokenizer of one cross-encoder. Thread-safe: it keeps no state between calls."""

    def __init__(self, files: ModelFiles):
        self.files = files
        self.max_tokens = files.max_tokens
        self._tokenizer = _load(files)
        self._tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")

    def encode(self, query: str, texts: Sequence[str]) -> tuple[list[Pair], int]:
        """The query with each of ``texts``, special tokens included, and how many pairs were too long and cut.

        The longer of the two loses its end first, as in sentence-transformers, so short queries stay whole.
        Raises BadInput for what is no text.
        """
        check_texts([query, *texts])
        encoded = self._tokenizer.encode_batch([(query, text) for text in texts])
        pairs = [Pair(np.asarray(one.ids, np.int32), np.asarray(one.type_ids, np.int32)) for one in encoded]
        return pairs, sum(bool(one.overflowing) for one in encoded)


def _limit(files: ModelFiles, max_tokens: int | None) -> int:
    limit = files.max_tokens if max_tokens is None else max_tokens
    if not 8 <= limit <= files.positions:
        raise BadInput(
            f"max_tokens is {limit}. {files.name} takes 8 to {files.positions} tokens ({files.max_tokens} advised)."
        )
    return limit


def _load(files: ModelFiles):
    # Set before the library's first use: its own threads do not survive a fork, and one core gives 500,000 tokens/s.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Lowercase, Sequence

    path = files.encoder / "tokenizer.json"
    if not path.exists():
        raise BadSetting(
            f"{files.name} has no tokenizer.json in {files.encoder}. Save it with a current sentence-transformers."
        )
    tokenizer = Tokenizer.from_file(str(path))
    # A tokenizer.json carries the settings it was last used with; all-MiniLM-L6-v2's cuts and pads to 128 tokens,
    # which silently changes half the vectors against the model's declared 256.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if files.lowercase:
        tokenizer.normalizer = Sequence([Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    return tokenizer


def check_texts(texts: Sequence[str]) -> None:
    """Raise BadInput for anything but a list of texts that can be written as UTF-8."""
    if isinstance(texts, str):
        raise BadInput("A list of texts is needed, not one text.")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadInput(f"Text {index} is {type(text).__name__}, not text.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(
                f"Text {index} holds a half character (lone surrogate) at position {error.start}. Remove it."
            ) from None
