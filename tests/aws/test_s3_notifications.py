"""Event notifications of buckets by boto3: what is configured, what is refused, what arrives, and when nothing does."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.store import objects, topics
from slipway.store.topics import Subscription, Topic
from tests.aws.cloud import Cloud
from tests.deadlines import Watch

REGION = "eu-central-1"
_numbers = itertools.count()


@pytest.fixture
def s3(cloud: Cloud) -> Any:
    return cloud.client("s3")


@pytest.fixture
def sqs(cloud: Cloud) -> Any:
    return cloud.client("sqs")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"events-{next(_numbers)}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.fixture
def queue(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="events")["QueueUrl"])


def arn(cloud: Cloud, name: str = "events", service: str = "sqs") -> str:
    return f"arn:aws:{service}:{REGION}:{cloud.account}:{name}"


def to_queue(cloud: Cloud, *events: str, name: str = "events", **more: Any) -> dict[str, Any]:
    return {"QueueArn": arn(cloud, name), "Events": list(events), **more}


def filtered(**rules: str) -> dict[str, Any]:
    return {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules.items()]}}


def configure(s3: Any, bucket: str, *rules: dict[str, Any], **more: Any) -> None:
    given = {"QueueConfigurations": list(rules)}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=given, **more)


def messages(sqs: Any, queue: str) -> Iterator[dict[str, Any]]:
    """Everything that lies in the queue, taken out."""
    while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages"):
        for message in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])


def records(sqs: Any, queue: str) -> list[dict[str, Any]]:
    """The events in the queue; test events left out."""
    return [record for message in messages(sqs, queue) for record in message.get("Records", [])]


def told(sqs: Any, queue: str) -> list[tuple[str, str]]:
    return [(record["eventName"], record["s3"]["object"]["key"]) for record in records(sqs, queue)]


def refused(call: Callable[[], Any], code: str, *words: str) -> None:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    assert all(word in str(error) for word in words), error


def test_what_is_put_comes_back(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    assert set(s3.get_bucket_notification_configuration(Bucket=bucket)) == {"ResponseMetadata"}
    filters = filtered(prefix="in/", suffix=".json")
    configure(
        s3,
        bucket,
        to_queue(cloud, "s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", Id="mine", Filter=filters),
        to_queue(cloud, "s3:ObjectRemoved:*"),
    )
    mine, other = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert mine == to_queue(cloud, "s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", Id="mine", Filter=filters)
    assert other.pop("Id")
    assert other == to_queue(cloud, "s3:ObjectRemoved:*")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert set(s3.get_bucket_notification_configuration(Bucket=bucket)) == {"ResponseMetadata"}
    s3.put_object(Bucket=bucket, Key="in/a.json", Body=b"x")
    assert told(sqs, queue) == []


def test_events_named_thousands_of_times_cost_nothing(cloud: Cloud, s3: Any, bucket: str, queue: str) -> None:
    """Rules are compared event by event, while control does nothing else."""
    began = Watch()
    configure(s3, bucket, *(to_queue(cloud, *[f"s3:Object{kind}"] * 20_000) for kind in ("Created:Put", "Removed:Delete")))
    assert began.free < 10
    found = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert [each["Events"] for each in found] == [["s3:ObjectCreated:Put"], ["s3:ObjectRemoved:Delete"]]


def test_each_destination_gets_a_test_event(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*"), to_queue(cloud, "s3:ObjectRemoved:*"))
    (test,) = messages(sqs, queue)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", test.pop("Time"))
    assert test.pop("RequestId")
    assert test.pop("HostId")
    assert test == {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket}


def test_the_record_of_a_put(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*", Id="rule"))
    list(messages(sqs, queue))
    put = s3.put_object(Bucket=bucket, Key="a b/ü+1.json", Body=b"hello")
    (record,) = records(sqs, queue)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("eventTime"))
    assert re.fullmatch(r"[0-9A-F]{16,}", record["s3"]["object"].pop("sequencer"))
    assert record["responseElements"].pop("x-amz-id-2")
    assert record == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": f"AWS:arn:aws:iam::{cloud.account}:root"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": put["ResponseMetadata"]["RequestId"]},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "rule",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": cloud.account}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": "a+b/%C3%BC%2B1.json", "size": 5, "eTag": put["ETag"].strip('"')},
        },
    }


def test_every_way_of_writing_and_removing(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*", "s3:ObjectRemoved:*"))
    s3.put_object(Bucket=bucket, Key="put", Body=b"x")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/put")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 70_000)
    chosen = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    for _ in range(2):
        s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=chosen)
    s3.delete_object(Bucket=bucket, Key="put")
    s3.delete_object(Bucket=bucket, Key="never there")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}, {"Key": "parts"}]})
    found = records(sqs, queue)
    assert sorted((r["eventName"], r["s3"]["object"]["key"]) for r in found) == [
        ("ObjectCreated:CompleteMultipartUpload", "parts"),
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:Put", "put"),
        ("ObjectRemoved:Delete", "copy"),
        ("ObjectRemoved:Delete", "parts"),
        ("ObjectRemoved:Delete", "put"),
    ]
    removed = [r["s3"]["object"] for r in found if r["eventName"] == "ObjectRemoved:Delete"]
    assert all(set(each) == {"key", "sequencer"} for each in removed)
    (multipart,) = [r["s3"]["object"] for r in found if r["s3"]["object"]["key"] == "parts" and "size" in r["s3"]["object"]]
    assert multipart["size"] == 70_000
    assert multipart["eTag"].endswith("-1")


def test_only_the_events_and_keys_that_were_asked_for(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(
        s3,
        bucket,
        to_queue(cloud, "s3:ObjectCreated:Put", Filter=filtered(Prefix="in/", Suffix=".json")),
        to_queue(cloud, "s3:ObjectRemoved:Delete", Filter=filtered(suffix=".gone")),
    )
    for key in ("in/a.json", "in/a.txt", "out/a.json", "in/b.gone"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key="source", Body=b"x")
    s3.copy_object(Bucket=bucket, Key="in/copy.json", CopySource=f"{bucket}/source")
    assert told(sqs, queue) == [("ObjectCreated:Put", "in/a.json"), ("ObjectRemoved:Delete", "in/b.gone")]


def test_a_refused_write_tells_nobody(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*", "s3:ObjectRemoved:*"))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*")
    with pytest.raises(ClientError):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")
    with pytest.raises(ClientError):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch='"0"')
    assert told(sqs, queue) == [("ObjectCreated:Put", "k")]


def test_sequencers_of_a_key_grow(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*"))
    etags = [s3.put_object(Bucket=bucket, Key="k", Body=str(n).encode())["ETag"].strip('"') for n in range(5)]
    found = sorted(records(sqs, queue), key=lambda record: record["s3"]["object"]["sequencer"])
    assert [record["s3"]["object"]["eTag"] for record in found] == etags


def test_objects_of_asynchronous_settlement_are_told_too(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    """Its way into the store, without a dispatcher."""
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*"))
    rows = [objects.ObjectRow(bucket, f"out/{n}", 1, "e", cloud.world.now(), data=b"x") for n in range(3)]
    cloud.run(cloud.world.db.write(lambda c: objects.put_objects(c, bucket, rows)))
    found = records(sqs, queue)
    assert [r["s3"]["object"]["key"] for r in found] == ["out/0", "out/1", "out/2"]
    assert {r["userIdentity"]["principalId"] for r in found} == {"AWS:slipway"}


def test_through_a_topic(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    topic = arn(cloud, "news", "sns")

    def subscribe(connection: Any) -> None:
        topics.create(connection, Topic(topic, cloud.account, REGION, "news"))
        row = Subscription(f"{topic}:s", topic, cloud.account, "sqs", arn(cloud), state="confirmed")
        topics.subscribe(connection, row)

    cloud.run(cloud.world.db.write(subscribe))
    rule = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Id": "t"}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [rule]})
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["TopicConfigurations"] == [rule]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    test, event = list(messages(sqs, queue))
    assert (test["Type"], test["Subject"], test["TopicArn"]) == ("Notification", "Amazon S3 Notification", topic)
    assert json.loads(test["Message"])["Event"] == "s3:TestEvent"
    (record,) = json.loads(event["Message"])["Records"]
    assert (record["eventName"], record["s3"]["object"]["key"]) == ("ObjectCreated:Put", "k")


def test_two_rules_two_queues(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    second = sqs.create_queue(QueueName="second")["QueueUrl"]
    configure(
        s3,
        bucket,
        to_queue(cloud, "s3:ObjectCreated:*", Filter=filtered(prefix="a/")),
        to_queue(cloud, "s3:ObjectCreated:*", Filter=filtered(prefix="b/"), name="second"),
    )
    for key in ("a/1", "b/1", "c/1"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert [key for _, key in told(sqs, queue)] == ["a/1"]
    assert [key for _, key in told(sqs, second)] == ["b/1"]


def test_a_queue_that_is_gone_stops_no_write(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*"))
    sqs.delete_queue(QueueUrl=queue)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_bucket_made_anew_has_no_rules(cloud: Cloud, s3: Any, bucket: str, queue: str) -> None:
    configure(s3, bucket, to_queue(cloud, "s3:ObjectCreated:*"))
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_other_destinations_are_refused_by_name(cloud: Cloud, s3: Any, bucket: str) -> None:
    def put(**given: Any) -> Any:
        return s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=given)

    function = {"LambdaFunctionArn": "arn:aws:lambda:eu-central-1:1:function:f", "Events": ["s3:ObjectCreated:*"]}
    refused(lambda: put(LambdaFunctionConfigurations=[function]), "NotImplemented", "Lambda")
    refused(lambda: put(EventBridgeConfiguration={}), "NotImplemented", "EventBridge")


def test_bad_configurations_change_nothing(cloud: Cloud, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    def put(*rules: dict[str, Any]) -> Callable[[], None]:
        return lambda: configure(s3, bucket, *rules)

    def rule(*events: str, target: str = arn(cloud), **more: Any) -> dict[str, Any]:
        return {"QueueArn": target, "Events": list(events), **more}

    created = "s3:ObjectCreated:*"
    before = to_queue(cloud, "s3:ObjectRemoved:*", Id="before")
    configure(s3, bucket, before)
    list(messages(sqs, queue))
    refused(put(rule(created, target=arn(cloud, "nowhere"))), "InvalidArgument", "Unable to validate", "does not exist")
    refused(put(rule(created, target="events")), "InvalidArgument", "not well formed")
    refused(put(rule(created, target=arn(cloud, service="sns"))), "InvalidArgument", "not well formed")
    refused(put(rule(created, target=arn(cloud).replace(REGION, "us-east-1"))), "InvalidArgument", "region")
    foreign = arn(cloud).replace(cloud.account, "111111111111")
    refused(put(rule(created, target=foreign)), "InvalidArgument", "Unable to validate")
    refused(put(rule("s3:ObjectTagging:*")), "InvalidArgument", "s3:ObjectTagging:*")
    refused(put(rule("s3:Nonsense")), "InvalidArgument", "s3:Nonsense")
    refused(put(rule(created, Id="a"), rule("s3:ObjectRemoved:*", Id="a")), "InvalidArgument", "unique")
    refused(put(rule(created), rule("s3:ObjectCreated:Put")), "InvalidArgument", "ambiguously")
    overlapping = (filtered(prefix="a/"), filtered(prefix="a/b", suffix=".x"))
    refused(put(*(rule(created, Filter=each) for each in overlapping)), "InvalidArgument", "ambiguously")
    twice = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}, {"Name": "Prefix", "Value": "b"}]}}
    refused(put(rule(created, Filter=twice)), "InvalidArgument", "more than one prefix")
    refused(put(rule(created, Filter=filtered(infix="a"))), "InvalidArgument")
    refused(put(rule(created, Filter=filtered(prefix="x" * 1025))), "InvalidArgument", "1024")
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"] == [before]
    assert list(messages(sqs, queue)) == [], "not even a test event"
    configure(s3, bucket, rule(created, target=arn(cloud, "nowhere")), SkipDestinationValidation=True)


def test_buckets_of_others(cloud: Cloud, s3: Any, bucket: str, queue: str) -> None:
    stranger = cloud.client("s3", key=cloud.other_account())
    refused(lambda: stranger.get_bucket_notification_configuration(Bucket=bucket), "AccessDenied")
    refused(lambda: configure(stranger, bucket), "AccessDenied")
    refused(lambda: configure(s3, "nowhere-at-all"), "NoSuchBucket")
    refused(lambda: configure(s3, bucket, ExpectedBucketOwner="111111111111"), "AccessDenied")
