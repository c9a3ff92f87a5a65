"""A queue's attributes (SQS API reference): which there are, what they may be, their defaults, what a redrive policy says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RETENTION = 345_600
MAX_MESSAGE = 1_048_576
"""Bytes of a message with its attributes, and of a batch."""
VISIBILITY = (0, 43_200)
DELAY = (0, 900)
WAIT = (0, 20)

NUMBERS: Mapping[str, tuple[int, int, int]] = {
    # Least, most, default.
    "DelaySeconds": (*DELAY, 0),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400, 300),
    "MaximumMessageSize": (1024, MAX_MESSAGE, MAX_MESSAGE),
    "MessageRetentionPeriod": (60, 1_209_600, RETENTION),
    "ReceiveMessageWaitTimeSeconds": (*WAIT, 0),
    "VisibilityTimeout": (*VISIBILITY, 30),
}
_SHOWN = ("DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout")
_TEXTS = ("Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "SqsManagedSseEnabled")
FIFO = ("FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")
COMPUTED = (
    "QueueArn",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
)
READABLE = frozenset((*NUMBERS, *_TEXTS, *FIFO, *COMPUTED))

MAX_RECEIVES = 1000
SOURCES = 10
"""Queues that a RedriveAllowPolicy may name."""
_QUEUE_ARN = re.compile(r"arn:[a-z0-9-]+:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,80}(?:\.fifo)?")


class BadAttribute(ValueError):
    """The message is AWS's; `unknown`: there is no such attribute, or it cannot be set."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Redrive:
    """A RedrivePolicy: after `most` receives a message goes to `target` (an ARN)."""

    target: str
    most: int


def checked(given: Mapping[str, str]) -> dict[str, str]:
    """Attributes as they are kept (numbers without zeros in front); an empty text stays, it removes. BadAttribute."""
    found = {}
    for name, value in given.items():
        if name in NUMBERS:
            found[name] = str(_number(name, value))
        elif name not in _TEXTS:
            raise BadAttribute(f"Unknown Attribute {name}.", unknown=True)
        else:
            _check_text(name, value)
            found[name] = value
    if found.get("KmsMasterKeyId") and found.get("SqsManagedSseEnabled") == "true":
        raise BadAttribute(
            "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS or SQS."
        )
    return found


def merged(present: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """`changes` over `present`; an empty text takes the attribute away."""
    return {name: value for name, value in {**present, **changes}.items() if value}


def _number(name: str, value: str) -> int:
    least, most, _ = NUMBERS[name]
    if not re.fullmatch(r"[0-9]{1,10}", value) or not least <= int(value) <= most:
        raise BadAttribute(f"Invalid value for the parameter {name}.")
    return int(value)


def _check_text(name: str, value: str) -> None:
    if not value:
        return
    if name == "RedrivePolicy":
        redrive(value)
    elif name == "RedriveAllowPolicy":
        _check_allow(value)
    elif name == "Policy":
        _object(name, value)
    elif name == "SqsManagedSseEnabled" and value not in ("true", "false"):
        raise BadAttribute(f"Invalid value for the parameter {name}.")


def _object(name: str, value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadAttribute(f"Value {value[:200]} for parameter {name} is invalid. Reason: Must be a JSON object.")
    return found


def redrive(value: str) -> Redrive:
    """What a RedrivePolicy says. BadAttribute."""

    def refused(reason: str) -> BadAttribute:
        return BadAttribute(f"Value {value[:200]} for parameter RedrivePolicy is invalid. Reason: {reason}")

    policy = _object("RedrivePolicy", value)
    target, most = policy.get("deadLetterTargetArn"), policy.get("maxReceiveCount", 10)
    if not target:
        raise refused("Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
    if not isinstance(target, str) or not _QUEUE_ARN.fullmatch(target):
        raise refused("Invalid value for deadLetterTargetArn.")
    number = int(most) if isinstance(most, int | str) and re.fullmatch(r"[0-9]{1,4}", str(most)) else 0
    if not 1 <= number <= MAX_RECEIVES:
        raise refused(
            f"Invalid value for maxReceiveCount: {str(most)[:20]}, valid values are from 1 to {MAX_RECEIVES} both inclusive."
        )
    return Redrive(target, number)


def _check_allow(value: str) -> None:
    policy = _object("RedriveAllowPolicy", value)
    permission, sources = policy.get("redrivePermission", "allowAll"), policy.get("sourceQueueArns", [])
    refused = BadAttribute(f"Value {value[:200]} for parameter RedriveAllowPolicy is invalid. Reason: Amazon SQS can't create"
                           " the redrive allow policy, as it’s in an unsupported format.")  # fmt: skip
    if permission not in ("allowAll", "denyAll", "byQueue") or not isinstance(sources, list) or len(sources) > SOURCES:
        raise refused
    if (permission == "byQueue") != bool(sources) or not all(
        isinstance(arn, str) and _QUEUE_ARN.fullmatch(arn) for arn in sources
    ):
        raise refused


def allows(attributes: Mapping[str, str], source: str) -> bool:
    """Whether a queue of these attributes may be the dead-letter queue of `source` (an ARN)."""
    value = attributes.get("RedriveAllowPolicy")
    policy = json.loads(value) if value else {}
    permission = policy.get("redrivePermission", "allowAll")
    return permission == "allowAll" or (permission == "byQueue" and source in policy["sourceQueueArns"])


def shown(attributes: Mapping[str, str]) -> dict[str, str]:
    """The settable attributes as GetQueueAttributes has them: defaults filled in."""
    found = {name: str(NUMBERS[name][2]) for name in _SHOWN}
    encrypted = "KmsMasterKeyId" in attributes
    found["SqsManagedSseEnabled"] = "false" if encrypted else "true"
    if encrypted:
        found["KmsDataKeyReusePeriodSeconds"] = str(NUMBERS["KmsDataKeyReusePeriodSeconds"][2])
    return found | dict(attributes)


def differing(present: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    """The name of a given attribute that the present queue has another value for: CreateQueue again must not change one."""
    there = shown(present)
    return next((name for name, value in given.items() if there.get(name, "") != value), None)
