"""fp32 on the CPU through torch: BERT encoders by a forward pass of our own, every other model by
sentence-transformers.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from indexer.embedding.backends.bert import encoder, is_usual, load_weights, padded
from indexer.embedding.models import ModelFiles, revision
from ragplat.errors import BadSetting
from ragplat.signature import signature

Pooled = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, mask [texts, tokens] -> [texts, dimensions]


class TorchCPU:
    """Any sentence-transformers text model, on ``threads`` CPU threads. Raises BadSetting when it cannot be loaded."""

    name = "torch-cpu"
    precision = "fp32"

    def __init__(self, files: ModelFiles, *, threads: int):
        torch.set_num_threads(threads)
        self._model = files.name
        self._pad_id = files.pad_id
        self.revision = revision(files)
        self._pooled = bert(files) if is_plain_bert(files) else sentence_transformer(files)
        # The first pass is slow; better now than for the first query. It also tells the dimensions.
        self.dimensions = self._forward([np.arange(2, 10, dtype=np.int32)]).shape[1]

    def embed(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors, float32 [len(batch), dimensions]. Padded to the longest text of the batch."""
        vectors = self._forward(batch).numpy()
        if not np.isfinite(vectors).all():
            raise BadSetting(f"{self._model} gave a vector that is not a number. Its weights are damaged.")
        return vectors

    def signature(self) -> str:
        """Names the model's content, this backend and its precision."""
        return signature(
            "embedder",
            model=self._model,
            revision=self.revision,
            backend=self.name,
            precision=self.precision,
            dimensions=self.dimensions,
            v=1,
        )

    @torch.inference_mode()
    def _forward(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        return F.normalize(self._pooled(*padded(batch, self._pad_id)).float(), dim=1)


def is_plain_bert(files: ModelFiles) -> bool:
    """Whether ``bert`` computes this model: BERT with mean or first-token pooling and nothing unusual."""
    return (
        is_usual(files)
        and files.modules in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize"))
        and files.pooling in ("mean", "cls")
    )


def bert(files: ModelFiles) -> Pooled:
    """The encoder of ``files`` with the model's pooling."""
    encode = encoder(files, load_weights(files))

    def pooled(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = encode(ids, mask, None)
        if files.pooling == "cls":
            return x[:, 0]
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

    return pooled


def sentence_transformer(files: ModelFiles) -> Pooled:
    """The model's own modules, run by sentence-transformers. Code that comes with a model is never run."""
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(files.folder),
            device="cpu",
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        ).eval()
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise BadSetting(f"{files.folder} cannot be loaded by sentence-transformers: {error}") from error

    def pooled(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    return pooled
