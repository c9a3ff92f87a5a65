"""SQS by boto3, and by the forms of SDKs from before its json protocol."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud
from tests.deadlines import PATIENCE, Watch


@pytest.fixture
def sqs(cloud: Cloud) -> Any:
    return cloud.client("sqs")


@pytest.fixture
def queue(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="q")["QueueUrl"])


def refused(call: Callable[[], Any], code: str, *words: str) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call()
    error: dict[str, Any] = caught.value.response["Error"]
    assert code in (error["Code"], error.get("QueryErrorCode")), error
    assert all(word in error["Message"] for word in words), error
    return error


def attributes(sqs: Any, queue: str, *names: str) -> dict[str, str]:
    return dict(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=list(names) or ["All"]).get("Attributes", {}))


def counts(sqs: Any, queue: str) -> tuple[int, int, int]:
    found = attributes(sqs, queue)
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
    visible, hidden, delayed = (int(found[name]) for name in names)
    return visible, hidden, delayed


def receive(sqs: Any, queue: str, **arguments: Any) -> list[dict[str, Any]]:
    return list(sqs.receive_message(QueueUrl=queue, **{"MaxNumberOfMessages": 10, **arguments}).get("Messages", []))


# Queues


def test_a_queue_is_created_found_and_listed(cloud: Cloud, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    assert url == f"{cloud.world.settings.endpoint_url}/{cloud.account}/jobs"
    assert sqs.get_queue_url(QueueName="jobs")["QueueUrl"] == url
    assert sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "60"})["QueueUrl"] == url
    assert sqs.create_queue(QueueName="jobs")["QueueUrl"] == url
    error = refused(
        lambda: sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "61"}),
        "QueueAlreadyExists",
        "VisibilityTimeout",
    )
    assert error["QueryErrorCode"] == "QueueNameExists"
    sqs.create_queue(QueueName="Jobs")
    sqs.create_queue(QueueName="other")
    assert [u.rpartition("/")[2] for u in sqs.list_queues()["QueueUrls"]] == ["Jobs", "jobs", "other"]
    assert sqs.list_queues(QueueNamePrefix="j")["QueueUrls"] == [url]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="x")


def test_lists_have_pages(sqs: Any) -> None:
    made = [sqs.create_queue(QueueName=f"q{n}")["QueueUrl"] for n in range(5)]
    pages = [page["QueueUrls"] for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2})]
    assert pages == [made[0:2], made[2:4], made[4:]]
    refused(lambda: sqs.list_queues(MaxResults=1001), "InvalidParameterValue", "between 1 and 1000")
    refused(lambda: sqs.list_queues(NextToken="eA=="), "InvalidParameterValue", "MaxResults")
    refused(lambda: sqs.list_queues(NextToken="%", MaxResults=1), "InvalidParameterValue", "token")


def test_queue_names_are_checked(sqs: Any) -> None:
    for name in ("a b", "x" * 81, "a/b", ""):
        refused(lambda name=name: sqs.create_queue(QueueName=name), "InvalidParameterValue", "1 to 80")  # type: ignore[misc]
    for attributes in ({}, {"FifoQueue": "true"}):
        error = refused(
            lambda a=attributes: sqs.create_queue(QueueName="a.fifo", Attributes=a),  # type: ignore[misc]
            "AWS.SimpleQueueService.UnsupportedOperation",
            "FIFO",
        )
        assert error["QueryErrorCode"] == "UnsupportedOperation"


def test_the_defaults_of_a_queue(cloud: Cloud, sqs: Any, queue: str) -> None:
    now = time.time()
    found = attributes(sqs, queue)
    assert abs(int(found.pop("CreatedTimestamp")) - now) < PATIENCE
    assert abs(int(found.pop("LastModifiedTimestamp")) - now) < PATIENCE
    assert found == {
        "QueueArn": f"arn:aws:sqs:eu-central-1:{cloud.account}:q",
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "VisibilityTimeout": "30",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "DelaySeconds": "0",
        "ReceiveMessageWaitTimeSeconds": "0",
        "SqsManagedSseEnabled": "true",
    }
    assert attributes(sqs, queue, "VisibilityTimeout", "Policy") == {"VisibilityTimeout": "30"}
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue)
    refused(lambda: attributes(sqs, queue, "Colour"), "InvalidAttributeName", "Unknown Attribute Colour.")


def test_attributes_are_set_and_taken_away(cloud: Cloud, sqs: Any, queue: str) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    given = {
        "VisibilityTimeout": "0",
        "MessageRetentionPeriod": "60",
        "DelaySeconds": "1",
        "MaximumMessageSize": "1024",
        "ReceiveMessageWaitTimeSeconds": "20",
        "Policy": policy,
        "KmsMasterKeyId": "alias/aws/sqs",
        "KmsDataKeyReusePeriodSeconds": "60",
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}),
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=given)
    found = attributes(sqs, queue)
    assert {name: found[name] for name in given} == given
    assert found["SqsManagedSseEnabled"] == "false"
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": "", "RedriveAllowPolicy": "", "KmsMasterKeyId": ""})
    assert {"Policy", "RedriveAllowPolicy", "KmsMasterKeyId"}.isdisjoint(attributes(sqs, queue))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VisibilityTimeout", "43201"),
        ("VisibilityTimeout", "-1"),
        ("VisibilityTimeout", "x"),
        ("DelaySeconds", "901"),
        ("MaximumMessageSize", "1048577"),
        ("MaximumMessageSize", "1023"),
        ("MessageRetentionPeriod", "59"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("Policy", "[]"),
        ("Policy", "[" * 100_000),
        ("SqsManagedSseEnabled", "yes"),
        ("RedrivePolicy", "{}"),
        ("RedrivePolicy", '{"deadLetterTargetArn": "x", "maxReceiveCount": 1}'),
        ("RedriveAllowPolicy", '{"redrivePermission": "byQueue"}'),
        ("RedriveAllowPolicy", '{"redrivePermission": "x"}'),
    ],
)
def test_bad_attribute_values(sqs: Any, queue: str, name: str, value: str) -> None:
    refused(lambda: sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: value}), "InvalidAttributeValue", name)
    refused(lambda: sqs.create_queue(QueueName="new", Attributes={name: value}), "InvalidAttributeValue", name)
    refused(lambda: sqs.get_queue_url(QueueName="new"), "QueueDoesNotExist")


def test_attributes_that_cannot_be_set(sqs: Any, queue: str) -> None:
    for name in ("QueueArn", "ApproximateNumberOfMessages", "Colour"):
        refused(
            lambda name=name: sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: "1"}),  # type: ignore[misc]
            "InvalidAttributeName",
            f"Unknown Attribute {name}.",
        )
    refused(lambda: sqs.set_queue_attributes(QueueUrl=queue, Attributes={"FifoQueue": "true"}), "UnsupportedOperation", "FIFO")


def test_a_deleted_queue_is_gone_with_its_messages_and_tags(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="one")
    sqs.tag_queue(QueueUrl=queue, Tags={"a": "b"})
    sqs.delete_queue(QueueUrl=queue)
    error = refused(lambda: sqs.send_message(QueueUrl=queue, MessageBody="x"), "QueueDoesNotExist", "does not exist")
    assert error["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    for call in (sqs.receive_message, sqs.delete_queue, sqs.purge_queue, sqs.list_queue_tags, sqs.get_queue_attributes):
        refused(lambda call=call: call(QueueUrl=queue), "QueueDoesNotExist")  # type: ignore[misc]
    refused(lambda: sqs.get_queue_url(QueueName="q"), "QueueDoesNotExist")
    assert sqs.create_queue(QueueName="q")["QueueUrl"] == queue
    assert receive(sqs, queue) == []
    assert "Tags" not in sqs.list_queue_tags(QueueUrl=queue)


def test_accounts_and_regions_see_nothing_of_each_other(cloud: Cloud, sqs: Any, queue: str) -> None:
    stranger = cloud.client("sqs", key=cloud.other_account())
    elsewhere = cloud.client("sqs", region="us-east-1")
    for other in (stranger, elsewhere):
        assert "QueueUrls" not in other.list_queues()
        refused(lambda other=other: other.send_message(QueueUrl=queue, MessageBody="x"), "QueueDoesNotExist")  # type: ignore[misc]
        refused(lambda other=other: other.get_queue_url(QueueName="q"), "QueueDoesNotExist")  # type: ignore[misc]
    refused(lambda: stranger.get_queue_url(QueueName="q", QueueOwnerAWSAccountId=cloud.account), "QueueDoesNotExist")
    assert sqs.get_queue_url(QueueName="q", QueueOwnerAWSAccountId=cloud.account)["QueueUrl"] == queue


def test_a_queue_is_found_by_account_and_name_whatever_the_host(cloud: Cloud, sqs: Any, queue: str) -> None:
    for url in (f"https://sqs.eu-central-1.amazonaws.com/{cloud.account}/q", f"http://queue/queue/{cloud.account}/q"):
        assert sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"]
    for url in ("q", "https://sqs.eu-central-1.amazonaws.com/q", "http://[x/1/2", "x" * 3000):
        refused(lambda url=url: sqs.send_message(QueueUrl=url, MessageBody="x"), "InvalidAddress")  # type: ignore[misc]


def test_tags(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q", tags={"team": "a"})["QueueUrl"]
    sqs.tag_queue(QueueUrl=url, Tags={"cost": "b", "team": "c"})
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"cost": "b", "team": "c"}
    sqs.untag_queue(QueueUrl=url, TagKeys=["cost", "unknown"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "c"}
    refused(
        lambda: sqs.tag_queue(QueueUrl=url, Tags={f"t{n}": "" for n in range(50)}), "InvalidParameterValue", "Too many tags"
    )
    refused(lambda: sqs.tag_queue(QueueUrl=url, Tags={"aws:x": ""}), "InvalidParameterValue", "aws:")


def test_purging(cloud: Cloud, sqs: Any, queue: str) -> None:
    for n in range(3):
        sqs.send_message(QueueUrl=queue, MessageBody=str(n))
    (held,) = receive(sqs, queue, MaxNumberOfMessages=1)
    sqs.purge_queue(QueueUrl=queue)
    assert counts(sqs, queue) == (0, 0, 0)
    assert ("queues", "") in cloud.server.wakes
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=held["ReceiptHandle"])
    refused(lambda: sqs.purge_queue(QueueUrl=queue), "PurgeQueueInProgress", "60 seconds")
    sqs.send_message(QueueUrl=queue, MessageBody="after")
    assert [m["Body"] for m in receive(sqs, queue)] == ["after"]
    with cloud.time_passed(61):
        sqs.purge_queue(QueueUrl=queue)


# Messages


def test_a_message_is_sent_received_and_deleted(cloud: Cloud, sqs: Any, queue: str) -> None:
    body = "grüße \U0001f600\t\r\n"
    sent = sqs.send_message(QueueUrl=queue, MessageBody=body)
    assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    assert "MD5OfMessageAttributes" not in sent
    before = time.time()
    (message,) = receive(sqs, queue, AttributeNames=["All"])
    assert (message["Body"], message["MessageId"], message["MD5OfBody"]) == (body, sent["MessageId"], sent["MD5OfMessageBody"])
    shown = message["Attributes"]
    assert (shown["ApproximateReceiveCount"], shown["SenderId"]) == ("1", cloud.account)
    assert abs(int(shown["SentTimestamp"]) / 1000 - before) < PATIENCE
    assert abs(int(shown["ApproximateFirstReceiveTimestamp"]) / 1000 - before) < PATIENCE
    assert counts(sqs, queue) == (0, 1, 0)
    assert receive(sqs, queue) == []
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert counts(sqs, queue) == (0, 0, 0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_only_the_attributes_that_were_asked_for(sqs: Any, queue: str) -> None:
    sqs.send_message(
        QueueUrl=queue,
        MessageBody="x",
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}},
        MessageGroupId="tenant-1",
    )
    (plain,) = receive(sqs, queue, VisibilityTimeout=0)
    assert set(plain) == {"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}
    (some,) = receive(
        sqs, queue, VisibilityTimeout=0, MessageSystemAttributeNames=["AWSTraceHeader", "ApproximateReceiveCount"]
    )
    assert some["Attributes"] == {"AWSTraceHeader": "Root=1", "ApproximateReceiveCount": "2"}
    (group,) = receive(sqs, queue, AttributeNames=["MessageGroupId"])
    assert group["Attributes"] == {"MessageGroupId": "tenant-1"}
    refused(lambda: receive(sqs, queue, AttributeNames=["Colour"]), "InvalidAttributeName")


def test_message_attributes_and_their_sum(sqs: Any, queue: str) -> None:
    given: dict[str, dict[str, Any]] = {
        "name": {"DataType": "String", "StringValue": "wert"},
        "count": {"DataType": "Number.int", "StringValue": "-1.5e3"},
        "blob.a": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
        "blob.b": {"DataType": "Binary", "BinaryValue": b"x"},
    }
    sent = sqs.send_message(QueueUrl=queue, MessageBody="x", MessageAttributes=given)
    expected = hashlib.md5()
    for name in sorted(given):
        value = given[name].get("BinaryValue") or str(given[name]["StringValue"]).encode()
        assert isinstance(value, bytes)
        kind = b"\2" if "BinaryValue" in given[name] else b"\1"
        for part in (name.encode(), str(given[name]["DataType"]).encode()):
            expected.update(len(part).to_bytes(4, "big") + part)
        expected.update(kind + len(value).to_bytes(4, "big") + value)
    assert sent["MD5OfMessageAttributes"] == expected.hexdigest()
    (message,) = receive(sqs, queue, MessageAttributeNames=["All"], VisibilityTimeout=0)
    assert message["MessageAttributes"] == given
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    (some,) = receive(sqs, queue, MessageAttributeNames=["blob.*", "name"], VisibilityTimeout=0)
    assert set(some["MessageAttributes"]) == {"blob.a", "blob.b", "name"}
    assert some["MD5OfMessageAttributes"] != sent["MD5OfMessageAttributes"]
    (none,) = receive(sqs, queue, MessageAttributeNames=["other"])
    assert "MessageAttributes" not in none


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a", {"DataType": "Text", "StringValue": "x"}, "supported type prefixes"),
        ("a", {"DataType": "", "StringValue": "x"}, "non-empty message attribute type"),
        ("a", {"DataType": "String", "StringValue": ""}, "non-empty value of type 'String'"),
        ("a", {"DataType": "Binary", "StringValue": "x"}, "non-empty value of type 'Binary'"),
        ("a", {"DataType": "String", "StringValue": "x", "BinaryValue": b"y"}, "not of its type"),
        ("a", {"DataType": "Number", "StringValue": "one"}, "to a number"),
        ("a b", {"DataType": "String", "StringValue": "x"}, "is invalid"),
        (".a", {"DataType": "String", "StringValue": "x"}, "is invalid"),
        ("AWS.a", {"DataType": "String", "StringValue": "x"}, "reserved"),
    ],
)
def test_bad_message_attributes(sqs: Any, queue: str, name: str, value: dict[str, Any], words: str) -> None:
    refused(
        lambda: sqs.send_message(QueueUrl=queue, MessageBody="x", MessageAttributes={name: value}),
        "InvalidParameterValue",
        words,
    )


def test_bad_messages(sqs: Any, queue: str) -> None:
    def send(body: str = "x", **arguments: Any) -> Any:
        return sqs.send_message(QueueUrl=queue, MessageBody=body, **arguments)

    many = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}
    refused(lambda: send(MessageAttributes=many), "InvalidParameterValue", "[11]", "[10]")
    refused(lambda: send(""), "MissingParameter", "MessageBody")
    for text in ("\x00", "a\x0bb", "\ufffe"):
        refused(lambda text=text: send(text), "InvalidMessageContents")  # type: ignore[misc]
    refused(lambda: send(DelaySeconds=901), "InvalidParameterValue", "DelaySeconds")
    refused(lambda: send(MessageDeduplicationId="x"), "InvalidParameterValue", "MessageDeduplicationId")
    refused(lambda: send(MessageGroupId=" "), "InvalidParameterValue", "MessageGroupId")
    listed = {"a": {"DataType": "String", "StringListValues": ["x"]}}
    refused(lambda: send(MessageAttributes=listed), "UnsupportedOperation")
    assert counts(sqs, queue) == (0, 0, 0)


def test_how_large_a_message_may_be(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_048_576)
    refused(
        lambda: sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_048_577), "InvalidParameterValue", "shorter than 1048576"
    )
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"MaximumMessageSize": "1024"})
    attribute = {"a": {"DataType": "String", "StringValue": "y"}}
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1016, MessageAttributes=attribute)
    refused(
        lambda: sqs.send_message(QueueUrl=queue, MessageBody="x" * 1017, MessageAttributes=attribute),
        "InvalidParameterValue",
        "shorter than 1024",
    )
    (large,) = [m for m in receive(sqs, queue) if len(m["Body"]) > 2000]
    assert large["Body"] == "x" * 1_048_576


def test_what_receive_may_ask_for(sqs: Any, queue: str) -> None:
    refused(lambda: receive(sqs, queue, MaxNumberOfMessages=11), "InvalidParameterValue", "MaxNumberOfMessages")
    refused(lambda: receive(sqs, queue, MaxNumberOfMessages=0), "InvalidParameterValue", "MaxNumberOfMessages")
    refused(lambda: receive(sqs, queue, WaitTimeSeconds=21), "InvalidParameterValue", "WaitTimeSeconds")
    refused(lambda: receive(sqs, queue, VisibilityTimeout=43_201), "InvalidParameterValue", "VisibilityTimeout")
    refused(lambda: receive(sqs, queue, ReceiveRequestAttemptId="a"), "InvalidParameterValue", "ReceiveRequestAttemptId")


def test_a_message_is_shown_again_when_its_time_is_over(cloud: Cloud, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    (first,) = receive(sqs, queue)
    with cloud.time_passed(29):
        assert receive(sqs, queue) == []
    with cloud.time_passed(31):
        (second,) = receive(sqs, queue, AttributeNames=["All"])
        assert second["MessageId"] == first["MessageId"]
        assert second["Attributes"]["ApproximateReceiveCount"] == "2"
        first_time = int(second["Attributes"]["ApproximateFirstReceiveTimestamp"])
        assert first_time < time.time() * 1000 + 5000
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
        assert counts(sqs, queue) == (0, 1, 0), "an older handle deletes nothing"
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
        assert counts(sqs, queue) == (0, 0, 0)


def test_changing_visibility(cloud: Cloud, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    (message,) = receive(sqs, queue)
    handle = message["ReceiptHandle"]

    def change(seconds: int, handle: str = handle) -> Any:
        return sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=seconds)

    change(100)
    with cloud.time_passed(50):
        assert receive(sqs, queue) == []
    change(0)
    error = refused(lambda: change(10), "AWS.SimpleQueueService.MessageNotInflight")
    assert error["QueryErrorCode"] == "MessageNotInflight"
    (again,) = receive(sqs, queue)
    refused(lambda: change(10), "InvalidParameterValue", "not available for visibility timeout change")
    refused(lambda: change(43_201, again["ReceiptHandle"]), "InvalidParameterValue", "VisibilityTimeout")
    refused(lambda: change(1, "nonsense"), "ReceiptHandleIsInvalid", "nonsense")
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    refused(lambda: change(1, again["ReceiptHandle"]), "InvalidParameterValue", "does not exist")


def test_handles_belong_to_their_queue_and_receive(sqs: Any, queue: str) -> None:
    other = sqs.create_queue(QueueName="other")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    (message,) = receive(sqs, queue)
    handle = message["ReceiptHandle"]
    refused(lambda: sqs.delete_message(QueueUrl=other, ReceiptHandle=handle), "ReceiptHandleIsInvalid")
    for bad in ("", "x", handle[:-4], handle + "AAAA"):
        refused(lambda bad=bad: sqs.delete_message(QueueUrl=queue, ReceiptHandle=bad), "ReceiptHandleIsInvalid")  # type: ignore[misc]
    forged = handle[:24] + ("A" * 18) + handle[42:]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=forged)
    assert counts(sqs, queue) == (0, 1, 0)


def test_delayed_messages(cloud: Cloud, sqs: Any) -> None:
    queue = sqs.create_queue(QueueName="q", Attributes={"DelaySeconds": "100"})["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="by the queue")
    sqs.send_message(QueueUrl=queue, MessageBody="at once", DelaySeconds=0)
    sqs.send_message(QueueUrl=queue, MessageBody="late", DelaySeconds=200)
    assert counts(sqs, queue) == (1, 0, 2)
    assert [m["Body"] for m in receive(sqs, queue)] == ["at once"]
    with cloud.time_passed(150):
        assert "by the queue" in [m["Body"] for m in receive(sqs, queue)]
    with cloud.time_passed(250):
        assert "late" in [m["Body"] for m in receive(sqs, queue)]


def test_messages_expire(cloud: Cloud, sqs: Any) -> None:
    queue = sqs.create_queue(QueueName="q", Attributes={"MessageRetentionPeriod": "60"})["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    with cloud.time_passed(61):
        assert receive(sqs, queue) == []


# Batches


def test_batches(sqs: Any, queue: str) -> None:
    entries: list[dict[str, Any]] = [{"Id": f"e{n}", "MessageBody": f"body {n}"} for n in range(8)]
    entries += [{"Id": "empty", "MessageBody": ""}, {"Id": "late", "MessageBody": "x", "DelaySeconds": 900}]
    sent = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [done["Id"] for done in sent["Successful"]] == [f"e{n}" for n in range(8)] + ["late"]
    (failed,) = sent["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("empty", True, "MissingParameter")
    assert counts(sqs, queue) == (8, 0, 1)
    messages = receive(sqs, queue)
    assert [m["Body"] for m in messages] == [f"body {n}" for n in range(8)]
    assert [m["MessageId"] for m in messages] == [done["MessageId"] for done in sent["Successful"][:8]]

    handles = [m["ReceiptHandle"] for m in messages]
    changes: list[dict[str, Any]] = [{"Id": str(n), "ReceiptHandle": handles[n], "VisibilityTimeout": 0} for n in range(4)]
    changes += [{"Id": "bad", "ReceiptHandle": "x", "VisibilityTimeout": 0}]
    changes += [{"Id": "far", "ReceiptHandle": handles[4], "VisibilityTimeout": 50_000}]
    changed = sqs.change_message_visibility_batch(QueueUrl=queue, Entries=changes)
    assert [done["Id"] for done in changed["Successful"]] == ["0", "1", "2", "3"]
    assert {f["Id"]: f["Code"] for f in changed["Failed"]} == {"bad": "ReceiptHandleIsInvalid", "far": "InvalidParameterValue"}
    assert counts(sqs, queue) == (4, 4, 1)

    deletes = [{"Id": str(n), "ReceiptHandle": handles[n]} for n in range(8)] + [{"Id": "bad", "ReceiptHandle": "x"}]
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=deletes)
    assert len(deleted["Successful"]) == 8
    assert [f["Id"] for f in deleted["Failed"]] == ["bad"]
    assert counts(sqs, queue) == (0, 0, 1)


def test_bad_batches(sqs: Any, queue: str) -> None:
    def send(*ids: str, body: str = "x") -> Any:
        return sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": id, "MessageBody": body} for id in ids])

    prefix = "AWS.SimpleQueueService."
    refused(lambda: send(), prefix + "EmptyBatchRequest", "SendMessageBatchRequestEntry")
    refused(lambda: send(*map(str, range(11))), prefix + "TooManyEntriesInBatchRequest", "sent 11")
    refused(lambda: send("a", "b", "a"), prefix + "BatchEntryIdsNotDistinct", "Id a repeated")
    refused(lambda: send("a b"), prefix + "InvalidBatchEntryId")
    refused(lambda: send("a", "b", body="x" * 600_000), prefix + "BatchRequestTooLong", "1200000")
    refused(lambda: sqs.delete_message_batch(QueueUrl=queue, Entries=[]), "EmptyBatchRequest", "DeleteMessageBatchRequestEntry")
    assert counts(sqs, queue) == (0, 0, 0)


# Dead letters


def dead_letter(sqs: Any, cloud: Cloud, most: int | str = 2) -> tuple[str, str]:
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    policy = {"deadLetterTargetArn": f"arn:aws:sqs:eu-central-1:{cloud.account}:dead", "maxReceiveCount": most}
    source = sqs.create_queue(QueueName="source", Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"]
    return source, dead


def test_a_message_that_is_received_too_often_goes_to_the_dead_letter_queue(cloud: Cloud, sqs: Any) -> None:
    source, dead = dead_letter(sqs, cloud, "2")
    sent = sqs.send_message(QueueUrl=source, MessageBody="poison")
    for _ in range(2):
        (message,) = receive(sqs, source, VisibilityTimeout=0)
    sqs.send_message(QueueUrl=source, MessageBody="good")
    assert [m["Body"] for m in receive(sqs, source)] == ["good"]
    (moved,) = receive(sqs, dead, AttributeNames=["All"])
    assert (moved["MessageId"], moved["Body"]) == (sent["MessageId"], "poison")
    assert moved["Attributes"]["DeadLetterQueueSourceArn"] == f"arn:aws:sqs:eu-central-1:{cloud.account}:source"
    sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
    assert counts(sqs, dead) == (0, 1, 0)


def test_without_its_dead_letter_queue_a_message_stays(cloud: Cloud, sqs: Any) -> None:
    source, dead = dead_letter(sqs, cloud, 1)
    sqs.send_message(QueueUrl=source, MessageBody="x")
    sqs.delete_queue(QueueUrl=dead)
    for _ in range(3):
        assert len(receive(sqs, source, VisibilityTimeout=0)) == 1


def test_whose_dead_letters_come_here(cloud: Cloud, sqs: Any) -> None:
    source, dead = dead_letter(sqs, cloud)
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [source]
    assert sqs.list_dead_letter_source_queues(QueueUrl=source)["queueUrls"] == []
    policy = attributes(sqs, source)["RedrivePolicy"]
    more = [sqs.create_queue(QueueName=f"z{n}", Attributes={"RedrivePolicy": policy})["QueueUrl"] for n in range(2)]
    paginator = sqs.get_paginator("list_dead_letter_source_queues")
    pages = [p["queueUrls"] for p in paginator.paginate(QueueUrl=dead, PaginationConfig={"PageSize": 2})]
    assert pages == [[source, more[0]], [more[1]]]


def test_bad_dead_letter_queues(cloud: Cloud, sqs: Any, queue: str) -> None:
    def target(name: str, account: str = cloud.account) -> Any:
        policy = {"deadLetterTargetArn": f"arn:aws:sqs:eu-central-1:{account}:{name}", "maxReceiveCount": 3}
        return sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy)})

    refused(lambda: target("nowhere"), "InvalidParameterValue", "does not exist")
    refused(lambda: target("q"), "InvalidParameterValue", "itself")
    refused(lambda: target("q", "111111111111"), "InvalidParameterValue", "owner")
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [f"arn:aws:sqs:eu-central-1:{cloud.account}:someone"]}
    dead = sqs.create_queue(QueueName="dead", Attributes={"RedriveAllowPolicy": json.dumps(allow)})["QueueUrl"]
    refused(lambda: target("dead"), "InvalidParameterValue", "permission")
    allow["sourceQueueArns"] = [f"arn:aws:sqs:eu-central-1:{cloud.account}:q"]
    sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(allow)})
    target("dead")


# Long polls


class Poll(threading.Thread):
    """A receive in a thread: what it got, and after how many seconds."""

    def __init__(self, sqs: Any, queue: str, **arguments: Any) -> None:
        super().__init__(daemon=True)
        self.call: Callable[[], list[dict[str, Any]]] = lambda: receive(sqs, queue, **arguments)
        self.found: list[dict[str, Any]] = []
        self.error: ClientError | None = None
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        began = Watch()
        try:
            self.found = self.call()
        except ClientError as error:
            self.error = error
        self.seconds = began.free

    def ended(self) -> list[str]:
        self.join(PATIENCE)
        assert not self.is_alive()
        return [m["Body"] for m in self.found]


def waiting(cloud: Cloud, url: str) -> None:
    """Until somebody waits for the queue."""
    topic = f"queue arn:aws:sqs:eu-central-1:{cloud.account}:{url.rpartition('/')[2]}"
    deadline = time.monotonic() + PATIENCE
    while topic not in cloud.server.db._announcements._watches:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_long_poll_ends_with_the_message(cloud: Cloud, sqs: Any, queue: str) -> None:
    poll = Poll(sqs, queue, WaitTimeSeconds=20)
    waiting(cloud, queue)
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert poll.ended() == ["x"]
    assert poll.seconds < 10


def test_a_long_poll_by_the_queues_own_setting_ends_empty(cloud: Cloud, sqs: Any) -> None:
    queue = sqs.create_queue(QueueName="q", Attributes={"ReceiveMessageWaitTimeSeconds": "1"})["QueueUrl"]
    began = Watch()
    assert receive(sqs, queue) == []
    assert began.seconds > 0.9
    assert began.free < 10
    began = Watch()
    assert receive(sqs, queue, WaitTimeSeconds=0) == []
    assert began.free < 0.9


def test_a_long_poll_sees_what_becomes_visible(cloud: Cloud, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="delayed", DelaySeconds=1)
    poll = Poll(sqs, queue, WaitTimeSeconds=20)
    assert poll.ended() == ["delayed"]
    assert poll.seconds < 10
    poll = Poll(sqs, queue, WaitTimeSeconds=20, VisibilityTimeout=0)
    waiting(cloud, queue)
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle_of(sqs, cloud, queue), VisibilityTimeout=0)
    assert poll.ended() == ["delayed"]
    assert poll.seconds < 10


def handle_of(sqs: Any, cloud: Cloud, queue: str) -> str:
    """A handle of a message that is in flight, taken by a receive in the future and hidden again."""
    with cloud.time_passed(60):
        (message,) = receive(sqs, queue, VisibilityTimeout=600)
    return str(message["ReceiptHandle"])


def test_a_long_poll_hears_that_its_queue_is_deleted(cloud: Cloud, sqs: Any, queue: str) -> None:
    poll = Poll(sqs, queue, WaitTimeSeconds=20)
    waiting(cloud, queue)
    sqs.delete_queue(QueueUrl=queue)
    poll.ended()
    assert poll.error is not None
    assert poll.seconds < 10


def test_of_many_who_wait_one_gets_the_message(cloud: Cloud, sqs: Any, queue: str) -> None:
    polls = [Poll(sqs, queue, WaitTimeSeconds=2) for _ in range(4)]
    waiting(cloud, queue)
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert sorted(body for poll in polls for body in poll.ended()) == ["x"]


# The query protocol


def form(cloud: Cloud, path: str, **fields: str) -> tuple[int, str]:
    """What an SDK from before 2023 sends: a signed form to the queue's own path."""
    body = urlencode({"Version": "2012-11-05", **fields})
    request = AWSRequest("POST", cloud.url + path, data=body, headers={"content-type": "application/x-www-form-urlencoded"})
    SigV4Auth(Credentials(cloud.key.id, cloud.key.secret), "sqs", cloud.region).add_auth(request)
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", cloud.url + path, body=body, headers=dict(request.headers), retries=False)
        return answer.status, answer.data.decode()


def between(text: str, tag: str) -> list[str]:
    return re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)


def test_the_query_protocol(cloud: Cloud, sqs: Any) -> None:
    fields = {"Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "40", "Tag.1.Key": "a", "Tag.1.Value": "b"}
    status, text = form(cloud, "/", Action="CreateQueue", QueueName="old", **fields)
    assert status == 200
    (url,) = between(text, "QueueUrl")
    path = urlsplit(url).path
    assert path == f"/{cloud.account}/old"
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    attribute = {
        "MessageAttribute.1.Name": "k",
        "MessageAttribute.1.Value.DataType": "String",
        "MessageAttribute.1.Value.StringValue": "v",
    }
    status, text = form(cloud, path, Action="SendMessage", QueueUrl=url, MessageBody="<hello>", **attribute)
    assert status == 200
    sums = (between(text, "MD5OfMessageBody"), between(text, "MD5OfMessageAttributes"))
    status, text = form(
        cloud, path, Action="ReceiveMessage", **{"MessageAttributeName.1": "All", "AttributeName.1": "ApproximateReceiveCount"}
    )
    assert status == 200
    assert between(text, "Body") == ["&lt;hello&gt;"]
    assert (between(text, "MD5OfBody"), between(text, "MD5OfMessageAttributes")) == sums
    assert between(text, "StringValue") == ["v"]
    assert between(text, "Name") == ["ApproximateReceiveCount", "k"]
    (handle,) = between(text, "ReceiptHandle")
    batch = {"DeleteMessageBatchRequestEntry.1.Id": "a", "DeleteMessageBatchRequestEntry.1.ReceiptHandle": handle}
    status, text = form(cloud, path, Action="DeleteMessageBatch", **batch)
    assert (status, between(text, "Id")) == (200, ["a"])
    status, text = form(cloud, path, Action="GetQueueAttributes", **{"AttributeName.1": "All"})
    values = dict(zip(between(text, "Name"), between(text, "Value"), strict=True))
    assert (values["VisibilityTimeout"], values["ApproximateNumberOfMessagesNotVisible"]) == ("40", "0")


def test_the_query_protocols_errors(cloud: Cloud, sqs: Any, queue: str) -> None:
    path = f"/{cloud.account}/q"
    status, text = form(cloud, f"/{cloud.account}/nowhere", Action="SendMessage", MessageBody="x")
    assert (status, between(text, "Code")) == (400, ["AWS.SimpleQueueService.NonExistentQueue"])
    assert between(text, "Type") == ["Sender"]
    status, text = form(cloud, path, Action="DeleteMessage", ReceiptHandle="x")
    assert between(text, "Code") == ["ReceiptHandleIsInvalid"]
    status, text = form(cloud, path, Action="SendMessage")
    assert between(text, "Code") == ["MissingParameter"]
    status, text = form(cloud, "/", Action="SendMessage", MessageBody="x")
    assert (between(text, "Code"), "QueueUrl" in text) == (["MissingParameter"], True)
    status, text = form(cloud, path, Action="SendMessageBatch")
    assert between(text, "Code")[0] in ("MissingParameter", "AWS.SimpleQueueService.EmptyBatchRequest")
    status, text = form(cloud, path, Action="StartMessageMoveTask", SourceArn="x")
    assert "slipway does not implement" in text


def test_json_may_go_to_the_queues_own_path(cloud: Cloud, queue: str) -> None:
    body = json.dumps({"QueueUrl": queue, "MessageBody": "x"})
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.SendMessage"}
    url = f"{cloud.url}/{cloud.account}/q"
    request = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(Credentials(cloud.key.id, cloud.key.secret), "sqs", cloud.region).add_auth(request)
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", url, body=body, headers=dict(request.headers), retries=False)
    assert answer.status == 200
    assert "MessageId" in json.loads(answer.data)
