"""An endpoint as the store keeps it: what a deployment consists of, what is wanted now, and what control has reached.

A deployment is a snapshot of the endpoint configuration and its models, so that deleting those (allowed on AWS) leaves running
endpoints able to replace an instance. Services write `Wanted` and the deployment, control writes `Reached`; a generation
joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.core.asynchronous import AsyncOptions
from slipway.core.endpoints import Fleet, Goal
from slipway.core.models import Models
from slipway.core.transforms import TransformOptions


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One of several containers of a variant's instances."""

    name: str
    """Its hostname, or `container-1`, `container-2`, … by position."""
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    model_data: str | None = None
    model_data_archive: bool = True
    models: Models | None = None


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One production variant with the container that serves it, or with several."""

    name: str
    instance_type: str
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    model_data: str | None = None
    """The address as the user gave it; None: a container that brings its own model."""
    model_data_archive: bool = True
    """False: one object that is not to be unpacked."""
    isolated: bool = False
    least_outstanding: bool = False
    download_seconds: float | None = None
    start_seconds: float | None = None
    models: Models | None = None
    """Set for a multi-model container, which has no `model_data`."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """Members of the variant that DescribeEndpoint gives back as they are."""
    mode: str = ""
    """How several containers are called: `Serial` or `Direct`; empty: there is one."""
    containers: tuple[ContainerSpec, ...] = ()
    """Two or more; empty: the members above tell of the only one."""

    def with_container(self, container: ContainerSpec) -> VariantSpec:
        """As if that container were the only one."""
        return replace(
            self,
            image=container.image,
            environment=container.environment,
            model_data=container.model_data,
            model_data_archive=container.model_data_archive,
            models=container.models,
            mode="",
            containers=(),
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one UpdateEndpoint (or the CreateEndpoint) asked for. Counts and weights may change later without a new one."""

    number: int
    """The fleet's number, counted up in one endpoint's life."""
    config: str
    """Name of the endpoint configuration."""
    variants: tuple[VariantSpec, ...]
    initial: tuple[Goal, ...]
    started: float
    shown: Mapping[str, Any] = field(default_factory=dict)
    """Members of the configuration that DescribeEndpoint gives back."""
    asynchronous: AsyncOptions | None = None
    """Set where the configuration has an AsyncInferenceConfig: the endpoint answers InvokeEndpointAsync alone."""
    transform: TransformOptions | None = None
    """Set for the instances of a transform job (`control.transforms`)."""

    def variant(self, name: str) -> VariantSpec:
        return next(v for v in self.variants if v.name == name)


@dataclass(frozen=True, slots=True)
class Asked:
    """`Resource.spec` of an endpoint."""

    deployment: Deployment
    deployment_config: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`Resource.desired` of an endpoint."""

    goals: tuple[Goal, ...]
    deleting_since: float | None = None
    changed: float = 0.0
    """When the goals, or the deployment, last changed."""


@dataclass(frozen=True, slots=True)
class DeployedImage:
    specified: str
    resolved: str
    at: float


@dataclass(frozen=True, slots=True)
class Reached:
    """`Resource.observed` of an endpoint."""

    serving: Deployment | None = None
    goals: tuple[Goal, ...] = ()
    """The counts and weights that were last InService."""
    images: Mapping[str, DeployedImage] = field(default_factory=dict)
    """By `image_key`."""
    abandoned: int | None = None
    """A generation whose deployment failed and was rolled back: what serves is wanted instead."""


def target(asked: Asked, wanted: Wanted, reached: Reached, generation: int) -> tuple[Deployment, tuple[Goal, ...]]:
    """The deployment and the goals to be reached: those asked for, or what serves if they were abandoned."""
    if reached.serving is not None and reached.abandoned == generation:
        return reached.serving, reached.goals
    return asked.deployment, wanted.goals


def image_key(variant: VariantSpec, index: int) -> str:
    """Under which `Reached.images` has a container's image: the variant's name, and with several containers the position."""
    return f"{variant.name}/{index + 1}" if variant.containers else variant.name


def fleet(deployment: Deployment, goals: tuple[Goal, ...]) -> Fleet:
    return Fleet(deployment.number, goals)
