"""BERT's encoder as a forward pass of our own, for the embedder and the reranker.

It needs neither transformers nor sentence-transformers: 200 MB less memory and a start in 1 s instead of 6 s, with the
same numbers. The matrices are laid out once as oneDNN's kernels want them, instead of at each call: a short query is
1.6 times and bulk work 1.2 times as fast as with `torch.nn.functional.linear`. Texts of unlike length are laid end to
end instead of filled up to the longest; only attention sees them side by side.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from indexer.embedding.models import ModelFiles
from ragplat.errors import BadSetting

# ids, and token types (None: all 0), int [tokens] of each text -> hidden states, texts end to end [tokens, width]
Encode = Callable[[Sequence[np.ndarray], Sequence[np.ndarray] | None], torch.Tensor]


def is_usual(files: ModelFiles) -> bool:
    """Whether ``encoder`` computes this model's transformer: BERT with nothing unusual."""
    config = files.config
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and (files.encoder / "model.safetensors").exists()
    )


def load_weights(files: ModelFiles) -> dict[str, torch.Tensor]:
    """The weights by name, fp32, without the prefix "bert.". Raises BadSetting when the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = files.encoder / "model.safetensors"
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadSetting(f"{path} cannot be read: {error}. Download or copy the model again.") from None
    return {name.removeprefix("bert."): tensor.float() for name, tensor in tensors.items()}


def padded(batch: Sequence[np.ndarray], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids filled up with ``value`` to the longest, and which of them are real (1) or filled (0): int64."""
    longest = max(len(ids) for ids in batch)
    rows = np.full((len(batch), longest), value, dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=np.int64)
    for row, ids in enumerate(batch):
        rows[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return torch.from_numpy(rows), torch.from_numpy(mask)


def encoder(files: ModelFiles, weights: dict[str, torch.Tensor]) -> Encode:
    """The forward pass of BERT (Devlin et al. 2019). Takes the encoder's matrices out of ``weights``."""
    config = files.config
    heads, width, layers = (config[key] for key in ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    _join_query_key_value(weights, layers)
    linear = _linear(weights)
    words, places, types_of = (
        weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], config["layer_norm_eps"])

    def encode(batch: Sequence[np.ndarray], types: Sequence[np.ndarray] | None) -> torch.Tensor:
        side_by_side = _SideBySide([len(ids) for ids in batch])
        x = F.embedding(_flat(batch), words) + F.embedding(_flat([np.arange(len(ids)) for ids in batch]), places)
        x = x + (types_of[0] if types is None else F.embedding(_flat(types), types_of))
        x = norm(x, "embeddings.LayerNorm")
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            mixed = side_by_side.attention(linear(x, f"{layer}.attention.self.joined"), heads)
            x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = linear(linear(x, f"{layer}.intermediate.dense", gelu=True), f"{layer}.output.dense")
            x = norm(x + inner, f"{layer}.output.LayerNorm")
        return x

    return encode


def _flat(rows: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(rows).astype(np.int64))


class _SideBySide:
    """Attention for texts that lie end to end: spread out to the longest, mixed, and laid end to end again."""

    def __init__(self, lengths: Sequence[int]):
        self._shape = len(lengths), max(lengths)
        self._rows = self._mask = None  # where texts of unlike length lie when spread out
        if min(lengths) < max(lengths):
            mask = np.arange(max(lengths)) < np.asarray(lengths)[:, None]
            self._rows = torch.from_numpy(np.flatnonzero(mask))
            self._mask = torch.from_numpy(mask)[:, None, None, :]

    def attention(self, joined: torch.Tensor, heads: int) -> torch.Tensor:
        """Softmax attention within each text; query, key and value [tokens, 3 * width] -> [tokens, width]."""
        texts, longest = self._shape
        if self._rows is not None:
            joined = joined.new_zeros(texts * longest, joined.shape[1]).index_copy_(0, self._rows, joined)
        query, key, value = joined.view(texts, longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._mask)
        mixed = mixed.transpose(1, 2).reshape(texts * longest, -1)
        return mixed if self._rows is None else mixed[self._rows]


def _join_query_key_value(weights: dict[str, torch.Tensor], layers: int) -> None:
    """One matrix instead of three in each layer: the same bits, and a short query takes a tenth less time."""
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}.attention.self"
        for kind in ("weight", "bias"):
            parts = [weights.pop(f"{prefix}.{part}.{kind}") for part in ("query", "key", "value")]
            weights[f"{prefix}.joined.{kind}"] = torch.cat(parts)


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
