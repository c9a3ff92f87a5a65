"""A request as the parameters of its operation, under AWS's member names.

Blobs are bytes, timestamps datetimes in UTC. What the model does not know is ignored; what cannot be read is an AwsError
in the words of the protocol. Whether the values are allowed is `validate`'s question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .compression import decompress
from .errors import AwsError
from .models import streaming_input
from .parse_query import parse_query
from .parse_tree import parse_cbor, parse_json, serialization_error
from .parse_xml import malformed_xml, parse_xml
from .route import Route
from .values import read_scalar

Headers = Iterable[tuple[bytes, bytes]]

_LIST_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')


def parse(route: Route, target: bytes, headers: Headers, body: bytes) -> dict[str, Any]:
    """The parameters, without the member that is the body as a stream (`models.streaming_input`).

    `route` has its operation (`Router.query_operation` was called where needed) and the decoded target; `target` is taken
    for symmetry with `Router.route`. `body` is b"" where it streams. Raises AwsError.
    """
    operation = route.operation
    if operation is None:
        raise ValueError("a route of the query protocol is complete only after Router.query_operation")
    shape = operation.input_shape
    if shape is None:
        return {}
    if route.gzipped and operation.request_compression and route.protocol != "query":
        body = decompress(body)
    match route.protocol:
        case "json":
            return parse_json(shape, body)
        case "smithy-rpc-v2-cbor":
            return parse_cbor(shape, body)
        case "query":
            return parse_query(shape, route.query)
    return _parse_rest(route, shape, _by_name(headers), body)


def _parse_rest(route: Route, shape: Any, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    query: dict[str, list[str]] = {}
    for name, value in route.query:
        query.setdefault(name, []).append(value)
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        wire_name = member.serialization.get("name", name)
        if location == "uri" and wire_name in route.path_params:
            found[name] = _scalar(route, member, wire_name, route.path_params[wire_name])
        elif location == "querystring" and wire_name in query:
            found[name] = _from_query(route, member, wire_name, query[wire_name])
        elif location == "headers":
            prefix = wire_name.lower()
            entries = {key[len(prefix) :]: value for key, value in headers.items() if key.startswith(prefix)}
            if entries:
                found[name] = entries
        elif location == "header" and wire_name.lower() in headers:
            value = _from_header(route, member, wire_name, headers[wire_name.lower()])
            if value is not None:
                found[name] = value
    found |= _from_body(route, shape, body)
    return found


def _from_body(route: Route, shape: Any, body: bytes) -> dict[str, Any]:
    payload = shape.serialization.get("payload")
    if payload is None:
        if all("location" in member.serialization for member in shape.members.values()) or not body:
            return {}
        root = shape.serialization.get("name", shape.name)
        return parse_json(shape, body) if route.protocol == "rest-json" else parse_xml(shape, root, body)
    if route.operation is not None and streaming_input(route.operation) is not None:
        return {}
    member = shape.members[payload]
    if not body:
        return {}
    if member.type_name == "string":
        return {payload: _text(body)}
    # Only S3 has payloads that are neither streams nor text.
    return {payload: parse_xml(member, member.serialization.get("name", member.name), body)}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise malformed_xml() from None


def _from_query(route: Route, member: Any, name: str, values: list[str]) -> Any:
    if member.type_name == "list":
        return [_scalar(route, member.member, name, value) for value in values]
    return _scalar(route, member, name, values[0])


def _from_header(route: Route, member: Any, name: str, text: str) -> Any:
    if member.type_name == "list":
        return [_scalar(route, member.member, name, item) for item in _header_list(text)]
    if member.type_name == "timestamp" and "if-" in name.lower():
        # RFC 9110: a condition whose date cannot be read is no condition.
        try:
            return read_scalar(member, text)
        except ValueError:
            return None
    return _scalar(route, member, name, text)


def _scalar(route: Route, shape: Any, name: str, text: str) -> Any:
    try:
        return read_scalar(shape, text)
    except ValueError:
        if route.protocol == "rest-xml":
            message = f"Provided argument {name} is not a valid {shape.type_name}"
            raise AwsError("InvalidArgument", message, ArgumentName=name, ArgumentValue=text[:256]) from None
        raise serialization_error(f"STRING_VALUE of {name} can not be converted to {shape.type_name}") from None


def _header_list(text: str) -> list[str]:
    """Items of a header between commas; one in quotes may hold commas."""
    items = []
    for match in _LIST_ITEM.finditer(text):
        if match.start() < len(text):
            items.append(match[1].replace('\\"', '"') if match[1] is not None else match[2].strip())
    return items


def _by_name(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name; those sent several times joined by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
