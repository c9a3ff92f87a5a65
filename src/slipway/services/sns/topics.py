"""Topics and their attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from slipway.core import sns_retries
from slipway.core.sns_retries import BadDeliveryPolicy
from slipway.names import arn as make_arn
from slipway.services import Context
from slipway.services.sns.addresses import PAGE, existing_topic, invalid, read_token, topic_arn, write_token
from slipway.services.sns.tagging import checked_tags
from slipway.store import resources, topics
from slipway.store.db import Connection
from slipway.store.topics import Topic
from slipway.wire.errors import AwsError

TOPICS = 100_000
"""Of one account in one region: AWS's quota."""
DOCUMENT_BYTES = 30_720
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_FIFO = ("FifoTopic", "ContentBasedDeduplication", "ArchivePolicy", "FifoThroughputScope")
_SETTABLE = ("DeliveryPolicy", "DisplayName", "KmsMasterKeyId", "Policy", "SignatureVersion", "TracingConfig")
_DISPLAY_NAME = 100
_ACTIONS = (
    "GetTopicAttributes",
    "SetTopicAttributes",
    "AddPermission",
    "RemovePermission",
    "DeleteTopic",
    "Subscribe",
    "ListSubscriptionsByTopic",
    "Publish",
)


async def create_topic(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The topic of that name, made unless it is there; given attributes and tags must then be those that it has."""
    name = request["Name"]
    given = dict(request.get("Attributes") or {})
    if name.endswith(".fifo") or given.pop("FifoTopic", "false").lower() == "true":
        raise invalid("Attributes Reason: FIFO topics are not supported by slipway")
    if not _NAME.fullmatch(name):
        raise invalid("Topic Name")
    if request.get("DataProtectionPolicy"):
        raise invalid("DataProtectionPolicy is not supported by slipway")
    attributes = {key: _checked(key, value) for key, value in given.items()}
    tags = checked_tags(request.get("Tags") or [])
    arn = make_arn("sns", ctx.region, ctx.account, name)
    topic = Topic(arn, ctx.account, ctx.region, name, {k: v for k, v in attributes.items() if v}, ctx.world.now())

    def write(connection: Connection) -> None:
        present = topics.create(connection, topic)
        if present is None:
            if topics.count(connection, ctx.account, ctx.region) > TOPICS:
                raise AwsError("TopicLimitExceeded", "Number of topics is already at the limit of the account", status=403)
            resources.set_tags(connection, arn, tags)
            return
        if any(present.attributes.get(key, "") != value for key, value in attributes.items()):
            raise invalid("Attributes Reason: Topic already exists with different attributes")
        if tags and tags != resources.tags_of(connection, arn):
            raise invalid("Tags Reason: Topic already exists with different tags")

    await ctx.world.db.write(write)
    return {"TopicArn": arn}


async def delete_topic(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """With its subscriptions; one that is not there is deleted already."""
    arn = topic_arn(ctx, request["TopicArn"], "DeleteTopic")
    await ctx.world.db.write(lambda c: topics.remove(c, arn))
    return {}


async def list_topics(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    after = read_token(request.get("NextToken"))
    found = await ctx.world.db.read(lambda c: topics.find(c, ctx.account, ctx.region, after, PAGE + 1))
    answer: dict[str, Any] = {"Topics": [{"TopicArn": topic.arn} for topic in found[:PAGE]]}
    return {**answer, "NextToken": write_token(found[PAGE - 1].arn)} if len(found) > PAGE else answer


async def get_topic_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["TopicArn"], "GetTopicAttributes")

    def read(connection: Connection) -> tuple[Topic, Mapping[str, int]]:
        return existing_topic(connection, arn), topics.counts(connection, arn)

    topic, counts = await ctx.world.db.read(read)
    return {"Attributes": _shown(topic, counts)}


async def set_topic_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["TopicArn"], "SetTopicAttributes")
    name = request["AttributeName"]
    value = _checked(name, request.get("AttributeValue") or "")

    def write(connection: Connection) -> None:
        kept = {key: old for key, old in existing_topic(connection, arn).attributes.items() if key != name}
        topics.set_attributes(connection, arn, {**kept, name: value} if value else kept)

    await ctx.world.db.write(write)
    return {}


def _checked(name: str, value: str) -> str:
    """The value to be kept; "" means the default. AwsError for what slipway does not do, or AWS does not take."""
    if name in _FIFO:
        raise invalid(f"{name} Reason: FIFO topics are not supported by slipway")
    if name not in _SETTABLE:
        known = name.endswith(("FeedbackRoleArn", "FeedbackSampleRate")) or name == "DataProtectionPolicy"
        raise invalid(f"{name} is not supported by slipway" if known else "AttributeName")
    if len(value.encode()) > DOCUMENT_BYTES:
        raise invalid(f"{name} Reason: too long")
    if value:
        _check_value(name, value)
    return value


def _check_value(name: str, value: str) -> None:
    if name == "DeliveryPolicy":
        try:
            sns_retries.parse_topic(value)
        except BadDeliveryPolicy as error:
            raise invalid(str(error)) from None
    elif name == "Policy":
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise invalid("Policy Error: null")
    elif name == "SignatureVersion" and value not in ("1", "2"):
        raise invalid("SignatureVersion: Reason: SignatureVersion must be 1 or 2")
    elif name == "TracingConfig" and value not in ("PassThrough", "Active"):
        raise invalid("TracingConfig")
    elif name == "DisplayName" and (len(value) > _DISPLAY_NAME or not value.isprintable()):
        raise invalid("DisplayName")


def _shown(topic: Topic, counts: Mapping[str, int]) -> dict[str, str]:
    text = topic.attributes.get("DeliveryPolicy")
    policy, above = sns_retries.parse_topic(text) if text else (sns_retries.DEFAULT, False)
    return {
        "TopicArn": topic.arn,
        "Owner": topic.account,
        "DisplayName": "",
        "Policy": _default_policy(topic),
        "SubscriptionsConfirmed": str(counts.get("confirmed", 0)),
        "SubscriptionsPending": str(counts.get("pending", 0)),
        "SubscriptionsDeleted": str(counts.get("gone", 0)),
        "EffectiveDeliveryPolicy": json.dumps({"http": policy.effective_topic(above)}, separators=(",", ":")),
        **topic.attributes,
    }


def _default_policy(topic: Topic) -> str:
    """What AWS gives every topic: its account may do everything."""
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"SNS:{action}" for action in _ACTIONS],
        "Resource": topic.arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": topic.account}},
    }
    document = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}
    return json.dumps(document, separators=(",", ":"))
