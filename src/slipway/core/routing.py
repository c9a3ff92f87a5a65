"""What a gateway knows: an immutable, versioned table of endpoints and keys; and the choice of variant and replica.

Published whole by control (design.md 2, "Routes"). Values and pure choices: chance is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from slipway.core.asynchronous import AsyncOptions
from slipway.core.models import Models
from slipway.core.replicas import container_id
from slipway.core.transforms import TransformOptions

SERIAL, DIRECT = "Serial", "Direct"


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the containers that every instance of a variant has, in the model's order."""

    name: str
    """Its hostname, or `container-1`, `container-2`, … by position."""
    models: Models | None = None
    """Set for a multi-model container: a request's TargetModel is for this one."""

    @property
    def multi_model(self) -> bool:
        return self.models is not None


@dataclass(frozen=True, slots=True)
class Container:
    """One running host of one of several containers of an instance."""

    protocol: str
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """One instance. Addresses are `unix:/path` or `tcp:host:port`."""

    id: str
    instance: str
    """The instance's id as log streams show it (`i-…`)."""
    protocol: str
    """`frames`: workers of slipway_host, frames and HTTP/1.1 on each worker's socket; `http`: a foreign container."""
    workers: tuple[str, ...]
    """One address for each worker that takes one request at a time; a foreign container has one address."""
    containers: tuple[Container, ...] = ()
    """Of an instance with several, as the variant's `stages`; `protocol` and `workers` say nothing then."""


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    weight: float
    replicas: tuple[Replica, ...]
    container: str = "primary"
    """The word after "from" in a ModelError: the container's hostname, else `primary`."""
    least_outstanding: bool = False
    mode: str = ""
    """SERIAL (a pipeline), DIRECT (the caller names the container); empty: one container."""
    stages: tuple[Stage, ...] = ()
    """Of a variant of several containers."""
    models: Models | None = None
    """Set for a multi-model container: requests name their model; which replica has which is not in the table."""
    position: int = 0
    """Of `of_stage`: which one it is, from 1 on."""

    def alone(self, replica: Replica) -> Variant:
        """As if there were no other instance."""
        return replace(self, replicas=(replica,))

    def of_stage(self, index: int) -> Variant:
        """As if that container were the only one of each instance."""
        replicas = tuple(
            Replica(r.id, r.instance, r.containers[index].protocol, r.containers[index].workers) for r in self.replicas
        )
        stage = self.stages[index]
        return Variant(
            self.name,
            self.weight,
            replicas,
            stage.name,
            self.least_outstanding,
            models=stage.models,
            position=index + 1,
        )

    def model_parts(self) -> list[tuple[Models, list[str]]]:
        """Its multi-model containers, each with the keeper's ids of those that run."""
        if self.models is not None:
            return [(self.models, [replica.id for replica in self.replicas])]
        return [
            (stage.models, [container_id(replica.id, number) for replica in self.replicas])
            for number, stage in enumerate(self.stages, 1)
            if stage.models is not None
        ]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that can be invoked (InService, Updating, SystemUpdating, RollingBack); others are not in the table."""

    account: str
    region: str
    name: str
    """In the caller's case: runtime calls must match it (hosting.md 2.1)."""
    variants: tuple[Variant, ...]
    asynchronous: AsyncOptions | None = None
    """Set for an endpoint that answers InvokeEndpointAsync alone."""
    transform: TransformOptions | None = None
    """Set for the instances of a transform job: dispatchers alone call them."""


@dataclass(frozen=True, slots=True)
class Key:
    """An access key or session credential; secrets live here in memory only."""

    id: str
    secret: str
    account: str
    principal: str
    """ARN of who calls, e.g. `arn:aws:iam::123456789012:root` or an assumed role's."""
    token: str | None = None
    """The session token that must come with it; None for long-lived keys."""
    expires: float | None = None
    """Epoch seconds."""
    services: tuple[str, ...] = ()
    """Names of the services it may call (`s3`, `sagemaker-runtime`, `logs`); empty: all."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    version: int
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    """By `endpoint_key(account, region, name)`."""
    keys: Mapping[str, Key] = field(default_factory=dict)
    """By access key id."""


def endpoint_key(account: str, region: str, name: str) -> str:
    return f"{account}/{region}/{name}"


def choose_variant(variants: Sequence[Variant], roll: float) -> Variant | None:
    """The variant that `roll` (0 ≤ roll < 1) falls on, by weight; None when every weight is 0 (hosting.md 2.8)."""
    total = sum(v.weight for v in variants)
    if total <= 0:
        return None
    mark = roll * total
    for variant in variants:
        mark -= variant.weight
        if mark < 0:
            return variant
    return next(v for v in reversed(variants) if v.weight > 0)
