"""Triton by boto3: python and onnxruntime backends, an ensemble, both content types, and what it cannot serve by name."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.e2e.deployments import Deployments, archive
from tests.models.onnx_bytes import product

pytestmark = [pytest.mark.heavy]

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3-cpu"
SECONDS = 240.0
DOUBLE = """
name: "double"  # by its own name
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
instance_group [ { count: 1 } ]
"""
MODEL = """
import ssl, asyncio, ctypes, sqlite3  # libraries of the interpreter, not of the server
import triton_python_backend_utils as triton
class TritonPythonModel:
    def execute(self, requests):
        out = []
        for request in requests:
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            error = triton.TritonError("no numbers below zero") if (x < 0).any() else None
            out.append(triton.InferenceResponse([triton.Tensor("y", x * 2)], error))
        return out
"""
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "in" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "out" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling { step [
  { model_name: "double" model_version: -1 input_map { key: "x" value: "in" } output_map { key: "y" value: "twice" } },
  { model_name: "net" model_version: -1 input_map { key: "x" value: "twice" } output_map { key: "y" value: "out" } }
] }
"""
NET = product([[1, 2, 3], [10, 20, 30]])
REPOSITORY: dict[str, bytes | str] = {
    "double/config.pbtxt": DOUBLE,
    "double/1/model.py": MODEL,
    "net/config.pbtxt": 'platform: "onnxruntime_onnx"\nmax_batch_size: 8\ndynamic_batching { }\n',
    "net/1/model.onnx": NET,
    "both/config.pbtxt": ENSEMBLE,
    "both/1/none": "",
}


@pytest.fixture(scope="module")
def site() -> Iterator[Deployments]:
    with temporary() as launched:
        yield Deployments(launched)


def deploy(site: Deployments, name: str, files: dict[str, bytes | str], **environment: str) -> None:
    site.start(name, archive(files), image=IMAGE, environment=environment)
    site.settle(name, "InService", SECONDS)


def refused(site: Deployments, name: str, files: dict[str, bytes | str], **environment: str) -> str:
    site.start(name, archive(files), image=IMAGE, environment=environment)
    return str(site.settle(name, "Failed", SECONDS)["FailureReason"])


def infer(name: str, rows: list[list[float]]) -> dict[str, object]:
    data = [value for row in rows for value in row]
    return {"inputs": [{"name": name, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}]}


def test_an_ensemble_of_both_backends_and_each_content_type(site: Deployments) -> None:
    deploy(site, "ensemble", REPOSITORY, SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="both")
    told = json.loads(site.invoke("ensemble", infer("in", [[1, 1], [0, 2]])))
    assert told["model_name"] == "both"
    assert [(each["name"], each["shape"], each["data"]) for each in told["outputs"]] == [
        ("out", [2, 3], [22, 44, 66, 40, 80, 120])
    ]
    head = {"inputs": [{"name": "in", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}
    head["parameters"] = {"binary_data_output": True}  # type: ignore[assignment]
    text = json.dumps(head).encode()
    kind = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    answer = site.runtime.invoke_endpoint(
        EndpointName="ensemble", Body=text + struct.pack("<2f", 1, 1), ContentType=f"{kind}{len(text)}"
    )
    assert answer["ContentType"].startswith(kind)
    body = answer["Body"].read()
    size = int(answer["ContentType"].removeprefix(kind))
    assert json.loads(body[:size])["outputs"][0]["name"] == "out"
    assert struct.unpack("<3f", body[size:]) == (22, 44, 66)
    with pytest.raises(ClientError, match="400") as error:
        site.invoke("ensemble", infer("wrong", [[1, 1]]))
    assert error.value.response["Error"]["Code"] == "ModelError"
    with pytest.raises(ClientError, match="no numbers below zero"):
        site.invoke("ensemble", infer("in", [[-1, 1]]))
    log = site.log("ensemble")
    assert "with the backends python and onnxruntime; other backends need Docker" in log
    assert "the image is of 24.09" in log


def test_one_model_needs_no_name_and_onnx_no_configuration(site: Deployments) -> None:
    deploy(site, "bare", {"net/1/model.onnx": NET})
    assert json.loads(site.invoke("bare", infer("x", [[1, 0]])))["outputs"][0]["data"] == [1, 2, 3]
    site.delete("bare")
    site.gone("bare")


def test_what_cannot_be_served_says_why(site: Deployments) -> None:
    plan = refused(site, "plan", {"fast/config.pbtxt": 'platform: "tensorrt_plan"\n', "fast/1/model.plan": "x"})
    assert "Model fast needs backend tensorrt_plan" in plan
    assert "needs Docker" in plan
    assert "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME" in refused(site, "three", REPOSITORY)
    broken = refused(site, "broken", {"double/config.pbtxt": DOUBLE, "double/1/model.py": "import nothing_of_that_name\n"})
    assert "nothing_of_that_name" in broken
