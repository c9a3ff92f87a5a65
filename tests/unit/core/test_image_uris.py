"""Every image that the SageMaker SDK (2.257) names is recognised; the table is its own data (e2e/clients/image_uris.py)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from slipway.core.images import Image, parse_image

TABLE = Path(__file__).with_name("image_uris.txt")
_NONE = "-"


class Asked(NamedTuple):
    """What the SDK was asked for; empty where nothing was."""

    name: str
    framework: str
    version: str
    base: str
    device: str
    python: str
    scopes: frozenset[str]


def read_table(text: str) -> tuple[list[Asked], list[str]]:
    """Images and registries."""
    images, _, registries = text.partition(f"\n{_NONE}\n")
    rows = []
    for line in images.splitlines():
        *fields, scopes = line.split(" ")
        name, framework, version, base, device, python = ("" if field == _NONE else field for field in fields)
        rows.append(Asked(name, framework, version, base, device, python, frozenset(scopes.split(","))))
    return rows, registries.split()


IMAGES, REGISTRIES = read_table(TABLE.read_text())


def expected(asked: Asked, image: Image) -> dict[str, str]:
    """The members of `image` that follow from what was asked for."""
    compiled = asked.framework.startswith(("neo-", "inferentia-")) or asked.framework.endswith("-neo")
    wanted = {"framework": "compiled" if compiled else asked.framework}
    if compiled:
        wanted["base"] = asked.framework.removeprefix("neo-").removeprefix("inferentia-").removesuffix("-neo")
    if asked.framework == "huggingface":
        wanted["transformers"] = asked.version
        wanted["base"] = asked.base.rstrip("0123456789.")
        wanted["version"] = asked.base.removeprefix(wanted["base"])
    elif asked.framework in ("xgboost", "sklearn"):
        wanted["version"], _, wanted["revision"] = asked.version.partition("-")
        if asked.version in ("1", "latest"):
            wanted["version"] = "0.72"
    elif asked.framework not in ("tgi", "tei", "stabilityai-pytorch") and not asked.framework.endswith("-neo"):
        wanted["version"] = asked.version  # the others' tags begin with what they are built on
    if asked.device in ("cpu", "gpu", "neuron", "neuronx", "inf"):
        wanted["device"] = asked.device
    if asked.python:
        wanted["python"] = asked.python
    if asked.framework in ("pytorch", "tensorflow", "mxnet", "huggingface", "autogluon") and image.scope != "both":
        wanted["scope"] = "training" if asked.scopes == {"training"} else "inference"
    return wanted


@pytest.mark.parametrize("framework", sorted({asked.framework for asked in IMAGES}))
def test_each_image_is_recognised(framework: str) -> None:
    for asked in IMAGES:
        if asked.framework != framework:
            continue
        image = parse_image(f"{REGISTRIES[0]}/{asked.name}")
        wanted = expected(asked, image)
        assert {name: getattr(image, name) for name in wanted} == wanted, asked.name


def test_each_account_and_region_is_taken_apart() -> None:
    assert len(REGISTRIES) > 150
    for registry in REGISTRIES:
        image = parse_image(f"{registry}/xgboost:1")
        assert (image.account, image.framework) == (registry.partition(".")[0], "xgboost"), registry
        assert f".{image.region}." in registry


def test_the_table_covers_what_is_asked_of_it() -> None:
    """Old and new tags, processors, both kinds of repositories."""
    found = {(asked.framework, asked.device, scope) for asked in IMAGES for scope in asked.scopes}
    for framework in ("pytorch", "tensorflow", "mxnet"):
        for device in ("cpu", "gpu"):
            assert {(framework, device, "inference"), (framework, device, "training")} <= found
    names = {asked.name for asked in IMAGES}
    for name in (
        "sagemaker-tensorflow:1.4.1-cpu-py2",
        "pytorch-inference:1.5-cpu-py3",
        "sagemaker-scikit-learn:0.20.0-cpu-py3",
    ):
        assert name in names
    assert {"linear-learner:1", "sagemaker-sparkml-serving:3.3", "xgboost:1", "sagemaker-tritonserver:24.09-py3"} <= names
