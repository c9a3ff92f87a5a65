"""SNS's ARNs, errors and page tokens: what all its operations share."""

from __future__ import annotations

import base64
import binascii
import re

from slipway.services import Context
from slipway.store import topics
from slipway.store.db import Connection
from slipway.store.topics import Subscription, Topic
from slipway.wire.errors import AwsError

PAGE = 100
_ARN_PARTS = 6
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]{1,32}):(\d{12}):([A-Za-z0-9_-]{1,256})", re.ASCII)
_SUBSCRIPTION = re.compile(_TOPIC.pattern + r":([0-9a-f-]{36})", re.ASCII)


def invalid(reason: str) -> AwsError:
    return AwsError("InvalidParameter", f"Invalid parameter: {reason}", status=400)


def no_topic() -> AwsError:
    return AwsError("NotFound", "Topic does not exist", status=404)


def no_subscription() -> AwsError:
    return AwsError("NotFound", "Subscription does not exist", status=404)


def not_allowed(ctx: Context, action: str, arn: str) -> AwsError:
    message = f"User: {ctx.principal} is not authorized to perform: SNS:{action} on resource: {arn}"
    return AwsError("AuthorizationError", message, status=403)


def _own(ctx: Context, member: str, arn: str, pattern: re.Pattern[str], action: str) -> str:
    match = pattern.fullmatch(arn)
    if match is None:
        parts = arn.count(":") + 1
        few = f" Reason: An ARN must have at least {_ARN_PARTS} elements, not {parts}" if parts < _ARN_PARTS else ""
        raise invalid(member + few)
    if match[2] != ctx.account:
        raise not_allowed(ctx, action, arn)
    if match[1] != ctx.region:
        raise invalid(member)
    return arn


def topic_arn(ctx: Context, arn: str, action: str, member: str = "TopicArn") -> str:
    """The ARN, when it is one of a topic that the caller may ask for; AwsError."""
    return _own(ctx, member, arn, _TOPIC, action)


def subscription_arn(ctx: Context, arn: str, action: str) -> str:
    return _own(ctx, "SubscriptionArn", arn, _SUBSCRIPTION, action)


def topic_of(subscription: str) -> str:
    """The topic's ARN begins the subscription's."""
    return subscription.rpartition(":")[0]


def existing_topic(connection: Connection, arn: str) -> Topic:
    found = topics.get(connection, arn)
    if found is None:
        raise no_topic()
    return found


def existing_subscription(connection: Connection, arn: str) -> Subscription:
    found = topics.subscription(connection, arn)
    if found is None or found.state == "gone":
        raise no_subscription()
    return found


def read_token(token: str | None) -> str:
    """The ARN after which the page begins."""
    if not token:
        return ""
    try:
        return base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid("NextToken") from None


def write_token(arn: str) -> str:
    return base64.b64encode(arn.encode()).decode()
