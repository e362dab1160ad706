"""fp32 on the CPU through torch: BERT encoders by a forward pass of our own, every other model by
sentence-transformers.

Our own pass needs neither transformers nor sentence-transformers: 200 MB less memory and a start in 1 s instead of
6 s, with the same vectors. The matrices are laid out once as oneDNN's kernels want them, instead of at each call: a
short query is 1.6 times and bulk work 1.2 times as fast as with `torch.nn.functional.linear`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

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
        longest = max(len(ids) for ids in batch)
        ids = np.full((len(batch), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        return F.normalize(self._pooled(torch.from_numpy(ids), torch.from_numpy(mask)).float(), dim=1)


def is_plain_bert(files: ModelFiles) -> bool:
    """Whether ``bert`` computes this model: BERT with mean or first-token pooling and nothing unusual."""
    config = files.config
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and files.modules in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize"))
        and files.pooling in ("mean", "cls")
        and (files.encoder / "model.safetensors").exists()
    )


def bert(files: ModelFiles) -> Pooled:
    """The forward pass of BERT (Devlin et al. 2019) with the model's pooling, over the weights of ``files``."""
    config, weights = files.config, _weights(files)
    heads, width, layers = (config[key] for key in ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    linear = _linear(weights)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], config["layer_norm_eps"])

    def attention(x: torch.Tensor, visible: torch.Tensor | None, layer: str) -> torch.Tensor:
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return linear(mixed.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")

    def pooled(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        visible = None if mask.all() else mask.bool()[:, None, None, :]
        x = F.embedding(ids, weights["embeddings.word_embeddings.weight"])
        x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            x = norm(x + attention(x, visible, layer), f"{layer}.attention.output.LayerNorm")
            inner = linear(linear(x, f"{layer}.intermediate.dense", gelu=True), f"{layer}.output.dense")
            x = norm(x + inner, f"{layer}.output.LayerNorm")
        if files.pooling == "cls":
            return x[:, 0]
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

    return pooled


def _linear(weights: dict[str, torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The affine maps of an encoder by name, optionally followed by GELU. Takes their matrices out of ``weights``."""
    matrix_names = [name for name, tensor in weights.items() if name.startswith("encoder.") and tensor.dim() == 2]
    matrices = {name.removesuffix(".weight"): weights.pop(name) for name in matrix_names}
    if not torch.backends.mkldnn.is_available():

        def plain(x: torch.Tensor, name: str, gelu: bool = False) -> torch.Tensor:
            x = F.linear(x, matrices[name], weights[f"{name}.bias"])
            return F.gelu(x) if gelu else x

        return plain

    packed = {name: torch.ops.mkldnn._reorder_linear_weight(matrix) for name, matrix in matrices.items()}
    matrices.clear()  # only the packed copies are kept

    def fused(x: torch.Tensor, name: str, gelu: bool = False) -> torch.Tensor:
        # "none" twice: no function after the product; and no approximation of GELU's error function
        after = ("gelu", [], "none") if gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(x, packed[name], weights[f"{name}.bias"], *after)

    return fused


def _weights(files: ModelFiles) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = files.encoder / "model.safetensors"
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadSetting(f"{path} cannot be read: {error}. Download or copy the model again.") from None
    return {name.removeprefix("bert."): tensor.float() for name, tensor in tensors.items()}


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
