"""What every run finds on its disk: a deployed asynchronous endpoint with topics, a queue, a scalable target and a policy."""

from __future__ import annotations

from random import Random
from typing import Any

from slipway.control.capacity import set_counts
from slipway.services import application_autoscaling
from slipway.store import objects, queues, topics
from slipway.store.db import Connection
from tests.simulation.control import ACCOUNT, ARN, NAME, REGION, SimControl, settings_of
from tests.simulation.objects import BUCKET, Shelf
from tests.simulation.replicas import Keeper, Watcher
from tests.simulation.site import BEGIN, Site
from tests.simulation.store import Disk

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
GOOD, BAD = f"arn:aws:sns:{REGION}:{ACCOUNT}:good", f"arn:aws:sns:{REGION}:{ACCOUNT}:bad"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:results"
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    "ResourceId": f"endpoint/{NAME}/variant/A",
}
_SECONDS_BEFORE = 1000.0


def made(disk: Disk, *, instances: int, tracking: bool) -> bytes:
    """The disk's image."""
    disk.load(disk.empty)
    site = Site(Random(1), disk, scale=6.0)
    site.agenda.now = BEGIN - _SECONDS_BEFORE
    shelf = Shelf(site)
    keeper = Keeper(site, Watcher(), 1)
    process = site.process("control")
    control = SimControl(
        site,
        process,
        keeper,
        shelf,
        settings_of(site),
        lambda name: None,
        lambda name, value: None,
        lambda outcomes: None,
        dispatchers=0,
    )
    keeper.report = control.reported
    ready: list[bool] = []
    control.spawn(_deploy(control, ready, instances, tracking))
    site.agenda.run(site.now + 60.0, lambda: False)
    assert ready, site.agenda.problems
    assert not site.agenda.problems, site.agenda.problems
    process.kill()
    return disk.raw.serialize()


async def _deploy(control: SimControl, ready: list[bool], instances: int, tracking: bool) -> None:
    await control.db.write(lambda c: _surroundings(c, control.site.now))
    await control.begin()
    container = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz", "Environment": {}}
    role = f"arn:aws:iam::{ACCOUNT}:role/sagemaker"
    await control.call("create_model", ModelName="m", PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    await control.call(
        "create_endpoint_config", EndpointConfigName="c", ProductionVariants=[variant], AsyncInferenceConfig=_config()
    )
    await control.call("create_endpoint", EndpointName=NAME, EndpointConfigName="c")
    while (await control.call("describe_endpoint", EndpointName=NAME))["EndpointStatus"] != "InService":
        await _pause(1.0)
    await application_autoscaling.register_scalable_target(control.ctx, TARGET | {"MinCapacity": 0, "MaxCapacity": 5})
    if tracking:
        await application_autoscaling.put_scaling_policy(control.ctx, TARGET | _POLICY)
    if not instances:
        await control.db.write(lambda c: set_counts(c, ARN, {"A": 0}, control.site.now))
        control.reconciler.wake("endpoint", ARN)
        while (await control.call("describe_endpoint", EndpointName=NAME))["EndpointStatus"] != "InService":
            await _pause(1.0)
    await _pause(3.0)
    ready.append(True)


async def _pause(seconds: float) -> None:
    import asyncio  # noqa: PLC0415

    await asyncio.sleep(seconds)


def _config() -> dict[str, Any]:
    topics_of = {"SuccessTopic": GOOD, "ErrorTopic": BAD, "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"]}
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed", "NotificationConfig": topics_of}
    return {"OutputConfig": output}


_POLICY: dict[str, Any] = {
    "PolicyName": "track",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 3.0,
        "CustomizedMetricSpecification": {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": NAME}],
            "Statistic": "Average",
        },
        "ScaleInCooldown": 30,
        "ScaleOutCooldown": 30,
    },
}


def _surroundings(connection: Connection, now: float) -> None:
    objects.insert_bucket(connection, objects.BucketRow(BUCKET, ACCOUNT, REGION, now))
    queues.create(connection, queues.QueueRow(QUEUE, 0, ACCOUNT, REGION, "results", {}, now, now))
    for arn in (GOOD, BAD):
        name = arn.rpartition(":")[2]
        topics.create(connection, topics.Topic(arn, ACCOUNT, REGION, name, {}, now))
        raw = {"RawMessageDelivery": "true"}
        topics.subscribe(
            connection, topics.Subscription(f"{arn}:s", arn, ACCOUNT, "sqs", QUEUE, raw, "confirmed", "owner", created=now)
        )
