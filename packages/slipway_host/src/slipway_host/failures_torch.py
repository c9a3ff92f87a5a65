"""What torch and transformers raise while a model loads, in plain words: cases of `failures.explain`."""

from __future__ import annotations

import os
import re
import traceback
from typing import Callable

from . import memory
from .contract import Place, listing

Found = tuple[str, str, str]
"""Kind, message, mend."""

_ALLOCATOR = re.compile(r"(?:can't allocate memory|not enough memory): you tried to allocate (\d+) bytes")
_STATE_DICT = re.compile(r"Error\(s\) in loading state_dict for ([\w.]+):\s*(.*)", re.DOTALL)
_NO_CLASS = re.compile(r"(?:Can't get attribute '(\w+)' on <module '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)')")
_NO_FILE = re.compile(r"does not appear to have (?:a file|files) named|no file named .* found in directory", re.DOTALL)
_NO_TOKENIZER = re.compile(
    r"Can't load (?:the )?(?:tokenizer|feature extractor|image processor)|instantiate the backend tokenizer"
)
_UNKNOWN_TYPE = re.compile(r"model type `?([\w.-]+)`? but Transformers does not recognize")


def explain(error: BaseException, place: Place) -> Found | None:
    """None: not one of these."""
    cases: tuple[Callable[[BaseException, str, Place], Found | None], ...]
    cases = (_memory, _weights_only, _class, _state_dict, _broken_file, _transformers)
    text = str(error)
    for case in cases:
        if (found := case(error, text, place)) is not None:
            return found
    return None


def _memory(error: BaseException, text: str, place: Place) -> Found | None:
    if not isinstance(error, RuntimeError):
        return None
    found = _ALLOCATOR.search(text)
    if found is None and "out of memory" not in text:
        return None
    asked = f"{int(found[1]) / (1 << 20):,.0f} MiB more" if found else "more"
    limit = memory.limit()
    bound = f"; the limit is {limit / (1 << 20):,.0f} MiB" if limit else ""
    return (
        "out-of-memory",
        f"Out of memory while {place.stage}: PyTorch asked for {asked}{bound}.",
        "choose an instance type with more memory, fewer workers (SAGEMAKER_MODEL_SERVER_WORKERS), or a smaller model",
    )


def _weights_only(error: BaseException, text: str, _place: Place) -> Found | None:
    if type(error).__name__ != "UnpicklingError" or "Weights only load failed" not in text:
        return None
    blocked = re.search(r"Unsupported global: GLOBAL ([\w.]+)", text)
    what = f" (it needs the class {blocked[1]})" if blocked else ""
    return (
        "pickle-version",
        f"torch.load refused the file{what}: since PyTorch 2.6 it reads tensors alone, not whole pickled models.",
        "save model.state_dict() and load that into the class; or, for a file you trust, torch.load(path, weights_only=False)",
    )


def _class(error: BaseException, text: str, _place: Place) -> Found | None:
    """A pickled model whose class is not where it was."""
    if not isinstance(error, AttributeError) or not _in_torch_load(error):
        return None
    found = _NO_CLASS.search(text)
    if found is None:
        return None
    name, module = (found[1], found[2]) if found[1] else (found[4], found[3])
    where = "the script that saved it (__main__)" if module == "__main__" else f"the module {module}"
    return (
        "pickle-version",
        f"The pickled model needs the class {name}, which was defined in {where} and is not known here.",
        "save model.state_dict() and build the class in code/inference.py; or put the class into a module of its own in code/",
    )


def _in_torch_load(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.endswith(f"torch{os.sep}serialization.py") for frame in frames)


def _state_dict(error: BaseException, text: str, _place: Place) -> Found | None:
    found = _STATE_DICT.search(text) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    detail = " ".join(found[2].split())[:300].rstrip(".")
    return (
        "model-fn-error",
        f"The weights do not fit the class {found[1]}: {detail}.",
        f"make {found[1]} in code/ the class that was trained, with the same layers and sizes, or save its weights anew",
    )


def _broken_file(error: BaseException, text: str, place: Place) -> Found | None:
    if not isinstance(error, (RuntimeError, EOFError)) or not ("PytorchStreamReader" in text or _in_torch_load(error)):
        return None
    return (
        "no-model",
        f"A file of the model archive is not what torch.save wrote, or was cut short ({' '.join(text.split())[:200]}); the "
        f"archive holds {listing(place.model_dir)}.",
        "save the model again with torch.save, look at its size, and pack the archive anew",
    )


def _in_tokenizer(error: BaseException) -> bool:
    """A tokenizer that was given None for the vocabulary it did not find."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(os.path.basename(frame.filename).startswith("tokenization_") for frame in frames)


def _transformers(error: BaseException, text: str, place: Place) -> Found | None:
    if not isinstance(error, (OSError, ValueError, TypeError)):
        return None
    if unknown := _UNKNOWN_TYPE.search(text):
        return (
            "model-fn-error",
            f"The installed transformers does not know the architecture {unknown[1]!r} that config.json names.",
            "correct model_type in config.json; for a model with code of its own, set HF_TRUST_REMOTE_CODE=true",
        )
    if _NO_FILE.search(text):
        missing = "weights (model.safetensors or pytorch_model.bin)"
    elif _NO_TOKENIZER.search(text) or ("NoneType" in text and _in_tokenizer(error)):
        missing = "tokenizer's files (tokenizer.json, tokenizer_config.json, the vocabulary)"
    else:
        return None
    return (
        "no-model",
        f"The model archive lacks the {missing}; it holds {listing(place.model_dir)}.",
        "write model and tokenizer with save_pretrained into one folder, and pack what is in it: `tar -czf model.tar.gz -C "
        "folder .`",
    )
