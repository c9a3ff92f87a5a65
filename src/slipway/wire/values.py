"""Scalars as text and back: what query, XML, headers and URIs have in common.

Timestamps are datetimes in UTC inside; on the way out epoch seconds are taken as well, since that is what stores keep.
"""

from __future__ import annotations

import binascii
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INTEGER_BITS = {"integer": 31, "long": 63}


def read_scalar(shape: Any, text: str) -> Any:
    """The value of a scalar shape that came as text. ValueError when it is none."""
    match shape.type_name:
        case "string" | "character":
            return text
        case "boolean":
            return read_boolean(text)
        case "integer" | "long":
            return read_integer(shape.type_name, text)
        case "float" | "double":
            return read_float(text)
        case "timestamp":
            return read_timestamp(text.strip())
        case "blob":
            return read_base64(text)
    raise ValueError(f"{shape.type_name} is no scalar")


def read_boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise ValueError("not a boolean")
    return word == "true"


def read_integer(kind: str, text: str) -> int:
    text = text.strip()
    if not _INTEGER.fullmatch(text):
        raise ValueError("not an integer")
    return fit_integer(kind, int(text))


def fit_integer(kind: str, value: int) -> int:
    """`value` if a 32-bit (`integer`) or 64-bit (`long`) number holds it; ValueError else."""
    limit = 1 << INTEGER_BITS[kind]
    if not -limit <= value < limit:
        raise ValueError("out of range")
    return value


def read_float(text: str) -> float:
    text = text.strip()
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return float(text)


def read_base64(text: str) -> bytes:
    # Line breaks, which some encoders put in, are the one leniency.
    if "\n" in text:
        text = text.replace("\r", "").replace("\n", "")
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error


def epoch(seconds: float) -> datetime:
    """UTC of epoch seconds, to the microsecond. ValueError outside the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    except (OverflowError, ValueError) as error:
        raise ValueError("not a time") from error


def read_timestamp(text: str) -> datetime:
    """ISO 8601, RFC 822 or epoch seconds: whichever it is. ValueError for anything else."""
    if len(text) > 64:
        raise ValueError("not a time")
    if _NUMBER.fullmatch(text):
        return epoch(float(text))
    try:
        found = datetime.fromisoformat(text) if "-" in text[:8] else parsedate_to_datetime(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise ValueError("not a time") from error


def seconds_of(value: datetime | float) -> float:
    """Epoch seconds, milliseconds kept, as AWS's json answers have them."""
    if isinstance(value, datetime):
        value = as_datetime(value).timestamp()
    return round(float(value), 3)


def as_datetime(value: datetime | float) -> datetime:
    if not isinstance(value, datetime):
        return epoch(value)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def iso8601(value: datetime | float, *, always_milliseconds: bool = False) -> str:
    """`2024-05-01T10:00:00Z`, with milliseconds where there are any (S3 writes them always)."""
    moment = as_datetime(value)
    milliseconds = moment.microsecond // 1000
    # Not strftime: it writes the year 5 as "5".
    text = moment.replace(tzinfo=None, microsecond=0).isoformat()
    return f"{text}.{milliseconds:03}Z" if milliseconds or always_milliseconds else f"{text}Z"


def rfc822(value: datetime | float) -> str:
    """`Wed, 01 May 2024 10:00:00 GMT`."""
    return format_datetime(as_datetime(value).replace(microsecond=0), usegmt=True)


def write_float(value: float) -> str:
    """Text of a number as AWS writes it: 1.0, 0.25, NaN, Infinity."""
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)
