"""Messages of asynchronous inference between gateways, dispatchers and control.

| kind | from, to | payload → answer |
| --- | --- | --- |
| ACCEPT | gateway → control, request | tuple[AcceptRequest, …] → tuple[AcceptAnswer, …], in order, once committed |
| CLAIM | dispatcher → control, request | Claim → tuple[Claimed, …], at once, perhaps empty |
| SETTLE | dispatcher → control, request | tuple[Outcome, …] → tuple[bool, …], once committed; False: an older lease |
| STARTED | dispatcher → control, notification | tuple[Started, …] |
| HEARTBEAT | dispatcher → control, request | Heartbeat → tuple[int, …]: ids whose lease is lost (stop working on them) |
| WAKE | control → dispatcher, notification | tuple[endpoint key, …] with work that may be claimed |
| CANCEL | control → dispatcher, notification | tuple[int, …]: ids of running requests whose answer nobody wants |
"""

from __future__ import annotations

from dataclasses import dataclass

ACCEPT = "async-accept"
CLAIM = "async-claim"
SETTLE = "async-settle"
STARTED = "async-started"
HEARTBEAT = "async-heartbeat"
WAKE = "async-wake"
CANCEL = "async-cancel"

LEASE_SECONDS = 15.0
"""A claim's lease: far more than control's restart takes. Renewed by HEARTBEAT every third of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`holder` names the dispatcher process for as long as it lives (`pid.incarnation`)."""

    holder: str
    endpoint: str
    """`core.routing.endpoint_key`."""
    count: int


@dataclass(frozen=True, slots=True)
class Started:
    """A container has the request; for the status alone."""

    id: int
    lease: int
    at: float
    variant: str
    instance: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    holder: str
    held: tuple[tuple[int, int], ...]
    """Id and lease of each request that it works on."""
