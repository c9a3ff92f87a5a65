"""Values as what JSON and CBOR hold, by shape: names on the wire, epoch seconds, base64 where there are no bytes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from .cbor import Epoch
from .values import seconds_of, write_float


def tree(shape: Any, value: Any, *, binary: bool = False) -> Any:
    """A plain value for `msgspec.json.encode`, or with `binary` for `cbor.encode`.

    None is left out of structures and maps; so is what the model does not know.
    """
    match shape.type_name:
        case "string" | "boolean":
            return value
        case "structure":
            return value if shape.is_document_type else structure(shape, value, binary=binary)
        case "list":
            member = shape.member
            return [None if item is None else tree(member, item, binary=binary) for item in value]
        case "map":
            inner = shape.value
            return {str(key): tree(inner, item, binary=binary) for key, item in value.items() if item is not None}
        case "timestamp":
            seconds = seconds_of(value)
            return Epoch(seconds) if binary else seconds
        case "blob":
            return bytes(value) if binary else base64.b64encode(value).decode("ascii")
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            number = float(value)
            return number if binary or math.isfinite(number) else write_float(number)
    return value


def structure(shape: Any, value: Mapping[str, Any], *, binary: bool = False, located: bool = True) -> dict[str, Any]:
    """Members of a structure by their names on the wire; without `located` those with a location are left out."""
    found = {}
    for name, member in shape.members.items():
        item = value.get(name)
        if item is None or (not located and "location" in member.serialization):
            continue
        found[member.serialization.get("name", name)] = tree(member, item, binary=binary)
    return found
