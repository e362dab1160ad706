"""How to serve a language model with vLLM for question answering: the arguments, and the arithmetic behind them."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODEL = "Qwen/Qwen3-8B"  # answers in English and Chinese, and fits one GPU of 24 GiB
CONTEXT = 16_384  # tokens of a prompt with its answer: rules, sources, conversation and some room
QUEUED = 256  # requests that may wait; more are refused with 503 and asked again later
USABLE = 0.9  # of a GPU's memory, vLLM's own default; a tenth of it is for computing
WORKING = 0.1
FEW = 8  # whole contexts in the cache: fewer, and people wait for each other

# What question answering wants of any server: sources that come again are read once (prefix caching is vLLM's default),
# people come before batches, a full queue says so, and every answer tells its tokens, cached ones too.
ALWAYS = (
    "--scheduling-policy", "priority",
    "--max-num-queued-reqs", str(QUEUED),
    "--enable-prompt-tokens-details",
    "--enable-force-include-usage",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GPU:
    """The GPUs of this machine, taken to be alike."""

    name: str
    count: int
    gib: float  # memory of each
    fp8: bool  # whether they compute with 8-bit floating point numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a model's files decides how much memory it takes."""

    weights: int  # bytes
    token: int  # bytes of the cache for each token, at 16 bits
    context: int  # tokens the model was made for


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arguments of `vllm serve`, and why they are what they are."""

    arguments: tuple[str, ...]
    reasons: tuple[str, ...]


def gpu() -> GPU | None:
    """What nvidia-smi says is here; None where there is no GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
    rows = [[part.strip() for part in line.split(",")] for line in told.splitlines() if line.count(",") == 2]
    if not rows:
        return None
    name, megabytes, capability = rows[0]
    return GPU(name=name, count=len(rows), gib=float(megabytes) / 1024, fp8=float(capability) >= 8.9)


def shape(folder: Path) -> Shape | None:
    """The shape of a model in a folder; None where it is not there, or tells too little."""
    try:
        config = json.loads((folder / "config.json").read_text())
        config = config.get("text_config", config)  # of models that see pictures, too
        heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
        width = config.get("head_dim") or config["hidden_size"] // heads
        keys = config.get("num_key_value_heads", heads)
        context = config["max_position_embeddings"]
    except (OSError, ValueError, KeyError):
        return None
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Shape(weights=weights, token=2 * layers * keys * width * 2, context=context) if weights else None


def plan(model: str, gpu: GPU | None, shape: Shape | None, context: int = CONTEXT) -> Plan:
    """The arguments for a model on these GPUs, or on the processor where there are none.

    ``shape`` None: nothing is known of the model, so nothing is said of memory. ``context`` is cut to what the model
    was made for.
    """
    context = min(context, shape.context) if shape else context
    arguments = [model, "--max-model-len", str(context)]
    reasons = [f"A prompt and its answer may have {context:,} tokens together."]
    if gpu:
        arguments += ["--max-num-batched-tokens", str(max(context, CONTEXT))]
        reasons.append("A whole prompt is read in one step.")
    if gpu and shape:
        more, why = _memory(gpu, shape, context)
        arguments += more
        reasons += why
    if not gpu:
        arguments += ["--dtype", "bfloat16"]
        reasons.append("No GPU was found: on a processor only models of about a billion parameters answer in time.")
    return Plan(arguments=(*arguments, *ALWAYS), reasons=tuple(reasons))


def _memory(gpu: GPU, shape: Shape, context: int) -> tuple[list[str], list[str]]:
    """What memory asks for: several GPUs, and a smaller cache."""
    arguments, gib, used = [], 2**30, 1
    while used * gpu.gib * gib * (USABLE - WORKING) < shape.weights + FEW * context * shape.token and used < gpu.count:
        used *= 2
    if used > 1:
        arguments += ["--tensor-parallel-size", str(used)]
    usable = used * gpu.gib * (USABLE - WORKING)
    tokens = (usable * gib - shape.weights) / shape.token
    fits = tokens / context
    reasons = [
        f"{used} x {gpu.name}: {usable:.0f} GiB usable, the weights take {shape.weights / gib:.1f} GiB, a token of the "
        f"cache {shape.token / 1024:.0f} KiB: room for {max(tokens, 0):,.0f} tokens, {max(fits, 0):.1f} whole contexts."
    ]
    if tokens <= 0:
        reasons.append("The model does not fit. Choose a smaller one, a quantised one, or more GPUs.")
    elif fits < FEW and gpu.fp8:
        arguments += ["--kv-cache-dtype", "fp8"]
        reasons.append("The cache is kept in 8 bits, for twice the room. Compare the answers with and without it.")
    return arguments, reasons
