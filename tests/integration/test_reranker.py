"""Our scores are sentence-transformers' scores, and the service gives them to whoever asks rightly."""

import json
import shutil
import subprocess
import sys
import warnings

import httpx
import numpy as np
import pytest

from indexer.embedding import client as client_module
from indexer.embedding import wire
from indexer.embedding.backends.bert import is_usual
from indexer.embedding.backends.cross_encoder import CrossEncoderCPU
from indexer.embedding.client import EmbeddingClient
from indexer.embedding.models import find, find_reranker
from indexer.embedding.tokenizer import PairTokenizer
from ragplat.errors import BadInput, BadSetting, EmbedderUnavailable
from tests.fixtures_embedding import ROOT, EmbeddingProcess

BUILT_IN = find("all-MiniLM-L6-v2")
RANGE = {"initializer_range": 0.2, "num_labels": 1}  # the usual 0.02 gives nearly one number for every text
SIZE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96} | RANGE
QUERY = "What is the model trained on, and how long?"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real texts of 5 to some 700 tokens, so that some are over the model's limit."""
    card = (BUILT_IN.folder / "README.md").read_text()
    return [card[start : start + size] for size in (20, 150, 700, 2500) for start in range(0, 5000, 1250)]


def save(model, folder, **config):
    """Write a model with the built-in model's tokenizer, ``config`` added to its config.json."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(BUILT_IN.folder / name, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def small(kind: str, folder, **config):
    """A cross-encoder with random weights: of BERT, which we run ourselves, or of another kind."""
    import torch
    import transformers

    torch.manual_seed(0)
    make, made = {
        "bert": (transformers.BertForSequenceClassification, transformers.BertConfig(**SIZE)),
        "electra": (
            transformers.ElectraForSequenceClassification,
            transformers.ElectraConfig(**SIZE, embedding_size=32),
        ),
        "distilbert": (
            transformers.DistilBertForSequenceClassification,
            transformers.DistilBertConfig(dim=48, n_layers=2, n_heads=4, hidden_dim=96, **RANGE),
        ),
    }[kind]
    return save(make(made), folder, **config)


def score(folder, texts: list[str]) -> np.ndarray:
    files = find_reranker(str(folder))
    return CrossEncoderCPU(files, threads=1).score(PairTokenizer(files).encode(QUERY, texts)[0])


def reference(folder, texts: list[str]) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return model.predict([(QUERY, text) for text in texts], show_progress_bar=False)


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_scores_are_sentence_transformers_scores(kind, tmp_path, texts):
    folder = small(kind, tmp_path / kind)
    assert is_usual(find_reranker(str(folder))) == (kind == "bert")
    ours, theirs = score(folder, texts), reference(folder, texts)
    assert np.ptp(theirs) > 0.01
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0"}},
    ],
)
def test_logits_where_the_model_asks_for_them(config, tmp_path, texts):
    folder = small("bert", tmp_path / "logits", **config)
    ours = score(folder, texts)
    assert ours == pytest.approx(reference(folder, texts), abs=1e-5)
    plain = score(small("bert", tmp_path / "sigmoid"), texts)
    assert plain == pytest.approx(1 / (1 + np.exp(-ours)), abs=1e-5)


def test_our_pass_is_transformers_own_forward(tmp_path, texts):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = small("bert", tmp_path / "m", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer([QUERY] * len(texts), texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        logits = model.eval()(**batch).logits[:, 0].numpy()
    assert score(folder, texts) == pytest.approx(logits, abs=1e-5)


def test_what_is_over_the_limit_is_cut_and_counted():
    tokenizer = PairTokenizer(find_reranker("overlap"))  # takes 256 tokens
    fits = "word " * (256 - 3 - 2)
    pairs, cut = tokenizer.encode("two words", [fits, fits + "word", "short"])
    assert [len(pair) for pair in pairs] == [256, 256, 6]
    assert cut == 1
    [pair], cut = tokenizer.encode("q " * 400, ["short text"])  # a pasted page: its end goes, the text stays
    assert (len(pair), cut, int((pair.types == 1).sum())) == (256, 1, 3)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda f: str(BUILT_IN.folder), "holds a BertModel, which is no cross-encoder"),
        (lambda f: small("bert", f, id2label={"0": "no", "1": "yes"}), "sorts texts into 2 classes"),
        (lambda f: small("bert", f, sbert_ce_default_activation_function="my.code.Tanh"), "activation Tanh. Allowed"),
        (lambda f: without_classifier("bert", f), r"no cross-encoder: its weights lack classifier\.weight"),
        (lambda f: without_classifier("electra", f), "no cross-encoder: its weights lack classifier"),
    ],
)
def test_what_is_no_cross_encoder_is_refused(broken, message, tmp_path):
    with pytest.raises(BadSetting, match=message):
        score(broken(tmp_path / "m"), ["x"])


def without_classifier(kind: str, folder):
    from safetensors.torch import load_file, save_file

    small(kind, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_unknown_name_says_where_to_get_it():
    with pytest.raises(BadInput, match=r'no reranker "none".*hf download cross-encoder/none'):
        find_reranker("none")


# The service


@pytest.fixture(scope="module")
def service():
    with EmbeddingProcess("hashing", reranker="overlap") as process:
        yield process


@pytest.fixture
def http(service):
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(service.path)), base_url="http://embed") as http:
        yield http


def test_the_answer_has_the_form_of_text_embeddings_inference(http):
    answer = http.post("/rerank", json={"query": "red apples", "texts": ["green pears", "red apples", "red pears"]})
    assert answer.status_code == 200
    assert [list(one) for one in answer.json()] == [["index", "score"]] * 3
    assert [one["index"] for one in answer.json()] == [1, 2, 0], "best first"
    assert answer.headers[wire.CUT_HEADER] == "0"
    info = http.get("/info").json()["reranker"]
    assert (info["model"], info["max_tokens"]) == ("overlap", 256)
    assert (
        answer.headers[wire.FINGERPRINT_HEADER] == info["fingerprint"] == "reranker|model:overlap|backend:overlap|v:1"
    )


@pytest.mark.parametrize("sent, status, error_type", [
    (b"abc", 400, "malformed"),
    (b"\xff", 400, "malformed"),
    (b"[]", 400, "malformed"),
    (b'{"query": "a"}', 400, "malformed"),
    (b'{"query": "a", "texts": "b"}', 400, "malformed"),
    (b'{"query": "a", "texts": [1]}', 400, "malformed"),
    (b'{"query": 1, "texts": ["b"]}', 400, "malformed"),
    (b'{"query": "a", "texts": ["b"], "model": null}', 400, "malformed"),
    (b'{"query": "a", "texts": ["b"], "raw_scores": true}', 400, "malformed"),
    (b'{"query": "a", "texts": ["\\ud800"]}', 400, "malformed"),
    (b'{"query": " ", "texts": ["b"]}', 400, "empty"),
    (b'{"query": "a", "texts": []}', 400, "empty"),
    (b'{"query": "a", "texts": ["b"], "model": "other"}', 404, "no_reranker"),
    (json.dumps({"query": "a", "texts": ["word " * 250] * 140}).encode(), 413, "too_large"),
    (bytes(wire.MAX_RERANK_BODY + 1), 413, "too_large"),
])  # fmt: skip
def test_wrong_requests_get_a_clear_error(http, sent, status, error_type):
    answer = http.post("/rerank", content=sent)
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type)
    assert answer.json()["error"]


def test_the_client_gives_scores_in_the_order_of_the_texts(service):
    client = service.client()
    found = client.rerank("red apples", ["green pears", "red apples", "word " * 300], model="some/overlap")
    assert found.scores.dtype == np.float32
    assert found.scores == pytest.approx([0.25, 0.75, 0.25])
    assert (found.cut, found.fingerprint) == (1, "reranker|model:overlap|backend:overlap|v:1")
    none = client.rerank("red apples", [])
    assert (none.scores.shape, none.scores.dtype, none.cut) == ((0,), np.float32, 0)
    with pytest.raises(BadInput, match=r"runs the reranker overlap, not big-one\. Set RAGPLAT_RERANK_MODEL to big-one"):
        client.rerank("x", ["y"], model="big-one")
    with pytest.raises(BadInput, match="lone surrogate"):
        client.rerank("x", ["\ud800"])


def test_any_embedding_model_may_run_beside_it(service):
    assert EmbeddingClient(service.url).rerank("x", ["x"]).scores.shape == (1,)


def test_a_service_without_a_reranker_says_how_to_get_one(toy_embedding_service):
    with pytest.raises(BadInput, match=r"runs no reranker\. Set RAGPLAT_RERANK_MODEL"):
        EmbeddingClient(toy_embedding_service, "hashing").rerank("x", ["y"])


def test_a_service_that_stays_away_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PATIENCE", {"rerank": 0.3})
    with pytest.raises(EmbedderUnavailable, match="does not answer"):
        EmbeddingClient(f"unix://{tmp_path}/none.sock").rerank("x", ["y"])


def test_a_wrong_reranker_stops_the_start(tmp_path):
    command = [sys.executable, "-m", "indexer.embedding.service", "--uds", tmp_path / "s", "--model", "hashing"]
    done = subprocess.run(
        [*command, "--reranker", "none/such"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert 'There is no reranker "none/such" on this machine' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bert_reranker_needs_no_heavy_library(tmp_path):
    """The memory of the service is a promise: the usual kind of reranker adds its weights and no more."""
    folder = small("bert", tmp_path / "m")
    code = (
        "import sys; from indexer.embedding.service import load;"
        f"load('hashing', None, 1, {str(folder)!r}).engine.close();"
        "print([name for name in ('transformers', 'sentence_transformers', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
