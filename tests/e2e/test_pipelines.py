"""Several containers on one endpoint, through boto3: serial pipelines and direct mode against real hosts."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.deployments import BUCKET, Deployments, script, until

STEP = """
import json, os

def model_fn(model_dir):
    return "{name}"

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else bytes(data).decode("latin-1")
    told = json.loads(text) if text.startswith("{{") else {{"steps": []}}
    if told.get("fail") == model:
        raise ValueError("step {name} was told to fail")
    if told.get("exit") == model:
        os._exit(7)
    told["steps"].append([model, content_type, accept])
    told["steps"] += [["x" * 1024, "", ""]] * (told.get("grow", 0) if model == "first" else 0)
    told["ports"] = told.get("ports", []) + [[os.environ["SAGEMAKER_BIND_TO_PORT"], os.environ["SAGEMAKER_SAFE_PORT_RANGE"]]]
    print("{name} has seen", len(data))
    return json.dumps(told), "application/json"
"""
NAMES = ("first", "second", "third")


def steps(*names: str, hostnames: bool = True) -> list[dict[str, Any]]:
    return [{"data": script(STEP.format(name=name)), **({"hostname": name} if hostnames else {})} for name in names]


@pytest.fixture(scope="module")
def pipeline(server: Deployments) -> str:
    server.several("pipeline", steps(*NAMES))
    server.config("pipeline")
    server.sagemaker.create_endpoint(EndpointName="pipeline", EndpointConfigName="pipeline")
    server.several("direct", steps("left", "right"), "Direct")
    server.config("direct")
    server.sagemaker.create_endpoint(EndpointName="direct", EndpointConfigName="direct")
    server.settle("pipeline", "InService")
    server.settle("direct", "InService")
    return "pipeline"


def refused(call: Any, **request: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    found: dict[str, Any] = caught.value.response
    return found


def test_a_request_walks_through_all_containers(server: Deployments, pipeline: str) -> None:
    answer = server.runtime.invoke_endpoint(
        EndpointName=pipeline,
        Body=b"anything",
        ContentType="image/png",
        Accept="application/json;q=1",
        CustomAttributes="trace",
    )
    told = json.loads(answer["Body"].read())
    assert told["steps"] == [
        ["first", "image/png", "application/json"],
        ["second", "application/json", "application/json"],
        ["third", "application/json", "application/json;q=1"],
    ]
    assert answer["ContentType"] == "application/json"
    ports = [port for port, _ in told["ports"]]
    ranges = [tuple(map(int, each.split("-"))) for _, each in told["ports"]]
    assert len(set(ports)) == len(set(ranges)) == 3
    assert all(low < high for low, high in ranges)


def test_a_container_that_fails_is_named_and_the_rest_not_called(server: Deployments, pipeline: str) -> None:
    body = json.dumps({"steps": [], "fail": "second"})
    told = refused(server.runtime.invoke_endpoint, EndpointName=pipeline, Body=body, ContentType="application/json")
    assert told["Error"]["Code"] == "ModelError"
    assert "from second with message" in told["Error"]["Message"]
    assert "was told to fail" in told["OriginalMessage"]
    body = json.dumps({"steps": [], "grow": 6000})
    told = refused(server.runtime.invoke_endpoint, EndpointName=pipeline, Body=body, ContentType="application/json")
    assert "the request payload from first to second is" in told["Error"]["Message"]
    assert "exceeded the maximum limit of 5 MB" in told["Error"]["Message"]
    extra = refused(server.runtime.invoke_endpoint, EndpointName=pipeline, Body=b"x", TargetContainerHostname="first")
    assert extra["Error"]["Code"] == "ValidationError"


def test_a_pipeline_streams_its_last_answer(server: Deployments, pipeline: str) -> None:
    answer = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName=pipeline, Body=json.dumps({"steps": []}), ContentType="application/json"
    )
    told = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert [step[0] for step in json.loads(told)["steps"]] == list(NAMES)
    body = json.dumps({"steps": [], "fail": "first"})
    failed = refused(
        server.runtime.invoke_endpoint_with_response_stream, EndpointName=pipeline, Body=body, ContentType="application/json"
    )
    assert "from first with message" in failed["Error"]["Message"]


def test_an_asynchronous_endpoint_runs_a_pipeline(server: Deployments, pipeline: str) -> None:
    variant = {"VariantName": "A", "ModelName": "pipeline", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    output = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/async-out"}}
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="later", ProductionVariants=[variant], AsyncInferenceConfig=output
    )
    server.sagemaker.create_endpoint(EndpointName="later", EndpointConfigName="later")
    server.settle("later", "InService")
    server.s3.put_object(Bucket=BUCKET, Key="input", Body=b'{"steps": []}', ContentType="application/json")
    asked = server.runtime.invoke_endpoint_async(EndpointName="later", InputLocation=f"s3://{BUCKET}/input")
    key = asked["OutputLocation"].removeprefix(f"s3://{BUCKET}/")

    def there() -> bool:
        found = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
        return bool(found["KeyCount"])

    until(there, what="the output")
    told = json.loads(server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert [step[0] for step in told["steps"]] == list(NAMES)
    cloudwatch, of = server.client("cloudwatch"), {"Name": "EndpointName", "Value": "later"}

    def measured() -> bool:
        found = cloudwatch.list_metrics(Namespace="AWS/SageMaker", MetricName="ContainerLatency", Dimensions=[of])["Metrics"]
        return sorted(d["Value"] for m in found for d in m["Dimensions"] if d["Name"] == "ContainerName") == sorted(NAMES)

    until(measured, what="metrics of each container")
    server.delete("later")


def test_direct_mode(server: Deployments, pipeline: str) -> None:
    for name in ("left", "right"):
        arguments = {"EndpointName": "direct", "Body": b"x", "TargetContainerHostname": name}
        told = json.loads(server.runtime.invoke_endpoint(**arguments)["Body"].read())
        assert [step[0] for step in told["steps"]] == [name]
        streamed = server.runtime.invoke_endpoint_with_response_stream(**arguments)
        parts = b"".join(event["PayloadPart"]["Bytes"] for event in streamed["Body"])
        assert [step[0] for step in json.loads(parts)["steps"]] == [name]
    missing = refused(server.runtime.invoke_endpoint, EndpointName="direct", Body=b"x")["Error"]
    assert missing["Code"] == "ValidationError"
    assert "left, right" in missing["Message"]
    unknown = refused(server.runtime.invoke_endpoint, EndpointName="direct", Body=b"x", TargetContainerHostname="nobody")
    assert "has no container with hostname nobody" in unknown["Error"]["Message"]
    body = json.dumps({"steps": [], "fail": "right"})
    arguments = {"EndpointName": "direct", "Body": body, "ContentType": "application/json", "TargetContainerHostname": "right"}
    assert "from right with message" in refused(server.runtime.invoke_endpoint, **arguments)["Error"]["Message"]


def test_each_container_has_a_log_stream(server: Deployments, pipeline: str) -> None:
    group = "/aws/sagemaker/Endpoints/pipeline"
    server.runtime.invoke_endpoint(EndpointName=pipeline, Body=b"x")

    def streams() -> dict[str, str]:
        names = [each["logStreamName"] for each in server.logs.describe_log_streams(logGroupName=group)["logStreams"]]
        return {name.split("/")[-1]: name for name in names}

    assert set(streams()) == set(NAMES)
    for name, stream in streams().items():
        assert stream.startswith("AllTraffic/i-")

        def lines(stream: str = stream) -> str:
            events = server.logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
            return "\n".join(event["message"] for event in events)

        until(lambda name=name: f"{name} has seen" in lines(), what=f"a line of {name}")  # type: ignore[misc]


def test_a_middle_container_that_dies_is_named_and_comes_back(server: Deployments, pipeline: str) -> None:
    body = json.dumps({"steps": [], "exit": "second"})
    told = refused(server.runtime.invoke_endpoint, EndpointName=pipeline, Body=body, ContentType="application/json")
    assert told["Error"]["Code"] == "ModelError"
    assert "from second with message" in told["Error"]["Message"]
    assert json.loads(server.runtime.invoke_endpoint(EndpointName=pipeline, Body=b"x")["Body"].read())["steps"][2][0] == "third"


def test_the_reason_lists_every_container_that_failed(server: Deployments) -> None:
    broken = [
        {"data": script("import nothing_of_that_name")},
        *steps("fine", hostnames=False),
        {"data": script("def model_fn(model_dir):\n    raise RuntimeError('no weights')\n")},
    ]
    server.several("broken", broken)
    server.config("broken")
    server.sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="broken")
    reason = server.settle("broken", "Failed")["FailureReason"]
    assert "The container-1 container for production variant AllTraffic did not pass the ping health check." in reason
    assert "nothing_of_that_name" in reason
    assert "The container-3 container for production variant AllTraffic" in reason
    assert "container-2" not in reason


def test_from_one_container_to_a_pipeline_and_back_under_load(server: Deployments) -> None:
    server.deploy(
        "changing",
        script(
            STEP.replace('os.environ["SAGEMAKER_BIND_TO_PORT"]', '""')
            .replace('os.environ["SAGEMAKER_SAFE_PORT_RANGE"]', '""')
            .format(name="alone")
        ),
    )
    server.several("changing-pipeline", steps("a", "b"))
    server.config("changing-pipeline")
    seen: set[tuple[str, ...]] = set()
    failures: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                told = json.loads(server.runtime.invoke_endpoint(EndpointName="changing", Body=b"x")["Body"].read())
                seen.add(tuple(step[0] for step in told["steps"]))
            except ClientError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for config, wanted in (("changing-pipeline", ("a", "b")), ("changing", ("alone",))):
            server.sagemaker.update_endpoint(EndpointName="changing", EndpointConfigName=config)
            server.settle("changing", "InService")
            seen.clear()
            until(lambda wanted=wanted: wanted in seen, what="a request after the update")  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
