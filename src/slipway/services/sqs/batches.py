"""The batch forms: up to ten entries in one transaction, each with a result or an error of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.core.queue_attributes import MAX_MESSAGE
from slipway.core.queue_messages import Message, Receipt, size_of
from slipway.services import Context
from slipway.services.sqs.addresses import arn_of, present
from slipway.services.sqs.contents import message_of, sums_of
from slipway.services.sqs.messages import check_size, check_visibility, hide, receipt_of
from slipway.store import queue_messages, queues
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

MAX_ENTRIES = 10
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


def _entries(request: dict[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    """EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct."""
    entries: Sequence[Mapping[str, Any]] = request["Entries"]
    if not entries:
        raise AwsError("EmptyBatchRequest", f"There should be at least one {kind} in the request.", status=400)
    if len(entries) > MAX_ENTRIES:
        message = f"Maximum number of entries per request are {MAX_ENTRIES}. You have sent {len(entries)}."
        raise AwsError("TooManyEntriesInBatchRequest", message, status=400)
    ids: set[str] = set()
    for entry in entries:
        id = entry["Id"]
        if not _ID.fullmatch(id):
            message = (
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores."
                " It can be at most 80 letters long."
            )
            raise AwsError("InvalidBatchEntryId", message, status=400)
        if id in ids:
            raise AwsError("BatchEntryIdsNotDistinct", f"Id {id} repeated.", status=400)
        ids.add(id)
    return entries


class _Results:
    """What becomes of the entries; both lists are always answered."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []

    def fail(self, id: str, error: AwsError) -> None:
        self.failed.append({"Id": id, "SenderFault": True, "Code": error.code, "Message": error.message})

    def answer(self) -> dict[str, Any]:
        return {"Successful": self.done, **({"Failed": self.failed} if self.failed else {})}


async def send_message_batch(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    entries = _entries(request, "SendMessageBatchRequestEntry")
    results = _Results()
    good: list[tuple[str, Message]] = []
    for entry in entries:
        try:
            good.append((entry["Id"], message_of(ctx, entry)))
        except AwsError as error:
            results.fail(entry["Id"], error)
    total = sum(size_of(message) for _, message in good)
    if total > MAX_MESSAGE:
        message = f"Batch requests cannot be longer than {MAX_MESSAGE} bytes. You have sent {total} bytes."
        raise AwsError("BatchRequestTooLong", message, status=400)

    def send(connection: Connection) -> _Results:
        queue = present(connection, arn)
        fitting: list[tuple[str, Message]] = []
        for id, message in good:
            try:
                check_size(queue, message)
                fitting.append((id, message))
            except AwsError as error:
                results.fail(id, error)
        ids = queues.send_all(connection, queue, [message for _, message in fitting], ctx.world.now())
        results.done = [
            {"Id": id, "MessageId": uid, **sums_of(message)} for (id, message), uid in zip(fitting, ids, strict=True)
        ]
        return results

    return (await ctx.world.db.write(send)).answer()


async def delete_message_batch(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    entries = _entries(request, "DeleteMessageBatchRequestEntry")
    results = _Results()
    receipts: list[Receipt] = []
    for entry in entries:
        try:
            receipts.append(receipt_of(arn, entry["ReceiptHandle"]))
            results.done.append({"Id": entry["Id"]})
        except AwsError as error:
            results.fail(entry["Id"], error)

    def delete(connection: Connection) -> None:
        present(connection, arn)
        queue_messages.discard(connection, receipts)

    await ctx.world.db.write(delete)
    return results.answer()


async def change_message_visibility_batch(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = arn_of(ctx, request["QueueUrl"])
    entries = _entries(request, "ChangeMessageVisibilityBatchRequestEntry")

    def change(connection: Connection) -> _Results:
        queue, results = present(connection, arn), _Results()
        for entry in entries:
            try:
                receipt = receipt_of(arn, entry["ReceiptHandle"])
                seconds = check_visibility(entry.get("VisibilityTimeout", int(queue.seconds("VisibilityTimeout", 30))))
                hide(ctx, connection, queue, receipt, entry["ReceiptHandle"], seconds)
                results.done.append({"Id": entry["Id"]})
            except AwsError as error:
                results.fail(entry["Id"], error)
        return results

    return (await ctx.world.db.write(change)).answer()
