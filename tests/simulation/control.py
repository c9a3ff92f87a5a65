"""A control process of real parts, as `roles.control` wires them, on what a run offers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.objects import Objects
from slipway.control import alarms, asynchronous, autoscaler
from slipway.control.alarms import Alarms
from slipway.control.autoscaler import Autoscaler
from slipway.control.changes import Changes
from slipway.control.endpoints import KIND, Endpoints, Surroundings
from slipway.control.instances import STRAY, Instances
from slipway.control.reconciler import Reconciler
from slipway.control.routes import Routes
from slipway.control.specs import Making
from slipway.core.asynchronous import Outcome
from slipway.core.limits import GIB, InstanceType
from slipway.core.replicas import ReplicaState
from slipway.link.channel import Channel
from slipway.link.routes import RouteFeed
from slipway.roles.control_async import AsyncParts, rules
from slipway.services import Context, World, sagemaker
from slipway.services.runtime.invoke_async import Acceptor
from slipway.settings import Limits, Settings
from slipway.store import jobs_claims
from slipway.store.db import Connection, Db
from slipway.store.jobs_settle import Result
from tests.simulation.loops import Process
from tests.simulation.objects import Foreign, Shelf, SimObjects
from tests.simulation.replicas import Keeper, KeeperClient
from tests.simulation.site import Site
from tests.simulation.store import SimDb

ACCOUNT, REGION, NAME = "123456789012", "us-east-1", "E"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/e"
KEY = f"{ACCOUNT}/{REGION}/{NAME}"


class _NoLogs:
    """Lines of the data log go nowhere."""

    def append(self, *_: Any) -> None: ...


class WatchedMetrics(Metrics):
    """Metrics whose additions somebody looks at."""

    seen: Callable[[str, float], None] = staticmethod(lambda name, value: None)

    def add(self, account: str, region: str, namespace: str, name: str, *args: Any, **more: Any) -> None:
        self.seen(name, args[1])
        super().add(account, region, namespace, name, *args, **more)


def settings_of(site: Site, *, on_arrival: bool = True) -> Settings:
    mode = "arrival" if on_arrival else "alarm"
    limits = Limits(async_attempts=3, async_queue=40)
    return Settings("/d", "/r", "/c", describe_wait_seconds=0, time_scale=site.scale, scale_from_zero=mode, limits=limits)


class SimControl:
    """`await begin()` on the process' own loop; nothing ends it but a kill."""

    def __init__(
        self,
        site: Site,
        process: Process,
        keeper: Keeper,
        shelf: Shelf,
        settings: Settings,
        committed: Callable[[str], None],
        seen: Callable[[str, float], None],
        said: Callable[[Sequence[Outcome]], None],
        dispatchers: int,
    ) -> None:
        self.site = site
        self.process = process
        self.db: Db = SimDb(site.disk, process, site.world, site.chance, site, committed)
        self.metrics = WatchedMetrics(self.db, lambda: site.now, site.scale)
        self.metrics.seen = seen
        self.reconciler = Reconciler(self._reconcile, self._everything)
        wake = self.reconciler.wake
        self.changes = Changes()
        self.changes.listen(lambda kind, key: wake(autoscaler.KIND, key) if kind == KIND else None)
        self.feed = RouteFeed(0, alive=site.alive, dispatchers=dispatchers)
        self.routes = Routes(self.feed, lambda arn: wake(KIND, arn), version=int(site.now * 1000))
        self.instances = Instances(KeeperClient(keeper, process), wake, lambda: site.now)
        self.objects = SimObjects(shelf) if not site.external else cast("SimObjects", Foreign(shelf, process))
        self.endpoints = Endpoints(self._surroundings(wake), self.routes)
        self.autoscaler = Autoscaler(
            autoscaler.Surroundings(
                self.db, self.metrics, wake, lambda: site.now, self._new_uuid, settings.scale_from_zero == "arrival"
            )
        )
        self.alarms = Alarms(self.db, self.metrics, lambda: site.now, wake)
        self.rules = rules(settings, cast("Objects", self.objects), None)
        self.world = World(
            settings=settings,
            db=self.db,
            objects=cast("Objects", self.objects),
            logs=cast("Logs", _NoLogs()),
            metrics=self.metrics,
            now=lambda: site.now,
            wake=wake,
            changed=self.changes.wait,
            keys_changed=self._nothing,
            async_rules=self.rules,
            async_arrived=lambda places: self.parts.link.arrived(places),
            async_ended=lambda result: self.parts.link.ended(result),
        )
        self.parts = AsyncParts(
            settings,
            self.db,
            cast("Objects", self.objects),
            cast("Logs", _NoLogs()),
            self.metrics,
            rules=self.rules,
            accept=Acceptor(self.world, site.chance.randbytes),
            routed=self.routes.entries,
            wake=wake,
            now=lambda: site.now,
            alive=site.alive,
        )
        self._overhear(said)
        self._kinds: Mapping[str, Callable[[str], Awaitable[float | None]]] = {
            KIND: self.endpoints.reconcile,
            STRAY: self._stray,
            alarms.KIND: self.alarms.reconcile,
            autoscaler.KIND: self.autoscaler.reconcile,
            asynchronous.KIND: self.parts.keeping.reconcile,
        }
        self.ctx = Context(self.world, ACCOUNT, REGION, "request", f"arn:aws:iam::{ACCOUNT}:root")

    def _surroundings(self, wake: Callable[[str, str], None]) -> Surroundings:
        making = Making("http://127.0.0.1:4566", InstanceType(2, 4 * GIB), 0, 480.0, lambda a, b, k, e: f"/{b}/{k}?signed")
        site = self.site
        return Surroundings(
            db=self.db,
            instances=self.instances,
            head=self.objects.head,
            making=making,
            wake=wake,
            changes=self.changes,
            now=lambda: site.now,
            new_id=lambda: f"i-{site.chance.getrandbits(68):017x}",
            new_token=lambda: "token",
            keys_gone=lambda: None,
        )

    def _overhear(self, said: Callable[[Sequence[Outcome]], None]) -> None:
        """Tell of settlements before they are looked at."""
        commit = self.parts.link._commit

        async def heard(outcomes: Sequence[Outcome]) -> tuple[list[bool], Result]:
            said(outcomes)
            return await commit(outcomes)

        self.parts.link._commit = heard  # type: ignore[method-assign]

    async def begin(self) -> None:
        self.metrics.start()
        self.site.network.serve(self.process, self._attach)
        self.parts.start()
        await self.endpoints.adopt()
        self.reconciler.start()
        self.reconciler.wake(alarms.KIND, "")

    def reported(self, state: ReplicaState) -> None:
        """The keeper's word."""
        if not self.process.dead:
            self.process.loop.call_soon(self.endpoints.state_changed, state)

    def _attach(self, channel: Channel) -> None:
        self.feed.attach(channel)
        self.parts.link.attach(channel)

    async def _reconcile(self, kind: str, key: str) -> float | None:
        return await self._kinds[kind](key)

    async def _everything(self) -> Iterable[tuple[str, str]]:
        return [*await self.endpoints.all(), *await self.autoscaler.all(), (asynchronous.KIND, "")]

    async def _stray(self, id: str) -> float | None:
        await self.instances.stop_stray(id)
        return None

    async def _nothing(self) -> None: ...

    def _new_uuid(self) -> str:
        return f"{self.site.chance.getrandbits(128):032x}"

    # What callers ask

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """From outside: runs on the process' own loop."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self.process.loop)
        try:
            return self.process.loop.create_task(work)
        finally:
            asyncio._set_running_loop(outer)

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        function: Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]] = getattr(sagemaker, operation)
        return await function(self.ctx, request)

    async def cancel(self, ids: Sequence[int]) -> None:
        """As `slipway async cancel`."""

        def write(connection: Connection) -> Any:
            return jobs_claims.cancel(connection, ids, self.rules, self.site.now)

        self.parts.link.ended(await self.db.write(write))
