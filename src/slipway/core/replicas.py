"""What control asks of a keeper, and what a keeper tells back. Values only; `link` carries them as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Artifact:
    """Model data or code, to be fetched and (an archive) unpacked before the container starts."""

    target: str
    """Where the container sees it: `/opt/ml/model`, `/opt/ml/code`, `/opt/ml/additional-model-data-sources/<channel>`."""
    source: str
    """The S3 URI, for messages."""
    url: str
    """A presigned path and query (`/bucket/key?X-Amz-…`) to GET at the object service's address."""
    etag: str
    """Identifies the content; with `source` it is the cache's key."""
    size: int
    archive: bool = True
    """False: one file, stored under `target` by `name`."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One container of one instance. A keeper starts it once per `id`; asking again is the same request."""

    id: str
    """Unique for ever, `i-` and 17 hex digits (plus `.n` for the n-th container of a pipeline)."""
    instance: str
    owner: str
    """ARN of the endpoint (or job) it belongs to."""
    endpoint: str
    variant: str
    container: str
    """Name in messages: `primary` or the hostname."""
    image: str
    environment: Mapping[str, str]
    """The user's Environment; platform variables and credentials are `platform`."""
    platform: Mapping[str, str]
    artifacts: tuple[Artifact, ...]
    account: str
    region: str
    log_group: str
    log_stream: str
    isolated: bool = False
    memory_bytes: int = 0
    """Hard limit; 0: none."""
    cpus: int = 0
    """CPUs of the instance type; 0: all of the machine."""
    start_timeout: float = 480.0
    """Seconds from the container's start to its first good ping."""
    fetch_timeout: float = 3600.0
    gpus: int = 0
    """GPUs of the instance type."""
    asynchronous: bool = False
    """Its requests come from a dispatcher: the limits of asynchronous bodies hold, not those of real time."""
    position: int = 0
    """Among the containers of an instance with several, from 1 on; 0: it is the only one."""
    models: str = ""
    """Of a multi-model container: the prefix (`s3://bucket/prefix/`) that its models lie below."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica cannot run: enough for a FailureReason that names cause and mend."""

    kind: str
    """fetch-missing, fetch-failed, not-an-archive, hostile-archive, archive-too-large, no-model, syntax-error, import-error,
    model-fn-error, pickle-version, exited, out-of-memory, no-ping, no-serve, requirements, environment, unknown-image,
    isolation, disk-full, gpu, start-timeout, internal."""
    message: str
    """One or a few sentences, without the container's name; names cause and mend."""
    log_tail: tuple[str, ...] = ()
    exit_code: int | None = None
    signal: int | None = None
    mend: str = ""
    container: str = ""
    """Which one of an instance with several containers."""
    others: tuple[Failure, ...] = ()
    """Of the instance's other containers that failed as well."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A keeper's word on one replica. Phases go `preparing → starting → ready ⇄ unready → exited`, or `stopping → exited`."""

    id: str
    owner: str
    phase: str
    progress: str = ""
    """What is under way ("building environment scikit-learn 1.2"), for logs and the terminal."""
    protocol: str = "http"
    workers: tuple[str, ...] = ()
    """Addresses, once `ready`."""
    pid: int | None = None
    failure: Failure | None = None
    image: str = ""
    """What really runs, e.g. `scikit-learn 1.2.2 (python 3.11)`; becomes ResolvedImage."""
    missed_pings: int = 0
    notes: tuple[str, ...] = field(default=())
    """Warnings for the log, e.g. "no wheel of 1.0 for Python 3.11: nearest is 1.2.2"."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a replica uses, as its keeper measures it."""

    id: str
    account: str
    region: str
    endpoint: str
    variant: str
    cpu_seconds: float
    """Of all its processes, since it began."""
    memory_bytes: int
    memory_limit: int
    """The replica's own, else the machine's memory."""
    disk_percent: float
    """Of the file system that its files are on."""
    container: str = ""
    """Which one of an instance with several containers."""
    loaded_models: int | None = None
    """Of a multi-model replica."""


def container_id(instance: str, position: int) -> str:
    """The keeper's id of the n-th container (from 1 on) of an instance with several."""
    return f"{instance}.{position}"


def instance_of(id: str) -> str:
    """The instance that a replica is (a container of); the store's rows have its id."""
    return id.partition(".")[0]
