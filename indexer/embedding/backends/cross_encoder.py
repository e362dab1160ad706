"""Cross-encoders, fp32 on the CPU: BERT by our own forward pass, other models by transformers.

A cross-encoder reads query and text together and gives one number (Nogueira and Cho 2019, arXiv:1901.04085).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from indexer.embedding.backends.base import Pair
from indexer.embedding.backends.bert import encoder, is_usual, load_weights, padded
from indexer.embedding.models import ModelFiles, revision
from ragplat.errors import BadSetting
from ragplat.signature import signature

Logits = Callable[[Sequence[Pair]], torch.Tensor]  # -> [pairs, 1]
ACTIVATIONS = {"Sigmoid": torch.sigmoid, "Identity": lambda logits: logits}


class CrossEncoderCPU:
    """A sequence classifier with one label, on ``threads`` CPU threads. Raises BadSetting when it cannot be loaded.

    Scores are what sentence-transformers' CrossEncoder gives: 0..1, or logits where the model's files ask for those.
    """

    name = "torch-cpu"
    precision = "fp32"

    def __init__(self, files: ModelFiles, *, threads: int):
        torch.set_num_threads(threads)
        _check_kind(files)
        self._model = files.name
        self._activation = files.activation or "Sigmoid"  # as sentence-transformers does
        self.revision = revision(files)
        self.pads = not is_usual(files)
        self._logits = transformers_logits(files) if self.pads else bert_logits(files)
        ids = np.arange(2, 10, dtype=np.int32)
        self.score([Pair(ids, np.zeros_like(ids))])  # the first pass is slow; better now than for the first question

    @torch.inference_mode()
    def score(self, batch: Sequence[Pair]) -> np.ndarray:
        """Scores, float32 [len(batch)]."""
        scores = ACTIVATIONS[self._activation](self._logits(batch).float())[:, 0].numpy()
        if not np.isfinite(scores).all():
            raise BadSetting(f"{self._model} gave a score that is not a number. Its weights are damaged.")
        return scores

    def signature(self) -> str:
        """Names the model's content, this backend, its precision and what is done to the logits."""
        return signature(
            "reranker",
            model=self._model,
            revision=self.revision,
            backend=self.name,
            precision=self.precision,
            activation=self._activation.lower(),
            v=1,
        )


def bert_logits(files: ModelFiles) -> Logits:
    """BERT's encoder, its pooler over the first token, and the classifier."""
    weights = load_weights(files)
    missing = {"pooler.dense.weight", "classifier.weight"} - weights.keys()
    if missing:
        raise BadSetting(f"{files.encoder} is no cross-encoder: its weights lack {', '.join(sorted(missing))}.")
    encode = encoder(files, weights)

    def logits(batch: Sequence[Pair]) -> torch.Tensor:
        states = encode([pair.ids for pair in batch], [pair.types for pair in batch])
        lengths = torch.tensor([len(pair) for pair in batch])
        first = states[lengths.cumsum(0) - lengths]
        pooled = torch.tanh(F.linear(first, weights["pooler.dense.weight"], weights["pooler.dense.bias"]))
        return F.linear(pooled, weights["classifier.weight"], weights["classifier.bias"])

    return logits


def transformers_logits(files: ModelFiles) -> Logits:
    """The model run by transformers. Code that comes with a model is never run."""
    from transformers import AutoModelForSequenceClassification

    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            str(files.encoder), local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise BadSetting(f"{files.encoder} cannot be loaded by transformers: {error}") from error
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise BadSetting(f"{files.encoder} is no cross-encoder: its weights lack {', '.join(report['missing_keys'])}.")
    model = model.eval()
    typed = bool(files.config.get("type_vocab_size"))

    def logits(batch: Sequence[Pair]) -> torch.Tensor:
        ids, mask = padded([pair.ids for pair in batch], files.pad_id)
        types, _ = padded([pair.types for pair in batch], 0)
        more = {"token_type_ids": types} if typed else {}
        return model(input_ids=ids, attention_mask=mask, **more).logits

    return logits


def _check_kind(files: ModelFiles) -> None:
    kind = (files.config.get("architectures") or ["unknown"])[0]
    labels = len(files.config.get("id2label") or ("no", "yes"))
    if not kind.endswith("ForSequenceClassification"):
        raise BadSetting(
            f"{files.folder} holds a {kind}, which is no cross-encoder. Choose a reranking model whose config.json "
            'says "...ForSequenceClassification", such as cross-encoder/ms-marco-MiniLM-L6-v2.'
        )
    if files.activation not in ("", *ACTIVATIONS):
        raise BadSetting(f"{files.name} asks for the activation {files.activation}. Allowed: {', '.join(ACTIVATIONS)}.")
    if labels != 1:
        raise BadSetting(f"{files.name} sorts texts into {labels} classes; a reranking model gives one number.")
