"""Messages of queues as values: what is sent, what is received, the handle of a receipt, and SQS's two MD5 sums."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

_HANDLE_BYTES = 32
_QUEUE_BYTES = 8
_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Attribute:
    """A message attribute: its DataType (`String`, `Number.int`, `Binary` …) and its value, bytes for the binary types."""

    type: str
    value: str | bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What a sender gives to a queue."""

    body: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    delay: float | None = None
    """Seconds until it can be received; None: the queue's DelaySeconds."""
    sender: str = ""
    """The SenderId that a receiver may ask for."""
    trace: str | None = None
    """AWSTraceHeader."""
    group: str | None = None
    """MessageGroupId: kept and shown; of a standard queue it orders nothing."""
    seal: str | None = None
    """Of an envelope of SNS: the version of the signature that it is given when it is received (None: it gets none).

    Signing takes longer than all else that is done for a message, and the writer has none of that time to give."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which message a handle stands for, and the secret of the receive that gave it out."""

    message: int
    token: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message as a receiver gets it; times are epoch seconds."""

    id: str
    """MessageId, a UUID; it stays through a redrive."""
    body: str
    attributes: Mapping[str, Attribute]
    receipt: Receipt
    sent: float
    first_received: float
    receives: int
    """How often it was received, this time included."""
    sender: str = ""
    trace: str | None = None
    group: str | None = None
    source: str | None = None
    """ARN of the queue that gave it up, when this one is its dead-letter queue."""
    seal: str | None = None
    """As `Message.seal`: the body has yet to be signed."""


def new_handle(queue_arn: str, receipt: Receipt) -> str:
    """A ReceiptHandle: opaque, and of no use at another queue."""
    packed = _digest(queue_arn) + receipt.message.to_bytes(8, "big") + bytes.fromhex(receipt.token)
    return base64.b64encode(packed).decode()


def read_handle(queue_arn: str, handle: str) -> Receipt | None:
    """None: no handle of this queue. Whether the receipt still holds is for the store to say."""
    try:
        packed = base64.b64decode(handle, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(packed) != _HANDLE_BYTES or packed[:_QUEUE_BYTES] != _digest(queue_arn):
        return None
    number = int.from_bytes(packed[_QUEUE_BYTES:-_TOKEN_BYTES], "big")
    return Receipt(number, packed[-_TOKEN_BYTES:].hex()) if number < 2**63 else None


def _digest(queue_arn: str) -> bytes:
    return hashlib.sha256(queue_arn.encode()).digest()[:_QUEUE_BYTES]


def body_md5(body: str) -> str:
    """MD5OfMessageBody, MD5OfBody."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Attribute]) -> str | None:
    """MD5OfMessageAttributes (SQS developer guide, "Calculating the MD5 message digest"); None when there are none."""
    if not attributes:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        binary = isinstance(attribute.value, bytes)
        value = attribute.value if isinstance(attribute.value, bytes) else attribute.value.encode()
        digest.update(_sized(name.encode()) + _sized(attribute.type.encode()) + (b"\2" if binary else b"\1") + _sized(value))
    return digest.hexdigest()


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def size_of(message: Message) -> int:
    """Bytes that count against MaximumMessageSize: the body, and each attribute's name, type and value."""
    total = len(message.body.encode())
    for name, attribute in message.attributes.items():
        value = attribute.value if isinstance(attribute.value, bytes) else attribute.value.encode()
        total += len(name.encode()) + len(attribute.type.encode()) + len(value)
    return total
