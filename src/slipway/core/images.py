"""What an image URI asks for: framework, version, device, python, scope (containers.md 4.1); what runs is decided elsewhere.

A framework is recognised by repository and tag, never by account: accounts differ per region and family, and mirrors keep
the repository's name. Only one-word names that anybody might use (`kmeans`, `xgboost`) count in ECR registries alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ECR_HOST = re.compile(
    r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com|amazonaws\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov|csp\.hci\.ic\.gov)"
)
_ACCELERATORS = r"(?:-(?:eia|graviton|arm64|neuron|neuronx))?"
_DEEP = re.compile(rf"(pytorch|tensorflow|mxnet|autogluon|stabilityai-pytorch)-(inference|training)({_ACCELERATORS})")
_HUGGING_FACE = re.compile(r"huggingface-(pytorch|tensorflow)(?:-trcomp)?-(inference|training)((?:-neuronx?)?)")
_LEGACY = re.compile(r"sagemaker-(pytorch|tensorflow|mxnet|chainer)(?:-(serving-eia|serving|scriptmode|eia))?")
_COMPILED = re.compile(r"sagemaker-(?:neo|inference)-(pytorch|tensorflow|mxnet)")
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_REVISION = re.compile(r"(\d+(?:\.\d+)*)(?:-(\d+))?")
_PYTHON = re.compile(r"py\d+")
_CUDA = re.compile(r"cu\d+")
_PROCESSORS = ("cpu", "gpu", "neuronx", "neuron", "inf")
_LARGE_MODEL_SERVERS = {
    "djl-inference": "djl",
    "huggingface-pytorch-tgi-inference": "tgi",
    "tei": "tei",
    "tei-cpu": "tei",
    "huggingface-vllm-inference-neuronx": "vllm",
}
BUILT_IN = frozenset(
    (
        "linear-learner",
        "knn",
        "kmeans",
        "pca",
        "randomcutforest",
        "blazingtext",
        "ntm",
        "lda",
        "factorization-machines",
        "image-classification",
        "object-detection",
        "semantic-segmentation",
        "seq2seq",
        "forecasting-deepar",
        "ipinsights",
        "object2vec",
    )
)
"""Repositories of AWS's built-in algorithms."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image URI, taken apart. Empty strings: the URI does not say."""

    uri: str
    repository: str
    """Last part of the path."""
    tag: str
    digest: str
    account: str
    """Of the ECR registry; empty for a foreign one."""
    region: str
    framework: str
    """`sklearn`, `xgboost`, `pytorch`, `tensorflow`, `mxnet`, `chainer`, `autogluon`, `stabilityai-pytorch`, `huggingface`,
    `sparkml`, `triton`, `djl`, `tgi`, `tei`, `vllm`, `compiled`, a name of BUILT_IN, or `byoc`."""
    version: str = ""
    """Of the framework (for Hugging Face: of the base framework), `1.2` of `1.2-1`."""
    revision: str = ""
    """The container's revision, `1` of `1.2-1`; scikit-learn and XGBoost only."""
    base: str = ""
    """What it is built on: `pytorch` of huggingface-pytorch-inference; the target of a compiled model."""
    transformers: str = ""
    device: str = "cpu"
    """`cpu`, `gpu`, `neuron`, `neuronx` or `inf`."""
    python: str = ""
    """`py3`, `py311`."""
    scope: str = "both"
    """`inference`, `training` or `both`."""
    script: bool = True
    """False: serves AWS's own algorithm only, no user code."""


def parse_image(uri: str) -> Image:
    """Take any image URI apart; what is not a known framework's is `byoc` (bring your own container). Never fails."""
    rest, _, digest = uri.partition("@")
    host, path = _split_host(rest)
    last = path.rsplit("/", 1)[-1]
    repository, _, tag = last.partition(":")
    match = _ECR_HOST.fullmatch(host)
    account, region = (match[1], match[2]) if match else ("", "")
    framework = _framework(repository, tag, generic=match is not None or not host)
    details = _tag_details(framework, tag)
    fields = {**details, **{name: value for name, value in framework.items() if value != ""}}
    return Image(uri, repository, tag, digest, account, region, **fields)  # type: ignore[arg-type]


def _split_host(reference: str) -> tuple[str, str]:
    """Docker's rule: a first part with a dot or a colon, or `localhost`, is a registry."""
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "", reference


def _framework(repository: str, tag: str, *, generic: bool) -> dict[str, str | bool]:
    if repository == "sagemaker-scikit-learn":
        return {"framework": "sklearn"}
    if repository == "sagemaker-xgboost":
        return {"framework": "xgboost"}
    if repository == "sagemaker-sparkml-serving":
        return {"framework": "sparkml", "scope": "inference"}
    if repository == "sagemaker-tritonserver":
        return {"framework": "triton", "scope": "inference", "device": "" if tag.endswith("-cpu") else "gpu"}
    if repository in _LARGE_MODEL_SERVERS:
        return {"framework": _LARGE_MODEL_SERVERS[repository], "scope": "inference"}
    if match := _DEEP.fullmatch(repository):
        return {"framework": match[1], "scope": match[2], "device": _device_of_suffix(match[3])}
    if match := _HUGGING_FACE.fullmatch(repository):
        return {"framework": "huggingface", "base": match[1], "scope": match[2], "device": _device_of_suffix(match[3])}
    if (match := _COMPILED.fullmatch(repository)) or repository.endswith("-neo"):
        return {"framework": "compiled", "base": match[1] if match else repository.removesuffix("-neo"), "scope": "inference"}
    if match := _LEGACY.fullmatch(repository):
        scope = {None: "both", "scriptmode": "training"}.get(match[2], "inference")
        return {"framework": match[1], "scope": scope}
    if generic and repository == "xgboost" and tag in ("1", "latest", ""):
        return {"framework": "xgboost", "version": "0.72", "script": False}
    if generic and repository in BUILT_IN:
        return {"framework": repository, "script": False}
    return {"framework": "byoc"}


def _device_of_suffix(suffix: str) -> str:
    return suffix.removeprefix("-") if suffix in ("-neuron", "-neuronx") else ""


def _tag_details(framework: dict[str, str | bool], tag: str) -> dict[str, str | bool]:
    """Version, processor, python and transformers of `version[-processor][-pyNN][-rest]`; nothing for own containers."""
    found: dict[str, str | bool] = {}
    if framework["framework"] == "byoc":
        return found
    pattern = _REVISION if framework["framework"] in ("sklearn", "xgboost") else _VERSION
    if match := pattern.match(tag):
        found["version"] = match[1] if pattern is _REVISION else match[0]
        if pattern is _REVISION and match[2]:
            found["revision"] = match[2]
        tag = tag[match.end() :]
    for part in filter(None, tag.split("-")):
        if part in _PROCESSORS:
            found["device"] = part
        elif _PYTHON.fullmatch(part):
            found["python"] = part
        elif part.startswith("transformers"):
            found["transformers"] = part.removeprefix("transformers")
        elif _CUDA.fullmatch(part):
            found.setdefault("device", "gpu")
    return found
