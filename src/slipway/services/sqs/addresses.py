"""Queues as requests name them: a QueueUrl's account and name, whatever its host; and SQS's most common errors."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from slipway.names import arn
from slipway.services import Context
from slipway.store import queues
from slipway.store.db import Connection
from slipway.store.queues import QueueRow
from slipway.wire.errors import AwsError

NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_PATH = re.compile(r"(?:/queue)?/(\d{12})/([A-Za-z0-9_-]{1,80}(?:\.fifo)?)/?")
MAX_URL = 2048
NOT_FIFO = "The request includes a parameter that is not valid for this queue type."


def queue_arn(ctx: Context, name: str) -> str:
    return arn("sqs", ctx.region, ctx.account, name)


def queue_url(ctx: Context, name: str) -> str:
    return f"{ctx.world.settings.endpoint_url}/{ctx.account}/{name}"


def arn_of(ctx: Context, url: str) -> str:
    """The ARN of the caller's queue at a QueueUrl. InvalidAddress; QueueDoesNotExist for another account's."""
    try:
        match = _PATH.fullmatch(urlsplit(url).path) if len(url) <= MAX_URL else None
    except ValueError:  # a host that is none
        match = None
    if match is None:
        raise AwsError("InvalidAddress", f"The address {url[:200]} is not valid for this endpoint.", status=400)
    if match[1] != ctx.account:
        raise no_such_queue()
    return queue_arn(ctx, match[2])


def present(connection: Connection, arn: str) -> QueueRow:
    """QueueDoesNotExist."""
    row = queues.get(connection, arn)
    if row is None:
        raise no_such_queue()
    return row


def no_such_queue() -> AwsError:
    return AwsError("QueueDoesNotExist", "The specified queue does not exist.", status=400)


def invalid_value(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message, status=400)


def invalid_parameter(value: object, name: str, reason: str) -> AwsError:
    return invalid_value(f"Value {str(value)[:200]} for parameter {name} is invalid. Reason: {reason}")


def unsupported(message: str) -> AwsError:
    return AwsError("UnsupportedOperation", message, status=400)
