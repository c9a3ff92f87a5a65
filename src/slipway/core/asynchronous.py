"""Asynchronous inference as values: what a request is, the states it goes through, what is claimed and what became of it.

A request is queued, then claimed under a lease (a fencing token that each claim changes), then settled once: every other
settlement of it is void. Only control writes states; dispatchers claim and settle over the link (design.md 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["queued", "running", "succeeded", "failed", "expired", "cancelled"]
QUEUED: State = "queued"
RUNNING: State = "running"
SUCCEEDED: State = "succeeded"
FAILED: State = "failed"
EXPIRED: State = "expired"
CANCELLED: State = "cancelled"
TERMINAL = frozenset({SUCCEEDED, FAILED, EXPIRED, CANCELLED})

INLINE_BODY = 128_000
"""Bytes of an inline Body (hosting.md 4.2)."""
INCLUDED_BODY = 128 * 1024
"""Bytes of an answer that a notification includes at most (hosting.md 4.1)."""
TTL_SECONDS = 21_600
TIMEOUT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class AsyncOptions:
    """An endpoint configuration's AsyncInferenceConfig (hosting.md 4.1)."""

    output_path: str
    """`s3://bucket/prefix`, no slash at its end."""
    failure_path: str | None = None
    success_topic: str | None = None
    error_topic: str | None = None
    include_success: bool = False
    """The success notification holds the answer, if it is short enough."""
    include_error: bool = False
    max_concurrent: int = 0
    """Requests in an instance's container at a time; 0: one for each worker of ours, four for a foreign container."""


@dataclass(frozen=True, slots=True)
class AcceptRequest:
    """One InvokeEndpointAsync, its caller proven and its members checked by the gateway; exactly one of input and body."""

    account: str
    region: str
    endpoint: str
    """Name, as called."""
    input_location: str | None = None
    body: bytes | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    inference_id: str | None = None
    ttl: int = TTL_SECONDS
    timeout: int = TIMEOUT_SECONDS
    filename: str | None = None
    extension: str | None = None
    """S3OutputPathExtension."""
    token: str | None = None
    """X-Slipway-Idempotency-Token (design.md 5)."""


@dataclass(frozen=True, slots=True)
class AcceptAnswer:
    """Durable when it is sent; or an error (`code` set)."""

    inference_id: str = ""
    output_location: str = ""
    failure_location: str | None = None
    code: str | None = None
    message: str = ""
    status: int = 202


@dataclass(frozen=True, slots=True)
class Staged:
    """An object that is written whole and durable, but not yet visible: committing the settlement makes it so."""

    bucket: str
    key: str
    size: int
    etag: str
    content_type: str
    data: bytes | None = None
    """Content that goes into the row."""
    segments: tuple[tuple[str, int, int], ...] = ()
    """Blob, offset, length; embedded store only."""
    attempt_key: str | None = None
    """External store only: where it lies until it is published under `key`."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request as a dispatcher gets it, to be executed (or, with `publish`, only published) under its lease."""

    id: int
    lease: int
    account: str
    region: str
    endpoint: str
    inference_id: str
    timeout: int
    """Seconds for the container."""
    attempt: int
    """1 for the first."""
    received: float
    expires: float
    output_location: str
    input_location: str | None = None
    body: bytes | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    publish: Staged | None = None


OutcomeKind = Literal["succeeded", "failed", "lost", "released", "published"]
"""`lost`: the worker died under it, another attempt may succeed; `released`: it was never sent to a container.

With an external store `succeeded` (its `staged` has an `attempt_key`) wins the decision but ends nothing: the winner publishes
under the same lease, and then settles once more with `published`, which makes the state and sends the notification. Whoever
claims a request with `publish` set does the same two last steps.
"""

CauseKind = Literal["", "model-error", "timeout", "no-answer", "too-large", "download", "upload"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one of several containers took for a request (containers.md 6.3)."""

    container: str
    seconds: float
    waited: float
    """Seconds before it began, from when it was to have the request."""
    status: int
    """Its own; 0: it did not answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a claimed request: a dispatcher's word, void unless its lease is the newest."""

    id: int
    lease: int
    kind: OutcomeKind
    cause_kind: CauseKind = ""
    cause: str = ""
    """One or a few sentences for the failure object, the notification and the status."""
    status: int = 0
    """The container's."""
    content_type: str = ""
    staged: Staged | None = None
    answer: bytes | None = None
    """The container's answer, where a notification may include it or a failure object holds it (INCLUDED_BODY at most)."""
    variant: str = ""
    instance: str = ""
    started: float | None = None
    """Epoch seconds when it was handed to the container; None: it was not."""
    finished: float = 0.0
    download_seconds: float | None = None
    model_seconds: float | None = None
    upload_seconds: float | None = None
    containers: tuple[Spent, ...] = ()
    """Of a pipeline, those that began."""
