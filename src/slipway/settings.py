"""Every setting, grouped, frozen; built in `cli` and nowhere else, handed to roles as values.

Roles receive them as JSON on standard input (never in arguments or the environment: they hold paths and, for an external
store, credentials).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Payload, time and count limits; `profile()` gives the named sets of design.md 4."""

    body_bytes: int = 25 * 1024 * 1024
    """Real-time request body."""
    response_bytes: int = 25 * 1024 * 1024
    """Real-time response body."""
    between_bytes: int = 5 * 1024 * 1024
    """What one container of a pipeline answers to the next."""
    invoke_seconds: float = 60.0
    stream_seconds: float = 480.0
    """InvokeEndpointWithResponseStream, whole answer."""
    start_seconds: float = 480.0
    """From a container's start to its first good ping; ContainerStartupHealthCheckTimeoutInSeconds replaces it."""
    custom_attributes: int = 1024
    """Bytes of X-Amzn-SageMaker-Custom-Attributes."""
    bodies_in_memory: int = 256 * 1024 * 1024
    """Bytes of request bodies that one gateway holds at a time; beyond it 503."""
    waiting_per_variant: int = 1000
    """Requests of one variant that wait for a worker; beyond it 503 (ServiceUnavailable)."""
    capacity_wait_seconds: float = 15.0
    """How long a request waits while a variant has no ready replica."""
    async_body_bytes: int = 1024**3
    """Asynchronous input and output objects."""
    async_timeout_seconds: int = 3600
    """Most that InvocationTimeoutSeconds may be."""
    async_queue: int = 2_000_000
    """Requests of one endpoint that wait or run; beyond it 503 (ServiceUnavailable)."""
    async_attempts: int = 3
    """Attempts whose worker died under them, before a request fails as a dead letter."""
    async_kept_seconds: float = 7 * 86_400.0
    """How long the record of a settled request is kept, for status and replay."""
    model_wait_seconds: float = 58.0
    """How long a request waits for its model to be loaded; then 429 (ModelNotReadyException), and the load goes on. AWS has
    60 s, at which boto3 itself stops reading: it would meet a timeout of its own in place of the error that it retries."""
    model_load_seconds: float = 360.0
    """One load of a multi-model endpoint's model, download included."""
    model_memory_share: float = 0.8
    """Of an instance's memory: what the models loaded in it may take together."""
    archive_bytes: int = 64 * 1024**3
    """Unpacked size of a model archive."""
    archive_ratio: int = 200
    """Unpacked bytes allowed for one packed byte (beyond the first 256 MiB unpacked)."""
    archive_entries: int = 200_000
    enforce_quotas: bool = True


def profile(name: str) -> Limits:
    """`aws` (today's figures), `aws-2022` (6 MB real time), `off` (lifts what only AWS's business needs)."""
    if name == "aws":
        return Limits()
    if name == "aws-2022":
        return Limits(body_bytes=6 * 1024 * 1024, response_bytes=6 * 1024 * 1024, async_timeout_seconds=900)
    if name == "off":
        return Limits(
            body_bytes=1024**3,
            response_bytes=1024**3,
            between_bytes=1024**3,
            invoke_seconds=3600.0,
            stream_seconds=3600.0,
            start_seconds=3600.0,
            custom_attributes=8192,
            enforce_quotas=False,
        )
    raise ValueError(f"no limit profile {name!r}: choose aws, aws-2022 or off")


@dataclass(frozen=True, slots=True)
class ExternalS3:
    """A foreign S3 that holds the objects instead of the embedded one."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """An access key that the operator chose, beside the one that the first start makes."""

    id: str
    secret: str
    account: str


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: str
    """Everything durable: database, objects, logs, keys."""
    run_dir: str
    """Sockets and replicas' run folders; emptied at every start, mode 0700, a short path."""
    cache_dir: str
    """Built environments and uv's cache; shared between data directories."""
    host: str = "127.0.0.1"
    port: int = 4566
    auth: str = "sigv4"
    """`sigv4`, or `none` (loopback only)."""
    database_url: str | None = None
    """None: SQLite in the data directory; else `postgresql://…`."""
    account: str = "123456789012"
    region: str = "us-east-1"
    """For callers who name none."""
    keys: tuple[ConfiguredKey, ...] = ()
    """Further access keys; accounts see nothing of each other."""
    time_scale: float = 1.0
    scale_from_zero: str = "arrival"
    """`arrival`: an asynchronous endpoint without instances gets some as soon as a request is there; `alarm`: as on AWS."""
    tls_cert: str | None = None
    tls_key: str | None = None
    limits: Limits = field(default_factory=Limits)
    external_s3: ExternalS3 | None = None
    gateways: int = 1
    dispatchers: int = 1
    """Processes that carry asynchronous requests to replicas."""
    sandbox: str = "auto"
    """`auto`: bubblewrap where the probe passes, with a warning where not; `required`: refuse to start without; `off`."""
    replica_memory_bytes: int = 0
    """Upper bound of a replica's memory beside its instance type's; 0: none."""
    gpu_sharing: int = 1
    """Instances that one GPU may belong to."""
    describe_wait_seconds: float = 5.0
    """How long a Describe of something in transition may hold its answer (design.md 4, "waiting")."""
    stop_grace_seconds: float = 2.0
    """How long our own host has to stop; foreign containers get 30 s."""
    commit_group: int = 1000
    """Writes, and requests accepted for asynchronous inference, that share one commit at most."""
    notify_allow: tuple[str, ...] = ()
    """Networks, addresses and host names that notifications may go to beside public addresses."""
    log_level: str = "info"

    @property
    def endpoint_url(self) -> str:
        """Where clients reach the gateway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """It listens on loopback alone: whoever can call it is on this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def local_url(self) -> str:
        """Where a process of this machine reaches the gateway, also when it listens on all addresses."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host)  # noqa: S104 - compared, not bound
        if anywhere is None:
            return self.endpoint_url
        return f"{'https' if self.tls_cert else 'http'}://{anywhere}:{self.port}"

    @property
    def control_socket(self) -> str:
        """HTTP: every AWS call but the invocations."""
        return f"{self.run_dir}/control.sock"

    @property
    def link_socket(self) -> str:
        """Control's end of the link: route feed and acknowledgements, counters."""
        return f"{self.run_dir}/link.sock"

    @property
    def keeper_socket(self) -> str:
        """The keeper's end of the link: start, stop, list replicas."""
        return f"{self.run_dir}/keeper.sock"

    @property
    def routes_file(self) -> str:
        """The last route table, mode 0600, for a gateway that starts while control is down."""
        return f"{self.run_dir}/routes.json"

    @property
    def metrics_token_file(self) -> str:
        """What Prometheus must show, mode 0600 (`services.slipway_metrics`)."""
        return f"{self.data_dir}/metrics-token"

    @property
    def logs_dir(self) -> str:
        return f"{self.data_dir}/logs"
