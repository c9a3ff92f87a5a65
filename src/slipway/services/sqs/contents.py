"""A message as SendMessage and SendMessageBatch give it: checked, and turned into `core.queue_messages.Message`; and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slipway.core.queue_attributes import DELAY
from slipway.core.queue_messages import Attribute, Message, attributes_md5, body_md5
from slipway.services import Context
from slipway.services.sqs.addresses import NOT_FIFO, invalid_parameter, invalid_value, unsupported
from slipway.wire.errors import AwsError

MAX_ATTRIBUTES = 10
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_\-.]{1,256}")
_TYPE = re.compile(r"(?:String|Number|Binary)(?:\..+)?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")
_TRACE = "AWSTraceHeader"
_GROUP = re.compile(r"[!-~]{1,128}")


def message_of(ctx: Context, entry: Mapping[str, Any]) -> Message:
    """MissingParameter, InvalidMessageContents, InvalidParameterValue; whether it fits the queue's size is still to be seen."""
    body = entry["MessageBody"]
    if not body:
        raise AwsError("MissingParameter", "The request must contain the parameter MessageBody.", status=400)
    _check_characters(body)
    if entry.get("MessageDeduplicationId") is not None:
        raise invalid_parameter(entry["MessageDeduplicationId"], "MessageDeduplicationId", NOT_FIFO)
    group = entry.get("MessageGroupId")
    if group is not None and not _GROUP.fullmatch(group):
        reason = "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length."
        raise invalid_parameter(group, "MessageGroupId", reason)
    return Message(
        body,
        attributes=_attributes(entry.get("MessageAttributes") or {}),
        delay=_delay(entry.get("DelaySeconds")),
        sender=ctx.account,
        trace=_trace(entry.get("MessageSystemAttributes") or {}),
        group=group,
    )


def _check_characters(text: str) -> None:
    if _FORBIDDEN.search(text):
        raise AwsError(
            "InvalidMessageContents",
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD |"
            " #x10000 to #x10FFFF",
            status=400,
        )


def _delay(seconds: int | None) -> float | None:
    if seconds is not None and not DELAY[0] <= seconds <= DELAY[1]:
        raise invalid_parameter(seconds, "DelaySeconds", f"DelaySeconds must be >= {DELAY[0]} and <= {DELAY[1]}.")
    return seconds


def _trace(given: Mapping[str, Mapping[str, Any]]) -> str | None:
    for name, value in given.items():
        if name != _TRACE or value.get("DataType") != "String" or not value.get("StringValue"):
            raise invalid_value(f"Message system attribute name '{name[:80]}' is invalid.")
        _check_characters(value["StringValue"])
    return given[_TRACE]["StringValue"] if given else None


def _attributes(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Attribute]:
    if len(given) > MAX_ATTRIBUTES:
        raise invalid_value(f"Number of message attributes [{len(given)}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].")
    return {name: _attribute(name, value) for name, value in given.items()}


def _attribute(name: str, given: Mapping[str, Any]) -> Attribute:
    lowered = name.lower()
    if not _ATTRIBUTE_NAME.fullmatch(name) or name[0] == "." or name[-1] == "." or ".." in name:
        raise invalid_value(
            f"The message attribute name '{name[:256]}' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_),"
            " hyphen (-), and period (.) characters."
        )
    if lowered.startswith(("aws.", "amazon.")):
        raise invalid_value(f"The message attribute name '{name}' is invalid: AWS. and Amazon. are reserved prefixes.")
    kind = given.get("DataType") or ""
    if not kind:
        raise invalid_value(f"The message attribute '{name}' must contain a non-empty message attribute type.")
    if not _TYPE.fullmatch(kind) or len(kind) > 256:
        raise invalid_value(
            f"The type of message (user) attribute '{name}' is invalid. You must use only the following supported type"
            " prefixes: Binary, Number, String."
        )
    _check_characters(kind)
    if given.get("StringListValues") or given.get("BinaryListValues"):
        raise unsupported("Message attribute list values in SendMessage operation are not supported.")
    return Attribute(kind, _value(name, kind, given))


def _value(name: str, kind: str, given: Mapping[str, Any]) -> str | bytes:
    base = kind.partition(".")[0]
    member, other = ("BinaryValue", "StringValue") if base == "Binary" else ("StringValue", "BinaryValue")
    value: str | bytes | None = given.get(member)
    if not value:
        raise invalid_value(f"The message (user) attribute '{name}' must contain a non-empty value of type '{base}'.")
    if given.get(other):
        raise invalid_value(f"The message (user) attribute '{name}' has a value that is not of its type '{base}'.")
    if isinstance(value, str):
        _check_characters(value)
        if base == "Number" and (len(value) > 256 or not _NUMBER.fullmatch(value)):
            raise invalid_value(f"Can't cast the value of message (user) attribute '{name}' to a number.")
    return value


def sums_of(message: Message) -> dict[str, str]:
    """The MD5 members of a sender's answer."""
    found = {"MD5OfMessageBody": body_md5(message.body)}
    if (digest := attributes_md5(message.attributes)) is not None:
        found["MD5OfMessageAttributes"] = digest
    if message.trace is not None and (digest := attributes_md5({_TRACE: Attribute("String", message.trace)})) is not None:
        found["MD5OfMessageSystemAttributes"] = digest
    return found


def told(attributes: Mapping[str, Attribute]) -> dict[str, dict[str, Any]]:
    """Message attributes as ReceiveMessage answers them."""
    return {
        name: {"DataType": found.type, "BinaryValue" if isinstance(found.value, bytes) else "StringValue": found.value}
        for name, found in attributes.items()
    }


def chosen(attributes: Mapping[str, Attribute], names: list[str]) -> dict[str, Attribute]:
    """Those that MessageAttributeNames asks for: names, `All`, `.*`, `prefix.*`."""
    if "All" in names or ".*" in names:
        return dict(attributes)
    prefixes = tuple(name[:-1] for name in names if name.endswith(".*"))
    return {name: found for name, found in attributes.items() if name in names or (prefixes and name.startswith(prefixes))}
