"""Oracle: botocore's parser reads from our answers the results and errors that we gave, for every operation."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import OperationModel

from slipway.wire.errors import AwsError
from slipway.wire.models import streaming_output
from slipway.wire.route import Route
from slipway.wire.serialize import serialize, serialize_error

from .exchange import operations, ours, pairs, receive
from .values import Values

ROUNDS = 4
ID = "0f2b7c1e-0000-4000-8000-000000000000"


@pytest.mark.parametrize(("service", "protocol"), pairs())
def test_every_result_is_read_as_given(service: str, protocol: str) -> None:
    for operation in operations(service, protocol):
        if operation.has_event_stream_output or operation.name == "GetBucketLocation":
            continue  # test_clients has them: botocore's parser alone does not read these
        for number in range(ROUNDS):
            values = Values(f"{service} {protocol} {operation.name} {number}", protocol, response=True)
            shape = operation.output_shape
            streamed = streaming_output(ours(operation, protocol))
            result = values.structure(shape, skip=frozenset((streamed,) if streamed else ())) if shape is not None else {}
            if streamed is not None:
                result[streamed] = object()
            rendered = serialize(Route(service, protocol, ours(operation, protocol)), {**result, "Unknown": 1}, ID)
            found = receive(operation, protocol, rendered, shape)
            metadata = found.pop("ResponseMetadata", {})
            assert _without_empty_header_maps(shape, found) == result, operation.name
            if shape is not None or protocol != "smithy-rpc-v2-cbor":  # botocore reads no id where there is no output
                assert metadata["RequestId"] == ID
            assert rendered.status == operation.http.get("responseCode", 200)


def _without_empty_header_maps(shape: Any, found: dict[str, Any]) -> dict[str, Any]:
    located = {name for name, member in (shape.members.items() if shape else ()) if "location" in member.serialization}
    return {name: value for name, value in found.items() if value != {} or name not in located}


@pytest.mark.parametrize(("service", "protocol"), pairs())
@pytest.mark.parametrize("query_mode", [False, True])
def test_every_modelled_error_is_read_as_raised(service: str, protocol: str, query_mode: bool) -> None:
    for operation in operations(service, protocol):
        for shape in operation.error_shapes:
            _check_error(service, protocol, operation, shape, query_mode)


def _check_error(service: str, protocol: str, operation: OperationModel, shape: Any, query_mode: bool) -> None:
    if operation.http["method"] == "HEAD":
        return
    values = Values(f"{service} {protocol} {operation.name} {shape.name}", protocol, response=True)
    members = values.structure(shape, skip=frozenset(("Message", "message")))
    error = AwsError(shape.name, 'Wröng <thing> & "quoted"', **members)
    route = Route(service, protocol, ours(operation, protocol), query_mode=query_mode)
    rendered = serialize_error(route, None, error, ID)
    declared = shape.metadata.get("error", {}).get("httpStatusCode")
    assert declared is None or rendered.status == declared
    found = receive(operation, protocol, rendered, operation.output_shape)
    assert found["Error"]["Message"] == error.message
    assert found["ResponseMetadata"]["RequestId"] == ID
    code = found["Error"].get("QueryErrorCode") or found["Error"]["Code"]
    if query_mode and operation.service_model.is_query_compatible and protocol != "query":
        assert found["Error"]["Type"] in ("Sender", "Receiver")
        assert found["Error"]["QueryErrorCode"] == shape.name
    if protocol != "query" or service != "sqs":  # SQS's model has no codes of the query protocol any more
        assert code in (shape.error_code, shape.name), operation.name
    if protocol != "rest-xml":  # of S3's errors botocore reads the generic members alone
        modelled = receive(operation, protocol, rendered, shape)
        for name, value in members.items():
            assert modelled[name] == value, (operation.name, shape.name, name)
