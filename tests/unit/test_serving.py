"""The recommended vLLM line: right for the machine, the same in docker-compose.yml."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command

from inference import serving
from inference.serving import GPU, Shape, plan, shape
from ragplat.errors import BadInput, Unavailable
from ragplat.paths import BASE_DIR

GIB = 2**30
H200 = GPU(name="H200", count=1, gib=140, fp8=True)
SMALL = Shape(weights=16 * GIB, token=144 * 1024, context=40_960)  # as a model of 8 billion parameters


def value(arguments, name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_one_large_gpu_needs_nothing_special():
    made = plan("m", H200, SMALL)
    assert made.arguments[:3] == ("m", "--max-model-len", "16384")
    assert "--kv-cache-dtype" not in made.arguments
    assert "--tensor-parallel-size" not in made.arguments
    # 140 GiB x 0.8 - 16 GiB = 96 GiB of cache at 144 KiB a token
    assert "room for 699,051 tokens, 42.7 whole contexts" in made.reasons[-1]


def test_a_small_gpu_gets_a_smaller_cache_where_it_can_compute_with_it():
    card = GPU(name="L4", count=1, gib=24, fp8=True)
    assert value(plan("m", card, SMALL).arguments, "--kv-cache-dtype") == "fp8"
    assert "--kv-cache-dtype" not in plan("m", GPU(name="A10", count=1, gib=24, fp8=False), SMALL).arguments


def test_a_model_over_several_gpus():
    large = Shape(weights=140 * GIB, token=320 * 1024, context=131_072)
    card = GPU(name="H100", count=4, gib=80, fp8=True)
    assert value(plan("m", card, large).arguments, "--tensor-parallel-size") == "4"
    assert "does not fit" in " ".join(plan("m", GPU(name="H100", count=1, gib=80, fp8=True), large).reasons)


def test_a_short_model_is_not_asked_for_more():
    short = Shape(weights=GIB, token=1024, context=2048)
    assert value(plan("m", H200, short).arguments, "--max-model-len") == "2048"


def test_without_a_gpu_it_says_what_to_expect():
    made = plan("m", None, None)
    assert "--max-num-batched-tokens" not in made.arguments
    assert "No GPU was found" in made.reasons[-1]


def test_the_shape_is_read_from_the_files(tmp_path):
    assert shape(tmp_path) is None
    config = {"num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 4096, "max_position_embeddings": 40_960}))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    assert shape(tmp_path) == Shape(weights=1000, token=2 * 36 * 8 * 128 * 2, context=40_960)
    (tmp_path / "config.json").write_text("{")
    assert shape(tmp_path) is None


def test_compose_runs_the_line_for_one_gpu():
    command = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"]["vllm"]["command"]
    flat = [part for one in command[1:] for part in one.split("=")]
    assert flat == list(plan("m", H200, None).arguments[1:])
    assert serving.MODEL in command[0]


def test_nvidia_smi_is_asked(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 9.0'\necho 'NVIDIA H200, 143771, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert serving.gpu() == GPU(name="NVIDIA H200", count=2, gib=143771 / 1024, fp8=True)
    tool.write_text("#!/bin/sh\necho 'no devices were found'; exit 6\n")
    assert serving.gpu() is None


def llm(*arguments: str) -> str:
    out = io.StringIO()
    call_command("llm", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_prints_the_line_and_what_to_do_with_it(settings):
    settings.GENERATOR_MODEL = ""
    shown = llm()
    assert f"vllm serve {serving.MODEL} --max-model-len 16384" in shown
    assert "RAGPLAT_GENERATOR_URL=http://127.0.0.1:8001/v1" in shown
    told = json.loads(llm("other/model", "--port", "9000", "--json"))
    assert told["line"][:3] == ["vllm", "serve", "other/model"]
    assert told["url"] == "http://127.0.0.1:9000/v1"
    with pytest.raises(BadInput, match="--context is 10"):
        llm("--context", "10")


def test_run_becomes_vllm_or_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="pip install vllm"):
        llm("--run")
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\nprintf '%s ' ran \"$@\"\n")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(Path(BASE_DIR, "manage.py")), "llm", "m", "--run"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1].startswith("ran serve m --max-model-len 16384")
