"""Asynchronous inference with plain boto3, as on AWS: 10,000 requests drive an endpoint from no instance to five, and back.

It makes the endpoint of AWS's announcement (two topics, auto scaling from 0 to 5 on ApproximateBacklogSizePerInstance), sends
the requests, waits for their notifications in a queue, and ends with what was promised and what was kept, and a picture of
backlog and instances as CloudWatch tells it. Nothing here knows of slipway. With one (where a minute of CloudWatch and of auto
scaling lasts a second):

    slipway run --option=--time-scale=60 -- uv run examples/async_autoscaling.py

On AWS the same script runs, an hour long, with a role that SageMaker may assume (ROLE) and a bucket name that is free (BUCKET).
`async_autoscaling.py 500` sends 500 requests; PICTURE names the file of the picture.
"""

# /// script
# requires-python = "==3.11.*"
# dependencies = ["boto3>=1.34", "scikit-learn==1.2.2", "numpy<2", "matplotlib>=3.7"]
# ///

from __future__ import annotations

import collections
import io
import json
import os
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import joblib
import matplotlib as mpl
from botocore.config import Config
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

mpl.use("agg")  # draws into files, on a machine without a screen too
from matplotlib import pyplot

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "digits-async")
PICTURE = os.environ.get("PICTURE", "async_autoscaling.png")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
NAME = "digits"
PAYLOADS = 500
RESOURCE = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": f"endpoint/{NAME}/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}

INFERENCE = """
import json, os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(pixels, model):
    return int(model.predict([pixels])[0])

def output_fn(digit, accept):
    return json.dumps({"digit": digit}), "application/json"
"""

settings = Config(max_pool_connections=32, retries={"mode": "standard", "max_attempts": 5})
s3, sqs, sns = (boto3.client(name, config=settings) for name in ("s3", "sqs", "sns"))
sagemaker = boto3.client("sagemaker", config=settings)
runtime = boto3.client("sagemaker-runtime", config=settings)
scaling = boto3.client("application-autoscaling", config=settings)
cloudwatch = boto3.client("cloudwatch", config=settings)


class Steps:
    """Prints each step with the seconds since the start."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def __call__(self, what: str) -> None:
        print(f"{time.perf_counter() - self.begun:7.1f} s  {what}", flush=True)


class Notifications:
    """Receives from the queue in the background: how often each inference id was told of, and how it ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: collections.Counter[str] = collections.Counter()
        self.failed: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._receive, daemon=True) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _receive(self) -> None:
        while not self._stop.is_set():
            messages = sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=2).get("Messages", [])
            if not messages:
                continue
            for message in messages:
                self._take(json.loads(json.loads(message["Body"])["Message"]))
            entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def _take(self, notice: dict[str, Any]) -> None:
        if notice["eventName"] != "InferenceResult":  # TestNotification, when the endpoint was created
            return
        self.told[notice["inferenceId"]] += 1
        if notice["invocationStatus"] != "Completed":
            self.failed[notice["inferenceId"]] = notice["failureReason"]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def train() -> tuple[bytes, list[list[float]], list[int]]:
    """A model.tar.gz with a forest that takes some 20 ms for one picture; pictures, and what the model makes of them."""
    pixels, digits = load_digits(return_X_y=True)
    model = RandomForestClassifier(n_estimators=1000, max_leaf_nodes=40, random_state=0)
    model.fit(pixels[PAYLOADS:], digits[PAYLOADS:])
    trained, archive = io.BytesIO(), io.BytesIO()
    joblib.dump(model, trained)
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for path, data in (("model.joblib", trained.getvalue()), ("code/inference.py", INFERENCE.encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    shown = pixels[:PAYLOADS]
    return archive.getvalue(), shown.tolist(), [int(digit) for digit in model.predict(shown)]


def make_queue() -> tuple[str, str, str]:
    """A topic for successes, one for errors, and a queue subscribed to both; topic ARNs and the queue's URL."""
    success, error = (sns.create_topic(Name=f"{NAME}-{kind}")["TopicArn"] for kind in ("success", "error"))
    url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": [success, error]}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    for topic in (success, error):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return success, error, url


def deploy(archive: bytes, success: str, error: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive)
    environment = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "OMP_NUM_THREADS": "1",
    }
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz", "Environment": environment}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=NAME,
        ProductionVariants=[variant],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/output",
                "S3FailurePath": f"s3://{BUCKET}/failed",
                "NotificationConfig": {"SuccessTopic": success, "ErrorTopic": error},
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
        },
    )
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)


def instances() -> int:
    (variant,) = sagemaker.describe_endpoint(EndpointName=NAME)["ProductionVariants"]
    count: int = variant["CurrentInstanceCount"]
    return count


def until_instances(wanted: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while instances() != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    return instances() == wanted


def scale_from_zero_to_five() -> None:
    """The policy of AWS's announcement. A range of 0 to 0 first: the endpoint begins without instances."""
    scaling.register_scalable_target(**RESOURCE, MinCapacity=0, MaxCapacity=0)
    until_instances(0, 900)
    scaling.register_scalable_target(**RESOURCE, MinCapacity=0, MaxCapacity=5)
    scaling.put_scaling_policy(
        **RESOURCE,
        PolicyName="Invocations-ScalingPolicy",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": NAME}],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 120,
            "ScaleOutCooldown": 120,
        },
    )


def upload(pictures: list[list[float]]) -> None:
    def put(at: int) -> None:
        s3.put_object(Bucket=BUCKET, Key=f"input/{at}", Body=json.dumps(pictures[at]), ContentType="application/json")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(pictures))))


def send(count: int) -> dict[str, tuple[str, int]]:
    """Submits the requests; by inference id where the output will lie, and the number of its picture."""

    def invoke(at: int) -> tuple[str, tuple[str, int]]:
        answer = runtime.invoke_endpoint_async(EndpointName=NAME, InputLocation=f"s3://{BUCKET}/input/{at % PAYLOADS}")
        return answer["InferenceId"], (answer["OutputLocation"], at % PAYLOADS)

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(invoke, range(count)))


def watch(say: Steps, notifications: Notifications, count: int) -> None:
    """Until every request was told of, or nothing has been for two minutes."""
    told, last, shown = 0, time.monotonic(), 0.0
    while told < count and time.monotonic() - last < 120:
        time.sleep(0.2)
        if len(notifications.told) > told:
            told, last = len(notifications.told), time.monotonic()
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            say(f"  {told:6} of {count} done, {instances()} instances")


def outputs() -> dict[str, int]:
    """Size of each output object, by its address."""
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="output/"):
        found.update({f"s3://{BUCKET}/{one['Key']}": one["Size"] for one in page.get("Contents", [])})
    return found


def wrong(sent: dict[str, tuple[str, int]], truth: list[int], sample: int) -> int:
    """How many of a sample of outputs are not what the model says itself."""

    def right(item: tuple[str, int]) -> bool:
        location, at = item
        body = s3.get_object(Bucket=BUCKET, Key=location.split("/", 3)[3])["Body"].read()
        return bool(json.loads(body) == {"digit": truth[at]})

    with ThreadPoolExecutor(8) as pool:
        return sum(not ok for ok in pool.map(right, list(sent.values())[:sample]))


METRICS = (
    ("backlog", "AWS/SageMaker", "ApproximateBacklogSize", "Maximum", False),
    ("per_instance", "AWS/SageMaker", "ApproximateBacklogSizePerInstance", "Average", False),
    ("instances", "/aws/sagemaker/Endpoints", "CPUUtilization", "SampleCount", True),
)
"""Name here, namespace, metric, statistic, whether it has the variant's dimension too. An instance tells once a minute."""


def measured(begun: datetime) -> dict[str, tuple[list[datetime], list[float]]]:
    """The three curves, from CloudWatch."""
    queries = []
    for name, namespace, metric, statistic, of_variant in METRICS:
        dimensions = [{"Name": "EndpointName", "Value": NAME}]
        if of_variant:
            dimensions.append({"Name": "VariantName", "Value": "AllTraffic"})
        asked = {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions}
        queries.append({"Id": name, "MetricStat": {"Metric": asked, "Period": 60, "Stat": statistic}})
    # A minute without a sample is one without an instance.
    queries[-1] |= {"Id": "samples", "ReturnData": False}
    queries.append({"Id": "instances", "Expression": "FILL(samples, 0)"})
    found: dict[str, tuple[list[datetime], list[float]]] = {name: ([], []) for name, *_ in METRICS}
    span = {"StartTime": begun - timedelta(seconds=5), "EndTime": datetime.now(UTC) + timedelta(seconds=5)}
    for page in cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, ScanBy="TimestampAscending", **span
    ):
        for result in page["MetricDataResults"]:
            found[result["Id"]][0].extend(result["Timestamps"])
            found[result["Id"]][1].extend(result["Values"])
    return found


def draw(curves: dict[str, tuple[list[datetime], list[float]]], begun: datetime, count: int) -> None:
    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(9, 8), layout="constrained")
    titles = ("backlog (requests)", "backlog per instance", "instances")
    for (name, *_), title, axis in zip(METRICS, titles, axes, strict=True):
        times, values = curves[name]
        seconds = [(at - begun).total_seconds() for at in times]
        axis.plot(seconds, values, drawstyle="steps-post", color="#1f5a96")
        axis.fill_between(seconds, values, step="post", alpha=0.15, color="#1f5a96")
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_title(f"{count:,} asynchronous requests")
    axes[-1].set_xlabel("seconds")
    figure.savefig(PICTURE, dpi=120)


def table(rows: list[tuple[str, int, int]]) -> bool:
    """Prints what was promised and what was kept; whether all of it was."""
    print(f"\n{'':34} {'promised':>9} {'kept':>9}")
    for what, promised, kept in rows:
        print(f"{what:34} {promised:9,} {kept:9,}  {'' if promised == kept else '  BROKEN'}")
    return all(promised == kept for _, promised, kept in rows)


def clean_up(*topics: str, queue: str) -> None:
    scaling.deregister_scalable_target(**RESOURCE)
    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=NAME)
    sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
    sagemaker.delete_model(ModelName=NAME)
    for topic in topics:
        sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=queue)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        keys = [{"Key": one["Key"]} for one in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})
    s3.delete_bucket(Bucket=BUCKET)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    say = Steps()
    archive, pictures, truth = train()
    s3.create_bucket(Bucket=BUCKET)
    upload(pictures)
    say(f"trained a forest on digits, uploaded it and {len(pictures)} payloads")
    success, error, queue = make_queue()
    deploy(archive, success, error)
    say("deployed: InService")
    scale_from_zero_to_five()
    say(f"scalable from 0 to 5, now {instances()} instances")
    begun = datetime.now(UTC)
    notifications = Notifications(queue)
    sent = send(count)
    say(f"{len(sent):,} requests accepted")
    watch(say, notifications, count)
    say(f"{len(notifications.told):,} notifications; waiting for no instance again")
    empty = until_instances(0, 1800)
    say("no instance again" if empty else "there still are instances")
    time.sleep(3)  # what was told twice would come by now
    notifications.stop()
    found = outputs()
    expected = {location for location, _ in sent.values()}
    curves = measured(begun)
    draw(curves, begun, count)
    most = int(max(curves["instances"][1], default=0))
    say(f"drew {PICTURE}: at most {most} instances, backlog up to {max(curves['backlog'][1], default=0):,.0f}")
    told, sample = notifications.told, min(count, 500)
    kept = table(
        [
            ("requests accepted", count, len(sent)),
            ("outputs", count, len(expected & set(found))),
            ("outputs of no request", 0, len(set(found) - expected)),
            (f"right answers in {sample}", sample, sample - wrong(sent, truth, sample)),
            ("notifications of success", count, sum(told[one] for one in sent if one not in notifications.failed)),
            ("requests lost", 0, sum(one not in told for one in sent)),
            ("requests told of twice", 0, sum(told[one] > 1 for one in sent)),
            ("instances at the end", 0, instances()),
        ]
    )
    clean_up(success, error, queue=queue)
    say("deleted everything")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
