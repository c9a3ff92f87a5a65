"""Publish and PublishBatch: the message is durable in its queues, and in the outbox, when they answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from slipway.core.filter_policies import TooMuchWork
from slipway.core.sns_messages import Notice
from slipway.services import Context
from slipway.services.sns.addresses import invalid, no_topic, topic_arn
from slipway.services.sns.contents import MESSAGE_BYTES, Contents, notice_of, size_of
from slipway.store import topics
from slipway.store.topics import Published
from slipway.wire.errors import AwsError

ENTRIES = 10
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)


async def publish(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    if request.get("PhoneNumber"):
        raise invalid("PhoneNumber Reason: slipway does not send SMS")
    given = [request[name] for name in ("TopicArn", "TargetArn") if request.get(name)]
    if len(given) != 1:
        raise invalid("TopicArn or TargetArn Reason: no value for required parameter" if not given else "TopicArn or TargetArn")
    if ":endpoint/" in given[0]:
        raise invalid("TargetArn Reason: slipway does not push to mobile endpoints")
    arn = topic_arn(ctx, given[0], "Publish")
    notice = notice_of(request)
    now = ctx.world.now()
    seal = ctx.world.seal
    try:
        found = await ctx.world.db.write(lambda c: topics.publish(c, arn, notice, now, seal=seal))
    except TooMuchWork as error:
        raise _too_much(error) from None
    if found is None:
        raise no_topic()
    return {"MessageId": found.message_id}


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    notice: Notice | None
    error: AwsError | None = None


async def publish_batch(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Each entry by itself: a bad one fails alone."""
    arn = topic_arn(ctx, request["TopicArn"], "Publish")
    given: list[dict[str, Any]] = request["PublishBatchRequestEntries"]
    _check_batch(given)
    entries = [_entry(one) for one in given]
    now = ctx.world.now()

    notices = [entry.notice for entry in entries if entry.notice is not None]
    published = await ctx.world.db.write(lambda c: topics.publish_all(c, arn, notices, now, seal=ctx.world.seal))
    if published is None:
        raise no_topic()
    results = iter(published)
    answer: dict[str, Any] = {"Successful": [], "Failed": []}
    for entry in entries:
        result = next(results) if entry.notice is not None else entry.error
        if isinstance(result, Published):
            answer["Successful"].append({"Id": entry.id, "MessageId": result.message_id})
            continue
        error = _too_much(result) if isinstance(result, TooMuchWork) else result
        if error is not None:
            failed = {"Id": entry.id, "Code": error.code, "Message": error.message, "SenderFault": True}
            answer["Failed"].append(failed)
    return answer


def _too_much(error: TooMuchWork) -> AwsError:
    return invalid(f"Message Reason: the message {error}")


def _check_batch(given: list[Contents]) -> None:
    if not given:
        raise _batch_error("EmptyBatchRequest", "The batch request doesn't contain any entries.")
    if len(given) > ENTRIES:
        text = f"The batch request contains more entries than permissible: it has {len(given)}, {ENTRIES} are allowed."
        raise _batch_error("TooManyEntriesInBatchRequest", text)
    ids = [entry["Id"] for entry in given]
    if not all(_ENTRY_ID.fullmatch(id) for id in ids):
        text = "The Id of a batch entry can contain only alphanumeric characters, hyphens, or underscores, 80 at most."
        raise _batch_error("InvalidBatchEntryId", text)
    if len(set(ids)) < len(ids):
        raise _batch_error("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
    if sum(size_of(entry) for entry in given) > MESSAGE_BYTES:
        text = f"The length of all the batch messages put together is more than the limit of {MESSAGE_BYTES} bytes."
        raise _batch_error("BatchRequestTooLong", text)


def _batch_error(code: str, message: str) -> AwsError:
    return AwsError(code, message, status=400)


def _entry(given: Contents) -> _Entry:
    try:
        return _Entry(given["Id"], notice_of(given))
    except AwsError as error:
        return _Entry(given["Id"], None, error)
