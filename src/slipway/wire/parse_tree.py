"""JSON and CBOR bodies as parameters: both are trees of the same shape, but for blobs and timestamps.

Members that the model does not know and nulls are left out, as AWS does. A value of the wrong type is a
SerializationException in the words of AWS's own parser.
"""

from __future__ import annotations

from typing import Any

import msgspec

from . import cbor
from .errors import AwsError
from .values import epoch, fit_integer, read_base64, read_float, read_timestamp

_MAX_DEPTH = 100
_WORDS = {"string": "a String", "integer": "an Integer", "long": "a Long", "float": "a Float", "double": "a Double"}
_WORDS |= {"boolean": "a Boolean", "timestamp": "a Timestamp", "blob": "a Blob", "character": "a Character"}


def serialization_error(message: str) -> AwsError:
    return AwsError("SerializationException", message, status=400)


def parse_json(shape: Any, body: bytes) -> dict[str, Any]:
    """Parameters of a structure; an empty body is an empty object. AwsError SerializationException."""
    if not body:
        return {}
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise serialization_error(f"The body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise serialization_error("The body is nested too deeply.") from error
    return _root(_TreeReader(binary=False), shape, tree)


def parse_cbor(shape: Any, body: bytes) -> dict[str, Any]:
    """The same of a CBOR body."""
    if not body:
        return {}
    try:
        tree = cbor.decode(body)
    except cbor.CborError as error:
        raise serialization_error(f"The body is not valid CBOR: {error}") from error
    return _root(_TreeReader(binary=True), shape, tree)


def _root(reader: _TreeReader, shape: Any, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise serialization_error("Start of structure or map expected at the top of the body.")
    return reader.structure(shape, tree, 0)


class _TreeReader:
    def __init__(self, *, binary: bool) -> None:
        self.binary = binary

    def value(self, shape: Any, node: Any, depth: int) -> Any:
        kind = shape.type_name
        if kind == "string" and isinstance(node, str):  # most values
            return node
        if kind in ("structure", "list", "map"):
            return self.container(shape, node, depth + 1)
        if isinstance(node, dict):
            raise serialization_error("Start of structure or map found where not expected.")
        if isinstance(node, list):
            raise serialization_error("Start of list found where not expected.")
        try:
            return self.scalar(kind, node)
        except ValueError:
            raise serialization_error(f"{_token(node)} can not be converted to {_WORDS.get(kind, kind)}") from None

    def container(self, shape: Any, node: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise serialization_error("The body is nested too deeply.")
        if shape.type_name == "structure" and shape.is_document_type:
            return node
        if shape.type_name == "list":
            if not isinstance(node, list):
                raise serialization_error(f"Expected list or null, found {_token(node)}")
            member = shape.member
            return [None if item is None else self.value(member, item, depth) for item in node]
        if not isinstance(node, dict):
            raise serialization_error(f"Expected structure or map or null, found {_token(node)}")
        if shape.type_name == "structure":
            return self.structure(shape, node, depth)
        value = shape.value
        return {key: None if item is None else self.value(value, item, depth) for key, item in node.items()}

    def structure(self, shape: Any, node: dict[str, Any], depth: int) -> dict[str, Any]:
        found = {}
        for name, member in shape.members.items():
            item = node.get(member.serialization.get("name", name))
            if item is not None:
                found[name] = self.value(member, item, depth)
        return found

    def scalar(self, kind: str, node: Any) -> Any:
        """ValueError for a value of another type; the caller words it."""
        match kind, node:
            case "boolean", bool():
                return node
            case _, bool():
                raise ValueError
            case "timestamp", int() | float():
                return epoch(node)
            case "timestamp", str():
                return read_timestamp(node)
            case (("integer" | "long"), int()):
                return fit_integer(kind, node)
            case (("integer" | "long"), float()) if node.is_integer():
                return fit_integer(kind, int(node))
            case (("float" | "double"), int() | float()):
                return float(node)
            case (("float" | "double"), str()) if not self.binary and node in ("NaN", "Infinity", "-Infinity"):
                return read_float(node)
            case "blob", str() if not self.binary:
                return read_base64(node)
            case "blob", bytes():
                return node
        raise ValueError


def _token(node: Any) -> str:
    """What AWS's parser calls a value of JSON."""
    match node:
        case bool():
            return "TRUE_VALUE" if node else "FALSE_VALUE"
        case str():
            return "STRING_VALUE"
        case int() | float():
            return "NUMBER_VALUE"
        case list():
            return "START_ARRAY"
        case dict():
            return "START_OBJECT"
    return "BINARY_VALUE"
