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

Pooled = Callable[[Sequence[np.ndarray]], torch.Tensor]  # ids of each text -> [texts, dimensions]


class TorchCPU:
    """Any sentence-transformers text model, on ``threads`` CPU threads. Raises BadSetting when it cannot be loaded."""

    name = "torch-cpu"
    precision = "fp32"

    def __init__(self, files: ModelFiles, *, threads: int):
        torch.set_num_threads(threads)
        self._model = files.name
        self.revision = revision(files)
        self.pads = not is_plain_bert(files)
        self._pooled = sentence_transformer(files) if self.pads else bert(files)
        # The first pass is slow; better now than for the first query. It also tells the dimensions.
        self.dimensions = self._forward([np.arange(2, 10, dtype=np.int32)]).shape[1]

    def embed(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors, float32 [len(batch), dimensions]."""
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
        return F.normalize(self._pooled(batch).float(), dim=1)


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

    def pooled(batch: Sequence[np.ndarray]) -> torch.Tensor:
        x = encode(batch, None)
        lengths = torch.tensor([len(ids) for ids in batch])
        if files.pooling == "cls":
            return x[lengths.cumsum(0) - lengths]
        text_of = torch.repeat_interleave(torch.arange(len(batch)), lengths)
        return x.new_zeros(len(batch), x.shape[1]).index_add_(0, text_of, x) / lengths[:, None]

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

    def pooled(batch: Sequence[np.ndarray]) -> torch.Tensor:
        ids, mask = padded(batch, files.pad_id)
        return model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    return pooled
