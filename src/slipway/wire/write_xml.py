"""Values as XML elements, for the query and rest-xml protocols.

Each shape becomes a closure once, so that a listing of 1000 objects is string work and nothing else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from .values import iso8601, write_float

Writer = Callable[[list[str], Any], None]
"""Appends the element of a value to the pieces of a document."""

_SPECIAL = re.compile(r"[&<>\"\x00-\x08\x0b-\x1f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """Text for content and attributes. Control characters become references, as S3 writes them (`&#13;`)."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#{ord(match[0])};", text)


@cache
def writer(shape: Any, name: str, milliseconds: bool) -> Writer:
    """The writer of a shape under the tag `name`; `milliseconds`: timestamps have them always (S3)."""
    match shape.type_name:
        case "structure":
            return _structure(shape, name, milliseconds)
        case "list":
            return _list(shape, name, milliseconds)
        case "map":
            return _map(shape, name, milliseconds)
    opening, closing = f"<{name}>", f"</{name}>"
    text = _text_of(shape, milliseconds)

    def write(out: list[str], value: Any) -> None:
        out.append(f"{opening}{text(value)}{closing}")

    return write


def members_writer(shape: Any, milliseconds: bool, skip: frozenset[str] = frozenset()) -> Writer:
    """Writes the members of a structure without an element around; those with a location are never written."""
    parts = []
    for member_name, member in shape.members.items():
        serialization = member.serialization
        if member_name in skip or "location" in serialization or serialization.get("xmlAttribute"):
            continue
        parts.append((member_name, writer(member, _member_tag(member, member_name), milliseconds)))

    def write(out: list[str], value: Mapping[str, Any]) -> None:
        get = value.get
        for member_name, part in parts:
            item = get(member_name)
            if item is not None:
                part(out, item)

    return write


def _member_tag(member: Any, name: str) -> str:
    tag: str = member.serialization.get("name", name)
    if member.type_name == "list" and member.serialization.get("flattened"):
        tag = member.member.serialization.get("name", tag)
    return tag


def _structure(shape: Any, name: str, milliseconds: bool) -> Writer:
    attributes = [
        (member_name, member.serialization["name"])
        for member_name, member in shape.members.items()
        if member.serialization.get("xmlAttribute")
    ]
    opening, closing = f"<{name}{namespace(shape)}", f"</{name}>"
    inner: Writer | None = None

    def write(out: list[str], value: Mapping[str, Any]) -> None:
        nonlocal inner
        if inner is None:  # built at the first use: shapes may hold themselves
            inner = members_writer(shape, milliseconds)
        out.append(opening)
        for member_name, attribute in attributes:
            if value.get(member_name) is not None:
                out.append(f' {attribute}="{escape(str(value[member_name]))}"')
        out.append(">")
        inner(out, value)
        out.append(closing)

    return write


def namespace(shape: Any) -> str:
    """The attribute that declares a shape's namespace, or ""."""
    declared = shape.serialization.get("xmlNamespace")
    if not declared:
        return ""
    if isinstance(declared, str):
        return f' xmlns="{declared}"'
    prefix = f":{declared['prefix']}" if declared.get("prefix") else ""
    return f' xmlns{prefix}="{declared["uri"]}"'


def _list(shape: Any, name: str, milliseconds: bool) -> Writer:
    flattened = shape.serialization.get("flattened")
    item_name = name if flattened else shape.member.serialization.get("name", "member")
    opening, closing = ("", "") if flattened else (f"<{name}>", f"</{name}>")
    item_writer: Writer | None = None

    def write(out: list[str], value: Any) -> None:
        nonlocal item_writer
        if item_writer is None:
            item_writer = writer(shape.member, item_name, milliseconds)
        out.append(opening)
        for item in value:
            item_writer(out, item)
        out.append(closing)

    return write


def _map(shape: Any, name: str, milliseconds: bool) -> Writer:
    flattened = shape.serialization.get("flattened")
    entry = name if flattened else "entry"
    opening, closing = ("", "") if flattened else (f"<{name}>", f"</{name}>")
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")

    def write(out: list[str], value: Mapping[str, Any]) -> None:
        write_key = writer(shape.key, key_name, milliseconds)
        write_value = writer(shape.value, value_name, milliseconds)
        out.append(opening)
        for key, item in value.items():
            if item is not None:
                out.append(f"<{entry}>")
                write_key(out, key)
                write_value(out, item)
                out.append(f"</{entry}>")
        out.append(closing)

    return write


def _text_of(shape: Any, milliseconds: bool) -> Callable[[Any], str]:
    match shape.type_name:
        case "boolean":
            return lambda value: "true" if value else "false"
        case "float" | "double":
            return write_float
        case "blob":
            return lambda value: base64.b64encode(value).decode("ascii")
        case "timestamp":
            return lambda value: iso8601(value, always_milliseconds=milliseconds)
        case "integer" | "long":
            return lambda value: str(int(value))
    return lambda value: escape(value if isinstance(value, str) else str(value))
