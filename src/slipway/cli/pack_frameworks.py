"""What a framework's image needs to find in an archive, told before it is uploaded (containers.md 2.1)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NAMES = ("sklearn", "xgboost", "pytorch", "huggingface", "tensorflow", "mxnet", "sparkml", "linear-learner")
_WEIGHTS = {"sklearn": (".joblib", ".pkl"), "pytorch": (".pt", ".pth")}
_HF_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx")
_NO_MODELS = (".md", ".txt", ".py", ".csv", ".yaml", ".yml", ".ipynb", ".log", ".toml", ".sh")


@dataclass(frozen=True, slots=True)
class Finding:
    wrong: bool
    """False: a hint; the archive can be used."""
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{'wrong' if self.wrong else 'note'}: {self.message}\n       {self.mend}"


def check_files(folder: Path, names: list[str], framework: str, *, script: bool) -> list[Finding]:
    """`names`: what lies at the top of the archive; `script`: it has code/inference.py. An unknown framework needs nothing."""
    if framework in _WEIGHTS:
        return [] if script else _one_file(folder, names, _WEIGHTS[framework])
    check = _CHECKS.get(framework)
    return check(folder, names, script) if check else []


def _one_file(folder: Path, names: list[str], endings: tuple[str, ...]) -> list[Finding]:
    """A bare model: exactly one at the top."""
    models = [name for name in names if name.endswith(endings) and (folder / name).is_file()]
    if len(models) == 1:
        return []
    kinds = " or ".join(f"*{ending}" for ending in endings)
    message = (
        f"There is no code/inference.py, and {len(models) or 'no'} {kinds} file{'s' if len(models) > 1 else ''} at the top."
    )
    return [Finding(True, message, f"add code/inference.py with a model_fn, or keep exactly one {kinds} file at the top")]


def _xgboost(folder: Path, names: list[str], script: bool) -> list[Finding]:
    """Algorithm mode loads each file at the top as a model, whatever its name; script mode loads what model_fn says."""
    files = [name for name in names if not name.startswith(".") and (folder / name).is_file()]
    if script:
        return []
    if not files:
        mend = "put the file that Booster.save_model wrote there, or add code/inference.py and set SAGEMAKER_PROGRAM"
        return [Finding(True, "There is no model file at the top.", mend)]
    strange = [name for name in files if name.endswith(_NO_MODELS)]
    if strange:
        mend = "keep only models at the top: without SAGEMAKER_PROGRAM each file there is loaded as one"
        return [Finding(True, f"{strange[0]} lies at the top and is no model.", mend)]
    if len(files) > 1:
        message = f"{len(files)} files lie at the top ({', '.join(files[:5])}): each is loaded, and answers are their mean."
        return [Finding(False, message, "keep one, unless an ensemble is meant")]
    return []


def _huggingface(folder: Path, names: list[str], script: bool) -> list[Finding]:
    """What save_pretrained writes, at the top."""
    if script or "model_index.json" in names:
        return []
    if "config.json" not in names:
        inner = [name for name in names if (folder / name / "config.json").is_file()]
        if inner:
            mend = f"pack what is in that folder: slipway pack {folder / inner[0]}"
            return [Finding(True, f"There is no config.json at the top, but {inner[0]}/config.json.", mend)]
        mend = (
            "put there what model.save_pretrained and tokenizer.save_pretrained write, or add code/inference.py with a model_fn"
        )
        return [Finding(True, "There is no config.json at the top.", mend)]
    if not any(name.endswith(_HF_WEIGHTS) for name in names):
        mend = "save the model there with save_pretrained"
        return [Finding(True, "There is a config.json and no file of weights (model.safetensors, pytorch_model.bin).", mend)]
    found = []
    if not any(name.startswith(("tokenizer", "vocab", "spiece", "preprocessor")) for name in names):
        message = "There is no tokenizer and no preprocessor_config.json."
        found.append(Finding(False, message, "most tasks need one: tokenizer.save_pretrained writes it"))
    try:
        told = json.loads((folder / "config.json").read_bytes())
    except (ValueError, RecursionError):
        return [Finding(True, "config.json is no JSON.", "write it with save_pretrained")]
    if not (isinstance(told, dict) and told.get("architectures")):
        message = "config.json names no architecture, which would say the task."
        found.append(Finding(False, message, "set HF_TASK in the model's Environment"))
    return found


def _tensorflow(folder: Path, names: list[str], script: bool) -> list[Finding]:
    """`[name/]<version>/saved_model.pb`, with a script too: it only turns requests and answers."""
    versions: list[str] = []
    elsewhere: list[str] = []
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if name not in ("code", "variables", "assets"))
        if {"saved_model.pb", "saved_model.pbtxt"} & set(files):
            (versions if os.path.basename(place).isdigit() and Path(place) != folder else elsewhere).append(place)
    if versions:
        return []
    mend = "export it into a folder whose name is a number: model.export('export/1'), then slipway pack export"
    if elsewhere:
        where = os.path.relpath(elsewhere[0], folder)
        shown = "at the top" if where == "." else f"in {where}/"
        return [Finding(True, f"saved_model.pb lies {shown}, which is no folder of a version.", mend)]
    keras = next((name for name in names if name.endswith((".keras", ".h5"))), "")
    message = f"There is no <version>/saved_model.pb{f', but {keras}' if keras else ''}."
    return [Finding(True, message, mend)]


def _sparkml(folder: Path, names: list[str], script: bool) -> list[Finding]:
    """An MLeap bundle unzipped at the top, or a PipelineModel's folders."""
    if "bundle.json" in names or {"metadata", "stages"} <= set(names):
        return []
    zipped = next((name for name in names if name.endswith(".zip")), "")
    message = f"There is no bundle.json at the top{f', but {zipped}' if zipped else ''}."
    return [Finding(True, message, "unzip the MLeap bundle: bundle.json and root/ must lie at the top")]


def _mxnet(folder: Path, names: list[str], script: bool) -> list[Finding]:
    """The three files that its default model_fn loads; AWS's image wants a script beside, be it empty."""
    if script:
        return []
    if missing := [name for name in ("model-symbol.json", "model-0000.params", "model-shapes.json") if name not in names]:
        mend = "save it with Module.save_checkpoint('model', 0) and model-shapes.json beside, or add code/inference.py"
        return [Finding(True, f"There is no code/inference.py, and no {', '.join(missing)} at the top.", mend)]
    return [Finding(False, "There is no code/inference.py.", "AWS's image does not start without one; it may be empty")]


def _linear_learner(folder: Path, names: list[str], script: bool) -> list[Finding]:
    if "model_algo-1" in names:
        return []
    return [Finding(True, "There is no model_algo-1 at the top.", "pack that file as AWS's training job wrote it, still a zip")]


_CHECKS: dict[str, Callable[[Path, list[str], bool], list[Finding]]] = {
    "xgboost": _xgboost,
    "huggingface": _huggingface,
    "tensorflow": _tensorflow,
    "sparkml": _sparkml,
    "mxnet": _mxnet,
    "linear-learner": _linear_learner,
}
