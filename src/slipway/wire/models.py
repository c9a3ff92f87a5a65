"""Botocore's service models, one at a time and only when asked for.

A model is read once from botocore's own data and kept. Nothing of slipway is known here.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import botocore
import msgspec

from .corrections import QUERY_MEMBERS, QUERY_NAMESPACES, QUERY_SHAPES
from .shapes import Description, OperationModel, ServiceModel, Shape


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
            text = read_model(name)
            if key[1]:
                text = with_query_traits(text, name)
            model = self._loaded[key] = ServiceModel(msgspec.json.decode(text, type=Description), name)
        return model

    def operation(self, service: str, name: str, protocol: str | None = None) -> OperationModel:
        """KeyError when the service or the operation is not there."""
        return self.service(service, protocol).operation_model(name)


def streaming_input(operation: OperationModel) -> str | None:
    """Name of the member that is the request's body as it comes (`Body` of PutObject), or None."""
    return _streaming(operation.input_shape)


def streaming_output(operation: OperationModel) -> str | None:
    """Name of the member that is the response's body as it goes, event streams included, or None."""
    return _streaming(operation.output_shape)


def _streaming(shape: Shape | None) -> str | None:
    if shape is None:
        return None
    name: str | None = shape.serialization.get("payload")
    if name is None:
        return None
    member = shape.members[name]
    return name if member.type_name == "blob" or member.serialization.get("eventstream") else None


def read_model(name: str) -> bytes:
    """The newest description of a service as botocore ships it, JSON."""
    folder = Path(botocore.__file__).parent / "data" / name
    newest = max(path for path in folder.iterdir() if path.is_dir())
    packed = newest / "service-2.json.gz"
    return gzip.decompress(packed.read_bytes()) if packed.exists() else (newest / "service-2.json").read_bytes()


def with_query_traits(text: bytes, name: str) -> bytes:
    """The description of a service that has left the query protocol, as it was when it spoke it."""
    description: dict[str, Any] = msgspec.json.decode(text)
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
    return msgspec.json.encode(description)
