"""A message to be published, checked: size, subject, structure, attributes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from slipway.core.sns_messages import Attribute, Notice
from slipway.services.sns.addresses import invalid
from slipway.wire.errors import AwsError

Contents = dict[str, Any]
"""A Publish request, or an entry of a PublishBatch."""
MESSAGE_BYTES = 262_144
"""Message and attributes together."""
_SUBJECT = 100
_ATTRIBUTE_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)", re.ASCII)
_RESERVED = ("aws.", "amazon.")
_TYPE_LENGTH = 256


def notice_of(given: Contents) -> Notice:
    """AwsError, in AWS's words, for what it would not publish."""
    message = given["Message"]
    if not message:
        raise invalid("Empty message")
    for member in ("MessageDeduplicationId", "MessageGroupId"):
        if given.get(member):
            text = f"The request includes {member} parameter that is not valid for this topic type"
            raise invalid(f"{member} Reason: {text}")
    if size_of(given) > MESSAGE_BYTES:
        raise invalid("Message too long")
    subject = given.get("Subject")
    if subject is not None:
        _check_subject(subject)
    attributes = {name: _attribute(name, value) for name, value in (given.get("MessageAttributes") or {}).items()}
    texts: dict[str, str] = {}
    if given.get("MessageStructure"):
        texts = _texts(given["MessageStructure"], message)
        message = texts["default"]
    return Notice(message, subject, attributes, texts)


def size_of(given: Contents) -> int:
    """Bytes of the message and of its attributes' names, types and values."""
    total = len(given["Message"].encode())
    for name, value in (given.get("MessageAttributes") or {}).items():
        binary = value.get("BinaryValue") or b""
        total += len(name.encode()) + len((value.get("DataType") or "").encode())
        total += len((value.get("StringValue") or "").encode()) + len(binary)
    return total


def _check_subject(subject: str) -> None:
    if not 0 < len(subject) <= _SUBJECT or any(ord(character) < 0x20 or ord(character) == 0x7F for character in subject):
        raise invalid("Subject")


def _texts(structure: str, message: str) -> dict[str, str]:
    """By protocol; those that are no text are passed over, as AWS does."""
    if structure != "json":
        raise invalid("MessageStructure")
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid("Message Structure - JSON message body failed to parse")
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    if "default" not in texts:
        raise invalid("Message Structure - No default entry in JSON message body")
    if any("\ud800" <= character <= "\udfff" for text in texts.values() for character in text):
        raise invalid("Message Structure - JSON message body failed to parse")
    return texts


def _attribute(name: str, value: Mapping[str, Any]) -> Attribute:
    if not _ATTRIBUTE_NAME.fullmatch(name) or name.lower().startswith(_RESERVED):
        raise _bad(f"The message attribute name '{name[:256]}' is not valid.")
    type_ = value.get("DataType") or ""
    base = type_.partition(".")[0]
    if base not in ("String", "Number", "Binary") or len(type_) > _TYPE_LENGTH or not type_.isprintable():
        text = "has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."
        raise _bad(f"The message attribute '{name}' {text}")
    if base == "Binary":
        if not value.get("BinaryValue"):
            raise _bad(f"The message attribute '{name}' must contain non-empty message attribute value.")
        return Attribute(type_, base64.b64encode(value["BinaryValue"]).decode())
    text = value.get("StringValue") or ""
    if not text:
        raise _bad(f"The message attribute '{name}' must contain non-empty message attribute value.")
    if base == "Number" and not _is_number(text):
        raise _bad(f"Could not cast message attribute '{name}' value to number.")
    return Attribute(type_, text)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?", text, re.ASCII) is not None


def _bad(message: str) -> AwsError:
    return AwsError("ParameterValueInvalid", message, status=400)
