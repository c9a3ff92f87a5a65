"""Makes endpoints be what the store wants: observe, plan (`core.endpoints`), apply.

What is in memory here can be lost at any moment: rows say which replicas were decided on, the keeper says which run
(`control.instances`). A
replica's row is committed before the keeper is asked, and goes after the keeper was told to stop, so that whatever was half
started is found again. Startup is the same code as recovery.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from slipway.control import specs
from slipway.control.changes import Changes
from slipway.control.instances import STRAY, Instances
from slipway.control.routes import Routes
from slipway.core import routing
from slipway.core.deployments import Asked, DeployedImage, Deployment, Reached, VariantSpec, Wanted, fleet, image_key, target
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
from slipway.core.replicas import ReplicaSpec, ReplicaState, container_id
from slipway.core.several import BROKEN, SIBLINGS_SECONDS
from slipway.core.transform_jobs import FLEET, log_stream
from slipway.core.transforms import LOG_GROUP
from slipway.names import replica_principal
from slipway.store import keys, resources
from slipway.store.db import Connection, Db
from slipway.store.resources import ReplicaRow, Resource

logger = logging.getLogger(__name__)

KIND = "endpoint"
"""For the reconciler; the fleets of transform jobs (`core.transform_jobs`) are brought up by the same steps."""
OVERDUE_SECONDS = 900.0
"""Beyond the limits that the keeper keeps itself: an environment may have to be built."""


class Head(Protocol):
    """`backing.objects.Objects.head`; `specs.Missing` when the object store does not answer."""

    def __call__(self, bucket: str, key: str, *, account: str | None) -> Awaitable[specs.ObjectHead | None]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the controller works with."""

    db: Db
    instances: Instances
    head: Head
    making: specs.Making
    wake: Callable[[str, str], None]
    changes: Changes
    now: Callable[[], float]
    new_id: Callable[[], str]
    """An instance id, `i-` and 17 hex digits, unique for ever."""
    new_token: Callable[[], str]
    """The secret with which a container asks for its credentials."""
    keys_gone: Callable[[], None]
    """Credentials of replicas were revoked."""
    gone: Callable[[str], None] = lambda _arn: None
    """An endpoint is not there any more."""


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
        self._instances = world.instances
        self._memory: dict[str, _Memory] = {}
        self._unseen: set[str] | None = None
        """Endpoints not looked at since the start; the first route table waits for them."""

    async def adopt(self) -> None:
        """Take over what runs: on start, and whenever the keeper has been connected to again."""
        listed = await self._instances.listed()
        rows, endpoints = await self._world.db.read(lambda c: (resources.every_replica(c), _every(c)))
        if self._unseen is None:
            self._unseen = {row.arn for row in endpoints}
            for row in rows:
                names = specs.containers_of(row)
                self._instances.own({row.id: names}, row.owner)
                if row.id in listed or (names and container_id(row.id, 1) in listed):
                    self._routes.adopt(row.owner, (row.id,))
        self._instances.take(listed)
        for arn in {*(row.arn for row in endpoints), *self._instances.owners()}:
            self._world.wake(KIND, arn)
        self._open_if_complete()

    def state_changed(self, state: ReplicaState) -> None:
        """The keeper's word on a replica."""
        if owner := self._instances.reported(state):
            self._world.wake(KIND, owner)

    async def all(self) -> list[tuple[str, str]]:
        """For the reconciler's resync."""
        rows, endpoints = await self._world.db.read(lambda c: (resources.every_replica(c), _every(c)))
        arns = {row.arn for row in endpoints} | {row.owner for row in rows}
        return [(KIND, arn) for arn in arns] + [(STRAY, id) for id in self._instances.strays()]

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
        # Also those whose commit this control was never told of, since the connection to the store broke.
        self._instances.own({replica.id: specs.containers_of(replica) for replica in rows}, row.arn)
        observed = Observed(
            tuple(self._seen(memory, replica) for replica in rows),
            _route_of(self._routes.entry(row.arn)),
            self._routes.confirmed(row.arn),
            self._routes.held(row.arn),
            memory.crashes,
        )
        return _Look(row, deployment, goals, asked, reached, desired, observed, {r.id: r for r in rows})

    def _seen(self, memory: _Memory, row: ReplicaRow) -> Seen:
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
            urls = {each.name: each.model_data or "" for each in variant.containers} or variant.model_data or ""
            kept = _kept(look, made.trouble.variant)
            reason = failure_reason(made.trouble, urls, *kept, job=look.deployment.transform is not None)
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
            states = [self._instances.states(id) for id in ids]
            for index, image in enumerate([each.image for each in variant.containers] or [variant.image]):
                key = image_key(variant, index)
                resolved = next((state.image for each in states if (state := each[index]) and state.image), "")
                known = look.reached.images.get(key)
                if known is not None and known.specified == image and resolved in (known.resolved, ""):
                    found[key] = known
                else:
                    found[key] = DeployedImage(image, resolved or image, now)
        return found

    async def _apply(self, look: _Look, made: Plan) -> None:
        """Routes first, then what ends, then what begins."""
        published = [action.route for action in made.actions if isinstance(action, Publish)]
        route = published[-1] if published else look.observed.route
        self._routes.put(look.row.arn, self._entry(look, route) if route is not None else None)
        memory = self._memory[look.row.arn]
        for action in made.actions:
            if isinstance(action, Stop):
                await self._instances.stop(action.id)
                memory.asked_to_stop.add(action.id)
        if gone := [action.id for action in made.actions if isinstance(action, Forget)]:
            await self._forget(look, gone)
        if any(isinstance(action, Remove) for action in made.actions):
            await self._remove(look)
        elif starts := [action for action in made.actions if isinstance(action, Start)]:
            await self._start(look, starts)

    def _entry(self, look: _Look, route: Route) -> routing.Endpoint:
        """The table's entry; addresses are those of now."""
        variants = []
        for routed in route:
            found = [self._replica(look.rows[id]) for id in routed.replicas if id in look.rows]
            replicas = tuple(replica for replica in found if replica is not None)
            number = next((look.rows[r.id].generation for r in replicas), look.deployment.number)
            known = {v.name: v for v in look.of(number).variants}
            variants.append(_routed(routed, replicas, known.get(routed.variant)))
        numbers = {look.rows[r.id].generation for v in variants for r in v.replicas}
        fleet_number = min(numbers, default=(look.reached.serving or look.deployment).number)
        options = look.of(fleet_number).asynchronous
        row, transform = look.row, look.deployment.transform
        return routing.Endpoint(row.account, row.region, row.name, tuple(variants), options, transform)

    def _replica(self, row: ReplicaRow) -> routing.Replica | None:
        """The table's word on an instance, if the keeper has all of it."""
        states = self._instances.states(row.id)
        if any(state is None for state in states):
            return None
        parts = [routing.Container(state.protocol, tuple(state.workers)) for state in states if state is not None]
        if len(parts) > 1:
            return routing.Replica(row.id, row.spec["instance"], "", (), tuple(parts))
        return routing.Replica(row.id, row.spec["instance"], parts[0].protocol, parts[0].workers)

    async def _start(self, look: _Look, starts: Sequence[Start]) -> None:
        """Rows first, all in one transaction; then the keeper is asked for each."""
        made: list[tuple[list[ReplicaSpec], list[ReplicaState]]] = []
        rows = []
        for start in starts:
            id = start.id or self._world.new_id()
            wanted, failed = await self._specs(look, start, id)
            made.append((wanted, failed))
            if start.id is None:
                spec = specs.row_spec(id, wanted)
                rows.append(ReplicaRow(id, look.row.arn, start.variant, start.fleet, spec, self._world.now()))
        if rows:
            alive = await self._world.db.write(lambda c: _add_replicas(c, look.row, rows))
            if not alive:
                self._world.wake(KIND, look.row.arn)
                return
            self._instances.own({row.id: specs.containers_of(row) for row in rows}, look.row.arn)
        for wanted, failed in made:
            for state in failed:
                self._instances.note(state)
                self._world.wake(KIND, look.row.arn)
            if not failed:
                for each in wanted:
                    await self._instances.start(each)

    async def _specs(self, look: _Look, start: Start, id: str) -> tuple[list[ReplicaSpec], list[ReplicaState]]:
        """The specs of an instance's containers; and states of those that cannot even be asked for: an object is missing."""
        world, deployment = self._world, look.of(start.fleet)
        variant = deployment.variant(start.variant)
        token = world.new_token()
        if id in look.rows:
            # Asked for again: the token that its container may hold already stays good.
            token = look.rows[id].spec["platform"].get("AWS_CONTAINER_AUTHORIZATION_TOKEN", token)
        made, failed = [], []
        for part in specs.parts(variant, id):
            artifacts = []
            try:
                for wanted in specs.data_of(part.variant):
                    place, account = specs.location(wanted.uri), look.row.account
                    head = await world.head(place.bucket, place.key, account=account)
                    seconds = variant.download_seconds or specs.DOWNLOAD_SECONDS
                    artifacts.append(specs.artifact(world.making, account, wanted, head, seconds))
            except specs.Missing as missing:
                failed.append(ReplicaState(part.id, look.row.arn, "exited", failure=missing.failure))
            asynchronous = deployment.asynchronous is not None or deployment.transform is not None
            spec = specs.replica_spec(world.making, look.place, part, token, tuple(artifacts), asynchronous=asynchronous)
            if deployment.transform is not None:
                stream = log_stream(deployment.config, id, deployment.started)
                stream += f"/{part.container}" if part.position else ""
                spec = replace(spec, log_group=LOG_GROUP, log_stream=stream)
            made.append(spec)
        return made, failed

    async def _forget(self, look: _Look, gone: Sequence[str]) -> None:
        """Drop replicas whose processes are gone, at the keeper and here."""
        await self._instances.let_go(gone)
        await self._remove_replicas([look.rows[id] for id in gone])
        self._instances.forget(gone)
        memory = self._memory[look.row.arn]
        for id in gone:
            memory.asked_to_stop.discard(id)
            memory.first_seen.pop(id, None)

    async def _remove(self, look: _Look) -> None:
        """The endpoint goes, with the rows of replicas that may still be stopping: those are strays from now on."""
        arn = look.row.arn
        await self._remove_replicas(list(look.rows.values()), lambda c: resources.remove(c, arn, (DELETING,)))
        logger.info("endpoint-removed", extra={"endpoint": arn})
        await self._forget_endpoint(arn, ())
        self._instances.disown(look.rows)

    async def _forget_endpoint(self, arn: str, rows: Sequence[ReplicaRow]) -> None:
        """An endpoint that is not in the store: nothing of it may stay."""
        self._memory.pop(arn, None)
        self._routes.forget(arn)
        self._world.changes.happened(KIND, arn)
        self._world.gone(arn)
        if rows:
            await self._remove_replicas(rows)
            self._instances.disown(row.id for row in rows)

    async def _remove_replicas(
        self, rows: Sequence[ReplicaRow], only_if: Callable[[Connection], bool] = lambda _: True
    ) -> None:
        """Their rows, and the credentials that their models were given, in one transaction."""

        def write(connection: Connection) -> int:
            if not only_if(connection):
                return 0
            resources.remove_replicas(connection, [row.id for row in rows])
            principals = [replica_principal(row.spec["region"], row.spec["account"], row.id) for row in rows]
            return keys.remove_of(connection, principals)

        if await self._world.db.write(write):
            self._world.keys_gone()


def _routed(routed: RoutedVariant, replicas: tuple[routing.Replica, ...], spec: VariantSpec | None) -> routing.Variant:
    if spec is None:
        return routing.Variant(routed.variant, routed.weight, replicas)
    return routing.Variant(
        routed.variant,
        routed.weight,
        replicas,
        least_outstanding=spec.least_outstanding,
        mode=spec.mode,
        stages=tuple(routing.Stage(each.name, each.models) for each in spec.containers),
        models=spec.models,
    )


def _every(connection: Connection) -> list[Resource]:
    """Whatever has instances."""
    return [*resources.every(connection, KIND), *resources.every(connection, FLEET)]


def _add_replicas(connection: Connection, row: Resource, rows: Sequence[ReplicaRow]) -> bool:
    """Only for an endpoint that is still wanted as it was looked at: a deletion may have come between."""
    now = resources.get_by_arn(connection, row.arn)
    if now is None or now.generation != row.generation:
        return False
    resources.add_replicas(connection, rows)
    return True


def _kept(look: _Look, variant: str) -> tuple[str | None, int | None]:
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
