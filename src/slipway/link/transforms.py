"""Messages of batch transform between dispatchers and control.

| kind | from, to | payload → answer |
| --- | --- | --- |
| CLAIM | dispatcher → control, request | Claim → tuple[ClaimedObject, …], at once, perhaps empty |
| SETTLE | dispatcher → control, request | tuple[ObjectOutcome, …] → tuple[bool, …], once committed; False: an older lease |
| POINT | dispatcher → control, request | Reached → bool: the durable point is committed |
| HEARTBEAT | dispatcher → control, request | Heartbeat → tuple[int, …]: ids whose lease is lost (stop working on them) |
| PARAMETERS | dispatcher → control, request | Parameters → None: what holds for the job, for its log |
| WAKE | control → dispatcher, notification | tuple[job ARN, …] with objects that may be claimed |
| CANCEL | control → dispatcher, notification | tuple[int, …]: ids of objects that nobody wants any more |
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.core.transforms import Effective, Point

CLAIM = "transform-claim"
SETTLE = "transform-settle"
POINT = "transform-point"
HEARTBEAT = "transform-heartbeat"
PARAMETERS = "transform-parameters"
WAKE = "transform-wake"
CANCEL = "transform-cancel"

LEASE_SECONDS = 15.0
"""Far more than control's restart takes. Renewed by HEARTBEAT every third of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`holder` names the dispatcher process for as long as it lives."""

    holder: str
    job: str
    count: int


@dataclass(frozen=True, slots=True)
class Reached:
    id: int
    lease: int
    point: Point


@dataclass(frozen=True, slots=True)
class Held:
    """An object that is being worked on, and how far it is."""

    id: int
    lease: int
    job: str
    records: int
    bytes_in: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    holder: str
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    job: str
    instance: str
    found: Effective
