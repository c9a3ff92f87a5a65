"""A result as HTTP in the caller's protocol (hosting.md 1.3); errors are `failures`' and can be had from here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from . import cbor
from .corrections import S3_ROOTS
from .failures import serialize_error as serialize_error
from .models import streaming_output
from .rendered import Rendered as Rendered
from .rendered import id_headers, json_version
from .route import Route
from .shapes import OperationModel
from .values import rfc822, write_float
from .write_tree import structure
from .write_xml import Writer, escape, members_writer, namespace, writer

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_EVENTS = b"application/vnd.amazon.eventstream"


def serialize(route: Route, result: Mapping[str, Any], request_id: str) -> Rendered:
    """The answer of an operation; `result` has AWS's member names, None and unknown members are left out.

    Timestamps are datetimes or epoch seconds. `result["ResponseMetadata"]["HTTPStatusCode"]` overrides the model's status.
    """
    operation = route.operation
    if operation is None:
        raise ValueError("a route without an operation has no result")
    status = (result.get("ResponseMetadata") or {}).get("HTTPStatusCode") or operation.http.get("responseCode", 200)
    shape = operation.output_shape
    match route.protocol:
        case "json":
            body = msgspec.json.encode(structure(shape, result)) if shape else b""
            kind = f"application/x-amz-json-{json_version(route)}"
            return Rendered(status, id_headers(route.protocol, request_id, kind), body)
        case "smithy-rpc-v2-cbor":
            body = cbor.encode(structure(shape, result, binary=True)) if shape else b"\xa0"
            headers = id_headers(route.protocol, request_id, "application/cbor")
            return Rendered(status, [*headers, (b"smithy-protocol", b"rpc-v2-cbor")], body)
        case "query":
            headers = id_headers(route.protocol, request_id, "text/xml")
            return Rendered(status, headers, _query_body(operation, result, request_id))
    return _rest(route, operation, result, Rendered(status, id_headers(route.protocol, request_id)))


def _query_body(operation: OperationModel, result: Mapping[str, Any], request_id: str) -> bytes:
    name = operation.name
    out = [f'<{name}Response xmlns="{operation.metadata["xmlNamespace"]}">']
    shape = operation.output_shape
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{name}Result")
        out.append(f"<{wrapper}>")
        _body_writer(operation, False)(out, result)
        out.append(f"</{wrapper}>")
    out.append(f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{name}Response>")
    return "".join(out).encode()


@cache
def _body_writer(operation: OperationModel, milliseconds: bool) -> Writer:
    return members_writer(operation.output_shape, milliseconds)


def _rest(route: Route, operation: OperationModel, result: Mapping[str, Any], rendered: Rendered) -> Rendered:
    shape = operation.output_shape
    if shape is None:
        return rendered
    for name, member in shape.members.items():
        value = result.get(name)
        if value is None:
            continue
        location = member.serialization.get("location")
        wire_name = member.serialization.get("name", name).lower()
        if location == "header":
            rendered.headers.append((wire_name.encode(), header_value(member, value)))
        elif location == "headers":
            rendered.headers += [
                ((wire_name + key.lower()).encode(), header_value(member.value, v)) for key, v in value.items()
            ]
    streamed = streaming_output(operation)
    if streamed is not None:
        rendered.stream = result.get(streamed)
        if shape.members[streamed].serialization.get("eventstream"):
            rendered.headers.append((b"content-type", _EVENTS))
        return rendered
    kind, rendered.body = _json_body(shape, result) if route.protocol == "rest-json" else _xml_body(operation, shape, result)
    if rendered.body and not any(name == b"content-type" for name, _ in rendered.headers):
        rendered.headers.append((b"content-type", kind))
    return rendered


def header_value(shape: Any, value: Any) -> bytes:
    """A member as a header's value. Line breaks, which would begin another header, become spaces."""
    match shape.type_name:
        case "timestamp":
            text = rfc822(value)
        case "boolean":
            text = "true" if value else "false"
        case "list":
            return b",".join(header_value(shape.member, item) for item in value)
        case "float" | "double":
            text = write_float(value)
        case _:
            text = str(value)
    return text.replace("\r", " ").replace("\n", " ").encode()


def _json_body(shape: Any, result: Mapping[str, Any]) -> tuple[bytes, bytes]:
    # Payload members of the rest-json services are all streams, which `_rest` has taken.
    return b"application/json", msgspec.json.encode(structure(shape, result, located=False))


def _xml_body(operation: OperationModel, shape: Any, result: Mapping[str, Any]) -> tuple[bytes, bytes]:
    kind = b"application/xml"
    payload = shape.serialization.get("payload")
    if payload is not None:
        member, value = shape.members[payload], result.get(payload)
        if value is None:
            return kind, b""
        if member.type_name == "string":
            return kind, value.encode()
        out = [_DECLARATION]
        writer(member, member.serialization.get("name", member.name), True)(out, value)
        return kind, "".join(out).encode()
    if all("location" in member.serialization for member in shape.members.values()):
        return kind, b""
    root = S3_ROOTS.get(operation.name) or shape.serialization.get("name") or shape.name.removesuffix("Output")
    spaces = namespace(shape) or f' xmlns="{S3_NAMESPACE}"'
    out = [_DECLARATION, f"<{root}{spaces}>"]
    if operation.name == "GetBucketLocation":
        # The one answer whose root is the value.
        out.append(escape(result.get("LocationConstraint") or ""))
    else:
        _body_writer(operation, True)(out, result)
    out.append(f"</{root}>")
    return kind, "".join(out).encode()
