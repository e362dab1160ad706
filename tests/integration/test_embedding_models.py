"""Our vectors are sentence-transformers' vectors, for every kind of model."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from indexer.embedding.backends.torch_cpu import TorchCPU, bert, is_plain_bert, sentence_transformer
from indexer.embedding.engine import Engine
from indexer.embedding.models import find, revision
from indexer.embedding.tokenizer import ModelTokenizer
from ragplat.errors import BadSetting

BUILT_IN = find("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real texts of 5 to some 700 tokens, so that some are over the model's limit."""
    card = (BUILT_IN.folder / "README.md").read_text()
    return [card[start : start + size] for size in (20, 150, 700, 2500) for start in range(0, 5000, 1250)]


def encode(folder, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)


def embed(folder, texts: list[str]) -> np.ndarray:
    files = find(str(folder))
    engine = Engine(lambda: TorchCPU(files, threads=1))
    try:
        return engine.submit(ModelTokenizer(files).encode(texts, truncate=True)).result()
    finally:
        engine.close()


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(axis=1)


def test_the_built_in_model_gives_sentence_transformers_vectors(texts):
    assert is_plain_bert(BUILT_IN)
    assert cosines(embed(BUILT_IN.folder, texts), encode(BUILT_IN.folder, texts)).min() >= 0.99999


@pytest.mark.data
def test_agreement_on_real_abstracts(data_dir):
    lines = (data_dir / "beir_scifact" / "corpus.jsonl").read_text().splitlines()[:60]
    texts = [json.loads(line)["text"] for line in lines]
    assert cosines(embed(BUILT_IN.folder, texts), encode(BUILT_IN.folder, texts)).min() >= 0.99999


def test_our_pass_and_sentence_transformers_own_agree():
    generator = torch.Generator().manual_seed(0)
    lengths = (40, 7, 40, 39, 12)
    batch = [torch.randint(999, 30000, (length,), generator=generator).numpy() for length in lengths]
    with torch.inference_mode():
        ours = torch.nn.functional.normalize(bert(BUILT_IN)(batch))
        theirs = sentence_transformer(BUILT_IN)(batch)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.fixture
def small_model(tmp_path):
    """Makes small models with random weights and the built-in model's tokenizer."""

    def make(config, pooling: str):
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        from transformers import AutoModel

        torch.manual_seed(0)
        weights = tmp_path / "weights"
        AutoModel.from_config(config).save_pretrained(weights)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(BUILT_IN.folder / name, weights)
        folder = tmp_path / "small"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoder = Transformer(str(weights), max_seq_length=64)
            model = SentenceTransformer(modules=[encoder, Pooling(config.hidden_size, pooling)], device="cpu")
            model.save(str(folder))
        return folder

    return make


def test_bert_with_first_token_pooling(small_model, texts):
    from transformers import BertConfig

    size = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    folder = small_model(BertConfig(**size), "cls")
    assert is_plain_bert(find(str(folder)))
    assert cosines(embed(folder, texts), encode(folder, texts)).min() >= 0.99999


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_other_encoders_run_through_sentence_transformers(small_model, texts, pooling):
    from transformers import DistilBertConfig

    folder = small_model(DistilBertConfig(dim=48, n_layers=2, n_heads=4, hidden_dim=96), pooling)
    assert not is_plain_bert(find(str(folder)))
    assert cosines(embed(folder, texts), encode(folder, texts)).min() >= 0.99999


def test_the_revision_is_of_the_content(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(BUILT_IN.folder, copy)
    assert revision(find(str(copy))) == revision(BUILT_IN)
    with (copy / "model.safetensors").open("r+b") as weights:  # one weight of 22 million
        weights.seek(-4, 2)
        weights.write(b"\0\0\0\0")
    assert revision(find(str(copy))) != revision(BUILT_IN)


def test_broken_weights_are_named(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(BUILT_IN.folder, copy)
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadSetting, match=r"model\.safetensors cannot be read"):
        TorchCPU(find(str(copy)), threads=1)
