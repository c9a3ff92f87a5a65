"""Multi-model endpoints as values: what a request names, which object that is, what a replica is asked and tells back.

A model is known to a container by 32 hex digits of its address *and* its version (ETag): a changed object is another model, so
that the new one is loaded beside the old one, and no request has to wait or to fail (containers.md 5.2 leaves the name to us).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.core.replicas import Artifact

MODELS_DIR = "/opt/ml/models"
"""Where a container sees models, each in `<hash>/model`."""
MAX_TARGET = 1024

LOADED, MISSING, INVALID, FAILED, LATE = "loaded", "missing", "invalid", "failed", "late"
"""How a request for a model ends: it is there; no such object; the name or the archive is none; the container refused it;
nobody could say in time."""

WHY_UNLOADED = {
    "memory": "its memory was needed",
    "replaced": "a newer version is loaded",
    "disabled": "ModelCacheSetting is Disabled",
    "asked": "it was asked for",
    "gone": "its process ended",
}
"""In words, by `ModelEvent.why`."""

_ESCAPED = re.compile(r"%(?:2e|2f|5c|25|00)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Models:
    """What makes a container a multi-model one."""

    prefix: str
    """`s3://bucket/prefix/`: models lie anywhere below it."""
    account: str = ""
    """Whose objects they are."""
    cached: bool = True
    """ModelCacheSetting: False unloads a model, and deletes its files, once it has answered."""


@dataclass(frozen=True, slots=True)
class ModelAsk:
    """A gateway wants a model of a replica: begin to load it, or say that it is there."""

    replica: str
    models: Models
    target: str
    uses: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """What this gateway knows of the replica's other models, where the replica's host does not count for itself: by hash,
    seconds since the last use and requests in flight."""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """Where the model is; or why it is not."""

    state: str
    hash: str = ""
    address: str = ""
    protocol: str = ""
    """As of `core.routing.Replica`."""
    message: str = ""
    status: int = 0
    """Of FAILED: what the container answered; 0: nothing."""


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """Control has found the object: what the keeper is asked."""

    replica: str
    target: str
    hash: str
    artifact: Artifact
    uses: Mapping[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelUnload:
    replica: str
    hash: str
    why: str
    """`disabled` (its files go as well), `asked`."""
    files: bool = False


@dataclass(frozen=True, slots=True)
class ModelPin:
    """Of an endpoint's variant, whichever instances it has at the moment."""

    owner: str
    """The endpoint's ARN."""
    variant: str
    target: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something happened to a model beside a replica; for metrics, logs and gateways."""

    kind: str
    """`downloaded`, `loaded`, `unloaded`, `failed`."""
    replica: str
    account: str
    region: str
    endpoint: str
    variant: str
    target: str
    hash: str
    seconds: float
    why: str = ""
    """Of `unloaded`: `memory`, `replaced`, `disabled`, `asked`, `gone` (its process ended by itself)."""


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """One model of a replica, as `slipway models` shows it."""

    target: str
    hash: str
    etag: str
    state: str
    """`downloading`, `loading`, `loaded`."""
    bytes: int
    """Private memory of its process, as measured; of a foreign container's: its unpacked files."""
    uses: int
    idle: float
    """Seconds since it was last used, or loaded."""
    busy: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class Eviction:
    at: float
    """Epoch seconds."""
    target: str
    hash: str
    bytes: int
    uses: int
    why: str


@dataclass(frozen=True, slots=True)
class ModelsSeen:
    """All models of one replica."""

    replica: str
    budget: int
    """Bytes that loaded models may take together."""
    used: int
    measured: bool
    """False: a foreign container, which says itself when its memory is full (507)."""
    models: tuple[ModelSeen, ...]
    evictions: tuple[Eviction, ...]
    """Newest last."""
    pinned: tuple[str, ...] = ()


def target_fault(target: str) -> str | None:
    """What is wrong with a TargetModel: it must name an object below the prefix, in one reading only. None: nothing."""
    if not target:
        return "it is empty"
    if len(target) > MAX_TARGET:
        return f"it is longer than {MAX_TARGET} characters"
    if any(ord(char) < 32 or ord(char) == 127 for char in target):
        return "it holds control characters"
    if target.startswith("/") or "://" in target:
        return "it must be relative to the prefix"
    if "\\" in target or _ESCAPED.search(target):
        return "it holds an encoded or a reversed separator"
    if any(part in ("", ".", "..") for part in target.split("/")):
        return "a part of it is empty, `.` or `..`"
    return None


def model_hash(prefix: str, target: str, etag: str) -> str:
    """32 hex digits: the same for one version of one object, whoever asks."""
    return hashlib.sha256(f"{prefix}\0{target}\0{etag}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ModelMoved:
    """A newer version of a model that a replica has is loaded: requests are to go there."""

    replica: str
    target: str
    answer: ModelAnswer


@dataclass(frozen=True, slots=True)
class ModelDone:
    """ModelCacheSetting Disabled: a gateway has no more requests for it."""

    replica: str
    hash: str
