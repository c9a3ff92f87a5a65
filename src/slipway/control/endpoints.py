"""Makes endpoints be what the store wants: observe, plan (`core.endpoints`), apply.

What is in memory here can be lost at any moment: rows say which replicas were decided on, the keeper says which run. A
replica's row is committed before the keeper is asked, and goes after the keeper was told to stop, so that whatever was half
started is found again. Startup is the same code as recovery.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from slipway.control import specs
from slipway.control.changes import Changes
from slipway.control.routes import Routes
from slipway.core import routing
from slipway.core.deployments import Asked, DeployedImage, Deployment, Reached, Wanted, fleet, target
from slipway.core.endpoints import (
    DELETING,
    IN_SERVICE,
    Crashes,
    Desired,
    Forget,
    Goal,
    Observed,
    Plan,
    Publish,
    Remove,
    Route,
    RoutedVariant,
    Seen,
    Start,
    Status,
    Stop,
    plan,
)
from slipway.core.reasons import failure_reason
from slipway.core.replicas import ReplicaSpec, ReplicaState
from slipway.store import resources
from slipway.store.db import Connection, Db
from slipway.store.resources import ReplicaRow, Resource

logger = logging.getLogger(__name__)

KIND = "endpoint"
STRAY = "stray"
"""Kind of a replica that runs and that no row knows: it is stopped."""
FOREIGN_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL for a container that is not our host (containers.md 1.7)."""
OVERDUE_SECONDS = 900.0
"""Beyond the limits that the keeper keeps itself: an environment may have to be built."""


class Keeper(Protocol):
    """`link.keeper.KeeperClient`, or a fake."""

    async def start(self, spec: ReplicaSpec) -> None: ...
    async def stop(self, id: str, grace: float) -> None: ...
    async def list(self) -> list[ReplicaState]: ...


class Head(Protocol):
    """`backing.objects.Objects.head`."""

    def __call__(self, bucket: str, key: str, *, account: str | None) -> Awaitable[specs.ObjectHead | None]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the controller works with."""

    db: Db
    keeper: Keeper
    head: Head
    making: specs.Making
    wake: Callable[[str, str], None]
    changes: Changes
    now: Callable[[], float]
    new_id: Callable[[], str]
    """An instance id, `i-` and 17 hex digits, unique for ever."""
    new_token: Callable[[], str]
    """The secret with which a container asks for its credentials."""
    own_grace: float = 2.0


@dataclass(slots=True)
class _Memory:
    """Of one endpoint."""

    generation: int = 0
    crashes: Mapping[tuple[int, str], Crashes] = field(default_factory=dict)
    asked_to_stop: set[str] = field(default_factory=set)
    first_seen: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Look:
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


class Endpoints:
    """The endpoint controller. `adopt` first, then `reconcile` for whatever is woken."""

    def __init__(self, world: Surroundings, routes: Routes) -> None:
        self._world = world
        self._routes = routes
        self._states: dict[str, ReplicaState] = {}
        self._ready_since: dict[str, float] = {}
        self._owners: dict[str, str] = {}
        """Of every replica that has a row."""
        self._memory: dict[str, _Memory] = {}
        self._fresh: set[str] = set()
        """Ids that reported while a list was under way: what they said is newer than the list."""
        self._unseen: set[str] | None = None
        """Endpoints not looked at since the start; the first route table waits for them."""

    async def adopt(self) -> None:
        """Take over what runs: on start, and whenever the keeper has been connected to again."""
        self._fresh.clear()
        listed = {state.id: state for state in await self._world.keeper.list()}
        rows, endpoints = await self._world.db.read(lambda c: (resources.every_replica(c), resources.every(c, KIND)))
        self._owners = {row.id: row.owner for row in rows}
        for id in [id for id in self._states if id not in listed and id not in self._fresh]:
            del self._states[id]
        for id, state in listed.items():
            if id not in self._fresh:
                self._note(state)
        if self._unseen is None:
            self._unseen = {row.arn for row in endpoints}
            for row in rows:
                if row.id in self._states:
                    self._routes.adopt(row.owner, (row.id,))
        for arn in {*(row.arn for row in endpoints), *self._owners.values()}:
            self._world.wake(KIND, arn)
        self._open_if_complete()

    def state_changed(self, state: ReplicaState) -> None:
        """The keeper's word on a replica."""
        self._fresh.add(state.id)
        self._note(state)
        if owner := self._owners.get(state.id):
            self._world.wake(KIND, owner)

    def _note(self, state: ReplicaState) -> None:
        before = self._states.get(state.id)
        self._states[state.id] = state
        if state.phase == "ready":
            self._ready_since.setdefault(state.id, self._world.now())
        if before is None or before.phase != state.phase:
            logger.info("replica", extra={"id": state.id, "phase": state.phase, "owner": state.owner})
        if state.id not in self._owners:
            self._world.wake(STRAY, state.id)

    async def all(self) -> list[tuple[str, str]]:
        """For the reconciler's resync."""
        rows, endpoints = await self._world.db.read(lambda c: (resources.every_replica(c), resources.every(c, KIND)))
        arns = {row.arn for row in endpoints} | {row.owner for row in rows}
        return [(KIND, arn) for arn in arns] + [(STRAY, id) for id in self._states if id not in self._owners]

    async def stop_stray(self, id: str) -> None:
        """A replica that no row knows (any more): stop it, or have the keeper forget it."""
        if id in self._owners or id not in self._states or self._states[id].phase == "stopping":
            return
        ended = self._states[id].phase == "exited"
        await self._world.keeper.stop(id, self._grace(id))
        if ended:
            self._drop(id)

    async def reconcile(self, arn: str) -> float | None:
        """One look and one step; the seconds until the next."""
        try:
            return await self._reconcile(arn)
        finally:
            if self._unseen is not None and arn in self._unseen:
                self._unseen.discard(arn)
                self._open_if_complete()

    def _open_if_complete(self) -> None:
        if not self._unseen:
            self._routes.open()

    async def _reconcile(self, arn: str) -> float | None:
        row, rows = await self._world.db.read(lambda c: (resources.get_by_arn(c, arn), resources.replicas_of(c, arn)))
        if row is None:
            await self._forget_endpoint(arn, rows)
            return None
        look = self._observe(row, rows)
        made = plan(look.desired, look.observed, self._world.now())
        self._memory[arn].crashes = made.crashes
        if not await self._write_status(look, made):
            return 0.0
        await self._apply(look, made)
        if made.status != row.status or made.rolled_back:
            return 0.0
        return made.requeue_after

    def _observe(self, row: Resource, rows: Sequence[ReplicaRow]) -> _Look:
        asked, wanted = msgspec.convert(row.spec, Asked), msgspec.convert(row.desired, Wanted)
        reached = msgspec.convert(row.observed, Reached)
        deployment, goals = target(asked, wanted, reached, row.generation)
        memory = self._memory.setdefault(row.arn, _Memory())
        if memory.generation != row.generation:
            # What went wrong before is no reason to end a deployment that has just begun.
            memory.generation, memory.crashes = row.generation, {}
        serving = fleet(reached.serving, reached.goals) if reached.serving else None
        status: Status = msgspec.convert(row.status, Status)
        desired = Desired(status, fleet(deployment, goals), serving, wanted.deleting_since)
        for replica in rows:
            memory.first_seen.setdefault(replica.id, self._world.now())
        observed = Observed(
            tuple(self._seen(memory, replica) for replica in rows),
            _route_of(self._routes.entry(row.arn)),
            self._routes.confirmed(row.arn),
            self._routes.held(row.arn),
            memory.crashes,
        )
        return _Look(row, deployment, goals, asked, reached, desired, observed, {r.id: r for r in rows})

    def _seen(self, memory: _Memory, row: ReplicaRow) -> Seen:
        state = self._states.get(row.id)
        spec = row.spec
        limit = float(spec["start_timeout"]) + float(spec["fetch_timeout"]) + OVERDUE_SECONDS
        return Seen(
            id=row.id,
            fleet=row.generation,
            variant=row.variant,
            phase=state.phase if state else "planned",
            asked_to_stop=row.id in memory.asked_to_stop,
            ready_since=self._ready_since.get(row.id),
            deadline=memory.first_seen[row.id] + limit,
            missed_pings=state.missed_pings if state else 0,
            failure=state.failure if state else None,
        )

    async def _write_status(self, look: _Look, made: Plan) -> bool:
        """Status and reason, where they change. False: the endpoint was changed meanwhile, look again."""
        row = look.row
        if made.status == row.status and not made.rolled_back:
            return True
        if made.status == DELETING:
            return True
        now = self._world.now()
        reached, reason = look.reached, row.reason
        if made.rolled_back:
            reached = replace(reached, abandoned=row.generation)
        elif made.status == IN_SERVICE:
            reached = Reached(look.deployment, look.goals, self._images(look, now))
            reason = ""
        if made.trouble is not None:
            variant = look.deployment.variant(made.trouble.variant)
            serving = reached.serving.config if reached.serving else None
            reason = failure_reason(made.trouble, variant.model_data or "", serving)
        new = replace(
            row,
            status=made.status,
            reason=reason,
            observed=msgspec.to_builtins(reached),
            observed_generation=row.generation,
            modified=now,
        )
        if not await self._world.db.write(lambda c: resources.save(c, row, new)):
            return False
        logger.info("endpoint-status", extra={"endpoint": row.arn, "status": made.status, "reason": reason})
        self._world.changes.happened(KIND, row.arn)
        return True

    def _images(self, look: _Look, now: float) -> dict[str, DeployedImage]:
        found = {}
        for variant in look.deployment.variants:
            ids = [s.id for s in look.observed.replicas if s.fleet == look.deployment.number and s.variant == variant.name]
            resolved = next((self._states[id].image for id in ids if id in self._states and self._states[id].image), "")
            known = look.reached.images.get(variant.name)
            if known is not None and known.specified == variant.image and known.resolved == resolved:
                found[variant.name] = known
            else:
                found[variant.name] = DeployedImage(variant.image, resolved or variant.image, now)
        return found

    async def _apply(self, look: _Look, made: Plan) -> None:
        """Routes first, then what ends, then what begins."""
        published = [action.route for action in made.actions if isinstance(action, Publish)]
        route = published[-1] if published else look.observed.route
        self._routes.put(look.row.arn, self._entry(look, route) if route is not None else None)
        memory = self._memory[look.row.arn]
        for action in made.actions:
            if isinstance(action, Stop):
                await self._world.keeper.stop(action.id, self._grace(action.id))
                memory.asked_to_stop.add(action.id)
        if gone := [action.id for action in made.actions if isinstance(action, Forget)]:
            await self._forget(look.row.arn, gone)
        if any(isinstance(action, Remove) for action in made.actions):
            await self._remove(look)
        elif starts := [action for action in made.actions if isinstance(action, Start)]:
            await self._start(look, starts)

    def _entry(self, look: _Look, route: Route) -> routing.Endpoint:
        """The table's entry; addresses are those of now."""
        variants = []
        for routed in route:
            states = [self._states[id] for id in routed.replicas if id in self._states]
            replicas = tuple(
                routing.Replica(s.id, look.rows[s.id].spec["instance"], s.protocol, tuple(s.workers))
                for s in states
                if s.id in look.rows
            )
            number = next((look.rows[r.id].generation for r in replicas), look.deployment.number)
            known = {v.name: v for v in look.of(number).variants}
            balanced = known[routed.variant].least_outstanding if routed.variant in known else False
            variants.append(routing.Variant(routed.variant, routed.weight, replicas, least_outstanding=balanced))
        return routing.Endpoint(look.row.account, look.row.region, look.row.name, tuple(variants))

    async def _start(self, look: _Look, starts: Sequence[Start]) -> None:
        """Rows first, all in one transaction; then the keeper is asked for each."""
        made: list[tuple[ReplicaSpec, ReplicaState | None]] = []
        rows = []
        for start in starts:
            id = start.id or self._world.new_id()
            spec, failed = await self._spec(look, start, id)
            made.append((spec, failed))
            if start.id is None:
                rows.append(ReplicaRow(id, look.row.arn, start.variant, start.fleet, spec, self._world.now()))
        if rows:
            alive = await self._world.db.write(lambda c: _add_replicas(c, look.row, rows))
            if not alive:
                self._world.wake(KIND, look.row.arn)
                return
            self._owners.update((row.id, row.owner) for row in rows)
        for spec, failed in made:
            if failed is None:
                await self._world.keeper.start(spec)
                self._states.setdefault(spec.id, ReplicaState(spec.id, spec.owner, "preparing"))
            else:
                self._note(failed)
                self._world.wake(KIND, look.row.arn)

    async def _spec(self, look: _Look, start: Start, id: str) -> tuple[ReplicaSpec, ReplicaState | None]:
        """The spec; and the state of one that cannot even be asked for, since an object is missing."""
        world, variant = self._world, look.of(start.fleet).variant(start.variant)
        token = world.new_token()
        if id in look.rows:
            # Asked for again: the token that its container may hold already stays good.
            token = look.rows[id].spec["platform"].get("AWS_CONTAINER_AUTHORIZATION_TOKEN", token)
        artifacts = []
        failed: ReplicaState | None = None
        try:
            for wanted in specs.data_of(variant):
                place, account = specs.location(wanted.uri), look.row.account
                head = await world.head(place.bucket, place.key, account=account)
                seconds = variant.download_seconds or specs.DOWNLOAD_SECONDS
                artifacts.append(specs.artifact(world.making, account, wanted, head, seconds))
        except specs.Missing as missing:
            failed = ReplicaState(id, look.row.arn, "exited", failure=missing.failure)
        return specs.replica_spec(world.making, look.place, variant, id, token, tuple(artifacts)), failed

    async def _forget(self, arn: str, ids: Iterable[str]) -> None:
        """Drop replicas whose processes are gone, at the keeper and here."""
        gone = list(ids)
        for id in gone:
            if id in self._states:
                await self._world.keeper.stop(id, 0.0)
        await self._world.db.write(lambda c: resources.remove_replicas(c, gone))
        for id in gone:
            self._owners.pop(id, None)
            self._drop(id)
            if memory := self._memory.get(arn):
                memory.asked_to_stop.discard(id)
                memory.first_seen.pop(id, None)

    async def _remove(self, look: _Look) -> None:
        """The endpoint goes, with the rows of replicas that may still be stopping: those are strays from now on."""
        arn, ids = look.row.arn, list(look.rows)

        def write(connection: Connection) -> None:
            if resources.remove(connection, arn, (DELETING,)):
                resources.remove_replicas(connection, ids)

        await self._world.db.write(write)
        logger.info("endpoint-removed", extra={"endpoint": arn})
        await self._forget_endpoint(arn, ())
        self._disown(ids)

    async def _forget_endpoint(self, arn: str, rows: Sequence[ReplicaRow]) -> None:
        """An endpoint that is not in the store: nothing of it may stay."""
        self._memory.pop(arn, None)
        self._routes.forget(arn)
        self._world.changes.happened(KIND, arn)
        if ids := [row.id for row in rows]:
            await self._world.db.write(lambda c: resources.remove_replicas(c, ids))
            self._disown(ids)

    def _disown(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._owners.pop(id, None)
            if id in self._states:
                self._world.wake(STRAY, id)

    def _drop(self, id: str) -> None:
        self._states.pop(id, None)
        self._ready_since.pop(id, None)

    def _grace(self, id: str) -> float:
        """Our own host, and whatever is not up yet, is stopped fast; a foreign container has 30 s."""
        state = self._states.get(id)
        foreign = state is not None and state.protocol == "http" and state.phase in ("ready", "unready")
        return FOREIGN_GRACE if foreign else self._world.own_grace


def _add_replicas(connection: Connection, row: Resource, rows: Sequence[ReplicaRow]) -> bool:
    """Only for an endpoint that is still wanted as it was looked at: a deletion may have come between."""
    now = resources.get_by_arn(connection, row.arn)
    if now is None or now.generation != row.generation:
        return False
    resources.add_replicas(connection, rows)
    return True


def _route_of(entry: routing.Endpoint | None) -> Route | None:
    """A published entry as the plan sees it."""
    if entry is None:
        return None
    return tuple(RoutedVariant(v.name, v.weight, tuple(sorted(r.id for r in v.replicas))) for v in entry.variants)
