"""The control process: answers all AWS services, owns the store, makes endpoints be what they should, publishes routes.

Built here in order, and nowhere else. Exactly one is active: a lease in the store, held under the name of the data directory's
node, so that a restarted control finds its own. It may be killed at any moment: startup is recovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import uvloop

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.notices_addresses import guard
from slipway.backing.notices_signing import Signer
from slipway.backing.objects import ObjectInfo, Objects
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_external import ExternalObjects
from slipway.control import alarms, asynchronous, autoscaler, models, queue_sweep, transforms_link
from slipway.control.alarms import Alarms
from slipway.control.autoscaler import Autoscaler
from slipway.control.changes import Changes
from slipway.control.deliveries import Deliveries
from slipway.control.endpoints import KIND, Endpoints, Surroundings
from slipway.control.exposition import Exposition
from slipway.control.hosting_metrics import HostingMetrics
from slipway.control.instances import STRAY, Instances, Keeper
from slipway.control.models import ModelDesk
from slipway.control.queue_sweep import QueueSweep
from slipway.control.reconciler import Reconciler
from slipway.control.routes import Feed, Routes
from slipway.control.specs import Making, Missing
from slipway.core.limits import InstanceType
from slipway.core.replicas import Failure, Usage
from slipway.core.routing import Key
from slipway.core.transform_jobs import job_of_fleet
from slipway.http.limits import HttpLimits
from slipway.http.server import Server
from slipway.link import channel
from slipway.link.channel import LinkClosed
from slipway.link.keeper import KeeperClient
from slipway.link.models import ModelLinkServer
from slipway.link.routes import RouteFeed
from slipway.link.start import die_with_parent, read_start
from slipway.roles import control_async, credentials, events, lease
from slipway.roles.control_async import AsyncParts
from slipway.roles.control_keys import KEYS, ControlKeys
from slipway.roles.control_transforms import TransformParts
from slipway.services import World, slipway_metrics
from slipway.services.dispatch import Dispatcher
from slipway.services.runtime.invoke_async import Acceptor
from slipway.services.served import MODULES, SERVICES
from slipway.settings import Settings
from slipway.store import keys, leases, topics
from slipway.store.db import Db, StoreError
from slipway.store.jobs_settle import Rules
from slipway.store.leases import LeaseLost
from slipway.wire.errors import AwsError
from slipway.wire.models import ServiceModels
from slipway.wire.route import Router

logger = logging.getLogger(__name__)
T = TypeVar("T")

HOUSEKEEPING = "housekeeping"
HOUSEKEEPING_SECONDS = 3600.0
HOUSEKEEPING_DELAY = 60.0
EXPIRED_SECONDS = 86_400.0
"""How long an expired key is remembered: its caller shall learn that it has expired."""


def main() -> None:
    start = read_start(sys.stdin.buffer)
    die_with_parent(start.keeper_pid)
    settings = start.settings_as(Settings)
    events.configure("control", settings.log_level)
    uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; leave at once when another control has taken the lease."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        control = await Control.open(settings)
    except StoreError as error:
        mend = "check --database, and that its server runs" if settings.database_url else f"look at {settings.data_dir}"
        raise SystemExit(f"{error}: {mend}") from None
    try:
        await control.start()
        gc.freeze()  # without a collection, which would find next to nothing and hold up the first answers
        stopping = loop.create_task(stop.wait())
        await asyncio.wait((stopping, control.lease_lost), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
    finally:
        await control.stop()


class Stoppable(Feed, Protocol):
    """A route feed with its connections; tests give a fake."""

    async def close(self) -> None: ...


class Control:
    """Everything of one control, wired. `open`, `start`, `stop`, once each."""

    def __init__(
        self, settings: Settings, db: Db, token: int, key: Key, *, keeper: Keeper | None = None, feed: Stoppable | None = None
    ) -> None:
        """`token`: of the lease. `key`: the data directory's own. `keeper`, `feed`: fakes; None: those of the link."""
        self.settings = settings
        self.db = db
        self.lease_lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._token = token
        self._reconciling = False
        self._tasks: list[asyncio.Task[None]] = []
        self._link: channel.Server | None = None
        self._model_link: ModelLinkServer | None = None
        self.objects = _objects(settings, db)
        self.logs = Logs(settings.logs_dir)
        self.metrics = Metrics(db, time.time, settings.time_scale)
        self.changes = Changes()
        self.changes.listen(self._changed)
        self.reconciler = Reconciler(self._reconcile, self._everything)
        self._client: KeeperClient | None = None
        if keeper is None:
            keeper = self._client = KeeperClient(
                settings.keeper_socket,
                on_state=lambda state: self.endpoints.state_changed(state),
                on_model=lambda event: self.hosting.model_event(event),
                on_connect=self._adopt,
            )
        self._feed = feed or RouteFeed(settings.gateways, dispatchers=settings.dispatchers)
        self.routes = Routes(
            self._feed,
            self._routed,
            version=int(time.time() * 1000),
            drain_seconds=max(settings.limits.invoke_seconds, settings.limits.stream_seconds) + 10,
            async_drain_seconds=settings.limits.async_timeout_seconds + 60,
        )
        self.keys = ControlKeys(settings, db, self.routes, self._feed, self.reconciler.wake, key)
        self.instances = Instances(keeper, self.reconciler.wake, time.time, settings.stop_grace_seconds)
        self.endpoints = self._make_endpoints()
        self.autoscaler = self._make_autoscaler()
        seal = Signer(settings.data_dir, settings.local_url)
        self.deliveries = Deliveries(db, seal, guard(settings.notify_allow, loopback=settings.on_loopback), time.time)
        rules = control_async.rules(settings, self.objects, seal)
        self.models = self._make_models()
        self.world = self._make_world(seal, rules)
        self.asynchronous = AsyncParts(
            settings,
            db,
            self.objects,
            self.logs,
            self.metrics,
            rules=rules,
            accept=Acceptor(self.world),
            routed=self.routes.entries,
            wake=self.reconciler.wake,
            steady=time.monotonic,
        )
        self.transforms = TransformParts(
            db, self.objects, self.logs, self.routes, self.changes, self.reconciler.wake, rules.origin, steady=time.monotonic
        )
        self.hosting = HostingMetrics(self.metrics, self.routes.entries, self._replicas_use)
        self.exposition = Exposition(db, self.hosting, self.routes.entries)
        self.alarms = Alarms(db, self.metrics, time.time, self.reconciler.wake, seal)
        self._kinds = self._make_kinds()
        """What the reconciler is woken for (`wake(kind, key)`), who sees to it, and seconds until the next time (or None)."""
        router = Router(ServiceModels(SERVICES))
        self.server = Server(Dispatcher(self.world, router, MODULES, self.keys.callers), limits=HttpLimits())

    def _make_endpoints(self) -> Endpoints:
        settings = self.settings
        return Endpoints(
            Surroundings(
                db=self.db,
                instances=self.instances,
                head=self._head,
                making=Making(
                    endpoint_url=settings.local_url,
                    machine=machine(),
                    memory_bound=settings.replica_memory_bytes,
                    start_seconds=settings.limits.start_seconds,
                    presign=self.keys.presign,
                ),
                wake=self.reconciler.wake,
                changes=self.changes,
                now=time.time,
                new_id=lambda: f"i-{secrets.token_hex(9)[:17]}",
                new_token=lambda: secrets.token_urlsafe(32),
                keys_gone=self.keys.gone,
                gone=self._endpoint_gone,
            ),
            self.routes,
        )

    def _make_models(self) -> ModelDesk | None:
        """Multi-model endpoints; None with a fake keeper."""
        if self._client is None:
            return None
        link = ModelLinkServer(lambda ask: desk.ask(ask), lambda done: desk.done(done))
        self._model_link = link
        seconds = self.settings.limits.model_load_seconds
        desk = ModelDesk(
            models.Surroundings(self._client, self._head, self.keys.presign, self.routes.entries, link.tell, seconds)
        )
        if isinstance(self.objects, EmbeddedObjects):
            self.objects.written = desk.written
        return desk

    def _make_autoscaler(self) -> Autoscaler:
        settings = self.settings
        return Autoscaler(
            autoscaler.Surroundings(
                db=self.db,
                metrics=self.metrics,
                wake=self.reconciler.wake,
                now=time.time,
                new_id=lambda: str(uuid.uuid4()),
                on_arrival=settings.scale_from_zero == "arrival",
                enforce_quotas=settings.limits.enforce_quotas,
            )
        )

    def _make_world(self, seal: Signer, rules: Rules) -> World:
        return World(
            settings=self.settings,
            db=self.db,
            objects=self.objects,
            logs=self.logs,
            metrics=self.metrics,
            now=time.time,
            wake=self.reconciler.wake,
            changed=self.changes.wait,
            keys_changed=self.keys.changed,
            seal=seal,
            async_rules=rules,
            async_arrived=lambda places: self.asynchronous.link.arrived(places),
            async_ended=lambda result: self.asynchronous.link.ended(result),
            transform_records=lambda job: sum(self.transforms.link.under_way.get(job, {}).values()),
            exposition=lambda: self.exposition.text(),
            models=self.models,
        )

    def _make_kinds(self) -> Mapping[str, Callable[[str], Awaitable[float | None]]]:
        return {
            KIND: self.endpoints.reconcile,
            STRAY: self._stray,
            KEYS: self.keys.reconcile,
            HOUSEKEEPING: self._keep_house,
            alarms.KIND: self.alarms.reconcile,
            autoscaler.KIND: self.autoscaler.reconcile,
            asynchronous.KIND: self.asynchronous.keeping.reconcile,
            transforms_link.KIND: self.transforms.jobs.reconcile,
            queue_sweep.KIND: QueueSweep(self.db, time.time).reconcile,
        }

    @classmethod
    async def open(cls, settings: Settings, *, keeper: Keeper | None = None, feed: Stoppable | None = None) -> Control:
        """Open the store, wait for the lease, make the first key. `keeper`, `feed`: fakes of tests."""
        os.makedirs(settings.data_dir, mode=0o700, exist_ok=True)
        path = settings.database_url or f"{settings.data_dir}/slipway.db"
        db = await lease.FencedDb.open(path, group=settings.commit_group)
        try:
            fresh = keys.mint(settings.account, f"arn:aws:iam::{settings.account}:root")
            token, key = await lease.acquire(db, credentials.node(settings.data_dir), fresh, credentials.configured(settings))
            db.token = token
            credentials.write_credentials(settings, key)
            slipway_metrics.make_token(settings.metrics_token_file)
            return cls(settings, db, token, key, keeper=keeper, feed=feed)
        except BaseException:
            await db.close()
            raise

    async def start(self) -> None:
        """Answer; take over what runs; from then on reconcile."""
        if isinstance(self.objects, EmbeddedObjects):
            self.objects.start()
        self.metrics.start()
        if isinstance(self._feed, RouteFeed):
            self._link = await channel.serve(self.settings.link_socket, self._attach)
        self.asynchronous.start()
        await self.keys.publish()  # before there can be a table: gateways refuse whose key it has not
        self.reconciler.wake(KEYS, "")
        asyncio.get_running_loop().call_later(HOUSEKEEPING_DELAY, self.reconciler.wake, HOUSEKEEPING, "")
        self._tasks.append(asyncio.create_task(self.deliveries.run()))
        self._tasks.append(asyncio.create_task(self.hosting.run()))
        self._tasks.append(asyncio.create_task(lease.renew(self.db, self._token, self.lease_lost)))
        if self.models is not None and not isinstance(self.objects, EmbeddedObjects):
            self._tasks.append(asyncio.create_task(self.models.watch()))
        if self._client is not None:
            self._client.open()
        else:
            await self._adopt()
        await self.server.start(path=self.settings.control_socket)
        logger.info("control-serving", extra={"socket": self.settings.control_socket})

    async def stop(self) -> None:
        """Finish what is being answered; replicas live on, they are the keeper's."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await self.server.stop(0.5)  # the keeper gives 1.2 s for all of this, and gateways are gone by then
        await self.reconciler.stop()
        if self.models is not None:
            await self.models.close()
        await self.routes.stop()
        await self._feed.close()
        if self._client is not None:
            await self._client.close()
        if self._link is not None:
            await self._link.close()
        await self.asynchronous.close()
        await self.transforms.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.metrics.stop()
        await self.objects.close()
        with contextlib.suppress(StoreError, LeaseLost):
            await self.db.write(lambda c: leases.release(c, lease.LEASE, self._token))
        await self.db.close()

    def _attach(self, link: channel.Channel) -> None:
        if isinstance(self._feed, RouteFeed):
            self._feed.attach(link)
        self.asynchronous.link.attach(link)
        self.transforms.link.attach(link)
        self.hosting.attach(link)
        if self._model_link is not None:
            self._model_link.attach(link)

    async def _replicas_use(self) -> Sequence[Usage]:
        return await self._client.usage() if self._client is not None else ()

    async def _adopt(self) -> None:
        """The keeper is (again) at the other end."""
        try:
            await self.endpoints.adopt()
            known = await self.endpoints.all()
        except StoreError as error:
            raise LinkClosed("the store does not answer") from error
        if not self._reconciling:
            self._reconciling = True
            self.reconciler.start()
        if self.models is not None:
            self.models.adopted(key for kind, key in known if kind == KIND)

    def _routed(self, arn: str) -> None:
        """Every gateway has the endpoint as it is in the newest table, or has left replicas that are in none."""
        self.reconciler.wake(KIND, arn)
        if self.models is not None:
            self.models.routed(arn)

    def _endpoint_gone(self, arn: str) -> None:
        if self.models is not None:
            self.models.forget(arn)

    async def _reconcile(self, kind: str, key: str) -> float | None:
        return await self._kinds[kind](key)

    def _changed(self, kind: str, key: str) -> None:
        """A resource is another than before: what scales it may go on."""
        if kind == KIND and (job := job_of_fleet(key)) is not None:
            self.reconciler.wake(transforms_link.KIND, job)
        elif kind == KIND:
            self.reconciler.wake(autoscaler.KIND, key)

    async def _stray(self, id: str) -> float | None:
        await self.instances.stop_stray(id)
        return None

    async def _keep_house(self, _key: str) -> float | None:
        await self.db.write(lambda c: keys.purge(c, time.time() - EXPIRED_SECONDS))
        while await self.db.write(lambda c: topics.purge(c, time.time())):
            pass
        await asyncio.to_thread(self.logs.expire)
        await self.alarms.keep_house()
        await self.transforms.jobs.keep_house(self.settings.limits.async_kept_seconds)
        await self.autoscaler.keep_house()
        return HOUSEKEEPING_SECONDS

    async def _everything(self) -> Iterable[tuple[str, str]]:
        """For the resync. Keys and housekeeping keep their own time once they have begun."""
        found = [*await self.endpoints.all(), *await self.autoscaler.all(), *await self.transforms.jobs.all()]
        return [*found, (asynchronous.KIND, ""), (queue_sweep.KIND, "")]

    async def _head(self, bucket: str, key: str, *, account: str | None) -> ObjectInfo | None:
        try:
            return await self.objects.head(bucket, key, account=account)
        except AwsError as error:
            message = f"The object store did not say whether s3://{bucket}/{key} is there: {error.message}"
            raise Missing(Failure("fetch-failed", message)) from error


def _objects(settings: Settings, db: Db) -> Objects:
    external = settings.external_s3
    if external is None:
        return EmbeddedObjects(db, f"{settings.data_dir}/objects", now=time.time)
    return ExternalObjects(
        endpoint=external.endpoint,
        access_key=external.access_key,
        secret_key=external.secret_key,
        region=external.region,
        account=settings.account,
    )


def machine() -> InstanceType:
    """What this machine has for a container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return InstanceType(cpus, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    main()
