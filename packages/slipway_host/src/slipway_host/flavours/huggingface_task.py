"""Which pipeline a Hugging Face model wants, and where it lies: HF_TASK, HF_MODEL_ID, config.json (containers.md 3.5)."""

from __future__ import annotations

import json
import os
from typing import Any

from ..contract import LoadError, Place, listing

_BY_SUFFIX = (
    ("TapasForQuestionAnswering", "table-question-answering"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForTokenClassification", "token-classification"),
    ("ForSequenceClassification", "text-classification"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", "text-generation"),
    ("GPT2LMHeadModel", "text-generation"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("MTModel", "text2text-generation"),
    ("EncoderDecoderModel", "text2text-generation"),
    ("T5WithLMHeadModel", "text2text-generation"),
)
_NAME_TASK = "set HF_TASK in the model's Environment, for example to summarization or feature-extraction"


def task_of(place: Place, folder: str) -> str:
    """HF_TASK, else what the architecture in config.json is for. Raises LoadError."""
    named = place.environment.get("HF_TASK", "").strip()
    if named:
        return named
    if os.path.isfile(os.path.join(folder, "model_index.json")):
        return "text-to-image"
    architectures = [str(name) for name in read_config(folder).get("architectures") or []]
    for name in architectures[:1]:
        for suffix, task in _BY_SUFFIX:
            if name.endswith(suffix):
                return task
    shown = architectures[0] if architectures else "config.json, which names no architecture"
    raise LoadError(
        "model-fn-error",
        f"Task couldn't be inferenced from {shown}. Only architectures that end in "
        f"{', '.join(suffix for suffix, _ in _BY_SUFFIX)} name one.",
        _NAME_TASK,
    )


def read_config(folder: str) -> dict[str, Any]:
    """config.json. Raises LoadError."""
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        raise _no_model(folder) from None
    except ValueError as error:
        raise LoadError(
            "no-model", f"config.json cannot be read ({error}).", "write it with save_pretrained and pack it anew"
        ) from None
    return config if isinstance(config, dict) else {}


def _no_model(folder: str) -> LoadError:
    mend = "write model and tokenizer with save_pretrained, pack what is in the folder (`tar -czf model.tar.gz -C folder .`)"
    entries = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    inner = [name for name in entries if os.path.isfile(os.path.join(folder, name, "config.json"))]
    if inner:
        mend = f"pack what is in that folder, not the folder: `tar -czf model.tar.gz -C {inner[0]} .`"
        return LoadError("no-model", f"The model archive has no config.json at its top; there is {inner[0]}/config.json.", mend)
    return LoadError(
        "no-model",
        f"There is no config.json at the top of the model archive (it holds {listing(folder)}), and HF_MODEL_ID is not set.",
        f"{mend}, or set HF_MODEL_ID, or put code/inference.py with a model_fn into the archive",
    )


def folder_of(place: Place) -> str:
    """The folder of the model's files: the archive, or HF_MODEL_ID fetched from the hub. Raises LoadError."""
    name = place.environment.get("HF_MODEL_ID", "").strip()
    present = os.listdir(place.model_dir) if os.path.isdir(place.model_dir) else []
    if not name or "config.json" in present or "model_index.json" in present:
        return place.model_dir
    return _fetch(place, name)


def go_offline(place: Place) -> None:
    """With the files in the archive nothing may look for newer ones. Before transformers is imported, which reads these."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(variable, "1")
    place.stage = "loading the pipeline"


def _fetch(place: Place, name: str) -> str:
    """Raises LoadError, whose words never hold the token."""
    token = place.environment.get("HF_API_TOKEN") or place.environment.get("HF_TOKEN") or None
    revision = place.environment.get("HF_MODEL_REVISION", "").strip() or None
    place.stage = f"downloading {name} from the Hugging Face hub"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    from huggingface_hub import snapshot_download  # noqa: PLC0415  optional, transformers brings it

    try:
        ignored = ["*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "flax_model*", "rust_model*"]
        return str(snapshot_download(name, revision=revision, token=token, ignore_patterns=ignored))
    except Exception as error:  # noqa: BLE001  of the hub's client, or of the network below
        raise _not_fetched(name, error, token) from None


def _not_fetched(name: str, error: BaseException, token: str | None) -> LoadError:
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or kind in ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"):
        told = f" (HTTP {status})" if status else ""
        return LoadError(
            "no-model",
            f"The Hugging Face hub gives no model {name}{told}: there is none of this name and revision, or it is not open to "
            f"{'this HF_API_TOKEN' if token else 'everybody'}.",
            "check HF_MODEL_ID and HF_MODEL_REVISION; for a private or gated model set HF_API_TOKEN to one that may read it",
        )
    words = " ".join(str(error).split())[:200].rstrip(".")
    if token:
        words = words.replace(token, "***")
    return LoadError(
        "no-model",
        f"HF_MODEL_ID names {name}, which could not be downloaded from the Hugging Face hub ({kind}: {words}).",
        "let this machine reach the hub; or download the model elsewhere (save_pretrained), pack it as model.tar.gz, give it "
        "as ModelDataUrl and remove HF_MODEL_ID",
    )
