"""One call over the wire without a wire: botocore's serializer into our parser, our answer into botocore's parser."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from slipway.wire.corrections import CATALOG, QUERY_SHAPES
from slipway.wire.models import ServiceModels, read_model, streaming_input, with_query_traits
from slipway.wire.parse import parse
from slipway.wire.rendered import Rendered
from slipway.wire.route import Route, Router
from slipway.wire.shapes import OperationModel as OurOperation

SERVED = (
    "application-autoscaling",
    "cloudwatch",
    "ecr",
    "iam",
    "logs",
    "s3",
    "sagemaker",
    "sagemaker-runtime",
    "sns",
    "sqs",
    "sts",
)
MODELS = ServiceModels(SERVED)
ROUTER = Router(MODELS)

ELSEWHERE = frozenset(
    # Another name of the same request, or an operation of another host.
    (
        "GetBucketLifecycle",
        "GetBucketNotification",
        "ListDirectoryBuckets",
        "PutBucketLifecycle",
        "PutBucketNotification",
        "WriteGetObjectResponse",
    )
)


def operations(service: str, protocol: str) -> list[OperationModel]:
    """Every operation that a client can call, as botocore models it; but for streams of events towards the service."""
    model = botocore_model(service, protocol == "query" and service in QUERY_SHAPES)
    found = [model.operation_model(name) for name in model.operation_names if service != "s3" or name not in ELSEWHERE]
    return [operation for operation in found if not operation.has_event_stream_input]


@cache
def botocore_model(service: str, former: bool) -> ServiceModel:
    """Read by botocore's own classes; `former`: with the traits of the query protocol, which it has left."""
    text = read_model(service)
    return ServiceModel(json.loads(with_query_traits(text, service) if former else text), service)


def ours(operation: OperationModel, protocol: str) -> OurOperation:
    return MODELS.operation(operation.service_model.service_name, operation.name, protocol)


def pairs() -> list[tuple[str, str]]:
    return [(service, protocol) for service in SERVED for protocol in CATALOG[service].protocols]


def send(operation: OperationModel, protocol: str, params: dict[str, Any]) -> tuple[Route, dict[str, Any], bytes]:
    """What our side makes of botocore's request: route, parameters, and the body as sent."""
    service = operation.service_model.service_name
    request = create_serializer(protocol, include_validation=False).serialize_to_request(params, operation)
    request.pop("host_prefix", None)
    prepare_request_dict(request, "http://localhost:4566")
    prepared = create_request_object(request).prepare()
    url = urlsplit(prepared.url)
    target = (url.path + (f"?{url.query}" if url.query else "")).encode("ascii")
    headers = [(name.lower().encode(), _bytes(value)) for name, value in prepared.headers.items()]
    headers.append((b"host", b"localhost:4566"))
    body = _bytes(prepared.body or b"")
    route = ROUTER.route(prepared.method, target, headers, CATALOG[service].scope)
    if route.operation is None:
        route = ROUTER.query_operation(route, body)
    streamed = route.operation is not None and streaming_input(route.operation)
    return route, parse(route, target, headers, b"" if streamed else body), body


def receive(operation: OperationModel, protocol: str, rendered: Rendered, shape: Any) -> dict[str, Any]:
    """What botocore's parser makes of our answer."""
    headers = HeadersDict({name.decode(): value.decode() for name, value in rendered.headers})
    body = rendered.body if rendered.stream is None else rendered.stream
    response = {"status_code": rendered.status, "headers": headers, "body": body, "context": {"operation_name": operation.name}}
    parsed: dict[str, Any] = create_parser(protocol).parse(response, shape)
    return parsed


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
