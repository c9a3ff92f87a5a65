"""Forms of the query protocol (`Topics.member.1.Name=x`) as parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import AwsError
from .values import read_scalar

_MAX_DEPTH = 64


class _Node:
    """One name of a dotted path: the value given for it, and what goes on below it."""

    __slots__ = ("below", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.below: dict[str, _Node] = {}


def parse_query(shape: Any, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters of a structure. AwsError MalformedInput for values of the wrong type, MalformedQueryString for paths."""
    root = _Node()
    for name, value in pairs:
        parts = name.split(".", _MAX_DEPTH)
        if len(parts) > _MAX_DEPTH:
            raise AwsError("MalformedQueryString", "A parameter's name is nested too deeply.", status=400)
        node = root
        for part in parts:
            below = node.below.get(part)
            if below is None:
                below = node.below[part] = _Node()
            node = below
        node.text = value
    return _structure(shape, root)


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedInput", message, status=400)


def _value(shape: Any, node: _Node) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape, node)
        case "list":
            return _list(shape, node)
        case "map":
            return _map(shape, node)
    if node.text is None:
        raise _malformed("Start of structure or map found where not expected.")
    try:
        return read_scalar(shape, node.text)
    except ValueError:
        raise _malformed(f"STRING_VALUE can not be converted to {shape.type_name}") from None


def _structure(shape: Any, node: _Node) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        plain = member.serialization.get("name", name)
        child = node.below.get(_list_name(member, plain)) or node.below.get(plain)
        if child is not None:
            found[name] = _value(member, child)
    return found


def _list_name(shape: Any, name: str) -> str:
    """A flattened list goes by the name of its members, where they have one."""
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        given: str = shape.member.serialization.get("name", name)
        return given
    return name


def _list(shape: Any, node: _Node) -> list[Any]:
    if not shape.serialization.get("flattened"):
        node = node.below.get(shape.member.serialization.get("name", "member")) or node.below.get("member") or _Node()
    return [_value(shape.member, child) for child in _numbered(node)]


def _map(shape: Any, node: _Node) -> dict[str, Any]:
    if not shape.serialization.get("flattened"):
        node = node.below.get("entry", _Node())
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    found = {}
    for entry in _numbered(node):
        key, value = entry.below.get(key_name), entry.below.get(value_name)
        if key is None or value is None:
            raise _malformed(f"An entry of a map has {key_name} and {value_name}.")
        found[_value(shape.key, key)] = _value(shape.value, value)
    return found


def _numbered(node: _Node) -> list[_Node]:
    """What is below 1, 2, 3 … in that order; gaps are closed, as AWS does."""
    indexes = []
    for part in node.below:
        if not (part.isascii() and part.isdigit() and len(part) <= 9):
            raise AwsError("MalformedQueryString", f"{part[:40]!r} is no index of a list.", status=400)
        indexes.append((int(part), part))
    return [node.below[part] for _, part in sorted(indexes)]
