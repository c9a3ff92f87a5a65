"""Oracle: whatever botocore's serializer sends arrives as the parameters it was given, for every operation."""

from __future__ import annotations

import pytest

from slipway.wire.models import streaming_input

from .exchange import operations, ours, pairs, send
from .values import Values

ROUNDS = 4
FROM_HTTP = frozenset(("ContentLength",))
"""Members that botocore sends of its own accord, with the body."""


@pytest.mark.parametrize(("service", "protocol"), pairs())
def test_every_operation_arrives_as_sent(service: str, protocol: str) -> None:
    for operation in operations(service, protocol):
        for number in range(ROUNDS):
            values = Values(f"{service} {protocol} {operation.name} {number}", protocol)
            shape = operation.input_shape
            params = values.structure(shape, skip=FROM_HTTP) if shape is not None else {}
            route, found, body = send(operation, protocol, params)
            streamed = streaming_input(ours(operation, protocol))
            if streamed is not None:
                assert body == params.pop(streamed, b"")
            found = {name: value for name, value in found.items() if name not in FROM_HTTP}
            assert route.service == service
            assert route.protocol == protocol
            assert route.operation is not None
            assert route.operation.name == operation.name
            assert found == params, operation.name


@pytest.mark.parametrize(("service", "protocol"), pairs())
def test_a_call_without_parameters_arrives_empty(service: str, protocol: str) -> None:
    for operation in operations(service, protocol):
        shape = operation.input_shape
        if shape is None or not shape.required_members:
            found = send(operation, protocol, {})[1]
            assert set(found) <= FROM_HTTP
