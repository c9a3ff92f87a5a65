"""Services, operations and shapes as botocore's model files describe them: what a server asks of a model, and no more.

The names are those of `botocore.model`, which is not used because it brings botocore's HTTP client and the CRT along: a
quarter of control's start. Operations and shapes are decoded one by one, when first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

_SERIALIZATION = frozenset(
    (
        "eventstream",
        "flattened",
        "location",
        "locationName",
        "payload",
        "resultWrapper",
        "xmlAttribute",
        "xmlNamespace",
    )
)
_METADATA = frozenset(("document", "enum", "error", "exception", "max", "min", "pattern", "required", "sensitive"))


class Description(msgspec.Struct):
    """The parts of a model file that are used, operations and shapes still as text."""

    metadata: dict[str, Any]
    operations: dict[str, msgspec.Raw]
    shapes: dict[str, msgspec.Raw]


class Shape:
    """A type, with the traits of the reference that led to it. Shapes referred to without traits are one object."""

    def __init__(self, name: str, traits: Mapping[str, Any], resolve: Callable[[Mapping[str, Any]], Shape]) -> None:
        self.name = name
        self.type_name: str = traits["type"]
        self.serialization: dict[str, Any] = {
            "name" if key == "locationName" else key: value for key, value in traits.items() if key in _SERIALIZATION
        }
        self.metadata: dict[str, Any] = {key: value for key, value in traits.items() if key in _METADATA}
        self.required_members: list[str] = self.metadata.get("required", [])
        self.is_document_type: bool = self.metadata.get("document", False)
        self._members = {member: _undocumented(ref) for member, ref in traits.get("members", {}).items()}
        self._parts = {part: _undocumented(traits[part]) for part in ("member", "key", "value") if part in traits}
        self._resolve = resolve

    @cached_property
    def members(self) -> dict[str, Shape]:
        """Of a structure, in the model's order; {} for every other type."""
        return {name: self._resolve(ref) for name, ref in self._members.items()}

    @cached_property
    def member(self) -> Shape:
        """Of a list. KeyError for every other type."""
        return self._resolve(self._parts["member"])

    @cached_property
    def key(self) -> Shape:
        """Of a map. KeyError for every other type."""
        return self._resolve(self._parts["key"])

    @cached_property
    def value(self) -> Shape:
        """Of a map. KeyError for every other type."""
        return self._resolve(self._parts["value"])

    @property
    def error_code(self) -> str | None:
        """Of an exception: the code it was given, else its name."""
        if not self.metadata.get("exception", False):
            return None
        code: str | None = self.metadata.get("error", {}).get("code")
        return code or self.name

    def __repr__(self) -> str:
        return f"<{self.type_name} {self.name}>"


class OperationModel:
    def __init__(self, name: str, traits: Mapping[str, Any], service: ServiceModel) -> None:
        self.name = name
        self.service_model = service
        self.metadata = service.metadata
        self.http: dict[str, Any] = traits.get("http", {})
        self.request_compression: dict[str, Any] | None = traits.get("requestcompression")
        self._traits = {part: traits[part] for part in ("input", "output", "errors") if part in traits}

    @cached_property
    def input_shape(self) -> Shape | None:
        return self._shape("input")

    @cached_property
    def output_shape(self) -> Shape | None:
        return self._shape("output")

    @cached_property
    def error_shapes(self) -> list[Shape]:
        return [self.service_model.resolve(_undocumented(ref)) for ref in self._traits.get("errors", ())]

    def _shape(self, part: str) -> Shape | None:
        return self.service_model.resolve(_undocumented(self._traits[part])) if part in self._traits else None

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


class ServiceModel:
    """`service_name` is boto3's."""

    def __init__(self, description: Description, service_name: str) -> None:
        self.service_name = service_name
        self.metadata = description.metadata
        self.operation_names = list(description.operations)
        self.shape_names = list(description.shapes)
        self.is_query_compatible = "awsQueryCompatible" in description.metadata
        self._description = description
        self._operations: dict[str, OperationModel] = {}
        self._shapes: dict[str, Shape] = {}

    @property
    def service_id(self) -> str:
        """The service's name in prose: `SageMaker`."""
        name: str = self.metadata["serviceId"]
        return name

    def operation_model(self, name: str) -> OperationModel:
        """KeyError when there is none of that name."""
        found = self._operations.get(name)
        if found is None:
            traits = msgspec.json.decode(self._description.operations[name])
            found = self._operations[name] = OperationModel(name, traits, self)
        return found

    def shape_for(self, name: str) -> Shape:
        """KeyError when there is none of that name."""
        found = self._shapes.get(name)
        if found is None:
            found = self._shapes[name] = Shape(name, self._traits(name), self.resolve)
        return found

    def resolve(self, ref: Mapping[str, Any]) -> Shape:
        """The shape that `{"shape": name, …traits}` refers to; the reference's traits go before the shape's own."""
        name = ref["shape"]
        if len(ref) == 1:
            return self.shape_for(name)
        return Shape(name, {**self._traits(name), **ref}, self.resolve)

    def _traits(self, name: str) -> dict[str, Any]:
        traits: dict[str, Any] = msgspec.json.decode(self._description.shapes[name])
        return traits


def _undocumented(ref: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in ref.items() if key != "documentation"}
