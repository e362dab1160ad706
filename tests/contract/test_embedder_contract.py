"""What every embedding backend must hold."""

import numpy as np
import pytest

from indexer.embedding.backends import BACKENDS
from indexer.embedding.engine import Engine
from indexer.embedding.models import find
from indexer.embedding.tokenizer import ModelTokenizer
from ragplat.errors import BadInput

MODELS = {"torch-cpu": "all-MiniLM-L6-v2", "hashing": "hashing"}
TEXTS = [
    "The cat sat on the mat.",
    "",
    "Vacuum the database once a week, or the tables bloat.",
    "数据库每周清理一次。",
    "word " * 120,
    "A naïve café, ﬁne.",
    "x",
]


@pytest.fixture(scope="module", params=sorted(MODELS))
def embedder(request):
    files = find(MODELS[request.param])
    return BACKENDS.get(request.param)(files, threads=1)


@pytest.fixture(scope="module")
def tokenizer(embedder) -> ModelTokenizer:
    return ModelTokenizer.load(MODELS[embedder.name])


@pytest.fixture
def engine(embedder):
    engine = Engine(lambda: embedder, batch_tokens=64)
    yield engine
    engine.close()


def test_every_backend_is_tested():
    assert sorted(MODELS) == BACKENDS.names()


def test_shape_type_and_unit_norm(embedder, tokenizer):
    vectors = embedder.embed(tokenizer.encode(TEXTS))
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_order_is_kept_and_batches_do_not_matter(embedder, engine, tokenizer):
    ids = tokenizer.encode(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in ids])
    assert engine.submit(ids).result() == pytest.approx(alone, abs=1e-5)
    assert embedder.embed(ids) == pytest.approx(alone, abs=1e-5)
    assert embedder.embed(ids[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_no_texts_give_no_vectors(embedder, engine):
    assert engine.submit([]).result().shape == (0, embedder.dimensions)


def test_too_long_a_text_is_refused_by_name(tokenizer):
    with pytest.raises(BadInput, match=r"Text 1 has 302 tokens.*at most 256"):
        tokenizer.encode(["short", "word " * 300])


def test_like_texts_are_nearer_than_others(embedder, tokenizer):
    asked, near, far = embedder.embed(
        tokenizer.encode(["how to reset a password", "reset your password here", "bananas are yellow fruit"])
    )
    assert asked @ near > asked @ far + 0.1


def test_signature_names_what_shapes_a_vector(embedder):
    fields = dict(part.split(":", 1) for part in embedder.signature().split("|")[1:])
    assert fields["backend"] == embedder.name
    assert fields["dimensions"] == str(embedder.dimensions)
    assert len(embedder.signature()) <= 300
