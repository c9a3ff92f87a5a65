"""A look at an endpoint: what the store wants, what the keeper says of its replicas, what is routed, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from slipway.control import specs
from slipway.control.instances import Instances
from slipway.control.routes import Routes
from slipway.core import routing
from slipway.core.deployments import Asked, DeployedImage, Deployment, Reached, Wanted, fleet, image_key, target
from slipway.core.endpoints import Crashes, Desired, Goal, Observed, Route, RoutedVariant, Seen, Status
from slipway.core.several import BROKEN, SIBLINGS_SECONDS
from slipway.store.resources import ReplicaRow, Resource

OVERDUE_SECONDS = 900.0
"""Beyond the limits that the keeper keeps itself: an environment may have to be built."""


@dataclass(slots=True)
class Memory:
    """Of one endpoint, from look to look; all of it can be lost."""

    generation: int = 0
    crashes: Mapping[tuple[int, str], Crashes] = field(default_factory=dict)
    asked_to_stop: set[str] = field(default_factory=set)
    first_seen: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """One observation of one endpoint, and what was decided on it."""

    row: Resource
    deployment: Deployment
    goals: tuple[Goal, ...]
    asked: Asked
    reached: Reached
    desired: Desired
    observed: Observed
    rows: Mapping[str, ReplicaRow]

    def of(self, number: int) -> Deployment:
        serving = self.reached.serving
        return serving if serving is not None and serving.number == number else self.deployment

    @property
    def place(self) -> specs.Place:
        return specs.Place(self.row.arn, self.row.name, self.row.account, self.row.region)


class Observer:
    def __init__(self, instances: Instances, routes: Routes, now: Callable[[], float]) -> None:
        self._instances = instances
        self._routes = routes
        self._now = now

    def look(self, memory: Memory, row: Resource, rows: Sequence[ReplicaRow]) -> Look:
        """At an endpoint and its replicas' rows."""
        asked, wanted = msgspec.convert(row.spec, Asked), msgspec.convert(row.desired, Wanted)
        reached = msgspec.convert(row.observed, Reached)
        deployment, goals = target(asked, wanted, reached, row.generation)
        if memory.generation != row.generation:
            # What went wrong before is no reason to end a deployment that has just begun.
            memory.generation, memory.crashes = row.generation, {}
        serving = fleet(reached.serving, reached.goals) if reached.serving else None
        status: Status = msgspec.convert(row.status, Status)
        desired = Desired(status, fleet(deployment, goals), serving, wanted.deleting_since)
        for replica in rows:
            memory.first_seen.setdefault(replica.id, self._now())
        # Also those whose commit this control was never told of, since the connection to the store broke.
        self._instances.own({replica.id: specs.containers_of(replica) for replica in rows}, row.arn)
        observed = Observed(
            tuple(self._seen(memory, replica) for replica in rows),
            _route_of(self._routes.entry(row.arn)),
            self._routes.confirmed(row.arn),
            self._routes.held(row.arn),
            memory.crashes,
        )
        return Look(row, deployment, goals, asked, reached, desired, observed, {r.id: r for r in rows})

    def _seen(self, memory: Memory, row: ReplicaRow) -> Seen:
        state = self._instances.whole(row.id)
        spec = row.spec
        deadline = memory.first_seen[row.id] + float(spec["start_timeout"]) + float(spec["fetch_timeout"]) + OVERDUE_SECONDS
        phase = state.phase
        ready_since = self._instances.ready_since(row.id)
        if phase == BROKEN and state.undecided and ready_since is None:
            # The other containers may still say what is wrong with them.
            phase = "starting"
            deadline = min(deadline, (self._instances.ended_since(row.id) or 0.0) + SIBLINGS_SECONDS)
        return Seen(
            id=row.id,
            fleet=row.generation,
            variant=row.variant,
            phase=phase,
            asked_to_stop=row.id in memory.asked_to_stop,
            ready_since=ready_since,
            deadline=deadline,
            missed_pings=state.missed_pings,
            failure=state.failure,
        )


def images(look: Look, instances: Instances, now: float) -> dict[str, DeployedImage]:
    """What each container's image was resolved to, and when; for DescribeEndpoint."""
    found = {}
    for variant in look.deployment.variants:
        ids = [s.id for s in look.observed.replicas if s.fleet == look.deployment.number and s.variant == variant.name]
        states = [instances.states(id) for id in ids]
        for index, image in enumerate([each.image for each in variant.containers] or [variant.image]):
            key = image_key(variant, index)
            resolved = next((state.image for each in states if (state := each[index]) and state.image), "")
            known = look.reached.images.get(key)
            if known is not None and known.specified == image and resolved in (known.resolved, ""):
                found[key] = known
            else:
                found[key] = DeployedImage(image, resolved or image, now)
    return found


def kept(look: Look, variant: str) -> tuple[str | None, int | None]:
    """What goes on after a failure: the configuration that serves; and, had only capacities changed, the variant's count."""
    serving = look.reached.serving
    if serving is None:
        return None, None
    goal = next((goal for goal in look.reached.goals if goal.variant == variant), None)
    only_capacities = serving.number == look.deployment.number and goal is not None
    return serving.config, goal.count if goal is not None and only_capacities else None


def _route_of(entry: routing.Endpoint | None) -> Route | None:
    """A published entry as the plan sees it."""
    if entry is None:
        return None
    return tuple(RoutedVariant(v.name, v.weight, tuple(sorted(r.id for r in v.replicas))) for v in entry.variants)
