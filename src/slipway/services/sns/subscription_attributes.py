"""Attributes of subscriptions: checked when they are set, so that publishing and delivering can rely on them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slipway.core import filter_policies, sns_retries
from slipway.core.filter_policies import BadPolicy, Scope
from slipway.core.sns_retries import BadDeliveryPolicy
from slipway.services import Context
from slipway.services.sns.addresses import existing_subscription, existing_topic, invalid, subscription_arn, topic_of
from slipway.store import topics
from slipway.store.db import Connection
from slipway.store.topics import Subscription, Topic
from slipway.wire.errors import AwsError

POLICIES = 200
"""Filter policies of one topic: AWS's quota."""
HTTP = ("http", "https")
_SETTABLE = ("DeliveryPolicy", "FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy")
_QUEUE = re.compile(r"arn:aws[a-z-]*:sqs:([a-z0-9-]{1,32}):(\d{12}):([A-Za-z0-9_-]{1,80})", re.ASCII)


async def get_subscription_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = subscription_arn(ctx, request["SubscriptionArn"], "GetSubscriptionAttributes")

    def read(connection: Connection) -> tuple[Subscription, Topic]:
        return existing_subscription(connection, arn), existing_topic(connection, topic_of(arn))

    return {"Attributes": _shown(ctx, *await ctx.world.db.read(read))}


async def set_subscription_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = subscription_arn(ctx, request["SubscriptionArn"], "SetSubscriptionAttributes")
    name, value = request["AttributeName"], request.get("AttributeValue") or ""

    def write(connection: Connection) -> None:
        found = existing_subscription(connection, arn)
        attributes = checked(ctx, found.protocol, {**found.attributes, name: value}, "AttributeName")
        check_quota(connection, found.topic, attributes, found.attributes)
        topics.save(connection, replace(found, attributes=attributes))

    await ctx.world.db.write(write)
    return {}


def check_quota(
    connection: Connection, topic: str, wanted: Mapping[str, str], present: Mapping[str, str] | None = None
) -> None:
    """FilterPolicyLimitExceeded, where one more policy is too many."""
    if "FilterPolicy" in wanted and "FilterPolicy" not in (present or {}) and topics.policies(connection, topic) >= POLICIES:
        message = f"Invalid parameter: FilterPolicy: a topic can have {POLICIES} filter policies"
        raise AwsError("FilterPolicyLimitExceeded", message, status=403)


def checked(ctx: Context, protocol: str, given: Mapping[str, str], member: str = "Attributes") -> dict[str, str]:
    """The attributes to be kept, those without a value left out; AwsError names what AWS or slipway does not take."""
    for name in given:
        if name not in _SETTABLE:
            known = name in ("ReplayPolicy", "SubscriptionRoleArn")
            raise invalid(f"{name} is not supported by slipway" if known else member)
    found = {name: value for name, value in given.items() if value}
    if found.get("RawMessageDelivery", "false").lower() not in ("true", "false"):
        raise invalid("RawMessageDelivery: Invalid value. Must be true or false.")
    if "RawMessageDelivery" in found:
        found["RawMessageDelivery"] = found["RawMessageDelivery"].lower()
        if found["RawMessageDelivery"] == "true" and protocol not in ("sqs", *HTTP):
            text = f"Delivery protocol [{protocol}] does not support raw message delivery."
            raise invalid(f"Attributes Reason: RawMessageDelivery: {text}")
    _check_filter(found)
    if "RedrivePolicy" in found:
        _check_redrive(ctx, found["RedrivePolicy"])
    if "DeliveryPolicy" in found:
        _check_delivery(protocol, found["DeliveryPolicy"])
    return found


def _check_filter(found: dict[str, str]) -> None:
    scope = found.get("FilterPolicyScope", "MessageAttributes")
    if scope not in ("MessageAttributes", "MessageBody"):
        raise invalid(f"FilterPolicyScope: Invalid value [{scope[:60]}]. Please use either MessageBody or MessageAttributes")
    if "FilterPolicy" not in found:
        return
    known: Scope = "MessageBody" if scope == "MessageBody" else "MessageAttributes"
    try:
        policy = filter_policies.parse(found["FilterPolicy"])
        filter_policies.check(policy, known)
    except BadPolicy as error:
        raise invalid(f"FilterPolicy: {error}") from None
    if not policy:  # what clears it on AWS
        del found["FilterPolicy"]


def _check_redrive(ctx: Context, text: str) -> None:
    try:
        policy = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid("RedrivePolicy: failed to parse JSON.") from None
    arn = policy.get("deadLetterTargetArn") if isinstance(policy, dict) and len(policy) == 1 else None
    if not isinstance(arn, str):
        raise invalid("RedrivePolicy: it is an object with the key deadLetterTargetArn and no other")
    check_queue(ctx, arn, "RedrivePolicy", "RedrivePolicy: deadLetterTargetArn is an invalid arn")


def check_queue(ctx: Context, arn: str, member: str, reason: str) -> None:
    """InvalidParameter unless the ARN is one of a standard queue of the caller's; whether it is there is not asked."""
    if arn.endswith(".fifo"):
        raise invalid(f"Invalid parameter: {member} Reason: FIFO SQS Queues can not be subscribed to standard SNS topics")
    match = _QUEUE.fullmatch(arn)
    if match is None or match[2] != ctx.account:
        raise invalid(reason)


def _check_delivery(protocol: str, text: str) -> None:
    if protocol not in HTTP:
        raise invalid(f"DeliveryPolicy: Delivery protocol [{protocol}] does not support a delivery policy.")
    try:
        sns_retries.parse(text)
    except BadDeliveryPolicy as error:
        raise invalid(str(error)) from None


def _shown(ctx: Context, found: Subscription, topic: Topic) -> dict[str, str]:
    attributes = {
        "SubscriptionArn": found.arn,
        "TopicArn": found.topic,
        "Owner": found.account,
        "Protocol": found.protocol,
        "Endpoint": found.endpoint,
        "PendingConfirmation": str(found.state == "pending").lower(),
        "ConfirmationWasAuthenticated": str(bool(found.authenticated)).lower(),
        "RawMessageDelivery": "false",
        "SubscriptionPrincipal": ctx.principal,
        **found.attributes,
    }
    if "FilterPolicy" in found.attributes:
        attributes.setdefault("FilterPolicyScope", "MessageAttributes")
    if found.protocol in HTTP:
        policy = sns_retries.effective(found.attributes.get("DeliveryPolicy"), topic.attributes.get("DeliveryPolicy"))
        attributes["EffectiveDeliveryPolicy"] = json.dumps(policy.effective(), separators=(",", ":"))
    return attributes
