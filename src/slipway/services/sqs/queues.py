"""Queues themselves: created, found, listed, configured, tagged, purged, deleted."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from slipway.core import queue_attributes as attributes
from slipway.core.queue_attributes import BadAttribute
from slipway.services import Context
from slipway.services.sqs.addresses import (
    NAME,
    arn_of,
    invalid_parameter,
    invalid_value,
    no_such_queue,
    present,
    queue_arn,
    queue_url,
    unsupported,
)
from slipway.store import queue_messages, queues, resources
from slipway.store.db import Connection
from slipway.store.queues import QueueRow
from slipway.wire.errors import AwsError

WAKE = "queues"
"""What the sweeper is woken for, when there are messages to take away."""
PURGE_SECONDS = 60
MAX_LISTED = 1000
MAX_TAGS = 50
_NO_FIFO = "slipway has standard queues only: FIFO queues are not built"


async def create_queue(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    name, given = request["QueueName"], request.get("Attributes") or {}
    if name.endswith(".fifo") or "true" in (given.get("FifoQueue"), given.get("ContentBasedDeduplication")):
        raise unsupported(_NO_FIFO)
    if not NAME.fullmatch(name):
        raise invalid_value("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
    values, tags = _checked(given), request.get("tags") or {}
    _check_tags(name, tags)
    now = ctx.world.now()
    arn = queue_arn(ctx, name)
    row = QueueRow(arn, 0, ctx.account, ctx.region, name, attributes.merged({}, values), now, now)

    def create(connection: Connection) -> None:
        there = queues.create(connection, row)
        if there is None:
            _check_target(connection, arn, values)
            if tags:
                resources.set_tags(connection, arn, tags)
        elif (differs := attributes.differing(there.attributes, values)) is not None:
            message = f"A queue already exists with the same name and a different value for attribute {differs}"
            raise AwsError("QueueNameExists", message, status=400)

    await ctx.world.db.write(create)
    return {"QueueUrl": queue_url(ctx, name)}


def _checked(given: Mapping[str, str]) -> dict[str, str]:
    try:
        return attributes.checked(given)
    except BadAttribute as error:
        raise AwsError("InvalidAttributeName" if error.unknown else "InvalidAttributeValue", str(error), status=400) from None


def _check_target(connection: Connection, arn: str, values: Mapping[str, str]) -> None:
    """A dead-letter queue exists, is the account's own and in the same region, and takes this queue's messages."""
    value = values.get("RedrivePolicy")
    if not value:
        return
    target = attributes.redrive(value).target
    if target.rpartition(":")[0] != arn.rpartition(":")[0]:
        raise invalid_parameter(value, "RedrivePolicy", "Dead-letter target owner should be same as the source.")
    row = queues.get(connection, target)
    if row is None:
        raise invalid_parameter(value, "RedrivePolicy", "Dead letter target does not exist.")
    if target == arn:
        raise invalid_parameter(value, "RedrivePolicy", "Dead letter target cannot be the queue itself.")
    if not attributes.allows(row.attributes, arn):
        raise invalid_parameter(value, "RedrivePolicy", "Queue does not have permission to use the dead letter target.")


async def get_queue_url(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    name = request["QueueName"]
    if request.get("QueueOwnerAWSAccountId") not in (None, "", ctx.account):
        raise no_such_queue()
    await ctx.world.db.read(lambda c: present(c, queue_arn(ctx, name)))
    return {"QueueUrl": queue_url(ctx, name)}


async def list_queues(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    limit, after = _page(request)
    prefix = request.get("QueueNamePrefix") or ""
    found = await ctx.world.db.read(lambda c: queues.find(c, ctx.account, ctx.region, prefix, after, limit + 1))
    return _listed(ctx, [row.name for row in found], limit, "QueueUrls", paged="MaxResults" in request) if found else {}


def _page(request: dict[str, Any]) -> tuple[int, str]:
    """Entries of a page, and the name after which it begins."""
    limit, token = request.get("MaxResults"), request.get("NextToken")
    if limit is None and token:
        raise invalid_value("MaxResults is a mandatory parameter when you provide a value for NextToken.")
    if limit is not None and not 1 <= limit <= MAX_LISTED:
        raise invalid_parameter(limit, "MaxResults", f"MaxResults must be an integer between 1 and {MAX_LISTED}.")
    try:
        after = base64.b64decode(token, altchars=b"-_", validate=True).decode() if token else ""
    except (binascii.Error, ValueError):
        raise invalid_value("Invalid or expired next token.") from None
    return limit or MAX_LISTED, after


def _listed(ctx: Context, names: list[str], limit: int, member: str, *, paged: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {member: [queue_url(ctx, name) for name in names[:limit]]}
    if paged and len(names) > limit:
        answer["NextToken"] = base64.urlsafe_b64encode(names[limit - 1].encode()).decode()
    return answer


async def list_dead_letter_source_queues(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    limit, after = _page(request)

    def read(connection: Connection) -> list[str]:
        present(connection, arn)
        found: list[str] = []
        last = after
        while len(found) <= limit:
            page = queues.find(connection, ctx.account, ctx.region, "", last, MAX_LISTED)
            found += [row.name for row in page if _target(row) == arn]
            if len(page) < MAX_LISTED:
                break
            last = page[-1].name
        return found[: limit + 1]

    return _listed(ctx, await ctx.world.db.read(read), limit, "queueUrls", paged="MaxResults" in request)


def _target(row: QueueRow) -> str:
    policy = row.attributes.get("RedrivePolicy")
    return attributes.redrive(policy).target if policy else ""


async def delete_queue(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The name is free at once, where AWS makes one wait for 60 seconds."""
    arn = arn_of(ctx, request["QueueUrl"])
    if not await ctx.world.db.write(lambda c: queues.remove(c, arn)):
        raise no_such_queue()
    ctx.world.wake(WAKE, "")
    return {}


async def get_queue_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    wanted = set(request.get("AttributeNames") or ())
    every = "All" in wanted
    for name in sorted(wanted - attributes.READABLE - {"All"}):
        raise AwsError("InvalidAttributeName", f"Unknown Attribute {name[:80]}.", status=400)
    counted = every or any(name.startswith("Approximate") for name in wanted)

    def read(connection: Connection) -> dict[str, str]:
        row = present(connection, arn)
        found = attributes.shown(row.attributes) | {
            "QueueArn": arn,
            "CreatedTimestamp": str(int(row.created)),
            "LastModifiedTimestamp": str(int(row.modified)),
        }
        if counted:
            counts = queue_messages.counts(connection, row, ctx.world.now())
            found["ApproximateNumberOfMessages"] = str(counts.visible)
            found["ApproximateNumberOfMessagesNotVisible"] = str(counts.in_flight)
            found["ApproximateNumberOfMessagesDelayed"] = str(counts.delayed)
        return found

    found = await ctx.world.db.read(read)
    chosen = found if every else {name: value for name, value in found.items() if name in wanted}
    return {"Attributes": chosen} if chosen else {}


async def set_queue_attributes(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn, given = arn_of(ctx, request["QueueUrl"]), request["Attributes"]
    if any(name in attributes.FIFO for name in given):
        raise unsupported(_NO_FIFO)
    values = _checked(given)
    now = ctx.world.now()

    def change(connection: Connection) -> None:
        row = present(connection, arn)
        _check_target(connection, arn, values)
        queues.set_attributes(connection, arn, attributes.merged(_encryption(row.attributes, values), values), now)

    await ctx.world.db.write(change)
    return {}


def _encryption(there: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """What is there, less the kind of encryption that another one replaces."""
    replaced = {"KmsMasterKeyId": "SqsManagedSseEnabled", "SqsManagedSseEnabled": "KmsMasterKeyId"}
    gone = {replaced[name] for name in replaced if values.get(name, "") not in ("", "false")}
    return {name: value for name, value in there.items() if name not in gone}


async def purge_queue(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    now = ctx.world.now()

    def purge(connection: Connection) -> None:
        row = present(connection, arn)
        if row.purged is not None and now < row.purged + PURGE_SECONDS:
            message = f"Only one PurgeQueue operation on {row.name} is allowed every {PURGE_SECONDS} seconds."
            raise AwsError("PurgeQueueInProgress", message, status=403)
        queues.purge(connection, arn, now)

    await ctx.world.db.write(purge)
    ctx.world.wake(WAKE, "")
    return {}


# Tags


def _check_tags(name: str, tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise invalid_value(f"Too many tags added for queue {name}.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise invalid_value(
                "Tag keys have 1 to 128 characters and do not begin with aws:, tag values up to 256 characters."
            )


async def tag_queue(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn, tags = arn_of(ctx, request["QueueUrl"]), request["Tags"]

    def tag(connection: Connection) -> None:
        row = present(connection, arn)
        _check_tags(row.name, {**resources.tags_of(connection, arn), **tags})
        if tags:
            resources.set_tags(connection, arn, tags)

    await ctx.world.db.write(tag)
    return {}


async def untag_queue(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn, keys = arn_of(ctx, request["QueueUrl"]), request["TagKeys"]

    def untag(connection: Connection) -> None:
        present(connection, arn)
        resources.remove_tags(connection, arn, keys)

    await ctx.world.db.write(untag)
    return {}


async def list_queue_tags(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])

    def read(connection: Connection) -> dict[str, str]:
        present(connection, arn)
        return resources.tags_of(connection, arn)

    found = await ctx.world.db.read(read)
    return {"Tags": found} if found else {}
