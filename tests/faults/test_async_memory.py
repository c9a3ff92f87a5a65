"""Large inputs and outputs of asynchronous requests: what they cost the dispatcher at their peak."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.deployments import BUCKET, IDENTITY, Deployments, script
from tests.faults.load import role
from tests.faults.test_s3_memory import MB, forget_peak, peak

GROWTH = 120 * MB

LARGE = """
import os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return b"large" * (int(data) // 5), "text/plain"
"""


def deploy(server: Deployments, name: str, text: str) -> None:
    server.model(name, script(text))
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    output = {"S3OutputPath": f"s3://{BUCKET}/{name}/out", "S3FailurePath": f"s3://{BUCKET}/{name}/failed"}
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], AsyncInferenceConfig={"OutputConfig": output}
    )
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.settle(name, "InService")


def address(location: str) -> dict[str, str]:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def result(server: Deployments, told: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
    """HeadObject of the output; a failure object is an error."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found: dict[str, Any] = server.s3.head_object(**address(told["OutputLocation"]))
            return found
        except ClientError:
            pass
        try:
            raise AssertionError(server.s3.get_object(**address(told["FailureLocation"]))["Body"].read(2000))
        except ClientError:
            time.sleep(0.05)
    raise AssertionError("no result came")


@pytest.fixture
def large(tmp_path: Path, size: int) -> Iterator[Path]:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(os.urandom(MB))
    yield path
    path.unlink()


@pytest.mark.parametrize(
    "size",
    [pytest.param(200 * MB, id="200MB"), pytest.param(1024 * MB, id="1GB", marks=pytest.mark.heavy)],
)
def test_a_large_input_and_output_pass_through(server: Deployments, large: Path, size: int) -> None:
    name = f"identity-{size // MB}"
    deploy(server, name, IDENTITY)
    dispatcher = role(server, "dispatcher")
    small = server.runtime.invoke_endpoint_async(EndpointName=name, Body=b"x")
    result(server, small)  # what a first request loads is not counted
    before = dispatcher.memory_info().rss
    forget_peak(dispatcher)
    server.s3.upload_file(str(large), BUCKET, "large", ExtraArgs={"ContentType": "application/x-large"})
    began = time.monotonic()
    told = server.runtime.invoke_endpoint_async(EndpointName=name, InputLocation=f"s3://{BUCKET}/large")
    head = result(server, told)
    print(f"{size // MB} MB there and back in {time.monotonic() - began:.1f} s")
    grown = peak(dispatcher) - before
    print(f"the dispatcher grew by {grown // MB} MB")
    assert grown < GROWTH
    assert (head["ContentLength"], head["ContentType"]) == (size, "application/x-large")
    back = large.with_name("back")
    server.s3.download_file(Filename=str(back), **address(told["OutputLocation"]))
    with back.open("rb") as got, large.open("rb") as sent:
        while piece := sent.read(16 * MB):
            assert got.read(16 * MB) == piece
        assert got.read(1) == b""
    back.unlink()
    server.delete(name)


def test_a_short_request_with_a_large_answer(server: Deployments) -> None:
    """It comes in the parts of a frame."""
    size = 100 * MB // 5 * 5
    deploy(server, "large-answer", LARGE)
    dispatcher = role(server, "dispatcher")
    result(server, server.runtime.invoke_endpoint_async(EndpointName="large-answer", Body=b"10"))
    before = dispatcher.memory_info().rss
    forget_peak(dispatcher)
    told = server.runtime.invoke_endpoint_async(EndpointName="large-answer", Body=b"%d" % size)
    assert result(server, told)["ContentLength"] == size
    assert peak(dispatcher) - before < GROWTH
    body = server.s3.get_object(**address(told["OutputLocation"]))["Body"]
    count = 0
    while piece := body.read(5 * MB):
        assert piece == b"large" * (len(piece) // 5)
        count += len(piece)
    assert count == size
    server.delete("large-answer")
