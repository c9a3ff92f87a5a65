"""The containers of a model: one, or several that stand together (containers.md 6.1), and what CreateModel refuses of them.

`MaxItems` and the pattern of hostnames are the API model's own; these are the rules between members. AWS's words are unknown
where a message names the field and what was found there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.core.routing import DIRECT
from slipway.wire.errors import AwsError, validation_exception


def containers_of(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a stored model, in order."""
    return [model["PrimaryContainer"]] if model.get("PrimaryContainer") else list(model["Containers"])


def container_name(container: Mapping[str, Any], number: int) -> str:
    """The hostname, else `container-1`, `container-2`, … by position: what metrics, logs and messages call it."""
    return str(container.get("ContainerHostname") or f"container-{number}")


def is_direct(model: Mapping[str, Any]) -> bool:
    """Whether callers name the container."""
    return (model.get("InferenceExecutionConfig") or {}).get("Mode") == DIRECT


def checked_containers(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The containers of a CreateModel request. Raises ValidationException."""
    primary, several = request.get("PrimaryContainer"), request.get("Containers") or []
    if primary is not None and several:
        raise validation_exception("Both PrimaryContainer and Containers are specified. Please specify only one of them.")
    if primary is None and not several:
        raise validation_exception("Neither PrimaryContainer nor Containers is specified. Please specify one of them.")
    if is_direct(request) and len(several) < 2:
        raise validation_exception(
            "InferenceExecutionConfig.Mode is Direct, which needs at least two containers in Containers: "
            f"there {'is 1' if several or primary else 'are none'}."
        )
    if len(several) > 1:
        _check_several(several, direct=is_direct(request))
    return several or [primary]


def _check_several(containers: list[dict[str, Any]], *, direct: bool) -> None:
    names = [container.get("ContainerHostname") for container in containers]
    missing = [f"Containers.{number}" for number, name in enumerate(names, 1) if not name]
    if missing and direct:
        raise validation_exception(
            "InferenceExecutionConfig.Mode is Direct: every container needs a ContainerHostname. "
            f"It is missing in {', '.join(missing)}."
        )
    if missing and len(missing) < len(names):
        raise validation_exception(
            "Either all containers have a ContainerHostname, or none has: "
            f"{', '.join(name for name in names if name)} stand beside {', '.join(missing)} without one."
        )
    for name in names:
        if name and [other for other in names if other and other.lower() == name.lower()] != [name]:
            raise validation_exception(f'ContainerHostname "{name}" is not unique within Containers.')
    many = [f"Containers.{number}" for number, each in enumerate(containers, 1) if each.get("Mode") == "MultiModel"]
    if direct and many:
        raise validation_exception(
            "InferenceExecutionConfig.Mode is Direct: a multi-model container cannot be among the containers "
            f"({many[0]}.Mode is MultiModel)."
        )
    if len(many) > 1:
        raise validation_exception(
            "At most one of the containers of a pipeline can be a multi-model container: "
            f"Mode is MultiModel in {', '.join(many)}."
        )


def direct_is_not_asynchronous(model: str) -> AwsError:
    """InvokeEndpointAsync has no TargetContainerHostname."""
    return validation_exception(
        f'The containers of model "{model}" are invoked directly (InferenceExecutionConfig.Mode is Direct), which an endpoint '
        "with an AsyncInferenceConfig cannot do: InvokeEndpointAsync has no TargetContainerHostname."
    )
