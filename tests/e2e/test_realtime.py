"""Real processes, from boto3 to the model's answer."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import IDENTITY, ROLE, Deployments, archive, script, until


@pytest.fixture(scope="module")
def identity(server: Deployments) -> str:
    server.deploy("identity", script(IDENTITY))
    return "identity"


def test_answers_with_headers_of_the_reference(server: Deployments, identity: str) -> None:
    answer = server.runtime.invoke_endpoint(EndpointName=identity, Body=b"\x00\xff" * 700, ContentType="application/x-thing")
    assert answer["Body"].read() == b"\x00\xff" * 700
    assert answer["ContentType"] == "application/x-thing"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize("size", [0, 1, 127 * 1024, 129 * 1024, 5 * 1024 * 1024])
def test_bodies_of_any_size_pass_unchanged(server: Deployments, identity: str, size: int) -> None:
    body = bytes(i * 7 % 251 for i in range(min(size, 4096))) * max(1, size // 4096)
    body = body[:size]
    assert server.invoke(identity, body, ContentType="application/octet-stream") == body


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Deployments, identity: str) -> None:
    with pytest.raises(ClientError) as caught:
        server.invoke(identity, bytes(26 * 1024 * 1024), ContentType="application/octet-stream")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert "oversize body" in caught.value.response["Error"]["Message"]


def test_an_unknown_endpoint_is_aws_own_error(server: Deployments) -> None:
    with pytest.raises(ClientError) as caught:
        server.invoke("nowhere", b"x")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert caught.value.response["Error"]["Message"] == "Endpoint nowhere of account 123456789012 not found."


def test_a_failing_model_is_a_model_error_with_its_words(server: Deployments) -> None:
    server.deploy(
        "raises",
        script(
            "def model_fn(d):\n    return None\n"
            "def transform_fn(model, data, content_type, accept):\n    raise KeyError('no such column: age')\n"
        ),
    )
    with pytest.raises(ClientError) as caught:
        server.invoke("raises", b"{}")
    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 500
    assert "no such column: age" in response["OriginalMessage"]
    assert response["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/raises")
    until(lambda: "no such column" in server.log("raises"), what="the traceback in the log")


def test_custom_attributes_go_in_and_out(server: Deployments, identity: str) -> None:
    answer = server.runtime.invoke_endpoint(EndpointName=identity, Body=b"x", CustomAttributes="trace=1")
    assert "CustomAttributes" not in answer  # only what the model sets comes back
    with pytest.raises(ClientError, match="ustom"):
        server.runtime.invoke_endpoint(EndpointName=identity, Body=b"x", CustomAttributes="a" * 1025)


def test_a_stream_arrives_piece_by_piece(server: Deployments) -> None:
    server.deploy(
        "streams",
        script(
            "import time\n"
            "def model_fn(d):\n    return None\n"
            "def transform_fn(model, data, content_type, accept):\n"
            "    def pieces():\n"
            "        for i in range(5):\n"
            "            yield b'piece %d;' % i\n"
            "            time.sleep(0.3)\n"
            "    return pieces(), 'text/plain'\n"
        ),
    )
    begun = Watch()
    answer = server.runtime.invoke_endpoint_with_response_stream(EndpointName="streams", Body=b"go", ContentType="text/plain")
    arrivals: list[tuple[float, float]] = []
    text = b""
    for event in answer["Body"]:
        arrivals.append((begun.free, begun.seconds))
        text += event["PayloadPart"]["Bytes"]
    assert text == b"".join(b"piece %d;" % i for i in range(5))
    assert arrivals[0][0] < 0.8
    assert arrivals[-1][1] > 0.8


def test_a_stream_that_breaks_says_so(server: Deployments) -> None:
    server.deploy(
        "breaks",
        script(
            "import os\n"
            "def model_fn(d):\n    return None\n"
            "def transform_fn(model, data, content_type, accept):\n"
            "    def pieces():\n"
            "        yield b'one'\n"
            "        os._exit(3)\n"
            "    return pieces(), 'text/plain'\n"
        ),
    )
    answer = server.runtime.invoke_endpoint_with_response_stream(EndpointName="breaks", Body=b"go")
    with pytest.raises(EventStreamError, match="ModelStreamError"):
        list(answer["Body"])
    answer["Body"].close()


def test_two_variants_share_by_weight_and_target_variant_overrides(server: Deployments) -> None:
    says = "def model_fn(d):\n    return None\ndef transform_fn(m, data, ct, accept):\n    return %r, 'text/plain'\n"
    server.model("says-a", script(says % b"a"))
    server.model("says-b", script(says % b"b"))
    server.config(
        "shares",
        {"VariantName": "a", "ModelName": "says-a", "InitialVariantWeight": 9},
        {"VariantName": "b", "ModelName": "says-b", "InitialVariantWeight": 1},
    )
    server.sagemaker.create_endpoint(EndpointName="shares", EndpointConfigName="shares")
    server.settle("shares", "InService")
    answers = [server.invoke("shares", b"x") for _ in range(400)]
    assert 10 <= answers.count(b"b") <= 80
    assert server.invoke("shares", b"x", TargetVariant="b") == b"b"
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="shares",
        DesiredWeightsAndCapacities=[{"VariantName": "a", "DesiredWeight": 0}, {"VariantName": "b", "DesiredWeight": 1}],
    )
    server.settle("shares", "InService")
    assert {server.invoke("shares", b"x") for _ in range(50)} == {b"b"}
    assert server.invoke("shares", b"x", TargetVariant="a") == b"a"
    with pytest.raises(ClientError, match="ValidationError"):
        server.invoke("shares", b"x", TargetVariant="c")


def test_update_switches_fleets_without_a_failed_request(server: Deployments) -> None:
    says = "def model_fn(d):\n    return None\ndef transform_fn(m, data, ct, accept):\n    return %r, 'text/plain'\n"
    server.deploy("switch", script(says % b"old"))
    server.model("switch-2", script(says % b"new"))
    server.config("switch-2", {"InitialInstanceCount": 2})
    stop, answers, errors = threading.Event(), [], []

    def call() -> None:
        while not stop.is_set():
            try:
                answers.append(server.invoke("switch", b"x"))
            except ClientError as error:
                errors.append(error)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(call)
        until(lambda: len(answers) > 20)
        server.sagemaker.update_endpoint(EndpointName="switch", EndpointConfigName="switch-2")
        told = server.settle("switch", "InService")
        seen = len(answers)
        until(lambda: len(answers) > seen + 20)
        stop.set()
    assert errors == []
    assert answers[0] == b"old"
    assert answers[-1] == b"new"
    assert told["EndpointConfigName"] == "switch-2"
    assert told["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_an_update_that_cannot_start_leaves_the_old_fleet_serving(server: Deployments, identity: str) -> None:
    server.model("broken-2", script("def model_fn(d):\n    raise RuntimeError('weights are corrupt')\n"))
    server.config("broken-2")
    before = server.sagemaker.describe_endpoint(EndpointName=identity)["EndpointConfigName"]
    server.sagemaker.update_endpoint(EndpointName=identity, EndpointConfigName="broken-2")
    told = server.settle(identity, "InService")
    assert told["EndpointConfigName"] == before
    assert "weights are corrupt" in told["FailureReason"]
    assert server.invoke(identity, b"still here") == b"still here"


def test_delete_works_while_creating_and_frees_the_name(server: Deployments) -> None:
    slow = "import time\ndef model_fn(d):\n    time.sleep(120)\n"
    server.start("slow", script(slow))
    until(lambda: bool(server.processes("slipway_host")))
    begun = Watch()
    server.delete("slow")
    server.gone("slow")
    assert begun.free < 5
    server.sagemaker.create_endpoint(EndpointName="slow", EndpointConfigName="slow")
    server.delete("slow")


def test_a_request_in_flight_at_delete_gets_a_model_error(server: Deployments) -> None:
    sleeps = (
        "import time\ndef model_fn(d):\n    return None\n"
        "def transform_fn(m, data, ct, accept):\n    print('at work', flush=True)\n    time.sleep(120)\n"
        "    return b'late', 'text/plain'\n"
    )
    server.deploy("sleeps", script(sleeps))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, "sleeps", b"x")
        until(lambda: "at work" in server.log("sleeps"), what="the request inside the model")
        begun = Watch()
        server.delete("sleeps")
        with pytest.raises(ClientError) as caught:
            call.result(timeout=PATIENCE)
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert begun.free < 6


def test_a_worker_that_dies_is_replaced_and_its_caller_told(server: Deployments) -> None:
    dies = (
        "import os\ndef model_fn(d):\n    return None\n"
        "def transform_fn(m, data, ct, accept):\n"
        "    if data == b'die' or data == 'die':\n        os._exit(7)\n    return b'alive', 'text/plain'\n"
    )
    server.deploy("dies", script(dies))
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            server.invoke("dies", b"die", ContentType="application/octet-stream")
        assert caught.value.response["Error"]["Code"] == "ModelError"
        assert caught.value.response["OriginalStatusCode"] == 0
        begun = Watch()
        assert server.invoke("dies", b"x", ContentType="application/octet-stream") == b"alive"
        assert begun.free < 2


def test_user_code_may_call_s3_with_its_own_short_credentials(server: Deployments) -> None:
    server.deploy(
        "calls-s3",
        script(
            "import boto3, json\n"
            "def model_fn(d):\n    return None\n"
            "def transform_fn(m, data, ct, accept):\n"
            "    s3 = boto3.client('s3')\n"
            "    s3.put_object(Bucket='models', Key='from-inside', Body=b'hello')\n"
            "    try:\n"
            "        boto3.client('sagemaker').list_models()\n"
            "        denied = ''\n"
            "    except Exception as error:\n"
            "        denied = str(error)\n"
            "    return json.dumps({'denied': denied}), 'application/json'\n"
        ),
    )
    told = json.loads(server.invoke("calls-s3", b"{}"))
    assert "AccessDenied" in told["denied"]
    assert server.s3.get_object(Bucket="models", Key="from-inside")["Body"].read() == b"hello"


def test_two_racing_creates_have_one_winner(server: Deployments) -> None:
    def create(_: int) -> str:
        try:
            server.sagemaker.create_model(
                ModelName="raced", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "an-image:latest"}
            )
        except ClientError as error:
            return str(error.response["Error"]["Message"])
        return "won"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(8)))
    assert outcomes.count("won") == 1
    assert all(o.startswith("Cannot create already existing model") for o in outcomes if o != "won")


def test_a_gigabyte_sized_zip_of_zeros_is_no_problem_for_s3(server: Deployments) -> None:
    data = bytes(20 * 1024 * 1024)
    server.s3.upload_fileobj(io.BytesIO(data), "models", "zeros")
    back = io.BytesIO()
    server.s3.download_fileobj("models", "zeros", back)
    assert back.getvalue() == data


def test_what_a_later_version_brings_is_refused_by_name(server: Deployments) -> None:
    server.model("refused", archive({"code/inference.py": IDENTITY}))
    with pytest.raises(ClientError) as caught:
        server.sagemaker.create_endpoint_config(
            EndpointConfigName="refused",
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": "refused",
                    "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
                }
            ],
        )
    assert "ServerlessConfig" in caught.value.response["Error"]["Message"]
