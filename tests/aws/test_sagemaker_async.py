"""AsyncInferenceConfig through boto3: taken, given back, refused where AWS refuses it; endpoints without instances."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.store import queue_messages, queues, topics
from slipway.store.db import Connection
from tests.aws.cloud import Cloud
from tests.aws.sagemaker_requests import Hands, SageMaker
from tests.aws.test_sagemaker_models import refused

PLAIN = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}


@pytest.fixture
def sm(cloud: Cloud) -> SageMaker:
    made = SageMaker(cloud)
    made.model()
    return made


@pytest.fixture
def hands(cloud: Cloud) -> Hands:
    return Hands(cloud)


def topic(cloud: Cloud, name: str, **place: str) -> str:
    where = {"region": cloud.region, "account": cloud.account, **place}
    return f"arn:aws:sns:{where['region']}:{where['account']}:{name}"


def output(**more: Any) -> dict[str, Any]:
    return {"OutputConfig": {"S3OutputPath": "s3://bucket/out", **more}}


def test_everything_given_comes_back(sm: SageMaker, cloud: Cloud) -> None:
    config = {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1000},
        **output(
            S3FailurePath="s3://bucket/failed/",
            KmsKeyId="alias/key",
            NotificationConfig={
                "SuccessTopic": topic(cloud, "good"),
                "ErrorTopic": topic(cloud, "bad"),
                "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"],
            },
        ),
    }
    sm.config(AsyncInferenceConfig=config)
    assert sm.client.describe_endpoint_config(EndpointConfigName="c")["AsyncInferenceConfig"] == config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "Value null at 'asyncInferenceConfig.outputConfig'"),
        ({"OutputConfig": {}}, "Value null at 'asyncInferenceConfig.outputConfig.s3OutputPath'"),
        (output(S3OutputPath="bucket/out"), "asyncInferenceConfig.outputConfig.s3OutputPath"),
        (output(S3OutputPath="s3:///out"), "asyncInferenceConfig.outputConfig.s3OutputPath"),
        (output(S3OutputPath="https://example.com/out"), "Invalid S3 URI at AsyncInferenceConfig.OutputConfig.S3OutputPath"),
        (output(S3OutputPath="s3://b/" + "x" * 512), "less than or equal to 512"),
        (output(S3FailurePath="https://example.com/out"), "Invalid S3 URI at AsyncInferenceConfig.OutputConfig.S3FailurePath"),
        (output(NotificationConfig={"SuccessTopic": "topic"}), "notificationConfig.successTopic"),
        (output(NotificationConfig={"IncludeInferenceResponseIn": ["BOTH"]}), "includeInferenceResponseIn"),
        ({**PLAIN, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 0}}, "greater than or equal to 1"),
        ({**PLAIN, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1001}}, "less than or equal to 1000"),
    ],
)
def test_bad_input_is_named(sm: SageMaker, config: dict[str, Any], words: str) -> None:
    request = {"EndpointConfigName": "c", "ProductionVariants": [sm.variant()], "AsyncInferenceConfig": config}
    assert words in refused(sm.client.create_endpoint_config, **request)
    assert sm.client.list_endpoint_configs()["EndpointConfigs"] == []


@pytest.mark.parametrize("member", ["SuccessTopic", "ErrorTopic"])
def test_topics_are_of_this_region_and_account(sm: SageMaker, cloud: Cloud, member: str) -> None:
    def message(arn: str) -> str:
        config = output(NotificationConfig={member: arn})
        request = {"EndpointConfigName": "c", "ProductionVariants": [sm.variant()], "AsyncInferenceConfig": config}
        return refused(sm.client.create_endpoint_config, **request)

    elsewhere = message(topic(cloud, "t", region="us-west-2"))
    assert f"NotificationConfig.{member}" in elsewhere
    assert f"is not in {cloud.region}" in elsewhere
    assert "of another account (999999999999)" in message(topic(cloud, "t", account="999999999999"))


@pytest.mark.parametrize(
    ("variants", "more", "clash"),
    [
        (2, {}, "more than one production variant"),
        (1, {"ShadowProductionVariants": [{"VariantName": "S", "ModelName": "m"}]}, "ShadowProductionVariants"),
        (1, {"ExplainerConfig": {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}}}, "ExplainerConfig"),
        (
            1,
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 1,
                    "DestinationS3Uri": "s3://b/k",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "DataCaptureConfig",
        ),
    ],
)
def test_what_does_not_go_with_it(sm: SageMaker, variants: int, more: dict[str, Any], clash: str) -> None:
    request = {"EndpointConfigName": "c", "ProductionVariants": [sm.variant(f"V{n}") for n in range(variants)], **more}
    message = refused(sm.client.create_endpoint_config, AsyncInferenceConfig=PLAIN, **request)
    assert message == (
        f"One or more endpoint features are not supported using this configuration: AsyncInferenceConfig with {clash}."
    )


def test_serverless_does_not_go_with_it(sm: SageMaker) -> None:
    serverless = {"VariantName": "V", "ModelName": "m", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}
    request = {"EndpointConfigName": "c", "ProductionVariants": [serverless], "AsyncInferenceConfig": PLAIN}
    assert "AsyncInferenceConfig with ServerlessConfig" in refused(sm.client.create_endpoint_config, **request)


def test_described_while_it_lives(sm: SageMaker, hands: Hands) -> None:
    sm.config(AsyncInferenceConfig=PLAIN)
    sm.endpoint()
    assert sm.describe()["AsyncInferenceConfig"] == PLAIN
    hands.settle()
    assert sm.describe()["AsyncInferenceConfig"] == PLAIN
    other = output(S3OutputPath="https://s3.eu-central-1.amazonaws.com/bucket/else")
    sm.config("next", AsyncInferenceConfig=other)
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="next")
    assert sm.describe()["AsyncInferenceConfig"] == PLAIN
    hands.settle()
    assert sm.describe()["AsyncInferenceConfig"] == other


def counts(sm: SageMaker) -> tuple[int, int]:
    (variant,) = sm.describe()["ProductionVariants"]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def change(sm: SageMaker, count: int) -> None:
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
    sm.client.update_endpoint_weights_and_capacities(EndpointName="e", DesiredWeightsAndCapacities=wanted)


def test_no_instance(sm: SageMaker, hands: Hands) -> None:
    sm.config(AsyncInferenceConfig=PLAIN)
    sm.endpoint()
    hands.settle()
    change(sm, 0)
    assert (sm.describe()["EndpointStatus"], counts(sm)) == ("Updating", (1, 0))
    hands.settle()
    assert (sm.describe()["EndpointStatus"], counts(sm)) == ("InService", (0, 0))
    assert hands.keeper.running() == set()
    change(sm, 3)
    hands.settle()
    assert (sm.describe()["EndpointStatus"], counts(sm)) == ("InService", (3, 3))
    change(sm, 0)
    hands.settle()
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="c", RetainAllVariantProperties=True)
    hands.settle()
    assert counts(sm) == (0, 0)
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="c")
    hands.settle()
    assert counts(sm) == (1, 1)


def test_an_endpoint_stays_what_it_is(sm: SageMaker, hands: Hands) -> None:
    sm.config("plain")
    sm.config("async", AsyncInferenceConfig=PLAIN)
    for own, other in (("plain", "async"), ("async", "plain")):
        sm.endpoint(own, own)
        hands.settle(own)
        message = refused(sm.client.update_endpoint, EndpointName=own, EndpointConfigName=other)
        assert message.startswith("One or more endpoint features are not supported using this configuration")
        assert sm.describe(own)["EndpointStatus"] == "InService"


class Topics:
    """A topic for success and one for errors, with a queue that is subscribed to both, made in the store."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.queue = f"arn:aws:sqs:{cloud.region}:{cloud.account}:q"
        self.arns = [topic(cloud, name) for name in ("good", "bad")]
        self.config = output(NotificationConfig={"SuccessTopic": self.arns[0], "ErrorTopic": self.arns[1]})

    def make(self) -> None:
        account, region = self.cloud.account, self.cloud.region

        def write(connection: Connection) -> None:
            queues.create(connection, queues.QueueRow(self.queue, 0, account, region, "q", created=1.0, modified=1.0))
            for arn in self.arns:
                topics.create(connection, topics.Topic(arn, account, region, arn.rsplit(":", 1)[1], created=1.0))
                raw = {"RawMessageDelivery": "true"}
                made = topics.Subscription(f"{arn}:s", arn, account, "sqs", self.queue, raw, "confirmed", created=1.0)
                topics.subscribe(connection, made)

        self.cloud.run(self.cloud.world.db.write(write))

    def remove(self) -> None:
        self.cloud.run(self.cloud.world.db.write(lambda c: [topics.remove(c, arn) for arn in self.arns]))

    def received(self) -> list[dict[str, str]]:
        """What has come since the last time."""

        def take(connection: Connection) -> list[str]:
            queue = queues.get(connection, self.queue)
            assert queue is not None
            found = queue_messages.receive(connection, queue, 10, 1000.0, self.cloud.world.now())
            return [message.body for message in found]

        return [json.loads(body) for body in self.cloud.run(self.cloud.world.db.write(take))]


PROBE = {"eventVersion": "1.0", "eventSource": "aws:sagemaker", "eventName": "TestNotification"}


def test_topics_get_a_test_notification(sm: SageMaker, hands: Hands, cloud: Cloud) -> None:
    made = Topics(cloud)
    made.make()
    sm.config(AsyncInferenceConfig=made.config)
    assert made.received() == []
    sm.endpoint()
    assert made.received() == [PROBE, PROBE]
    hands.settle()
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="c")
    assert made.received() == [PROBE, PROBE]
    hands.settle()
    change(sm, 2)
    assert made.received() == [PROBE, PROBE]
    hands.settle()
    sm.client.delete_endpoint(EndpointName="e")
    assert made.received() == []


def test_a_topic_that_is_both_gets_one(sm: SageMaker, cloud: Cloud) -> None:
    made = Topics(cloud)
    made.make()
    sm.config(AsyncInferenceConfig=output(NotificationConfig={"SuccessTopic": made.arns[0], "ErrorTopic": made.arns[0]}))
    sm.endpoint()
    assert made.received() == [PROBE]


def test_a_topic_that_is_not_there(sm: SageMaker, hands: Hands, cloud: Cloud) -> None:
    made = Topics(cloud)
    sm.config(AsyncInferenceConfig=made.config)
    words = f'There is no topic "{made.arns[0]}"'
    assert words in refused(sm.client.create_endpoint, EndpointName="e", EndpointConfigName="c")
    assert sm.client.list_endpoints()["Endpoints"] == []
    made.make()
    sm.endpoint()
    hands.settle()
    made.remove()
    assert words in refused(sm.client.update_endpoint, EndpointName="e", EndpointConfigName="c")
    assert sm.describe()["EndpointStatus"] == "InService"
    change(sm, 2)
    hands.settle()
    assert counts(sm) == (2, 2)
