"""Botocore's service models, one at a time and only when asked for.

A model is read once from botocore's own data, without its documentation (two thirds of its size), and kept. Nothing of
slipway is known here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import botocore
from botocore.model import OperationModel, OperationNotFoundError, ServiceModel

from .corrections import QUERY_MEMBERS, QUERY_NAMESPACES, QUERY_SHAPES


class ServiceModels:
    """The models of the services named (boto3's names). KeyError for a service that was not named."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._loaded: dict[tuple[str, bool], ServiceModel] = {}

    def service(self, name: str, protocol: str | None = None) -> ServiceModel:
        """The model; for the query protocol of a service that has left it, the one with that protocol's traits."""
        if name not in self.names:
            raise KeyError(name)
        key = (name, protocol == "query" and name in QUERY_SHAPES)
        model = self._loaded.get(key)
        if model is None:
            description = _read(name)
            if key[1]:
                _restore_query_traits(description, name)
            model = self._loaded[key] = ServiceModel(description, name)
        return model

    def operation(self, service: str, name: str, protocol: str | None = None) -> OperationModel:
        """KeyError when the service or the operation is not there."""
        try:
            return self.service(service, protocol).operation_model(name)
        except OperationNotFoundError as error:
            raise KeyError(name) from error


def streaming_input(operation: OperationModel) -> str | None:
    """Name of the member that is the request's body as it comes (`Body` of PutObject), or None."""
    return _streaming(operation.input_shape)


def streaming_output(operation: OperationModel) -> str | None:
    """Name of the member that is the response's body as it goes, event streams included, or None."""
    return _streaming(operation.output_shape)


def _streaming(shape: Any) -> str | None:
    if shape is None:
        return None
    name: str | None = shape.serialization.get("payload")
    if name is None:
        return None
    member = shape.members[name]
    return name if member.type_name == "blob" or member.serialization.get("eventstream") else None


def _read(name: str) -> dict[str, Any]:
    """The newest description of a service as botocore ships it, documentation left out."""
    folder = Path(botocore.__file__).parent / "data" / name
    newest = max(path for path in folder.iterdir() if path.is_dir())
    packed = newest / "service-2.json.gz"
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (newest / "service-2.json").read_bytes()
    description: dict[str, Any] = json.loads(raw, object_hook=_without_documentation)
    return description


def _without_documentation(node: dict[str, Any]) -> dict[str, Any]:
    # A member may be called "documentation"; its value is a reference, never a text.
    if isinstance(node.get("documentation"), str):
        del node["documentation"]
    return node


def _restore_query_traits(description: dict[str, Any], name: str) -> None:
    metadata = description["metadata"]
    metadata["protocol"] = "query"
    metadata["protocols"] = ["query"]
    metadata["xmlNamespace"] = QUERY_NAMESPACES[name]
    shapes = description["shapes"]
    for shape, traits in QUERY_SHAPES[name].items():
        for part, trait in traits.items():
            shapes[shape][part].update(trait)
    named = QUERY_MEMBERS[name]
    for shape in shapes.values():
        for member in shape.get("members", {}).values():
            if member["shape"] in named:
                member["locationName"] = named[member["shape"]]
    for operation, model in description["operations"].items():
        if "output" in model:
            model["output"]["resultWrapper"] = f"{operation}Result"
