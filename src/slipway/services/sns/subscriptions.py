"""Subscribing, confirming, unsubscribing, and the lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slipway.backing.notices_addresses import Refused, guard
from slipway.services import Context
from slipway.services.sns import links
from slipway.services.sns.addresses import (
    PAGE,
    existing_topic,
    invalid,
    not_allowed,
    read_token,
    subscription_arn,
    topic_arn,
    write_token,
)
from slipway.services.sns.subscription_attributes import HTTP, check_queue, check_quota, checked
from slipway.store import topics
from slipway.store.db import Connection
from slipway.store.topics import Subscription
from slipway.wire.errors import AwsError

SUBSCRIPTIONS = 1000
"""Of one topic: each costs every publication a look."""
_REFUSED = ("application", "firehose", "lambda", "sms")
_EMAIL = ("email", "email-json")
_EMAIL_LENGTH = 320
PENDING = "pending confirmation"
"""What Subscribe answers in place of an ARN."""


async def subscribe(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Queues of the caller's are confirmed at once; an HTTP endpoint gets a SubscriptionConfirmation first."""
    arn = topic_arn(ctx, request["TopicArn"], "Subscribe")
    protocol, endpoint = request["Protocol"], request.get("Endpoint") or ""
    _check_endpoint(ctx, protocol, endpoint)
    attributes = checked(ctx, protocol, request.get("Attributes") or {})
    now = ctx.world.now()

    def write(connection: Connection) -> Subscription:
        existing_topic(connection, arn)
        present = topics.subscribed(connection, arn, protocol, endpoint)
        if present is not None and present.state != "gone":
            return _again(ctx, connection, present, attributes if request.get("Attributes") else None)
        if present is not None:
            topics.unsubscribe(connection, present.arn)
        check_quota(connection, arn, attributes)
        if sum(topics.counts(connection, arn).values()) >= SUBSCRIPTIONS:
            message = f"A topic can have {SUBSCRIPTIONS} subscriptions"
            raise AwsError("SubscriptionLimitExceeded", message, status=403)
        row = Subscription(links.new_arn(arn), arn, ctx.account, protocol, endpoint, attributes, created=now)
        if protocol == "sqs":
            row = replace(row, state="confirmed", authenticated="owner")
        topics.subscribe(connection, row)
        return links.ask(connection, row, now) if protocol in HTTP else row

    row = await ctx.world.db.write(write)
    if row.state == "pending" and not request.get("ReturnSubscriptionArn"):
        return {"SubscriptionArn": PENDING}
    return {"SubscriptionArn": row.arn}


def _again(ctx: Context, connection: Connection, present: Subscription, wanted: dict[str, str] | None) -> Subscription:
    """The endpoint is subscribed: a pending one is asked once more."""
    if wanted is not None and wanted != present.attributes:
        raise invalid("Attributes Reason: Subscription already exists with different attributes")
    if present.state == "pending" and present.protocol in HTTP:
        return links.ask(connection, present, ctx.world.now())
    return present


def _check_endpoint(ctx: Context, protocol: str, endpoint: str) -> None:
    if protocol in _REFUSED:
        raise invalid(f"Protocol Reason: slipway does not deliver over {protocol}: use sqs, http or https")
    if protocol not in ("sqs", *HTTP, *_EMAIL):
        raise invalid(f"Amazon SNS does not support this protocol string: {protocol[:60]}")
    if not endpoint:
        raise invalid("Endpoint")
    if protocol == "sqs":
        check_queue(ctx, endpoint, "Endpoint", "SQS endpoint ARN")
    elif protocol in HTTP:
        if not endpoint.startswith(f"{protocol}://"):
            raise invalid("Endpoint must match the specified protocol")
        settings = ctx.world.settings
        try:
            guard(settings.notify_allow, loopback=settings.on_loopback).check_url(endpoint)
        except Refused as error:
            raise invalid(f"Endpoint Reason: {error}") from None
    elif "@" not in endpoint or len(endpoint) > _EMAIL_LENGTH or not endpoint.isprintable():
        raise invalid("Email address")


async def confirm_subscription(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """As the link in the message, but known to be the caller's doing (ConfirmationWasAuthenticated)."""
    arn = topic_arn(ctx, request["TopicArn"], "ConfirmSubscription")
    locked = str(request.get("AuthenticateOnUnsubscribe", "")).lower() == "true"
    return {"SubscriptionArn": await links.confirm(ctx.world, arn, request["Token"], "locked" if locked else "owner")}


async def unsubscribe(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The owner's: no message says goodbye. What is not there is gone already."""
    arn = subscription_arn(ctx, request["SubscriptionArn"], "Unsubscribe")

    def write(connection: Connection) -> None:
        found = topics.subscription(connection, arn)
        if found is not None and found.account != ctx.account:
            raise not_allowed(ctx, "Unsubscribe", arn)
        topics.unsubscribe(connection, arn)

    await ctx.world.db.write(write)
    return {}


async def list_subscriptions(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    after = read_token(request.get("NextToken"))
    account, region = ctx.account, ctx.region
    found = await ctx.world.db.read(lambda c: topics.list_subscriptions(c, after, PAGE + 1, account=account, region=region))
    return _listed(found)


async def list_subscriptions_by_topic(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["TopicArn"], "ListSubscriptionsByTopic")
    after = read_token(request.get("NextToken"))

    def read(connection: Connection) -> list[Subscription]:
        existing_topic(connection, arn)
        return topics.list_subscriptions(connection, after, PAGE + 1, topic=arn)

    return _listed(await ctx.world.db.read(read))


def _listed(found: list[Subscription]) -> dict[str, Any]:
    rows = [
        {
            "SubscriptionArn": row.arn if row.state == "confirmed" else "PendingConfirmation",
            "Owner": row.account,
            "Protocol": row.protocol,
            "Endpoint": row.endpoint,
            "TopicArn": row.topic,
        }
        for row in found[:PAGE]
    ]
    answer: dict[str, Any] = {"Subscriptions": rows}
    return {**answer, "NextToken": write_token(found[PAGE - 1].arn)} if len(found) > PAGE else answer
