"""An AwsError in the caller's protocol (hosting.md 1.4)."""

from __future__ import annotations

from typing import Any

import msgspec

from . import cbor
from .corrections import QUERY_CODES, QUERY_NAMESPACES, S3_STATUS, STATUS
from .errors import AwsError
from .rendered import Headers, Rendered, id_headers, json_version
from .route import Route, Unroutable
from .write_tree import tree
from .write_xml import escape, writer

_DEFAULT_NAMESPACE = "http://webservices.amazon.com/AWSFault/2005-15-09"
"""Of errors that precede any service, as AWS's front end has it."""


def serialize_error(route: Route | None, protocol: str | None, error: AwsError, request_id: str) -> Rendered:
    """The answer that raises `error` in an SDK.

    `route` as far as it was found (an Unroutable brings its own); `protocol` where there is no route, json if that is None
    too. The status is the error's own, else the model's for its code, else that of the code by custom, else 400.
    """
    if route is None and isinstance(error, Unroutable):
        route = error.route
    if route is None:
        route = Route("", protocol or "json")
    shape = _error_shape(route, error.code)
    status = error.status or _status(route, shape, error.code)
    match route.protocol:
        case "query":
            return _query(route, shape, error, status, request_id)
        case "rest-xml":
            return _s3(route, error, status, request_id)
        case "smithy-rpc-v2-cbor":
            return _cbor(route, shape, error, status, request_id)
        case "rest-json":
            return _rest_json(route, shape, error, status, request_id)
    return _json(route, shape, error, status, request_id)


def _error_shape(route: Route, code: str) -> Any | None:
    """The modelled exception of a code, which may be named by its shape or by its code in the query protocol."""
    if route.operation is None:
        return None
    former = QUERY_CODES.get(route.service, {})
    for shape in route.operation.error_shapes:
        if code in (shape.name, shape.error_code, former.get(shape.name)):
            return shape
    try:
        shape = route.operation.service_model.shape_for(code)
    except KeyError:
        return None
    return shape if shape.metadata.get("exception") else None


def _status(route: Route, shape: Any | None, code: str) -> int:
    declared = shape.metadata.get("error", {}).get("httpStatusCode") if shape is not None else None
    if declared:
        return int(declared)
    return (S3_STATUS if route.protocol == "rest-xml" else STATUS).get(code, 400)


def _members(shape: Any | None, error: AwsError, *, binary: bool = False) -> dict[str, Any]:
    """The error's members by their names on the wire; those that the model lacks as they are."""
    known = shape.members if shape is not None else {}
    found = {"Message" if "Message" in known else "message": error.message}
    for name, value in error.members.items():
        if value is not None:
            found[name] = tree(known[name], value, binary=binary) if name in known else value
    return found


def _query_code(route: Route, shape: Any | None, error: AwsError) -> str:
    if shape is None:
        return error.code
    code: str = QUERY_CODES.get(route.service, {}).get(shape.name, shape.error_code)
    return code


def _side(status: int) -> str:
    return "Receiver" if status >= 500 else "Sender"


def _compatible(route: Route, shape: Any | None, error: AwsError, status: int) -> Headers:
    """The code of the former query protocol, for callers that ask for it."""
    model = route.operation.service_model if route.operation else None
    if not route.query_mode or model is None or not model.is_query_compatible:
        return []
    return [(b"x-amzn-query-error", f"{_query_code(route, shape, error)};{_side(status)}".encode())]


def _json(route: Route, shape: Any | None, error: AwsError, status: int, request_id: str) -> Rendered:
    code = shape.name if shape is not None else error.code
    headers = id_headers("json", request_id, f"application/x-amz-json-{json_version(route)}")
    body = msgspec.json.encode({"__type": code, **_members(shape, error)})
    return Rendered(status, headers + _compatible(route, shape, error, status), body)


def _rest_json(route: Route, shape: Any | None, error: AwsError, status: int, request_id: str) -> Rendered:
    headers = id_headers("rest-json", request_id, "application/json")
    headers.append((b"x-amzn-errortype", error.code.encode("ascii", "replace")))
    return Rendered(status, headers, msgspec.json.encode(_members(shape, error)))


def _cbor(route: Route, shape: Any | None, error: AwsError, status: int, request_id: str) -> Rendered:
    code = shape.name if shape is not None else error.code
    headers = id_headers(route.protocol, request_id, "application/cbor")
    headers.append((b"smithy-protocol", b"rpc-v2-cbor"))
    body = cbor.encode({"__type": code, **_members(shape, error, binary=True)})
    return Rendered(status, headers + _compatible(route, shape, error, status), body)


def _query(route: Route, shape: Any | None, error: AwsError, status: int, request_id: str) -> Rendered:
    metadata = route.operation.metadata if route.operation else {}
    spaces = metadata.get("xmlNamespace") or QUERY_NAMESPACES.get(route.service, _DEFAULT_NAMESPACE)
    out = [f'<ErrorResponse xmlns="{spaces}"><Error><Type>{_side(status)}</Type>']
    out.append(f"<Code>{escape(_query_code(route, shape, error))}</Code><Message>{escape(error.message)}</Message>")
    _write_members(out, shape, error)
    out.append(f"</Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>")
    return Rendered(status, id_headers("query", request_id, "text/xml"), "".join(out).encode())


def _s3(route: Route, error: AwsError, status: int, request_id: str) -> Rendered:
    headers = id_headers("rest-xml", request_id)
    operation = route.operation
    if (operation is not None and operation.http.get("method") == "HEAD") or status == 304:
        return Rendered(status, headers)
    headers.append((b"content-type", b"application/xml"))
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n<Error>']
    out.append(f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>")
    _write_members(out, None, error)
    if "Resource" not in error.members:
        out.append(f"<Resource>{escape(route.resource)}</Resource>")
    out.append(f"<RequestId>{escape(request_id)}</RequestId><HostId>{escape(request_id)}</HostId></Error>")
    return Rendered(status, headers, "".join(out).encode())


def _write_members(out: list[str], shape: Any | None, error: AwsError) -> None:
    known = shape.members if shape is not None else {}
    for name, value in error.members.items():
        if value is None:
            continue
        if name in known:
            writer(known[name], known[name].serialization.get("name", name), False)(out, value)
        else:
            out.append(f"<{name}>{escape(str(value))}</{name}>")
