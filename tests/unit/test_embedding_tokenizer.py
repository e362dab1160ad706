import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.embedding.models import describe, find
from indexer.embedding.tokenizer import ModelTokenizer
from ragplat.errors import BadInput, BadSetting

MINILM = ModelTokenizer.load("all-MiniLM-L6-v2")
LONG = "word " * 200


def test_the_shipped_truncation_and_padding_are_reset():
    """The model's tokenizer.json cuts and pads to 128 tokens; the model is declared for 256."""
    shipped = json.loads((MINILM.files.encoder / "tokenizer.json").read_text())
    assert shipped["truncation"]["max_length"] == 128  # else this test proves nothing
    ids = MINILM.encode([LONG, "hello"])
    assert [len(text) for text in ids] == [202, 3]
    assert len(MINILM.offsets(LONG)) == 200


def test_ids_have_the_models_markers_and_type():
    [ids] = MINILM.encode(["Hello world"])
    assert ids.tolist() == [101, 7592, 2088, 102]
    assert ids.dtype == np.int32
    assert MINILM.special_tokens == 2


def test_the_limit_is_the_models_own_or_the_one_asked_for():
    assert MINILM.max_tokens == 256
    assert ModelTokenizer.load("all-MiniLM-L6-v2", 512).max_tokens == 512
    with pytest.raises(BadInput, match=r"max_tokens is 513\. all-MiniLM-L6-v2 takes 8 to 512 tokens \(256 advised\)"):
        ModelTokenizer.load("all-MiniLM-L6-v2", 513)
    with pytest.raises(BadInput, match="max_tokens is 0"):
        ModelTokenizer.load("all-MiniLM-L6-v2", 0)


def test_a_text_may_just_fill_the_limit():
    tokenizer = ModelTokenizer.load("all-MiniLM-L6-v2", 12)
    assert len(tokenizer.encode(["word " * 10])[0]) == 12
    with pytest.raises(BadInput, match=r"Text 0 has 13 tokens; all-MiniLM-L6-v2 is given at most 12 here"):
        tokenizer.encode(["word " * 11])


def test_truncation_keeps_the_start_and_the_markers():
    tokenizer = ModelTokenizer.load("all-MiniLM-L6-v2", 12)
    [cut], [whole] = tokenizer.encode(["one two three " * 9], truncate=True), MINILM.encode(["one two three " * 9])
    assert cut.tolist() == [*whole[:11], 102]


@pytest.mark.parametrize("texts, message", [
    ("text", "A list of texts"),
    ([1], "Text 0 is int"),
    (["a", "b\ud800"], "Text 1 holds a half character .* position 1"),
])  # fmt: skip
def test_what_is_not_text_is_refused(texts, message):
    with pytest.raises(BadInput, match=message):
        MINILM.encode(texts)


@given(st.text())
def test_offsets_lie_in_the_text_and_match_the_ids(text):
    offsets = MINILM.offsets(text)
    assert len(offsets) == len(MINILM.encode([text], truncate=True)[0]) - 2 or len(offsets) > 254
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert all(before[0] <= after[0] for before, after in pairwise(offsets))


def test_offsets_count_code_points():
    text = "naïve 😀 你好"
    assert [text[start:end] for start, end in MINILM.offsets(text)] == ["naïve", "😀", "你", "好"]


def test_the_signature_is_of_the_content():
    assert MINILM.signature() == ModelTokenizer.load("all-MiniLM-L6-v2", 64).signature()
    assert MINILM.signature() != ModelTokenizer.load("hashing").signature()


def test_an_unknown_model_names_the_choices_and_the_cure():
    with pytest.raises(BadInput, match=r'no embedding model "none/such".*hf download none/such'):
        find("none/such")
    with pytest.raises(BadInput, match=r"hf download sentence-transformers/nonesuch"):
        find("nonesuch")
    with pytest.raises(BadInput, match="There is no embedding model"):
        find("a b/../c")


@pytest.fixture
def copy(tmp_path):
    """A folder with the built-in model's files except its weights, to be changed."""
    folder = tmp_path / "model"
    shutil.copytree(MINILM.files.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    return folder


def test_a_folder_is_described_by_its_own_files(copy):
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 99, "do_lower_case": true}')
    (copy / "config_sentence_transformers.json").write_text('{"prompts": {"query": "ask: ", "passage": "read: "}}')
    files = find(str(copy))
    assert (files.name, files.max_tokens, files.lowercase) == ("model", 99, True)
    assert files.modules == ("Transformer", "Pooling", "Normalize")
    assert (files.pooling, files.vocabulary, files.positions) == ("mean", 30522, 512)
    assert files.prompts == {"query": "ask: ", "document": "read: "}
    assert ModelTokenizer(files).encode(["HELLO"])[0].tolist() == [101, 7592, 102]


def test_roberta_cannot_use_all_its_positions(copy):
    config = json.loads((copy / "config.json").read_text()) | {
        "model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1,
    }  # fmt: skip
    (copy / "config.json").write_text(json.dumps(config))
    assert describe(copy, name="r", backend="torch-cpu").positions == 512


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BadSetting, match=name.rpartition("/")[2]):
        ModelTokenizer.load(str(copy))


def test_a_broken_file_is_named(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(BadSetting, match=r"config\.json cannot be read"):
        find(str(copy))


def test_the_share_of_tokens_that_the_vocabulary_knows():
    assert MINILM.known_share("How tall is the lighthouse?") == 1.0
    assert MINILM.known_share("") == 1.0
    assert MINILM.known_share("\U00013000 lighthouse") == 0.5
    assert MINILM.known_share("\U00013000") == 0.0
