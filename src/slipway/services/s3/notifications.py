"""Put- and GetBucketNotificationConfiguration: events to queues and topics; other destinations are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.backing.objects_errors import s3_error
from slipway.core.s3_events import Kind, Rule
from slipway.services import Context
from slipway.services.s3.addresses import bucket_of, origin_of

_MEMBERS: Mapping[Kind, tuple[str, str]] = {
    "queue": ("QueueConfigurations", "QueueArn"),
    "topic": ("TopicConfigurations", "TopicArn"),
}
MAX_ID = 255


async def put_bucket_notification_configuration(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, given = bucket_of(ctx, request), request["NotificationConfiguration"]
    await ctx.world.objects.bucket(bucket, account=ctx.account)
    if given.get("LambdaFunctionConfigurations"):
        raise s3_error("NotImplemented", "Notifications to Lambda functions (CloudFunctionConfiguration) are not implemented.")
    if given.get("EventBridgeConfiguration") is not None:
        raise s3_error("NotImplemented", "Notifications to EventBridge (EventBridgeConfiguration) are not implemented.")
    rules: list[Rule] = []
    for kind, (member, target) in _MEMBERS.items():
        rules += [
            _rule(kind, each[target], each, f"{ctx.request_id}-{kind}-{n}") for n, each in enumerate(given.get(member) or (), 1)
        ]
    await ctx.world.objects.set_notifications(
        bucket,
        rules,
        account=ctx.account,
        origin=origin_of(ctx),
        validate=not request.get("SkipDestinationValidation"),
    )
    return {}


def _rule(kind: Kind, target: str, given: Mapping[str, Any], id: str) -> Rule:
    """InvalidArgument."""
    found: dict[str, str] = {}
    for each in ((given.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ():
        name = (each.get("Name") or "").lower()
        if name not in ("prefix", "suffix"):
            raise s3_error(
                "InvalidArgument", "filter rule name must be either prefix or suffix", ArgumentName="FilterRule.Name"
            )
        if name in found:
            raise s3_error("InvalidArgument", f"Cannot specify more than one {name} rule in a filter.")
        value = each.get("Value") or ""
        if len(value.encode()) > 1024:
            raise s3_error("InvalidArgument", "Size of filter rule value cannot exceed 1024 bytes in UTF-8")
        found[name] = value
    if len(given.get("Id") or "") > MAX_ID:
        raise s3_error("InvalidArgument", f"The length of the configuration's ID is above the maximum of {MAX_ID} characters.")
    return Rule(
        given.get("Id") or id, kind, target, tuple(dict.fromkeys(given["Events"])), found.get("prefix"), found.get("suffix")
    )


async def get_bucket_notification_configuration(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    rules = await ctx.world.objects.notifications(bucket_of(ctx, request), account=ctx.account)
    answer: dict[str, Any] = {}
    for kind, (member, target) in _MEMBERS.items():
        found = [_told(rule, target) for rule in rules if rule.kind == kind]
        if found:
            answer[member] = found
    return answer


def _told(rule: Rule, target: str) -> dict[str, Any]:
    names = (("prefix", rule.prefix), ("suffix", rule.suffix))
    filters = [{"Name": name, "Value": value} for name, value in names if value is not None]
    found: dict[str, Any] = {"Id": rule.id, target: rule.target, "Events": list(rule.events)}
    return {**found, "Filter": {"Key": {"FilterRules": filters}}} if filters else found
