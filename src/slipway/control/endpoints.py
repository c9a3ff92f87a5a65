"""Makes endpoints be what the store wants: observe (`control.endpoints_look`), plan (`core.endpoints`), apply.

What is in memory here can be lost at any moment: rows say which replicas were decided on, the keeper says which run
(`control.instances`). A replica's row is committed before the keeper is asked, and goes after the keeper was told to stop, so
that whatever was half started is found again. Startup is the same code as recovery.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from slipway.control import endpoints_entries, specs
from slipway.control.changes import Changes
from slipway.control.endpoints_look import Look, Memory, Observer, images, kept
from slipway.control.instances import STRAY, Instances
from slipway.control.routes import Routes
from slipway.core.deployments import Reached
from slipway.core.endpoints import (
    DELETING,
    IN_SERVICE,
    Forget,
    Plan,
    Publish,
    Remove,
    Start,
    Stop,
    plan,
)
from slipway.core.reasons import failure_reason
from slipway.core.replicas import ReplicaSpec, ReplicaState, container_id
from slipway.core.transform_jobs import FLEET, log_stream
from slipway.core.transforms import LOG_GROUP
from slipway.names import replica_principal
from slipway.store import keys, resources
from slipway.store.db import Connection, Db
from slipway.store.resources import ReplicaRow, Resource

logger = logging.getLogger(__name__)

KIND = "endpoint"
"""For the reconciler; the fleets of transform jobs (`core.transform_jobs`) are brought up by the same steps."""


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


class Endpoints:
    """The endpoint controller. `adopt` first, then `reconcile` for whatever is woken."""

    def __init__(self, world: Surroundings, routes: Routes) -> None:
        self._world = world
        self._routes = routes
        self._instances = world.instances
        self._memory: dict[str, Memory] = {}
        self._observer = Observer(self._instances, routes, world.now)
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
        memory = self._memory.setdefault(arn, Memory())
        look = self._observer.look(memory, row, rows)
        made = plan(look.desired, look.observed, self._world.now())
        memory.crashes = made.crashes
        if not await self._write_status(look, made):
            return 0.0
        await self._apply(look, made)
        if made.status != row.status or made.rolled_back:
            return 0.0
        return made.requeue_after

    async def _write_status(self, look: Look, made: Plan) -> bool:
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
            reached = Reached(look.deployment, look.goals, images(look, self._instances, now))
            reason = ""
        if made.trouble is not None:
            variant = look.deployment.variant(made.trouble.variant)
            urls = {each.name: each.model_data or "" for each in variant.containers} or variant.model_data or ""
            known = kept(look, made.trouble.variant)
            reason = failure_reason(made.trouble, urls, *known, job=look.deployment.transform is not None)
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

    async def _apply(self, look: Look, made: Plan) -> None:
        """Routes first, then what ends, then what begins."""
        published = [action.route for action in made.actions if isinstance(action, Publish)]
        route = published[-1] if published else look.observed.route
        self._routes.put(look.row.arn, endpoints_entries.entry(look, route, self._instances) if route is not None else None)
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

    async def _start(self, look: Look, starts: Sequence[Start]) -> None:
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

    async def _specs(self, look: Look, start: Start, id: str) -> tuple[list[ReplicaSpec], list[ReplicaState]]:
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

    async def _forget(self, look: Look, gone: Sequence[str]) -> None:
        """Drop replicas whose processes are gone, at the keeper and here."""
        await self._instances.let_go(gone)
        await self._remove_replicas([look.rows[id] for id in gone])
        self._instances.forget(gone)
        memory = self._memory[look.row.arn]
        for id in gone:
            memory.asked_to_stop.discard(id)
            memory.first_seen.pop(id, None)

    async def _remove(self, look: Look) -> None:
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
