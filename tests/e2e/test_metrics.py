"""Metrics of real requests through real processes, at a time scale of 60: counted once through kill -9; alarms; Prometheus."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.e2e.deployments import IDENTITY, Deployments, script, until

DIMENSIONS = [{"Name": "EndpointName", "Value": "measured"}, {"Name": "VariantName", "Value": "AllTraffic"}]
FAILING = IDENTITY.replace("    return data,", '    if len(data) == 3:\n        raise ValueError("bad")\n    return data,')


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    with temporary(["--time-scale", "60"]) as launched:
        server = Deployments(launched)
        server.deploy("measured", script(FAILING))
        yield server


def total(server: Deployments, metric: str, statistic: str = "Sum", namespace: str = "AWS/SageMaker") -> float:
    now = datetime.now(UTC)
    found = server.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=DIMENSIONS,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(seconds=5),
        Period=86400,
        Statistics=[statistic],
    )["Datapoints"]
    points = [float(point[statistic]) for point in found]
    return max(points, default=0.0) if statistic == "Maximum" else sum(points)


def role(server: Deployments, name: str) -> int:
    """The process of a role; 0 while there is none."""
    return next((process.pid for process in server.processes(f"slipway.roles.{name}")), 0)


def invoke(server: Deployments, count: int) -> None:
    for _ in range(count):
        server.runtime.invoke_endpoint(EndpointName="measured", Body=b"x")


def test_requests_are_counted_once_though_control_is_killed(server: Deployments) -> None:
    control = role(server, "control")
    invoke(server, 10)
    with pytest.raises(ClientError):
        server.runtime.invoke_endpoint(EndpointName="measured", Body=b"bad")
    until(lambda: total(server, "Invocations") == 11)
    for _ in range(3):
        invoke(server, 5)
        os.kill(control, signal.SIGKILL)
        invoke(server, 5)
        until(lambda: role(server, "control") not in (0, control))  # noqa: B023
        control = role(server, "control")
    until(lambda: total(server, "Invocations") == 41)
    until(lambda: total(server, "Invocations", "SampleCount") > 45)  # zeros of idle periods
    assert total(server, "Invocations") == 41
    assert total(server, "InvocationsPerInstance") == 41
    assert total(server, "InvocationModelErrors") == 1
    assert total(server, "ModelLatency", "SampleCount") == 41


def test_instances_tell_what_they_use(server: Deployments) -> None:
    until(lambda: total(server, "CPUUtilization", "SampleCount", "/aws/sagemaker/Endpoints") > 1)
    assert 0 < total(server, "MemoryUtilization", "Maximum", "/aws/sagemaker/Endpoints") < 100
    assert 0 < total(server, "DiskUtilization", "Maximum", "/aws/sagemaker/Endpoints") <= 100


def test_an_alarm_tells_a_queue(server: Deployments) -> None:
    sns, sqs, cloudwatch = server.client("sns"), server.client("sqs"), server.client("cloudwatch")
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="alarms")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    cloudwatch.put_metric_alarm(
        AlarmName="busy",
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=DIMENSIONS,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[topic],
        OKActions=[topic],
    )

    def state() -> str:
        return str(cloudwatch.describe_alarms(AlarmNames=["busy"])["MetricAlarms"][0]["StateValue"])

    def received(count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10).get("Messages", []):
                found.append(json.loads(json.loads(message["Body"])["Message"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    until(lambda: state() == "OK")
    (first,) = received(1)
    assert (first["OldStateValue"], first["NewStateValue"]) == ("INSUFFICIENT_DATA", "OK")

    def calls() -> bool:
        invoke(server, 5)
        return state() == "ALARM"

    until(calls, what="the alarm")
    second, third = received(2)
    assert (second["NewStateValue"], third["NewStateValue"]) == ("ALARM", "OK")
    assert "was greater than the threshold (0.0)" in second["NewStateReason"]
    summaries = [row["HistorySummary"] for row in cloudwatch.describe_alarm_history(AlarmName="busy")["AlarmHistoryItems"]]
    assert summaries.count(f"Successfully executed action {topic}") == 3


def test_prometheus_reads_the_same_counts(server: Deployments) -> None:
    token = (server.launched.data_dir / "metrics-token").read_text().strip()
    url = f"{server.launched.endpoint_url}/metrics"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})) as answer:
        text = answer.read().decode()
    found = re.search(r'slipway_invocations_total\{[^}]*endpoint="measured"[^}]*\} (\d+)', text)
    assert found is not None
    assert int(found[1]) > 41
    assert 'slipway_instances{account="123456789012"' in text
