"""SNS by boto3: every operation, what it refuses, and what arrives in queues."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from slipway.store import topics, topics_outbox
from slipway.store.topics_outbox import Outcome
from tests.aws.cloud import Cloud
from tests.aws.test_auth import fetch, target_of


@pytest.fixture
def sns(cloud: Cloud) -> Any:
    return cloud.client("sns")


@pytest.fixture
def topic(sns: Any) -> str:
    return str(sns.create_topic(Name="results")["TopicArn"])


@pytest.fixture
def queue(cloud: Cloud) -> str:
    return make_queue(cloud, "inbox")


def make_queue(cloud: Cloud, name: str) -> str:
    cloud.client("sqs").create_queue(QueueName=name)
    return f"arn:aws:sqs:{cloud.region}:{cloud.account}:{name}"


def received(cloud: Cloud, queue: str) -> list[dict[str, Any]]:
    """All messages of a queue, deleted from it."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=queue.rpartition(":")[2])["QueueUrl"]
    found: list[dict[str, Any]] = []
    while page := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get("Messages"):
        found += page
        for message in page:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def refusal(call: Any, **arguments: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def verified(cloud: Cloud, envelope: dict[str, Any]) -> bool:
    """As AWS documents it: name and value of each signed member on lines of their own, with the published certificate."""
    status, pem = fetch(cloud.url, "GET", target_of(envelope["SigningCertURL"]).rstrip("?"))
    assert status == 200
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if envelope["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
    digest = hashes.SHA256() if envelope["SignatureVersion"] == "2" else hashes.SHA1()
    key.verify(base64.b64decode(envelope["Signature"]), text.encode(), padding.PKCS1v15(), digest)
    return True


# ---- topics


def test_a_topic_is_made_once(cloud: Cloud, sns: Any) -> None:
    arn = sns.create_topic(Name="Async-Demo-ErrorTopic2")["TopicArn"]
    assert arn == f"arn:aws:sns:{cloud.region}:{cloud.account}:Async-Demo-ErrorTopic2"
    assert sns.create_topic(Name="Async-Demo-ErrorTopic2")["TopicArn"] == arn
    assert [topic["TopicArn"] for topic in sns.list_topics()["Topics"]] == [arn]
    sns.delete_topic(TopicArn=arn)
    sns.delete_topic(TopicArn=arn)
    assert sns.list_topics()["Topics"] == []


def test_a_topic_of_that_name_with_other_attributes_is_refused(sns: Any) -> None:
    sns.create_topic(Name="t", Attributes={"DisplayName": "one"}, Tags=[{"Key": "a", "Value": "1"}])
    sns.create_topic(Name="t")
    sns.create_topic(Name="t", Attributes={"DisplayName": "one"}, Tags=[{"Key": "a", "Value": "1"}])
    code, message, status = refusal(sns.create_topic, Name="t", Attributes={"DisplayName": "two"})
    assert (code, status) == ("InvalidParameter", 400)
    assert message == "Invalid parameter: Attributes Reason: Topic already exists with different attributes"
    message = refusal(sns.create_topic, Name="t", Tags=[{"Key": "a", "Value": "2"}])[1]
    assert message == "Invalid parameter: Tags Reason: Topic already exists with different tags"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"Name": "a b"}, "Topic Name"),
        ({"Name": "x" * 257}, "Topic Name"),
        ({"Name": "t.fifo"}, "FIFO topics are not supported"),
        ({"Name": "t", "Attributes": {"FifoTopic": "true"}}, "FIFO topics are not supported"),
        ({"Name": "t", "Attributes": {"ContentBasedDeduplication": "true"}}, "FIFO topics are not supported"),
        ({"Name": "t", "Attributes": {"Nonsense": "1"}}, "AttributeName"),
        ({"Name": "t", "Attributes": {"HTTPSuccessFeedbackRoleArn": "arn"}}, "HTTPSuccessFeedbackRoleArn is not supported"),
        ({"Name": "t", "Attributes": {"Policy": "no json"}}, "Policy"),
        ({"Name": "t", "Attributes": {"Policy": "[" * 20_000}}, "Policy"),
        ({"Name": "t", "Attributes": {"DeliveryPolicy": '{"http":{"x":1}}'}}, "unexpected JSON member: x"),
        ({"Name": "t", "Attributes": {"SignatureVersion": "3"}}, "SignatureVersion"),
        ({"Name": "t", "DataProtectionPolicy": "{}"}, "DataProtectionPolicy is not supported"),
        ({"Name": "t", "Tags": [{"Key": "aws:x", "Value": ""}]}, "Tags"),
        ({"Name": "t", "Tags": [{"Key": "a", "Value": ""}, {"Key": "a", "Value": "1"}]}, "Duplicated keys"),
    ],
)
def test_what_no_topic_is_made_of(sns: Any, arguments: dict[str, Any], words: str) -> None:
    code, message, status = refusal(sns.create_topic, **arguments)
    assert (code, status) == ("InvalidParameter", 400)
    assert message.startswith("Invalid parameter: ")
    assert words in message
    assert sns.list_topics()["Topics"] == []


def test_attributes_of_a_topic(cloud: Cloud, sns: Any, topic: str) -> None:
    found = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert found["Owner"] == cloud.account
    assert found["SubscriptionsConfirmed"] == found["SubscriptionsPending"] == found["SubscriptionsDeleted"] == "0"
    assert json.loads(found["Policy"])["Statement"][0]["Resource"] == topic
    assert json.loads(found["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 50
    policy = {"http": {"defaultHealthyRetryPolicy": {"numRetries": 4, "minDelayTarget": 1, "maxDelayTarget": 2}}}
    for name, value in {
        "DisplayName": "Results",
        "KmsMasterKeyId": "alias/aws/sns",
        "SignatureVersion": "2",
        "DeliveryPolicy": json.dumps(policy),
        "Policy": '{"Version":"2012-10-17","Statement":[]}',
    }.items():
        sns.set_topic_attributes(TopicArn=topic, AttributeName=name, AttributeValue=value)
        assert sns.get_topic_attributes(TopicArn=topic)["Attributes"][name] == value
    effective = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["EffectiveDeliveryPolicy"])
    assert effective["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 4
    sns.set_topic_attributes(TopicArn=topic, AttributeName="DisplayName", AttributeValue="")
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["DisplayName"] == ""
    assert refusal(sns.set_topic_attributes, TopicArn=topic, AttributeName="Owner", AttributeValue="x")[0] == "InvalidParameter"


def test_topics_are_listed_in_pages(sns: Any) -> None:
    made = {sns.create_topic(Name=f"t-{n:03}")["TopicArn"] for n in range(105)}
    first = sns.list_topics()
    assert len(first["Topics"]) == 100
    rest = sns.list_topics(NextToken=first["NextToken"])
    assert "NextToken" not in rest
    assert {topic["TopicArn"] for topic in first["Topics"] + rest["Topics"]} == made
    assert refusal(sns.list_topics, NextToken="?")[1] == "Invalid parameter: NextToken"


def test_tags(sns: Any, topic: str) -> None:
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sns.untag_resource(ResourceArn=topic, TagKeys=["a", "z"])
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == [{"Key": "b", "Value": "2"}]
    many = [{"Key": f"k{n}", "Value": ""} for n in range(50)]
    assert refusal(sns.tag_resource, ResourceArn=topic, Tags=many)[0] == "TagLimitExceeded"
    gone = f"{topic}-gone"
    for call, more in ((sns.tag_resource, {"Tags": []}), (sns.untag_resource, {"TagKeys": ["a"]})):
        assert refusal(call, ResourceArn=gone, **more)[::2] == ("ResourceNotFound", 404)
    assert refusal(sns.list_tags_for_resource, ResourceArn=gone)[::2] == ("ResourceNotFound", 404)
    sns.delete_topic(TopicArn=topic)
    sns.create_topic(Name="results")
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == []


def test_arns_that_are_none_or_not_the_callers(cloud: Cloud, sns: Any, topic: str) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = [
        (sns.get_topic_attributes, {}),
        (sns.set_topic_attributes, {"AttributeName": "DisplayName", "AttributeValue": ""}),
        (sns.subscribe, {"Protocol": "email", "Endpoint": "a@example.com"}),
        (sns.list_subscriptions_by_topic, {}),
        (sns.publish, {"Message": "m"}),
        (sns.publish_batch, {"PublishBatchRequestEntries": [{"Id": "1", "Message": "m"}]}),
    ]
    other = cloud.client("sns", key=cloud.other_account())
    for call, more in calls:
        assert refusal(call, TopicArn=f"{topic}-gone", **more) == ("NotFound", "Topic does not exist", 404)
        few = "Invalid parameter: TopicArn Reason: An ARN must have at least 6 elements, not 1"
        assert refusal(call, TopicArn="results", **more) == ("InvalidParameter", few, 400)
        theirs = getattr(other, call.__name__)
        assert refusal(theirs, TopicArn=topic, **more)[::2] == ("AuthorizationError", 403)
    assert refusal(other.delete_topic, TopicArn=topic)[0] == "AuthorizationError"
    elsewhere = cloud.client("sns", region="us-west-2")
    assert refusal(elsewhere.publish, TopicArn=topic, Message="m")[1] == "Invalid parameter: TopicArn"
    assert other.list_topics()["Topics"] == []


# ---- subscriptions


def test_a_queue_is_confirmed_at_once(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]
    assert arn.startswith(f"{topic}:")
    assert sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"] == arn
    row = {"SubscriptionArn": arn, "Owner": cloud.account, "Protocol": "sqs", "Endpoint": queue, "TopicArn": topic}
    assert sns.list_subscriptions()["Subscriptions"] == [row]
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == [row]
    found = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert found["PendingConfirmation"] == found["RawMessageDelivery"] == "false"
    assert found["ConfirmationWasAuthenticated"] == "true"
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsConfirmed"] == "1"
    sns.unsubscribe(SubscriptionArn=arn)
    sns.unsubscribe(SubscriptionArn=arn)
    assert sns.list_subscriptions()["Subscriptions"] == []
    assert refusal(sns.get_subscription_attributes, SubscriptionArn=arn) == ("NotFound", "Subscription does not exist", 404)


def test_subscribing_again_with_other_attributes(sns: Any, topic: str, queue: str) -> None:
    raw = {"RawMessageDelivery": "true"}
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=raw)["SubscriptionArn"]
    assert sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=raw)["SubscriptionArn"] == arn
    more = {"Attributes": {"RawMessageDelivery": "false"}}
    message = refusal(sns.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=queue, **more)[1]
    assert message == "Invalid parameter: Attributes Reason: Subscription already exists with different attributes"


@pytest.mark.parametrize(
    ("protocol", "endpoint", "words"),
    [
        ("sms", "+4930123", "does not deliver over sms"),
        ("lambda", "arn:aws:lambda:eu-central-1:1:function:f", "does not deliver over lambda"),
        ("application", "arn:x", "does not deliver over application"),
        ("firehose", "arn:x", "does not deliver over firehose"),
        ("pigeon", "x", "does not support this protocol string: pigeon"),
        ("sqs", "", "Endpoint"),
        ("sqs", "inbox", "SQS endpoint ARN"),
        ("sqs", "arn:aws:sqs:eu-central-1:999999999999:theirs", "SQS endpoint ARN"),
        ("sqs", "arn:aws:sqs:eu-central-1:123456789012:q.fifo", "FIFO SQS Queues can not be subscribed"),
        ("http", "https://example.com/", "Endpoint must match the specified protocol"),
        ("https", "http://example.com/", "Endpoint must match the specified protocol"),
        ("http", "http://user:secret@example.com/", "not one that slipway calls"),
        ("http", "http://169.254.169.254/latest/meta-data/", "a metadata service"),
        ("http", "http://10.0.0.1/", "--notify-allow"),
        ("https", "https://[fd00:ec2::254]/", "a metadata service"),
        ("email", "nobody", "Email address"),
    ],
)
def test_endpoints_that_are_not_subscribed(sns: Any, topic: str, protocol: str, endpoint: str, words: str) -> None:
    code, message, status = refusal(sns.subscribe, TopicArn=topic, Protocol=protocol, Endpoint=endpoint)
    assert (code, status) == ("InvalidParameter", 400)
    assert words in message
    assert "secret" not in message
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_email_waits_for_ever(sns: Any, topic: str) -> None:
    assert (
        sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="a@example.com")["SubscriptionArn"] == "pending confirmation"
    )
    assert sns.list_subscriptions()["Subscriptions"][0]["SubscriptionArn"] == "PendingConfirmation"
    more = {"ReturnSubscriptionArn": True}
    arn = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="a@example.com", **more)["SubscriptionArn"]
    assert sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["PendingConfirmation"] == "true"
    sns.publish(TopicArn=topic, Message="m")


@pytest.mark.parametrize(
    ("protocol", "attributes", "words"),
    [
        ("sqs", {"FilterPolicy": "{"}, "FilterPolicy: failed to parse JSON"),
        ("sqs", {"FilterPolicy": '{"a":["x"],"b":["x"],"c":["x"],"d":["x"],"e":["x"],"f":["x"]}'}, "more than 5 keys"),
        ("sqs", {"FilterPolicy": '{"a":{"b":["x"]}}'}, "does not support nested filter policy"),
        ("sqs", {"FilterPolicy": '{"a":["x"]}', "FilterPolicyScope": "Everything"}, "FilterPolicyScope: Invalid value"),
        ("sqs", {"RawMessageDelivery": "maybe"}, "RawMessageDelivery: Invalid value"),
        ("email", {"RawMessageDelivery": "true"}, "[email] does not support raw message delivery"),
        ("sqs", {"RedrivePolicy": "{}"}, "RedrivePolicy"),
        ("sqs", {"RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:1:q"}'}, "invalid arn"),
        ("sqs", {"DeliveryPolicy": "{}"}, "does not support a delivery policy"),
        ("http", {"DeliveryPolicy": '{"healthyRetryPolicy":{"numRetries":101}}'}, "numRetries must be between 0 and 100"),
        ("sqs", {"ReplayPolicy": "{}"}, "ReplayPolicy is not supported by slipway"),
        ("sqs", {"SubscriptionRoleArn": "arn"}, "SubscriptionRoleArn is not supported by slipway"),
        ("sqs", {"Nonsense": "1"}, "Attributes"),
    ],
)
def test_attributes_that_no_subscription_has(
    sns: Any, topic: str, queue: str, protocol: str, attributes: dict[str, str], words: str
) -> None:
    endpoint = {"sqs": queue, "http": "http://127.0.0.1:9/", "email": "a@example.com"}[protocol]
    more = {"Protocol": protocol, "Endpoint": endpoint, "Attributes": attributes}
    code, message, status = refusal(sns.subscribe, TopicArn=topic, **more)
    assert (code, status) == ("InvalidParameter", 400)
    assert words in message


def test_attributes_of_a_subscription(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    dead = json.dumps({"deadLetterTargetArn": make_queue(cloud, "dead")})
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]

    def put(name: str, value: str) -> None:
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)

    def shown() -> dict[str, str]:
        found: dict[str, str] = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        return found

    put("FilterPolicy", '{"a": ["x"]}')
    assert (shown()["FilterPolicy"], shown()["FilterPolicyScope"]) == ('{"a": ["x"]}', "MessageAttributes")
    put("FilterPolicyScope", "MessageBody")
    put("FilterPolicy", '{"a": {"b": ["x"]}}')
    message = refusal(put, name="FilterPolicyScope", value="MessageAttributes")[1]
    assert "nested" in message
    put("FilterPolicy", "{}")
    assert "FilterPolicy" not in shown()
    put("RawMessageDelivery", "true")
    put("RedrivePolicy", dead)
    assert (shown()["RawMessageDelivery"], shown()["RedrivePolicy"]) == ("true", dead)
    put("RedrivePolicy", "")
    assert "RedrivePolicy" not in shown()
    assert refusal(put, name="Endpoint", value="x")[1] == "Invalid parameter: AttributeName"
    other = cloud.client("sns", key=cloud.other_account())
    arguments = {"SubscriptionArn": arn, "AttributeName": "RawMessageDelivery", "AttributeValue": "false"}
    assert refusal(other.set_subscription_attributes, **arguments)[0] == "AuthorizationError"
    assert refusal(other.get_subscription_attributes, SubscriptionArn=arn)[0] == "AuthorizationError"
    assert refusal(other.unsubscribe, SubscriptionArn=arn)[0] == "AuthorizationError"


def test_a_topic_has_200_filter_policies(cloud: Cloud, sns: Any, topic: str) -> None:
    where = f"arn:aws:sqs:{cloud.region}:{cloud.account}"
    policy = {"FilterPolicy": '{"a":["x"]}'}

    def add(connection: Any) -> None:
        for n in range(200):
            row = topics.Subscription(f"{topic}:{n}", topic, cloud.account, "sqs", f"{where}:q{n}", policy, state="confirmed")
            topics.subscribe(connection, row)

    cloud.run(cloud.world.db.write(add))
    more = {"Protocol": "sqs", "Endpoint": f"{where}:q200"}
    assert refusal(sns.subscribe, TopicArn=topic, Attributes=policy, **more)[::2] == ("FilterPolicyLimitExceeded", 403)
    arn = sns.subscribe(TopicArn=topic, **more)["SubscriptionArn"]
    arguments = {"SubscriptionArn": arn, "AttributeName": "FilterPolicy", "AttributeValue": '{"a":["x"]}'}
    assert refusal(sns.set_subscription_attributes, **arguments)[0] == "FilterPolicyLimitExceeded"
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)
    assert len(listed["Subscriptions"]) == 100
    rest = sns.list_subscriptions_by_topic(TopicArn=topic, NextToken=listed["NextToken"])
    assert rest["Subscriptions"][0] not in listed["Subscriptions"]


def test_two_topics_one_deleted(sns: Any, topic: str, queue: str) -> None:
    other = sns.create_topic(Name="other")["TopicArn"]
    for arn in (topic, other):
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
    sns.delete_topic(TopicArn=topic)
    assert [row["TopicArn"] for row in sns.list_subscriptions()["Subscriptions"]] == [other]


# ---- confirmation


def pending_token(cloud: Cloud, message_type: str = "SubscriptionConfirmation") -> str:
    """What an endpoint was sent (nothing delivers here)."""

    def read(connection: Any) -> str:
        rows = connection.execute(topics_outbox.outbox.select()).all()
        mine = [row for row in rows if cloud.account in row.subscription and row.kind == message_type]
        return str(mine[-1].body["token"])

    return cloud.run(cloud.world.db.read(read))


URL = "http://127.0.0.1:9/hook"


def test_an_http_endpoint_confirms_by_its_token(cloud: Cloud, sns: Any, topic: str) -> None:
    assert sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=URL)["SubscriptionArn"] == "pending confirmation"
    first = pending_token(cloud)
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsPending"] == "1"
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=URL)
    token = pending_token(cloud)
    assert token != first, "asking again sends a fresh token"
    for wrong in (first, "x", token[:-1] + "0" * (token[-1] != "0") + "1" * (token[-1] == "0")):
        assert refusal(sns.confirm_subscription, TopicArn=topic, Token=wrong) == (
            "InvalidParameter",
            "Invalid parameter: Token",
            400,
        )
    arn = sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"]
    assert sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"] == arn
    found = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert (found["PendingConfirmation"], found["ConfirmationWasAuthenticated"]) == ("false", "true")
    assert json.loads(found["EffectiveDeliveryPolicy"])["healthyRetryPolicy"]["numNoDelayRetries"] == 3


def test_the_links_in_messages(cloud: Cloud, sns: Any, topic: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=URL)
    token = pending_token(cloud)
    link = f"/_slipway/sns/?Action=ConfirmSubscription&TopicArn={topic}&Token="
    for wrong in (
        link,
        link + "0" * 128,
        link.replace(topic, f"{topic}x") + token,
        f"/?Action=ConfirmSubscription&Token={token}",
    ):
        assert fetch(cloud.url, "GET", wrong)[0] in (400, 403)
    assert fetch(cloud.url, "GET", link + token, {"Origin": "http://evil.example"})[0] == 403
    status, body = fetch(cloud.url, "GET", link + token)
    assert status == 200
    (row,) = sns.list_subscriptions()["Subscriptions"]
    arn = row["SubscriptionArn"]
    assert f"<SubscriptionArn>{arn}</SubscriptionArn>".encode() in body
    assert sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["ConfirmationWasAuthenticated"] == "false"
    goodbye = f"/_slipway/sns/?Action=Unsubscribe&SubscriptionArn={arn}"
    assert fetch(cloud.url, "GET", goodbye)[0] == 200
    assert sns.list_subscriptions()["Subscriptions"] == []
    assert fetch(cloud.url, "GET", goodbye)[0] == 404
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsDeleted"] == "1"
    back = pending_token(cloud, "UnsubscribeConfirmation")
    assert fetch(cloud.url, "GET", link + back)[0] == 200, "whoever did not mean it comes back by the goodbye's link"
    assert sns.list_subscriptions()["Subscriptions"][0]["SubscriptionArn"] == arn


def test_who_locked_his_subscription_is_not_unsubscribed_by_a_link(cloud: Cloud, sns: Any, topic: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=URL)
    more = {"AuthenticateOnUnsubscribe": "true"}
    arn = sns.confirm_subscription(TopicArn=topic, Token=pending_token(cloud), **more)["SubscriptionArn"]
    assert fetch(cloud.url, "GET", f"/_slipway/sns/?Action=Unsubscribe&SubscriptionArn={arn}")[0] == 403
    sns.unsubscribe(SubscriptionArn=arn)
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_a_token_is_good_for_two_days(cloud: Cloud, sns: Any, topic: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=URL)
    token = pending_token(cloud)
    link = f"/_slipway/sns/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"
    with cloud.time_passed(2 * 86_400 + 1):
        assert fetch(cloud.url, "GET", link)[0] == 400
    assert fetch(cloud.url, "GET", link)[0] == 200


# ---- publishing


def test_a_queue_gets_a_signed_envelope(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]
    attributes = {
        "kind": {"DataType": "String", "StringValue": "ä"},
        "size": {"DataType": "Number", "StringValue": "12.5"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\0\xff"},
    }
    sent = sns.publish(TopicArn=topic, Message='Größe\n"1"', Subject="Hello", MessageAttributes=attributes)
    (message,) = received(cloud, queue)
    envelope = json.loads(message["Body"])
    assert list(envelope) == [
        "Type",
        "MessageId",
        "TopicArn",
        "Subject",
        "Message",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
        "UnsubscribeURL",
        "MessageAttributes",
    ]
    assert envelope["Type"] == "Notification"
    assert envelope["MessageId"] == sent["MessageId"]
    assert (envelope["TopicArn"], envelope["Subject"], envelope["Message"]) == (topic, "Hello", 'Größe\n"1"')
    assert envelope["MessageAttributes"]["size"] == {"Type": "Number", "Value": "12.5"}
    assert envelope["MessageAttributes"]["bytes"] == {"Type": "Binary", "Value": base64.b64encode(b"\0\xff").decode()}
    assert envelope["SignatureVersion"] == "1"
    assert verified(cloud, envelope)
    with pytest.raises(InvalidSignature):
        verified(cloud, {**envelope, "Message": "other"})
    assert envelope["UnsubscribeURL"].endswith(arn)


def test_signature_version_2_and_no_subject(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    sns.set_topic_attributes(TopicArn=topic, AttributeName="SignatureVersion", AttributeValue="2")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    sns.publish(TopicArn=topic, Message="m")
    envelope = json.loads(received(cloud, queue)[0]["Body"])
    assert "Subject" not in envelope
    assert envelope["SignatureVersion"] == "2"
    assert verified(cloud, envelope)


def test_raw_delivery_and_exactly_one_message_for_each_queue(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    other = make_queue(cloud, "other")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=other)
    attributes = {"n": {"DataType": "Number", "StringValue": "1"}, "b": {"DataType": "Binary", "BinaryValue": b"\0"}}
    sns.publish(TopicArn=topic, Message="plain", MessageAttributes=attributes)
    (message,) = received(cloud, queue)
    assert message["Body"] == "plain"
    assert message["MessageAttributes"]["n"] == attributes["n"]
    assert message["MessageAttributes"]["b"]["BinaryValue"] == b"\0"
    assert len(received(cloud, other)) == 1


def test_a_text_for_each_protocol(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    texts = {"default": "for all", "sqs": "for queues", "email": "for people", "odd": 1}
    sns.publish(TopicArn=topic, Message=json.dumps(texts), MessageStructure="json")
    sns.publish(TopicArn=topic, Message='{"default": "for all"}', MessageStructure="json")
    assert [message["Body"] for message in received(cloud, queue)] == ["for queues", "for all"]


def test_filter_policies_decide(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    body = make_queue(cloud, "body")
    policy = {"FilterPolicy": '{"kind": [{"prefix": "a"}]}', "RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=policy)
    nested = {"FilterPolicy": '{"status": {"code": [{"numeric": [">=", 400]}]}}', "FilterPolicyScope": "MessageBody"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=body, Attributes={**nested, "RawMessageDelivery": "true"})
    for message, kind in (('{"status": {"code": 500}}', "b"), ('{"status": {"code": 200}}', "ab"), ("no json", "a")):
        sns.publish(TopicArn=topic, Message=message, MessageAttributes={"kind": {"DataType": "String", "StringValue": kind}})
    assert [message["Body"] for message in received(cloud, queue)] == ['{"status": {"code": 200}}', "no json"]
    assert [message["Body"] for message in received(cloud, body)] == ['{"status": {"code": 500}}']


def test_a_message_of_too_many_values(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    rules = [{"prefix": f"x{n}"} for n in range(150)]
    policy = {"FilterPolicy": json.dumps({"a": rules}), "FilterPolicyScope": "MessageBody"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=policy)
    message = json.dumps({"a": [1] * 80_000}, separators=(",", ":"))
    assert "too many values" in refusal(sns.publish, TopicArn=topic, Message=message)[1]
    assert sns.publish(TopicArn=topic, Message="[" * 200_000)["MessageId"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"Message": ""}, "InvalidParameter", "Empty message"),
        ({"Message": "x" * 262_145}, "InvalidParameter", "Message too long"),
        ({"Message": "ä" * 131_073}, "InvalidParameter", "Message too long"),
        ({"Message": "m", "Subject": ""}, "InvalidParameter", "Subject"),
        ({"Message": "m", "Subject": "x" * 101}, "InvalidParameter", "Subject"),
        ({"Message": "m", "Subject": "a\nb"}, "InvalidParameter", "Subject"),
        ({"Message": "m", "MessageStructure": "xml"}, "InvalidParameter", "MessageStructure"),
        ({"Message": "m", "MessageStructure": "json"}, "InvalidParameter", "JSON message body failed to parse"),
        ({"Message": "[" * 100_000, "MessageStructure": "json"}, "InvalidParameter", "JSON message body failed to parse"),
        ({"Message": "{}", "MessageStructure": "json"}, "InvalidParameter", "No default entry in JSON message body"),
        ({"Message": '{"default": "\\ud800"}', "MessageStructure": "json"}, "InvalidParameter", "failed to parse"),
        ({"Message": "m", "MessageGroupId": "g"}, "InvalidParameter", "MessageGroupId"),
        ({"Message": "m", "MessageDeduplicationId": "g"}, "InvalidParameter", "MessageDeduplicationId"),
        ({"Message": "m", "PhoneNumber": "+4930"}, "InvalidParameter", "does not send SMS"),
        ({"Message": "m", "TargetArn": "arn:aws:sns:eu-central-1:1:x"}, "InvalidParameter", "TopicArn or TargetArn"),
    ],
)
def test_messages_that_are_not_published(sns: Any, topic: str, arguments: dict[str, Any], code: str, words: str) -> None:
    found = refusal(sns.publish, TopicArn=topic, **arguments)
    assert (found[0], found[2]) == (code, 400)
    assert words in found[1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a", {"DataType": "String", "StringValue": ""}, "non-empty message attribute value"),
        ("a", {"DataType": "String"}, "non-empty message attribute value"),
        ("a", {"DataType": "Binary", "StringValue": "x"}, "non-empty message attribute value"),
        ("a", {"DataType": "Text", "StringValue": "x"}, "invalid message attribute type"),
        ("a", {"DataType": "Number", "StringValue": "x"}, "Could not cast"),
        ("a", {"DataType": "Number", "StringValue": "9" * 5000}, "Could not cast"),
        ("a b", {"DataType": "String", "StringValue": "x"}, "name 'a b' is not valid"),
        ("AWS.x", {"DataType": "String", "StringValue": "x"}, "name 'AWS.x' is not valid"),
        (".x", {"DataType": "String", "StringValue": "x"}, "name '.x' is not valid"),
    ],
)
def test_attributes_that_no_message_has(sns: Any, topic: str, name: str, value: dict[str, str], words: str) -> None:
    found = refusal(sns.publish, TopicArn=topic, Message="m", MessageAttributes={name: value})
    assert (found[0], found[2]) == ("ParameterValueInvalid", 400)
    assert words in found[1]


def test_the_size_counts_attributes_and_the_largest_fits(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    sns.publish(TopicArn=topic, Message="x" * 262_144)
    attribute = {"a": {"DataType": "String", "StringValue": "v"}}
    sns.publish(TopicArn=topic, Message="x" * (262_144 - 8), MessageAttributes=attribute)
    code = refusal(sns.publish, TopicArn=topic, Message="x" * (262_144 - 7), MessageAttributes=attribute)[1]
    assert code == "Invalid parameter: Message too long"
    assert len(received(cloud, queue)) == 2


def test_where_to_publish(sns: Any, topic: str) -> None:
    assert sns.publish(TargetArn=topic, Message="m")["MessageId"]
    assert "TopicArn or TargetArn" in refusal(sns.publish, Message="m")[1]
    assert "does not send SMS" in refusal(sns.publish, PhoneNumber="+49301", Message="m")[1]
    endpoint = "arn:aws:sns:eu-central-1:1:endpoint/GCM/app/1"
    assert "mobile" in refusal(sns.publish, TargetArn=endpoint, Message="m")[1]


def test_a_batch(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    entries = [{"Id": "a", "Message": "1"}, {"Id": "b", "Message": ""}, {"Id": "c", "Message": "2", "Subject": "s"}]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["a", "c"]
    assert answer["Failed"] == [
        {"Id": "b", "Code": "InvalidParameter", "Message": "Invalid parameter: Empty message", "SenderFault": True}
    ]
    assert [message["Body"] for message in received(cloud, queue)] == ["1", "2"]
    bad = [{"Id": "b", "Message": ""}]
    assert sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=bad)["Successful"] == []
    assert refusal(sns.publish_batch, TopicArn=f"{topic}x", PublishBatchRequestEntries=bad)[0] == "NotFound"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(n), "Message": "m"} for n in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "Message": "m"}, {"Id": "a", "Message": "n"}], "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "Message": "m"}], "InvalidBatchEntryId"),
        ([{"Id": "a", "Message": "x" * 200_000}, {"Id": "b", "Message": "x" * 100_000}], "BatchRequestTooLong"),
    ],
)
def test_batches_that_are_refused(sns: Any, topic: str, entries: list[dict[str, str]], code: str) -> None:
    assert refusal(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=entries)[::2] == (code, 400)


def test_a_queue_that_is_gone(cloud: Cloud, sns: Any, topic: str) -> None:
    """Its message goes to the subscription's dead-letter queue; the outcome says why."""
    dead = make_queue(cloud, "dead")
    gone = f"arn:aws:sqs:{cloud.region}:{cloud.account}:gone"
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead}), "RawMessageDelivery": "true"}
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=gone, Attributes=redrive)["SubscriptionArn"]
    sent = sns.publish(TopicArn=topic, Message="m")["MessageId"]
    assert [message["Body"] for message in received(cloud, dead)] == ["m"]
    (outcome,) = outcomes(cloud, sent)
    assert (outcome.subscription, outcome.state, outcome.cause) == (arn, "dead-letter", f"The queue {gone} does not exist.")
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RedrivePolicy", AttributeValue="")
    (outcome,) = outcomes(cloud, sns.publish(TopicArn=topic, Message="m")["MessageId"])
    assert outcome.state == "failed"


def test_a_raw_message_of_more_attributes_than_a_queue_takes(cloud: Cloud, sns: Any, topic: str, queue: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    many = {f"a{n}": {"DataType": "String", "StringValue": "v"} for n in range(11)}
    (outcome,) = outcomes(cloud, sns.publish(TopicArn=topic, Message="m", MessageAttributes=many)["MessageId"])
    assert outcome.state == "failed"
    assert received(cloud, queue) == []


def outcomes(cloud: Cloud, message: str) -> list[Outcome]:
    return cloud.run(cloud.world.db.read(lambda c: topics_outbox.outcomes_of(c, [message])))
