from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.images import BUILT_IN, parse_image

SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/"
DEEP = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
KNOWN: list[tuple[str, dict[str, Any]]] = [
    (
        SKLEARN + "sagemaker-scikit-learn:1.2-1-cpu-py3",
        {"framework": "sklearn", "version": "1.2", "revision": "1", "python": "py3"},
    ),
    (SKLEARN + "sagemaker-scikit-learn:0.20.0-cpu-py3", {"framework": "sklearn", "version": "0.20.0", "revision": ""}),
    (
        SKLEARN + "sagemaker-scikit-learn:1.0-1-arm64-cpu-py3",
        {"version": "1.0", "revision": "1", "device": "cpu", "python": "py3"},
    ),
    (SKLEARN + "sagemaker-scikit-learn:1.4-2", {"version": "1.4", "revision": "2"}),
    (SKLEARN + "sagemaker-xgboost:1.7-1", {"framework": "xgboost", "version": "1.7", "revision": "1", "script": True}),
    (SKLEARN + "sagemaker-xgboost:0.90-2-cpu-py3", {"version": "0.90", "revision": "2"}),
    (SKLEARN + "sagemaker-xgboost:1.5-1-arm64", {"version": "1.5", "revision": "1"}),
    ("811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:1", {"framework": "xgboost", "version": "0.72", "script": False}),
    ("811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:latest", {"framework": "xgboost", "version": "0.72"}),
    (SKLEARN + "sagemaker-sparkml-serving:3.3", {"framework": "sparkml", "version": "3.3", "scope": "inference"}),
    (
        DEEP + "pytorch-inference:2.3-cpu-py311",
        {"framework": "pytorch", "version": "2.3", "python": "py311", "scope": "inference"},
    ),
    (
        DEEP + "pytorch-inference:2.6.0-gpu-py312-cu124-ubuntu22.04-sagemaker",
        {"version": "2.6.0", "device": "gpu", "python": "py312"},
    ),
    (DEEP + "pytorch-inference-graviton:2.3-cpu-py311-ubuntu20.04-sagemaker", {"framework": "pytorch", "device": "cpu"}),
    (DEEP + "pytorch-inference-neuronx:2.1.2-neuronx-py310-sdk2.19.0", {"framework": "pytorch", "device": "neuronx"}),
    (DEEP + "tensorflow-inference:2.2-cpu", {"framework": "tensorflow", "version": "2.2", "python": ""}),
    (DEEP + "tensorflow-training:2.11", {"scope": "training"}),
    (DEEP + "mxnet-inference:1.9-cpu-py38", {"framework": "mxnet", "version": "1.9"}),
    (DEEP + "autogluon-inference:1.2-cpu-py311", {"framework": "autogluon"}),
    (DEEP + "stabilityai-pytorch-inference:2.0.1-sgm0.1.0-gpu-py310", {"framework": "stabilityai-pytorch", "device": "gpu"}),
    (
        DEEP + "huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
        {"framework": "huggingface", "base": "pytorch", "version": "2.1.0", "transformers": "4.37.0", "python": "py310"},
    ),
    (
        DEEP + "huggingface-tensorflow-inference:2.6-transformers4.17-cpu-py38-ubuntu20.04",
        {"framework": "huggingface", "base": "tensorflow", "transformers": "4.17"},
    ),
    ("520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-pytorch:1.1.0-cpu-py3", {"framework": "pytorch", "scope": "both"}),
    (
        "520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tensorflow-serving:1.12-cpu",
        {"framework": "tensorflow", "scope": "inference"},
    ),
    ("520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tensorflow-scriptmode:1.12-cpu-py3", {"scope": "training"}),
    ("520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-chainer:5.0.0-cpu-py3", {"framework": "chainer"}),
    (DEEP + "sagemaker-tritonserver:24.09-py3-cpu", {"framework": "triton", "version": "24.09", "device": "cpu"}),
    (DEEP + "djl-inference:0.30.0-lmi12.0.0-cu124", {"framework": "djl", "version": "0.30.0", "device": "gpu"}),
    (
        DEEP + "huggingface-pytorch-tgi-inference:2.7.0-tgi3.3.6-gpu-py311-cu124-ubuntu22.04",
        {"framework": "tgi", "device": "gpu", "scope": "inference"},
    ),
    (DEEP + "tei-cpu:2.0.1-tei1.2.3-cpu-py310-ubuntu22.04", {"framework": "tei"}),
    (DEEP + "sagemaker-neo-pytorch:1.4-gpu-py3", {"framework": "compiled", "base": "pytorch"}),
    (DEEP + "sagemaker-inference-mxnet:1.7-cpu-py3", {"framework": "compiled", "base": "mxnet"}),
    (DEEP + "xgboost-neo:latest", {"framework": "compiled", "base": "xgboost"}),
    ("382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1", {"framework": "linear-learner", "script": False}),
    ("727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-inference:2.3-cpu-py311", {"region": "cn-north-1"}),
    (
        "833128469047.dkr.ecr.us-iso-east-1.c2s.ic.gov/sagemaker-xgboost:1.5-1",
        {"account": "833128469047", "framework": "xgboost"},
    ),
    ("683313688378.dkr.ecr-fips.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1", {"account": "683313688378"}),
    (SKLEARN + "sagemaker-xgboost:1.7-1@sha256:" + "a" * 64, {"framework": "xgboost", "digest": "sha256:" + "a" * 64}),
    ("registry.example.com:5000/mirror/sagemaker-scikit-learn:1.2-1-cpu-py3", {"framework": "sklearn", "account": ""}),
    ("sagemaker-xgboost:1.7-1", {"framework": "xgboost"}),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/my-model:v7", {"framework": "byoc", "version": "", "tag": "v7"}),
    ("registry.example.com/kmeans:1", {"framework": "byoc"}),
    ("registry.example.com/xgboost:1", {"framework": "byoc"}),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/xgboost:mine", {"framework": "byoc"}),
    ("python:3.11-slim", {"framework": "byoc", "repository": "python"}),
    ("", {"framework": "byoc"}),
]


@pytest.mark.parametrize(("uri", "expected"), KNOWN, ids=[uri or "empty" for uri, _ in KNOWN])
def test_known_images(uri: str, expected: dict[str, Any]) -> None:
    image = parse_image(uri)
    assert {name: getattr(image, name) for name in expected} == expected


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_in_algorithms(name: str) -> None:
    assert parse_image(f"382416733822.dkr.ecr.us-east-1.amazonaws.com/{name}:1").framework == name


def test_the_account_does_not_matter() -> None:
    one = parse_image(SKLEARN + "sagemaker-scikit-learn:1.2-1-cpu-py3")
    other = parse_image("000000000001.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3")
    assert (one.framework, one.version, one.revision) == (other.framework, other.version, other.revision)


@given(st.text(max_size=300))
def test_any_text_is_taken(uri: str) -> None:
    assert parse_image(uri).uri == uri
