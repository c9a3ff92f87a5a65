"""From a variant of a deployment to the ReplicaSpec that a keeper is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from slipway.core.deployments import VariantSpec
from slipway.core.limits import InstanceType, container_size, gpu_count
from slipway.core.replicas import Artifact, Failure, ReplicaSpec, container_id
from slipway.names import S3Location, endpoint_log_group, parse_s3_uri
from slipway.store.resources import ReplicaRow

MODEL_DIR = "/opt/ml/model"
CODE_DIR = "/opt/ml/code"
SUBMIT_DIRECTORY = "SAGEMAKER_SUBMIT_DIRECTORY"
DOWNLOAD_SECONDS = 3600.0
"""AWS's default for fetching and unpacking model data."""


class ObjectHead(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...


class Missing(Exception):
    """An object that the replica needs is not there; `failure` says so to the user."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Place:
    """Whose endpoint it is for."""

    arn: str
    name: str
    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Making:
    """What specs are made with; the same for all endpoints."""

    endpoint_url: str
    """Where a container on this machine reaches the gateway."""
    machine: InstanceType
    memory_bound: int
    start_seconds: float
    presign: Callable[[str, str, str, int], str]
    """`presign(account, bucket, key, expires in seconds)`: path and query to GET."""


class Part(NamedTuple):
    """One container of an instance: `variant` tells of it as if it were the only one."""

    id: str
    instance: str
    variant: VariantSpec
    container: str = "primary"
    position: int = 0


def parts(variant: VariantSpec, instance: str) -> list[Part]:
    """What an instance consists of."""
    if not variant.containers:
        return [Part(instance, instance, variant)]
    return [
        Part(container_id(instance, number), instance, variant.with_container(each), each.name, number)
        for number, each in enumerate(variant.containers, 1)
    ]


def row_spec(instance: str, made: Sequence[ReplicaSpec]) -> ReplicaSpec | dict[str, object]:
    """What the store keeps of an instance: the spec of its container; with several, what they have in common."""
    first = made[0]
    if not first.position:
        return first
    return {
        "id": instance,
        "instance": instance,
        "account": first.account,
        "region": first.region,
        "start_timeout": first.start_timeout,
        "fetch_timeout": first.fetch_timeout,
        "platform": dict(first.platform),
        "containers": [spec.container for spec in made],
    }


def containers_of(row: ReplicaRow) -> tuple[str, ...]:
    """Names of the containers of an instance that has several."""
    return tuple(row.spec["containers"]) if isinstance(row.spec, dict) and "containers" in row.spec else ()


class Data(NamedTuple):
    """Something to be fetched before the container starts."""

    target: str
    uri: str
    archive: bool


def data_of(variant: VariantSpec) -> list[Data]:
    found = []
    if variant.model_data:
        found.append(Data(MODEL_DIR, variant.model_data, variant.model_data_archive))
    submit = variant.environment.get(SUBMIT_DIRECTORY, "")
    if submit.startswith("s3://"):
        found.append(Data(CODE_DIR, submit, True))
    return found


def location(uri: str) -> S3Location:
    """Raises Missing for what names no object."""
    place = parse_s3_uri(uri)
    if place is None or not place.key:
        raise Missing(Failure("fetch-missing", f"{uri} does not name an object in S3"))
    return place


def artifact(making: Making, account: str, wanted: Data, head: ObjectHead | None, fetch_seconds: float) -> Artifact:
    """Raises Missing when there is no such object."""
    place, uri = location(wanted.uri), wanted.uri
    if head is None:
        message = f"There is no object {uri}"
        raise Missing(Failure("fetch-missing", message, mend="Upload it again, then create the endpoint again"))
    url = making.presign(account, place.bucket, place.key, int(fetch_seconds) + 600)
    name = "" if wanted.archive else place.key.rsplit("/", 1)[-1]
    return Artifact(wanted.target, uri, url, head.etag, head.size, wanted.archive, name)


def replica_spec(
    making: Making,
    place: Place,
    part: Part,
    token: str,
    artifacts: tuple[Artifact, ...],
    *,
    asynchronous: bool = False,
) -> ReplicaSpec:
    """Containers of one instance share its credentials, and each may use all of its memory and CPUs."""
    variant, instance = part.variant, part.instance
    size = container_size(variant.instance_type, making.machine, making.memory_bound)
    return ReplicaSpec(
        id=part.id,
        instance=instance,
        owner=place.arn,
        endpoint=place.name,
        variant=variant.name,
        container=part.container,
        image=variant.image,
        environment=variant.environment,
        platform={
            **platform(making, place, instance, None if variant.isolated else token),
            **({"SAGEMAKER_MULTI_MODEL": "true"} if variant.models is not None else {}),
        },
        artifacts=artifacts,
        account=place.account,
        region=place.region,
        log_group=endpoint_log_group(place.name),
        log_stream=f"{variant.name}/{instance}" + (f"/{part.container}" if part.position else ""),
        isolated=variant.isolated,
        memory_bytes=size.memory_bytes,
        cpus=size.cpus,
        gpus=gpu_count(variant.instance_type),
        start_timeout=variant.start_seconds or making.start_seconds,
        fetch_timeout=variant.download_seconds or DOWNLOAD_SECONDS,
        asynchronous=asynchronous,
        position=part.position,
        models=variant.models.prefix if variant.models is not None else "",
    )


def platform(making: Making, place: Place, id: str, token: str | None) -> Mapping[str, str]:
    """Variables that AWS's platform sets (containers.md 1.9), and how `boto3` inside finds us; without `token`: isolated."""
    found = {"AWS_REGION": place.region, "AWS_DEFAULT_REGION": place.region}
    if token is not None:
        found |= {
            "AWS_ENDPOINT_URL": making.endpoint_url,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{making.endpoint_url}/_slipway/credentials/{id}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
        }
    return found
