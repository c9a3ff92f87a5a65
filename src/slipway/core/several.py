"""An instance of several containers as one: ready when all of them are, failed when one is (containers.md 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slipway.core.replicas import Failure, ReplicaState

BROKEN = "broken"
"""Phase: one container has ended while others run. The instance is to be stopped."""
SIBLINGS_SECONDS = 10.0
"""After a container has failed at the start, so long the others may still come up, or fail: the reason names all that did."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What is known of an instance; `phase` as in ReplicaState, or `planned`, or BROKEN."""

    phase: str
    failure: Failure | None = None
    missed_pings: int = 0
    undecided: bool = False
    """BROKEN, and others are still starting."""


def whole(states: Sequence[ReplicaState | None], names: Sequence[str]) -> Whole:
    """The instance whose containers (`names`, in order) are in these states; None: the keeper does not have it."""
    known = [state for state in states if state is not None]
    if not known:
        return Whole("planned")
    failure = _failure(states, names)
    phases = {state.phase for state in known}
    missed = max(state.missed_pings for state in known)
    if phases == {"exited"}:
        return Whole("exited", failure)
    if "exited" in phases:
        if phases == {"exited", "stopping"}:
            return Whole("stopping", failure)
        return Whole(BROKEN, failure, undecided=not phases.isdisjoint(("preparing", "starting")))
    if "stopping" in phases:
        return Whole("stopping")
    if len(known) < len(states):
        return Whole("planned")
    for phase in ("preparing", "starting", "unready"):
        if phase in phases:
            return Whole(phase, None, missed)
    return Whole("ready")


def _failure(states: Sequence[ReplicaState | None], names: Sequence[str]) -> Failure | None:
    """Of the containers that ended with one: the first in order, and with it the others."""
    found = [
        replace(state.failure, container=name)
        for state, name in zip(states, names, strict=True)
        if state is not None and state.failure is not None
    ]
    return replace(found[0], others=tuple(found[1:])) if found else None
