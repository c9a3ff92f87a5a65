"""Our reading of the models against botocore's own, shape by shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.model import OperationModel as TheirOperation
from botocore.model import ServiceModel as TheirService

from slipway.wire.corrections import CATALOG
from slipway.wire.models import ServiceModels, read_model
from slipway.wire.shapes import OperationModel, Shape

MODELS = ServiceModels(CATALOG)
UNUSED = {"event", "eventpayload", "hostLabel", "jsonvalue", "streaming", "timestampFormat"}
"""Traits for clients, and of events, which `wire.eventstream` writes without a model."""


def compare(ours: Shape | None, theirs: Any, seen: set[str]) -> None:
    assert (ours is None) == (theirs is None)
    if ours is None:
        return
    assert ours.name == theirs.name
    assert ours.type_name == theirs.type_name
    assert ours.serialization == {key: value for key, value in theirs.serialization.items() if key in ours.serialization}
    assert set(theirs.serialization) - set(ours.serialization) <= UNUSED
    assert ours.metadata == {key: value for key, value in theirs.metadata.items() if key in ours.metadata}
    assert ours.required_members == theirs.required_members
    if ours.name in seen:
        return
    seen.add(ours.name)
    assert list(ours.members) == list(getattr(theirs, "members", {}))
    for name, member in ours.members.items():
        compare(member, theirs.members[name], seen)
    for part in {"list": ("member",), "map": ("key", "value")}.get(ours.type_name, ()):
        compare(getattr(ours, part), getattr(theirs, part), seen)


def compare_operations(ours: OperationModel, theirs: TheirOperation, seen: set[str]) -> None:
    assert ours.name == theirs.name
    assert ours.http == theirs.http
    assert ours.request_compression == theirs.request_compression
    compare(ours.input_shape, theirs.input_shape, seen)
    compare(ours.output_shape, theirs.output_shape, seen)
    assert [shape.name for shape in ours.error_shapes] == [shape.name for shape in theirs.error_shapes]
    for shape, their in zip(ours.error_shapes, theirs.error_shapes, strict=True):
        assert shape.error_code == their.error_code
        compare(shape, their, seen)


@pytest.mark.parametrize("name", CATALOG)
def test_every_shape_is_read_as_botocore_reads_it(name: str) -> None:
    ours, theirs = MODELS.service(name), TheirService(json.loads(read_model(name)), name)
    assert ours.metadata == theirs.metadata
    assert ours.service_id == theirs.service_id
    assert ours.is_query_compatible == theirs.is_query_compatible
    assert ours.operation_names == theirs.operation_names
    seen: set[str] = set()
    for operation in ours.operation_names:
        compare_operations(ours.operation_model(operation), theirs.operation_model(operation), seen)


def test_shapes_without_traits_of_a_reference_are_one_object() -> None:
    model = MODELS.service("sagemaker")
    first, second = (model.operation_model(name).input_shape for name in ("DescribeModel", "DeleteModel"))
    assert first is not None
    assert second is not None
    assert first.members["ModelName"] is second.members["ModelName"]


def test_documentation_is_not_kept() -> None:
    shape = MODELS.service("sagemaker").shape_for("CreateModelInput")
    assert "documentation" not in vars(shape)
    assert all("documentation" not in ref for ref in shape._members.values())
