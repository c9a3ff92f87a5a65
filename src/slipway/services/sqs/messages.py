"""Messages: sent, received (a long poll waits for the commit that brings one, not for a timer), deleted, hidden and shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slipway.core.queue_attributes import MAX_MESSAGE, VISIBILITY, WAIT, redrive
from slipway.core.queue_messages import Message, Receipt, Received, attributes_md5, body_md5, new_handle, read_handle, size_of
from slipway.core.sns_messages import Seal, sealed_text
from slipway.services import Context
from slipway.services.sqs.addresses import NOT_FIFO, arn_of, invalid_parameter, invalid_value, present
from slipway.services.sqs.contents import chosen, message_of, sums_of, told
from slipway.store import queue_messages, queues
from slipway.store.db import Connection
from slipway.store.queue_messages import TooManyInFlight
from slipway.store.queues import QueueRow
from slipway.wire.errors import AwsError

logger = logging.getLogger(__name__)

MAX_RECEIVED = 10
_SYSTEM = frozenset(
    (
        "All",
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    )
)
"""What AttributeNames, the former name of MessageSystemAttributeNames, may ask for."""
_LOOK_AGAIN = 0.001
"""Seconds after a message should be visible, so that a clock that is read a little early finds it too."""


async def send_message(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    message = message_of(ctx, request)

    def send(connection: Connection) -> str:
        queue = present(connection, arn)
        check_size(queue, message)
        return queues.send_all(connection, queue, [message], ctx.world.now())[0]

    return {"MessageId": await ctx.world.db.write(send), **sums_of(message)}


def check_size(queue: QueueRow, message: Message) -> None:
    """InvalidParameterValue."""
    most = int(queue.seconds("MaximumMessageSize", MAX_MESSAGE))
    if size_of(message) > most:
        raise invalid_value(f"One or more parameters are invalid. Reason: Message must be shorter than {most} bytes.")


async def receive_message(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    most = _between(request, "MaxNumberOfMessages", 1, MAX_RECEIVED, 1)
    for name in request.get("AttributeNames") or ():
        if name not in _SYSTEM:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name[:80]}.", status=400)
    wait = _between(request, "WaitTimeSeconds", *WAIT, None)
    visibility = _between(request, "VisibilityTimeout", *VISIBILITY, None)
    attempt = request.get("ReceiveRequestAttemptId")
    if attempt is not None:
        raise invalid_parameter(attempt, "ReceiveRequestAttemptId", NOT_FIFO)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with ctx.world.db.watch(queues.topic_of(arn)) as watch:
        while True:
            found, queue, upcoming = await ctx.world.db.write(lambda c: _take(ctx, c, arn, most or 1, visibility))
            patience = queue.seconds("ReceiveMessageWaitTimeSeconds", 0) if wait is None else wait
            left = began + patience - loop.time()
            if found or left <= 0:
                break
            await watch.wait(left if upcoming is None else min(left, upcoming - ctx.world.now() + _LOOK_AGAIN))
    if any(message.seal is not None for message in found):
        found = await asyncio.to_thread(sealed, found, ctx.world.seal)
    return {"Messages": [_told(arn, message, request) for message in found]} if found else {}


def sealed(found: Sequence[Received], seal: Seal | None) -> list[Received]:
    """With the signatures that envelopes of SNS get now. The same each time: their scheme has no chance in it."""
    return [replace(message, body=_signed(message, seal)) for message in found]


def _signed(message: Received, seal: Seal | None) -> str:
    if seal is None or message.seal is None:
        return message.body
    try:
        return sealed_text(message.body, seal, message.seal)
    except (OSError, ValueError) as error:  # the key cannot be made or read: the message matters more
        logger.error("notification-not-signed", extra={"message_id": message.id, "error": str(error)})
        return message.body


def _between(request: dict[str, Any], name: str, least: int, most: int, default: int | None) -> int | None:
    value: int | None = request.get(name)
    if value is not None and not least <= value <= most:
        raise invalid_parameter(value, name, f"Must be between {least} and {most}, if provided.")
    return default if value is None else value


def _take(
    ctx: Context, connection: Connection, arn: str, most: int, visibility: int | None
) -> tuple[list[Received], QueueRow, float | None]:
    """Messages, the queue, and, where there are none, when the next one can be received. QueueDoesNotExist, OverLimit."""
    queue, now = present(connection, arn), ctx.world.now()
    seconds = queue.seconds("VisibilityTimeout", 30) if visibility is None else visibility
    policy = queue.attributes.get("RedrivePolicy")
    dead = redrive(policy) if policy else None
    target = queues.get(connection, dead.target) if dead is not None else None
    try:
        found = queue_messages.receive(
            connection, queue, most, seconds, now, (dead, target) if dead is not None and target is not None else None
        )
    except TooManyInFlight:
        message = f"Too many messages in flight: {queue_messages.IN_FLIGHT} of this queue were received and not deleted."
        raise AwsError("OverLimit", message, status=403) from None
    return found, queue, None if found else queue_messages.next_visible(connection, queue, now)


def _told(arn: str, message: Received, request: dict[str, Any]) -> dict[str, Any]:
    wanted = {*(request.get("AttributeNames") or ()), *(request.get("MessageSystemAttributeNames") or ())}
    answer: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": new_handle(arn, message.receipt),
        "MD5OfBody": body_md5(message.body),
        "Body": message.body,
    }
    system = {
        "SenderId": message.sender,
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
        "AWSTraceHeader": message.trace,
        "MessageGroupId": message.group,
        "DeadLetterQueueSourceArn": message.source,
    }
    shown = {name: value for name, value in system.items() if value and ("All" in wanted or name in wanted)}
    if shown:
        answer["Attributes"] = shown
    attributes = chosen(message.attributes, request.get("MessageAttributeNames") or [])
    if attributes:
        answer["MessageAttributes"] = told(attributes)
        answer["MD5OfMessageAttributes"] = attributes_md5(attributes)
    return answer


async def delete_message(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    receipt = receipt_of(arn, request["ReceiptHandle"])

    def delete(connection: Connection) -> None:
        present(connection, arn)
        queue_messages.discard(connection, [receipt])

    await ctx.world.db.write(delete)
    return {}


def receipt_of(arn: str, handle: str) -> Receipt:
    """ReceiptHandleIsInvalid."""
    receipt = read_handle(arn, handle)
    if receipt is None:
        message = f'The input receipt handle "{handle[:200]}" is not a valid receipt handle.'
        raise AwsError("ReceiptHandleIsInvalid", message, status=400)
    return receipt


async def change_message_visibility(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    receipt = receipt_of(arn, request["ReceiptHandle"])
    seconds = check_visibility(request["VisibilityTimeout"])
    await ctx.world.db.write(lambda c: hide(ctx, c, present(c, arn), receipt, request["ReceiptHandle"], seconds))
    return {}


def check_visibility(seconds: int | None) -> int:
    """InvalidParameterValue."""
    if seconds is None or not VISIBILITY[0] <= seconds <= VISIBILITY[1]:
        raise invalid_parameter(
            seconds, "VisibilityTimeout", f"Must be between {VISIBILITY[0]} and {VISIBILITY[1]}, if provided."
        )
    return seconds


def hide(ctx: Context, connection: Connection, queue: QueueRow, receipt: Receipt, handle: str, seconds: int) -> None:
    """MessageNotInflight, InvalidParameterValue."""
    match queue_messages.hide(connection, queue, receipt, seconds, ctx.world.now()):
        case None:
            reason = "Message does not exist or is not available for visibility timeout change."
            raise invalid_parameter(handle, "ReceiptHandle", reason)
        case False:
            raise AwsError("MessageNotInflight", "The specified message isn't in flight.", status=400)
