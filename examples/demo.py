"""`make demo`: a really trained scikit-learn model, deployed and called through boto3, in a temporary folder.

Everything a SageMaker user does, against slipway: upload the archive, create model, endpoint configuration and endpoint, wait,
invoke, then the same asynchronously, delete. Prints what it did and how long each step took.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from slipway.cli.launch import temporary

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"

TRAIN = """
import json, sys
import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
data = load_iris()
x, held_x, y, held_y = train_test_split(data.data, data.target, test_size=0.2, random_state=0)
model = RandomForestClassifier(n_estimators=50, random_state=0).fit(x, y)
joblib.dump(model, sys.argv[1])
print(json.dumps({"rows": held_x.tolist(), "right": held_y.tolist(), "expected": model.predict(held_x).tolist(),
                  "accuracy": model.score(held_x, held_y)}))
"""

INFERENCE = """
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""


class Steps:
    """Prints each step with the seconds it took."""

    def __init__(self) -> None:
        self.begun = self.last = time.perf_counter()

    def done(self, what: str) -> None:
        now = time.perf_counter()
        print(f"  {now - self.last:7.2f} s  {what}", flush=True)
        self.last = now


def train(python: str, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The archive of a model trained in the image's own environment, and what it answers to rows it never saw."""
    model = folder / "model.joblib"
    told = subprocess.run([python, "-c", TRAIN, str(model)], check=True, capture_output=True, text=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(model, "model.joblib")
        script = INFERENCE.encode()
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(script)
        tar.addfile(entry, io.BytesIO(script))
    return archive.getvalue(), json.loads(told.stdout)


def main() -> int:
    steps = Steps()
    slipway = [sys.executable, "-m", "slipway.cli.main"]
    print("building (or finding) the environment of scikit-learn 1.2:", flush=True)
    subprocess.run([*slipway, "images", "pull", IMAGE], check=True)
    python = subprocess.run(
        [*slipway, "images", "show", "--python", IMAGE], check=True, capture_output=True, text=True
    ).stdout.strip()
    steps.done("environment ready")
    with tempfile.TemporaryDirectory() as folder:
        archive, truth = train(python, Path(folder))
    steps.done(f"trained a random forest on iris: accuracy {truth['accuracy']:.3f} on {len(truth['rows'])} held-out rows")
    with temporary() as server:
        steps.done(f"slipway up at {server.endpoint_url}")
        return deploy_and_call(steps, server.environment, archive, truth)


def deploy_and_call(steps: Steps, environment: dict[str, str], archive: bytes, truth: dict[str, Any]) -> int:
    session = boto3.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
    )

    def client(name: str) -> Any:
        return session.client(name, endpoint_url=environment["AWS_ENDPOINT_URL"])

    s3, sagemaker, runtime = client("s3"), client("sagemaker"), client("sagemaker-runtime")
    s3.create_bucket(Bucket="demo-models")
    s3.put_object(Bucket="demo-models", Key="iris/model.tar.gz", Body=archive)
    steps.done(f"uploaded model.tar.gz ({len(archive) / 1024:.0f} KiB)")
    sagemaker.create_model(
        ModelName="iris",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/demo",
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": "s3://demo-models/iris/model.tar.gz",
            "Environment": {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
        },
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="iris",
        ProductionVariants=[
            {"VariantName": "AllTraffic", "ModelName": "iris", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
    )
    sagemaker.create_endpoint(EndpointName="iris", EndpointConfigName="iris")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="iris")
    steps.done("created model, configuration and endpoint: InService")

    def invoke(rows: list[list[float]]) -> list[float]:
        answer = runtime.invoke_endpoint(EndpointName="iris", ContentType="application/json", Body=json.dumps(rows))
        result: list[float] = json.loads(answer["Body"].read())
        return result

    answers = invoke(truth["rows"])
    steps.done(f"invoked with {len(answers)} rows: {answers[:5]} …")
    begun = time.perf_counter()
    for row in truth["rows"] * 10:
        invoke([row])
    each = (time.perf_counter() - begun) / (len(truth["rows"]) * 10)
    steps.done(f"invoked {len(truth['rows']) * 10} times with one row: {each * 1000:.2f} ms each, boto3 included")
    later = call_asynchronously(steps, client, truth["rows"])
    for name in ("iris", "iris-async"):
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    steps.done("deleted the endpoints")
    agree = [int(answer) for answer in answers] == truth["expected"] == [int(answer) for answer in later]
    print(f"answers equal the model's own: {'yes' if agree else 'NO'}; {time.perf_counter() - steps.begun:.1f} s in all")
    return 0 if agree else 1


def call_asynchronously(steps: Steps, client: Callable[[str], Any], rows: list[list[float]]) -> list[float]:
    """An asynchronous endpoint with the same model: a payload for each row, a request for each; the answers, from S3."""
    s3, sagemaker, runtime, sqs, sns = map(client, ("s3", "sagemaker", "sagemaker-runtime", "sqs", "sns"))
    topic = sns.create_topic(Name="iris-results")["TopicArn"]
    queue = sqs.create_queue(QueueName="iris-results")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    sagemaker.create_endpoint_config(
        EndpointConfigName="iris-async",
        ProductionVariants=[
            {"VariantName": "AllTraffic", "ModelName": "iris", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        AsyncInferenceConfig={
            "OutputConfig": {"S3OutputPath": "s3://demo-models/out", "NotificationConfig": {"SuccessTopic": topic}}
        },
    )
    sagemaker.create_endpoint(EndpointName="iris-async", EndpointConfigName="iris-async")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="iris-async")
    steps.done("created an asynchronous endpoint with the same model: InService")
    outputs = []
    for number, row in enumerate(rows):
        s3.put_object(Bucket="demo-models", Key=f"in/{number}.json", Body=json.dumps([row]), ContentType="application/json")
        told = runtime.invoke_endpoint_async(
            EndpointName="iris-async", InputLocation=f"s3://demo-models/in/{number}.json", InferenceId=str(number)
        )
        outputs.append(told["OutputLocation"].removeprefix("s3://demo-models/"))
    heard: set[str] = set()
    while len(heard) < len(rows):
        told = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        notices = [json.loads(message["Body"]) for message in told.get("Messages", ())]
        heard |= {notice["inferenceId"] for notice in notices if notice["eventName"] == "InferenceResult"}
    answers = [json.loads(s3.get_object(Bucket="demo-models", Key=key)["Body"].read())[0] for key in outputs]
    steps.done(f"invoked asynchronously {len(rows)} times: {len(heard)} notifications, {len(answers)} outputs in S3")
    return answers


if __name__ == "__main__":
    sys.exit(main())
