"""What an endpoint's next steps are: a pure function from what is wanted and what is seen to a Plan.

An endpoint has at most two fleets. The *target* is what the user asked for last, *serving* what was InService last; after a
deployment they are the same. A weights-and-capacities change keeps the fleet's number and changes its goals; UpdateEndpoint
makes a new number, whose replicas start beside the old ones. `plan` is level-triggered: it looks, returns the next actions
and is called again, so that a restart at any moment needs no memory. The old fleet is stopped only when it is out of the
route and drained; whatever is not wanted any more is always stopped (hosting.md 2.5, 2.7; design.md 1, statement 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from slipway.core.limits import restart_delay
from slipway.core.replicas import Failure
from slipway.core.several import BROKEN

CREATING: Literal["Creating"] = "Creating"
IN_SERVICE: Literal["InService"] = "InService"
UPDATING: Literal["Updating"] = "Updating"
DELETING: Literal["Deleting"] = "Deleting"
FAILED: Literal["Failed"] = "Failed"
Status = Literal["Creating", "InService", "Updating", "Deleting", "Failed"]

DELETE_SECONDS = 3.5
"""After so long a deleted endpoint is gone, whatever still stops in the background."""
WITHDRAW_SECONDS = 1.0
"""How long a deletion waits for the gateways to drop the route before it stops the replicas."""
STABLE_SECONDS = 60.0
"""A replica that has been ready for so long clears its variant's record of crashes."""
MISSED_PINGS = 3
"""So many in a row, and the replica is replaced (containers.md 1.6)."""
DEPLOYMENT_CRASHES = 3
"""So many crashes of replicas that had been ready end a deployment that is under way."""
RETRIED = frozenset({"internal", "fetch-failed"})
"""Kinds of failure at the start that are tried a second time; a death by a foreign signal is another."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One variant of a fleet: so many instances, and its share of the traffic."""

    variant: str
    weight: float
    count: int


@dataclass(frozen=True, slots=True)
class Fleet:
    number: int
    goals: tuple[Goal, ...]

    def goal(self, variant: str) -> Goal | None:
        return next((g for g in self.goals if g.variant == variant), None)


@dataclass(frozen=True, slots=True)
class Desired:
    status: Status
    """What the store says now."""
    target: Fleet
    serving: Fleet | None = None
    deleting_since: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance, as the store and the keeper know it."""

    id: str
    fleet: int
    variant: str
    phase: str
    """`planned` (in the store, the keeper has not been asked or lost it), BROKEN, or a ReplicaState's phase."""
    asked_to_stop: bool = False
    ready_since: float | None = None
    """When it was first ready; None: never yet."""
    deadline: float | None = None
    """When a replica that is still not ready is given up, should the keeper not have done so."""
    missed_pings: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RoutedVariant:
    variant: str
    weight: float
    replicas: tuple[str, ...]
    """Ids, sorted."""


Route = tuple[RoutedVariant, ...]


@dataclass(frozen=True, slots=True)
class Crashes:
    """What went wrong with one variant of one fleet, since it was last stable."""

    count: int
    last: float
    at_start: int = 0
    """How many of them never became ready."""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    replicas: tuple[Seen, ...] = ()
    route: Route | None = None
    """What was last published for this endpoint; None: it is not in the table."""
    confirmed: bool = True
    """Every gateway has the table with that route."""
    held: frozenset[str] = frozenset()
    """Ids that have been in a route, are not any more, and may still have requests in flight."""
    crashes: Mapping[tuple[int, str], Crashes] = field(default_factory=dict)
    """By fleet number and variant."""


@dataclass(frozen=True, slots=True)
class Start:
    fleet: int
    variant: str
    id: str | None = None
    """Ask again for a replica that the store has; None: a new one."""


@dataclass(frozen=True, slots=True)
class Stop:
    id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Its process is gone: drop its record here and at the keeper."""

    id: str


@dataclass(frozen=True, slots=True)
class Publish:
    route: Route | None
    """None takes the endpoint out of the table."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Drop the endpoint and everything recorded of it: its name is free."""


Action = Start | Stop | Forget | Publish | Remove


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a deployment ended badly; `core.reasons` words it."""

    variant: str
    failure: Failure
    crashes: int
    was_ready: bool
    """It had been ready and died later."""


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    status: Status
    trouble: Trouble | None = None
    """Set when the status changes to Failed, or back to InService on the old configuration."""
    rolled_back: bool = False
    """The target is abandoned: from now on the target is what serves."""
    requeue_after: float | None = None
    """Seconds until the next look; None: only when something changes."""
    crashes: Mapping[tuple[int, str], Crashes] = field(default_factory=dict)


def plan(desired: Desired, observed: Observed, now: float) -> Plan:
    """The next actions, and the status to write once they are done. Epoch seconds; calling it twice plans the same again."""
    observed = replace(observed, crashes=_count_crashes(desired, observed, now))
    if desired.deleting_since is not None:
        return _delete(desired, desired.deleting_since, observed, now)
    if desired.status == FAILED:
        return _clear(observed, FAILED)
    trouble = _trouble(desired, observed) if desired.status in (CREATING, UPDATING) else None
    if trouble is None:
        return _pursue(desired, observed, now)
    if desired.serving is None:
        return replace(_clear(observed, FAILED), trouble=trouble)
    kept = _pursue(Desired(IN_SERVICE, desired.serving, desired.serving), observed, now)
    return replace(kept, trouble=trouble, rolled_back=True)


def _gone(seen: Seen, now: float) -> bool:
    """Not a replica to count on any more: ended, ending, or to be replaced."""
    if seen.phase in ("exited", "stopping", BROKEN) or seen.asked_to_stop or seen.missed_pings >= MISSED_PINGS:
        return True
    return _overdue(seen, now)


def _overdue(seen: Seen, now: float) -> bool:
    return seen.ready_since is None and seen.deadline is not None and now >= seen.deadline


def _crashed(seen: Seen, now: float) -> bool:
    """Ended, or has to, without having been asked to."""
    return _gone(seen, now) and not seen.asked_to_stop and seen.phase != "stopping"


def _failure_of(seen: Seen, now: float) -> Failure:
    if seen.failure is not None:
        return seen.failure
    if seen.missed_pings >= MISSED_PINGS:
        return Failure("no-ping", f"It stopped answering GET /ping: {seen.missed_pings} in a row failed.")
    if _overdue(seen, now):
        return Failure("start-timeout", "It did not become ready within its start limit.")
    return Failure("exited", "Its process ended.")


def _count_crashes(desired: Desired, observed: Observed, now: float) -> dict[tuple[int, str], Crashes]:
    """The ledger after this look. A crash is counted once: its replica is forgotten, or asked to stop, by the same plan."""
    fleets = {desired.target.number} | ({desired.serving.number} if desired.serving else set())
    ledger = {key: entry for key, entry in observed.crashes.items() if key[0] in fleets}
    for seen in observed.replicas:
        key = (seen.fleet, seen.variant)
        if seen.fleet not in fleets:
            continue
        if _crashed(seen, now):
            before = ledger.get(key, Crashes(0, now))
            at_start = before.at_start + (seen.ready_since is None)
            ledger[key] = Crashes(before.count + 1, now, at_start, _failure_of(seen, now))
        elif seen.phase == "ready" and seen.ready_since is not None and now - seen.ready_since >= STABLE_SECONDS:
            ledger.pop(key, None)
    return ledger


def _trouble(desired: Desired, observed: Observed) -> Trouble | None:
    """What ends the deployment under way, if anything does.

    A change of capacities is more patient than a new fleet, whose model nobody has seen serve: so many transient failures,
    and deaths after being ready, are borne for each instance that is wanted.
    """
    proven = desired.serving is not None and desired.serving.number == desired.target.number
    for goal in desired.target.goals:
        entry = observed.crashes.get((desired.target.number, goal.variant))
        if entry is None or entry.failure is None:
            continue
        patience = max(1, goal.count) if proven else 1
        again = entry.failure.kind in RETRIED or (entry.failure.kind == "exited" and entry.failure.signal is not None)
        if entry.at_start > (patience if again else 0):
            return Trouble(goal.variant, entry.failure, entry.count, was_ready=False)
        if entry.count >= DEPLOYMENT_CRASHES * patience:
            return Trouble(goal.variant, entry.failure, entry.count, was_ready=True)
    return None


def _retire(seen: Seen) -> Iterator[Action]:
    """The step that brings a replica nearer to being gone."""
    if seen.phase in ("exited", "planned"):
        yield Forget(seen.id)
    elif not seen.asked_to_stop:
        yield Stop(seen.id)


def _clear(observed: Observed, status: Status) -> Plan:
    """Nothing may run, nothing is routed."""
    actions: list[Action] = [] if observed.route is None else [Publish(None)]
    for seen in observed.replicas:
        actions.extend(_retire(seen))
    return Plan(tuple(actions), status, crashes=observed.crashes)


def _delete(desired: Desired, since: float, observed: Observed, now: float) -> Plan:
    """Out of the route, then everything stopped, then gone: within DELETE_SECONDS, whatever does not answer."""
    waited = now - since
    if observed.route is not None:
        return Plan((Publish(None),), DELETING, requeue_after=0.0, crashes=observed.crashes)
    if not observed.confirmed and waited < WITHDRAW_SECONDS:
        return Plan((), DELETING, requeue_after=WITHDRAW_SECONDS - waited, crashes=observed.crashes)
    actions: list[Action] = []
    for seen in observed.replicas:
        actions.extend(_retire(seen))
    if all(seen.phase in ("exited", "planned") for seen in observed.replicas) or waited >= DELETE_SECONDS:
        return Plan((*actions, Remove()), DELETING, crashes=observed.crashes)
    return Plan(tuple(actions), DELETING, requeue_after=DELETE_SECONDS - waited, crashes=observed.crashes)


def _pursue(desired: Desired, observed: Observed, now: float) -> Plan:
    """Bring the target up, keep what serves alive, route what is ready, retire what is neither wanted nor in use."""
    target, serving = desired.target, desired.serving
    deploying = desired.status in (CREATING, UPDATING)
    beside = [serving] if serving is not None and serving.number != target.number else []
    keep: dict[int, dict[str, list[Seen]]] = {}
    actions: list[Action] = []
    waits: list[float] = []
    for fleet in (target, *beside):
        # While capacities change, what served before is the floor until the target is reached.
        keep[fleet.number] = {goal.variant: _choose(fleet, goal, observed, now) for goal in fleet.goals}
        for goal in fleet.goals:
            started, wait = _fill(fleet, goal, keep[fleet.number][goal.variant], observed, now)
            actions.extend(started)
            waits.extend(wait)
    reached = all(_ready(keep[target.number][goal.variant]) >= goal.count for goal in target.goals)
    route = _route(target if reached or not deploying else serving, keep, observed, now)
    if route != observed.route:
        actions.append(Publish(route))
    elif reached and observed.confirmed:
        deploying = False
    kept = {seen.id for variants in keep.values() for members in variants.values() for seen in members}
    routed = {i for v in (*(route or ()), *(observed.route or ())) for i in v.replicas}
    for seen in observed.replicas:
        if seen.id not in kept and ((_gone(seen, now)) or (seen.id not in routed and seen.id not in observed.held)):
            actions.extend(_retire(seen))
    waits.extend(
        s.deadline - now for s in observed.replicas if s.deadline is not None and s.ready_since is None and not _gone(s, now)
    )
    status: Status = desired.status if deploying else IN_SERVICE
    return Plan(tuple(actions), status, requeue_after=min((max(0.0, w) for w in waits), default=None), crashes=observed.crashes)


def _ready(members: list[Seen]) -> int:
    return sum(seen.phase == "ready" for seen in members)


def _choose(fleet: Fleet, goal: Goal, observed: Observed, now: float) -> list[Seen]:
    """The replicas that make up a goal: the ready ones first, in an order that a later look repeats."""
    alive = [s for s in observed.replicas if s.fleet == fleet.number and s.variant == goal.variant and not _gone(s, now)]
    alive.sort(key=lambda s: (s.phase != "ready", s.ready_since is None, s.ready_since or 0.0, s.id))
    return alive[: goal.count]


def _fill(fleet: Fleet, goal: Goal, members: list[Seen], observed: Observed, now: float) -> tuple[list[Action], list[float]]:
    """Starts for what is missing; or, after a crash, the seconds until they are due."""
    actions: list[Action] = [Start(fleet.number, goal.variant, s.id) for s in members if s.phase == "planned"]
    missing = goal.count - len(members)
    if missing <= 0:
        return actions, []
    entry = observed.crashes.get((fleet.number, goal.variant))
    due = entry.last + restart_delay(entry.count) if entry else now
    if due > now:
        return actions, [due - now]
    actions.extend(Start(fleet.number, goal.variant) for _ in range(missing))
    return actions, []


def _route(fleet: Fleet | None, keep: Mapping[int, Mapping[str, list[Seen]]], observed: Observed, now: float) -> Route | None:
    """The route to this fleet's ready replicas; None before the first deployment is complete.

    While capacities change, `fleet` is what served before and `keep` may choose fewer of its replicas than run: all that are
    ready stay in the route until the change is complete.
    """
    if fleet is None:
        return None
    route = []
    for goal in fleet.goals:
        ready = [s for s in observed.replicas if s.fleet == fleet.number and s.variant == goal.variant and s.phase == "ready"]
        chosen = keep.get(fleet.number, {}).get(goal.variant, [])
        wanted = {s.id for s in chosen if s.phase == "ready"}
        if len(wanted) < goal.count:
            wanted = {s.id for s in ready if not _gone(s, now)}
        route.append(RoutedVariant(goal.variant, goal.weight, tuple(sorted(wanted))))
    return tuple(route)
