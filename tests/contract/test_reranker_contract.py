"""What every reranking backend must hold."""

import json
import shutil

import numpy as np
import pytest

from indexer.embedding.backends import RERANKERS
from indexer.embedding.backends.base import Pair
from indexer.embedding.engine import Engine
from indexer.embedding.models import find, find_reranker
from indexer.embedding.tokenizer import PairTokenizer

QUERY = "How often should the database be vacuumed?"
TEXTS = [
    "The cat sat on the mat.",
    "",
    "Vacuum the database once a week, or the tables bloat.",
    "数据库每周清理一次。",
    "word " * 100,
    "x",
]


@pytest.fixture(scope="module")
def small_cross_encoder(tmp_path_factory) -> str:
    """A cross-encoder with random weights and the built-in model's tokenizer, in a folder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("models") / "small"
    size = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(**size, num_labels=1)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(find("all-MiniLM-L6-v2").folder / name, folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    return str(folder)


@pytest.fixture(scope="module", params=["torch-cpu", "overlap"])
def files(request):
    if request.param == "overlap":
        return find_reranker("overlap")
    return find_reranker(request.getfixturevalue("small_cross_encoder"))


@pytest.fixture(scope="module")
def reranker(files):
    return RERANKERS.get(files.backend)(files, threads=1)


@pytest.fixture(scope="module")
def pairs(files) -> list[Pair]:
    return PairTokenizer(files).encode(QUERY, TEXTS)[0]


def test_every_backend_is_tested():
    assert RERANKERS.names() == ["overlap", "torch-cpu"]


def test_shape_and_type(reranker, pairs):
    scores = reranker.score(pairs)
    assert scores.shape == (len(TEXTS),)
    assert scores.dtype == np.float32
    assert len(set(scores.tolist())) > 2


def test_order_is_kept_and_batches_do_not_matter(reranker, pairs):
    alone = np.concatenate([reranker.score([pair]) for pair in pairs])
    assert reranker.score(pairs) == pytest.approx(alone, abs=1e-6)
    assert reranker.score(pairs[::-1])[::-1] == pytest.approx(alone, abs=1e-6)
    engine = Engine(lambda: None, lambda: reranker, batch_tokens=64)
    try:
        assert engine.rerank(pairs).result() == pytest.approx(alone, abs=1e-6)
        assert engine.rerank([]).result().shape == (0,)
    finally:
        engine.close()


def test_signature_names_what_shapes_a_score(reranker, files):
    fields = dict(part.split(":", 1) for part in reranker.signature().split("|")[1:])
    assert (fields["backend"], fields["model"]) == (reranker.name, files.name)
