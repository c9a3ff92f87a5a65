"""What the end-to-end tests of asynchronous inference share: an endpoint with topics and a queue, requests, their ends."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.deadlines import PATIENCE
from tests.e2e.deployments import BUCKET, SCRIPT_MODE, Deployments

ADD = """
import json, time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(asked, model):
    if isinstance(asked, dict):
        time.sleep(asked["sleep"])
        return 0
    return sum(asked)

def output_fn(total, accept):
    return json.dumps({"total": total}), "application/json"
"""
"""Adds numbers up; `{"sleep": s}` takes so many seconds; anything else raises."""


@dataclass(frozen=True)
class Request:
    """An accepted InvokeEndpointAsync."""

    id: str
    output: str
    failure: str | None


class Asynchronous:
    """One asynchronous endpoint, made from scratch, and the queue that hears of its results."""

    def __init__(
        self,
        server: Deployments,
        name: str,
        data: bytes,
        client: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] = SCRIPT_MODE,
        **notification: Any,
    ) -> None:
        """`client`: ClientConfig; `environment`: of the container; `notification`: further members of NotificationConfig."""
        self.server, self.name = server, name
        self.sns, self.sqs = server.client("sns"), server.client("sqs", read_timeout=40)
        self.success = self.sns.create_topic(Name=f"{name}-success")["TopicArn"]
        self.error = self.sns.create_topic(Name=f"{name}-error")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        asked = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        for topic in (self.success, self.error):
            self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=asked["Attributes"]["QueueArn"])
        server.model(name, data, environment=environment)
        server.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            ],
            AsyncInferenceConfig={
                "OutputConfig": {
                    "S3OutputPath": f"s3://{BUCKET}/{name}/out",
                    "S3FailurePath": f"s3://{BUCKET}/{name}/failed",
                    "NotificationConfig": {"SuccessTopic": self.success, "ErrorTopic": self.error, **notification},
                },
                "ClientConfig": dict(client or {}),
            },
        )
        server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        server.settle(name, "InService")
        probes = [self.notification(), self.notification()]
        assert [probe["eventName"] for probe in probes] == ["TestNotification", "TestNotification"]

    def notification(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next message of either topic: what SageMaker published, and under `TopicArn` where."""
        deadline = time.monotonic() + seconds
        while True:
            told = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=1, WaitTimeSeconds=5)
            for message in told.get("Messages", ()):
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                envelope = json.loads(message["Body"])
                return {**json.loads(envelope["Message"]), "TopicArn": envelope["TopicArn"]}
            assert time.monotonic() < deadline, f"no notification of {self.name} within {seconds} s"

    def put(self, key: str, body: Any, content_type: str = "application/json") -> str:
        """Uploads a payload; its address."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.server.s3.put_object(Bucket=BUCKET, Key=f"{self.name}/in/{key}", Body=data, ContentType=content_type)
        return f"s3://{BUCKET}/{self.name}/in/{key}"

    def invoke(self, body: Any = None, **more: Any) -> Request:
        """Uploads the body and submits it (or submits what `more` names)."""
        if "InputLocation" not in more and "Body" not in more:
            more["InputLocation"] = self.put(f"{time.monotonic_ns()}", body)
        told = self.server.runtime.invoke_endpoint_async(EndpointName=self.name, **more)
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 202
        return Request(told["InferenceId"], told["OutputLocation"], told.get("FailureLocation"))

    def read(self, location: str) -> bytes:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        data: bytes = self.server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def scale(self, count: int) -> None:
        """As auto scaling would; returns when it is done."""
        wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
        self.server.sagemaker.update_endpoint_weights_and_capacities(EndpointName=self.name, DesiredWeightsAndCapacities=wanted)
        told = self.server.settle(self.name, "InService")
        assert told["ProductionVariants"][0]["CurrentInstanceCount"] == count
        for _ in range(2):
            assert self.notification()["eventName"] == "TestNotification"
