"""The tables of what is refused and what has no effect: every path is one of botocore's, and refusing names the place."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from slipway.services.sagemaker.refusals import NEVER_ANSWERED, NO_EFFECT, REFUSED, REFUSED_BY_RULE, refuse
from slipway.wire.errors import AwsError

MODEL: Any = botocore.session.get_session().get_service_model("sagemaker")


def shape_at(shape: Any, path: str) -> Any:
    for part in path.split("."):
        shape = shape.members[part.removesuffix("[]")]
        if part.endswith("[]"):
            assert shape.type_name == "list", path
            shape = shape.member
    return shape


INPUTS = [*((r.operation, r.path) for r in REFUSED), *((n.operation, n.path) for n in NO_EFFECT), *REFUSED_BY_RULE]


@pytest.mark.parametrize(("operation", "path"), INPUTS)
def test_input_paths_exist(operation: str, path: str) -> None:
    shape_at(MODEL.operation_model(operation).input_shape, path)


@pytest.mark.parametrize(("operation", "path"), NEVER_ANSWERED)
def test_output_paths_exist(operation: str, path: str) -> None:
    shape_at(MODEL.operation_model(operation).output_shape, path)


@pytest.mark.parametrize("refusal", [r for r in REFUSED if r.values], ids=lambda r: f"{r.operation}-{r.path}")
def test_refused_values_are_allowed_ones(refusal: Any) -> None:
    shape = shape_at(MODEL.operation_model(refusal.operation).input_shape, refusal.path)
    if shape.type_name == "string":
        assert set(refusal.values) <= set(shape.enum)


@pytest.mark.parametrize("refusal", REFUSED, ids=lambda r: f"{r.operation}-{r.path}")
def test_each_refusal_refuses_and_names_the_member(refusal: Any) -> None:
    value: Any = refusal.values[0] if refusal.values else {"some": "thing"}
    for part in reversed(refusal.path.split(".")):
        value = {part.removesuffix("[]"): [value] if part.endswith("[]") else value}
    with pytest.raises(AwsError) as caught:
        refuse(refusal.operation, value)
    assert caught.value.code == "ValidationException"
    assert refusal.path.replace("[]", ".1") in caught.value.message
    assert "is not supported by this version of slipway" in caught.value.message


def test_what_is_not_there_is_not_refused() -> None:
    refuse("CreateEndpointConfig", {"ProductionVariants": [{"VariantName": "A", "ServerlessConfig": None}]})
    refuse("CreateModel", {"PrimaryContainer": {"Mode": "SingleModel"}})
