"""Asynchronous inference with real processes: the announcement's flow, its errors, no instances, deletion."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.deadlines import Watch
from tests.e2e.asynchronous import ADD, Asynchronous
from tests.e2e.deployments import BUCKET, IDENTITY, Deployments, script, until


@pytest.fixture(scope="module")
def adder(server: Deployments) -> Asynchronous:
    return Asynchronous(server, "adder", script(ADD), {"MaxConcurrentInvocationsPerInstance": 2})


def test_a_result_with_its_notification(adder: Asynchronous) -> None:
    location = adder.put("three.json", [1, 2, 3])
    request = adder.invoke(InputLocation=location, InferenceId="three", CustomAttributes="c=1", Accept="application/json")
    assert request.id == "three"
    assert request.output.startswith(f"s3://{BUCKET}/adder/out/")
    assert request.failure is not None
    told = adder.notification()
    assert told["TopicArn"] == adder.success
    assert (told["invocationStatus"], told["eventName"], told["inferenceId"]) == ("Completed", "InferenceResult", "three")
    assert told["requestParameters"] == {
        "endpointName": "adder",
        "inputLocation": location,
        "accept": "application/json",
        "customAttributes": "c=1",
    }
    assert told["responseParameters"]["outputLocation"] == request.output
    assert json.loads(adder.read(request.output)) == {"total": 6}
    bucket, _, key = request.output.removeprefix("s3://").partition("/")
    assert adder.server.s3.head_object(Bucket=bucket, Key=key)["ContentType"] == "application/json"
    with pytest.raises(ClientError):
        adder.read(request.failure)


def test_a_model_that_raises(adder: Asynchronous) -> None:
    request = adder.invoke("no number")
    told = adder.notification()
    assert (told["TopicArn"], told["invocationStatus"], told["inferenceId"]) == (adder.error, "Failed", request.id)
    assert told["failureReason"].startswith("ClientError: Received server error (500) from")
    assert request.failure is not None
    assert b"TypeError" in adder.read(request.failure) or b"unsupported operand" in adder.read(request.failure)
    with pytest.raises(ClientError):
        adder.read(request.output)


def test_a_missing_input_and_a_timeout(adder: Asynchronous) -> None:
    missing = adder.invoke(InputLocation=f"s3://{BUCKET}/adder/in/none")
    told = adder.notification()
    assert (told["TopicArn"], told["inferenceId"]) == (adder.error, missing.id)
    assert f"s3://{BUCKET}/adder/in/none" in told["failureReason"]
    slow = adder.invoke({"sleep": 60}, InvocationTimeoutSeconds=1)
    told = adder.notification()
    assert (told["TopicArn"], told["inferenceId"]) == (adder.error, slow.id)
    assert slow.failure is not None
    assert b"1 s" in adder.read(slow.failure)


def test_an_inline_body_under_a_name_of_ones_own(adder: Asynchronous) -> None:
    request = adder.invoke(
        Body=b"[4, 5]", ContentType="application/json", S3OutputPathExtension="of/today", Filename="nine.json"
    )
    assert request.output == f"s3://{BUCKET}/adder/out/of/today/nine.json"
    told = adder.notification()
    assert told["invocationStatus"] == "Completed"
    assert json.loads(adder.read(request.output)) == {"total": 9}


def test_the_two_kinds_of_endpoints_refuse_each_others_calls(adder: Asynchronous) -> None:
    server = adder.server
    server.deploy("real-time", script(IDENTITY))
    with pytest.raises(ClientError) as caught:
        server.invoke("adder", [1])
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError) as caught:
        server.runtime.invoke_endpoint_async(EndpointName="real-time", InputLocation=f"s3://{BUCKET}/x")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    server.delete("real-time")


def test_metrics_count_what_happened(adder: Asynchronous) -> None:
    cloudwatch = adder.server.client("cloudwatch")

    def total(metric: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": "EndpointName", "Value": "adder"}, {"Name": "VariantName", "Value": "AllTraffic"}],
            StartTime=time.time() - 3600,
            EndTime=time.time() + 60,
            Period=3600,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    before = total("InvocationsProcessed")
    adder.invoke([1])
    assert adder.notification()["invocationStatus"] == "Completed"
    until(lambda: total("InvocationsProcessed") == before + 1, what="InvocationsProcessed")
    assert total("InvocationFailures") >= 1


def replicas(server: Deployments, endpoint: str) -> list[str]:
    """Instances of an endpoint with a process, of all that ever wrote a log."""
    streams = server.logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}")["logStreams"]
    instances = [stream["logStreamName"].rsplit("/", 1)[1] for stream in streams if "/i-" in stream["logStreamName"]]
    assert instances
    return [instance for instance in instances if server.processes(instance)]


def test_no_instance_and_back(adder: Asynchronous) -> None:
    assert len(replicas(adder.server, "adder")) == 1
    adder.scale(0)
    until(lambda: replicas(adder.server, "adder") == [], what="its instance's end")
    waiting = [adder.invoke([n]) for n in range(5)]
    time.sleep(0.5)
    with pytest.raises(ClientError):
        adder.read(waiting[0].output)
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]
    adder.server.sagemaker.update_endpoint_weights_and_capacities(EndpointName="adder", DesiredWeightsAndCapacities=wanted)
    told = [adder.notification() for _ in range(7)]
    done = {one["inferenceId"] for one in told if one["eventName"] == "InferenceResult"}
    assert done == {request.id for request in waiting}
    assert [json.loads(adder.read(request.output))["total"] for request in waiting] == [0, 1, 2, 3, 4]
    adder.server.settle("adder", "InService")


def test_scaling_in_never_kills_a_running_request(adder: Asynchronous) -> None:
    running = [adder.invoke({"sleep": 3}) for _ in range(3)]
    time.sleep(0.5)
    begun = Watch()
    adder.server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="adder", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
    )
    adder.server.settle("adder", "InService")
    assert begun.free < 2.5
    told = [adder.notification() for _ in range(5)]
    ended = {one["inferenceId"]: one["invocationStatus"] for one in told if one["eventName"] == "InferenceResult"}
    assert ended == {request.id: "Completed" for request in running}


def test_a_new_control_does_not_end_what_still_runs(adder: Asynchronous) -> None:
    running = adder.invoke({"sleep": 5})
    time.sleep(0.5)
    before = replicas(adder.server, "adder")
    adder.server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="adder", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}]
    )
    adder.server.settle("adder", "InService")
    for process in adder.server.processes("slipway.roles.control"):
        process.kill()
    told = [adder.notification() for _ in range(3)]
    ended = {one["inferenceId"]: one["invocationStatus"] for one in told if one["eventName"] == "InferenceResult"}
    assert ended == {running.id: "Completed"}
    until(lambda: replicas(adder.server, "adder") == [], what=f"the end of {before}")


def test_answers_in_notifications(server: Deployments) -> None:
    both = ["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"]
    endpoint = Asynchronous(server, "told", script(ADD), IncludeInferenceResponseIn=both)
    endpoint.invoke([1, 1])
    told = endpoint.notification()
    assert json.loads(base64.b64decode(told["responseBody"]["content"])) == {"total": 2}
    endpoint.invoke("no number")
    assert "unsupported operand" in json.dumps(endpoint.notification())
    server.delete("told")


def test_deleting_settles_what_is_queued_and_what_runs(server: Deployments) -> None:
    endpoint = Asynchronous(server, "goes", script(ADD), {"MaxConcurrentInvocationsPerInstance": 1})
    requests = [endpoint.invoke({"sleep": 60}) for _ in range(4)]
    time.sleep(0.5)
    begun = Watch()
    server.delete("goes")
    server.gone("goes")
    assert begun.free < 5
    server.sagemaker.create_endpoint(EndpointName="goes", EndpointConfigName="goes")
    told = [endpoint.notification() for _ in range(6)]
    ended = {one["inferenceId"]: one for one in told if one["eventName"] == "InferenceResult"}
    assert set(ended) == {request.id for request in requests}
    assert all("deleted" in one["failureReason"] for one in ended.values())
    for request in requests:
        assert request.failure is not None
        assert b"deleted" in endpoint.read(request.failure)
    server.settle("goes", "InService")
    fresh = endpoint.invoke([7])
    assert endpoint.notification()["inferenceId"] == fresh.id
    server.delete("goes")


@pytest.fixture(scope="module")
def fast() -> Iterator[Deployments]:
    """Where a minute of metrics and scaling lasts half a second."""
    with temporary(["--time-scale", "120"]) as launched:
        yield Deployments(launched)


def test_from_zero_to_several_and_back(fast: Deployments) -> None:
    endpoint = Asynchronous(fast, "elastic", script(ADD), {"MaxConcurrentInvocationsPerInstance": 1})
    scaling = fast.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/elastic/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }

    def count() -> int:
        found: int = fast.sagemaker.describe_endpoint(EndpointName="elastic")["ProductionVariants"][0]["CurrentInstanceCount"]
        return found

    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=0)
    until(lambda: count() == 0, what="no instance")
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=3)
    scaling.put_scaling_policy(
        **target,
        PolicyName="Invocations-ScalingPolicy",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "elastic"}],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 120,
            "ScaleOutCooldown": 120,
        },
    )
    location = endpoint.put("slow.json", {"sleep": 0.2})
    sent = {endpoint.invoke(InputLocation=location).id for _ in range(80)}
    until(lambda: count() >= 2, what="several instances")
    heard: list[str] = []
    while len(heard) < len(sent):
        told = endpoint.notification()
        if told["eventName"] == "InferenceResult":
            heard.append(told["inferenceId"])
    assert sorted(heard) == sorted(sent)
    until(lambda: count() == 0, what="no instance again")
    backlog = fast.client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SageMaker",
                        "MetricName": "ApproximateBacklogSize",
                        "Dimensions": [{"Name": "EndpointName", "Value": "elastic"}],
                    },
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
        ],
        StartTime=time.time() - 600,
        EndTime=time.time() + 60,
    )
    values = backlog["MetricDataResults"][0]["Values"]
    assert max(values) > 10
    assert values[0] == 0  # newest first
    activities = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"]
    assert any(one["StatusCode"] == "Successful" for one in activities)
    scaling.deregister_scalable_target(**target)
    fast.delete("elastic")


def test_a_first_request_wakes_an_endpoint_at_zero(fast: Deployments) -> None:
    endpoint = Asynchronous(fast, "sleeper", script(ADD))
    scaling = fast.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/sleeper/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=2)
    endpoint.scale(0)
    scaling.put_scaling_policy(
        **target,
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "sleeper"}],
                "Statistic": "Average",
            },
        },
    )
    request = endpoint.invoke([1])
    assert endpoint.notification()["inferenceId"] == request.id
    fast.delete("sleeper")


def test_what_cannot_be_had_is_refused_at_creation(server: Deployments) -> None:
    server.model("lonely", script(IDENTITY))
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="lonely",
        ProductionVariants=[
            {"VariantName": "V", "ModelName": "lonely", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/out",
                "NotificationConfig": {"SuccessTopic": "arn:aws:sns:us-east-1:123456789012:none"},
            }
        },
    )
    with pytest.raises(ClientError, match=r'There is no topic "arn:aws:sns:us-east-1:123456789012:none"'):
        server.sagemaker.create_endpoint(EndpointName="lonely", EndpointConfigName="lonely")
