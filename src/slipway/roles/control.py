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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import uvloop

from slipway.backing.logs import Logs
from slipway.backing.objects import ObjectInfo, Objects
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_external import ExternalObjects
from slipway.control.changes import Changes
from slipway.control.endpoints import KIND, Endpoints, Surroundings
from slipway.control.instances import STRAY, Instances, Keeper
from slipway.control.reconciler import Reconciler
from slipway.control.routes import Feed, Routes
from slipway.control.specs import Making, Missing
from slipway.core.limits import InstanceType
from slipway.core.replicas import Failure
from slipway.core.routing import Key
from slipway.http.limits import HttpLimits
from slipway.http.server import Server
from slipway.link import channel
from slipway.link.channel import LinkClosed
from slipway.link.keeper import KeeperClient
from slipway.link.routes import RouteFeed
from slipway.link.start import die_with_parent, read_start
from slipway.roles import events
from slipway.services import World
from slipway.services.authenticate import Keys
from slipway.services.dispatch import Dispatcher
from slipway.services.served import MODULES, SERVICES
from slipway.settings import Settings
from slipway.store import keys, leases
from slipway.store.db import Connection, Db, StoreError
from slipway.store.leases import LeaseLost
from slipway.wire import signatures
from slipway.wire.errors import AwsError
from slipway.wire.models import ServiceModels
from slipway.wire.route import Router

logger = logging.getLogger(__name__)
T = TypeVar("T")

LEASE = "control"
LEASE_SECONDS = 15.0
KEYS = "keys"
HOUSEKEEPING = "housekeeping"
KEYS_SECONDS = 60.0
"""How often keys are read again, should nobody have told of a change."""
KEYS_REACH_SECONDS = 2.0
"""How long the answer with fresh credentials waits for gateways to know them; one that hangs must not hold it up for ever."""
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


class FencedDb(Db):
    """Writes only while this control holds the lease: where another may take it over, each transaction looks first."""

    token: int | None = None
    """Set when the lease is held."""

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """As `Db.write`; raises LeaseLost, with nothing written, when another control has taken over."""
        token = self.token
        if token is None or self.dialect == "sqlite":
            # One data directory has one keeper (a lock on the directory), and that keeper one control.
            return await super().write(fn)

        def fenced(connection: Connection) -> T:
            leases.guard(connection, LEASE, token)
            return fn(connection)

        return await super().write(fenced)


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
        self._live: list[Key] = [key]
        self._reading_keys = asyncio.Lock()
        self._reconciling = False
        self._tasks: list[asyncio.Task[None]] = []
        self._link: channel.Server | None = None
        self.objects = _objects(settings, db)
        self.logs = Logs(settings.logs_dir)
        self.changes = Changes()
        self.reconciler = Reconciler(self._reconcile, self._everything)
        self._client: KeeperClient | None = None
        if keeper is None:
            keeper = self._client = KeeperClient(
                settings.keeper_socket, on_state=lambda state: self.endpoints.state_changed(state), on_connect=self._adopt
            )
        self._feed = feed or RouteFeed(settings.gateways)
        self.routes = Routes(
            self._feed,
            lambda arn: self.reconciler.wake(KIND, arn),
            version=int(time.time() * 1000),
            drain_seconds=max(settings.limits.invoke_seconds, settings.limits.stream_seconds) + 10,
        )
        self.instances = Instances(keeper, self.reconciler.wake, time.time, settings.stop_grace_seconds)
        self.endpoints = Endpoints(
            Surroundings(
                db=db,
                instances=self.instances,
                head=self._head,
                making=Making(
                    endpoint_url=settings.local_url,
                    machine=machine(),
                    memory_bound=settings.replica_memory_bytes,
                    start_seconds=settings.limits.start_seconds,
                    presign=self._presign,
                ),
                wake=self.reconciler.wake,
                changes=self.changes,
                now=time.time,
                new_id=lambda: f"i-{secrets.token_hex(9)[:17]}",
                new_token=lambda: secrets.token_urlsafe(32),
                keys_gone=self._keys_gone,
            ),
            self.routes,
        )
        self.keys = Keys(db, time.time)
        self.world = World(
            settings=settings,
            db=db,
            objects=self.objects,
            logs=self.logs,
            now=time.time,
            wake=self.reconciler.wake,
            changed=self.changes.wait,
            keys_changed=self._keys_changed,
        )
        router = Router(ServiceModels(SERVICES))
        self.server = Server(Dispatcher(self.world, router, MODULES, self.keys), limits=HttpLimits())

    @classmethod
    async def open(cls, settings: Settings, *, keeper: Keeper | None = None, feed: Stoppable | None = None) -> Control:
        """Open the store, wait for the lease, make the first key. `keeper`, `feed`: fakes of tests."""
        os.makedirs(settings.data_dir, mode=0o700, exist_ok=True)
        db = await FencedDb.open(settings.database_url or f"{settings.data_dir}/slipway.db")
        try:
            fresh = keys.mint(settings.account, f"arn:aws:iam::{settings.account}:root")
            token, key = await _acquire(db, _node(settings.data_dir), fresh, _configured(settings))
            db.token = token
            _write_credentials(settings, key)
            return cls(settings, db, token, key, keeper=keeper, feed=feed)
        except BaseException:
            await db.close()
            raise

    async def start(self) -> None:
        """Answer; take over what runs; from then on reconcile."""
        if isinstance(self.objects, EmbeddedObjects):
            self.objects.start()
        if isinstance(self._feed, RouteFeed):
            self._link = await channel.serve(self.settings.link_socket, self._feed.attach)
        await self._publish_keys()  # before there can be a table: gateways refuse whose key it has not
        self.reconciler.wake(KEYS, "")
        asyncio.get_running_loop().call_later(HOUSEKEEPING_DELAY, self.reconciler.wake, HOUSEKEEPING, "")
        self._tasks.append(asyncio.create_task(self._renew()))
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
                await self.server.stop(1.0)
        await self.reconciler.stop()
        await self.routes.stop()
        await self._feed.close()
        if self._client is not None:
            await self._client.close()
        if self._link is not None:
            await self._link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.objects.close()
        with contextlib.suppress(StoreError, LeaseLost):
            await self.db.write(lambda c: leases.release(c, LEASE, self._token))
        await self.db.close()

    async def _adopt(self) -> None:
        """The keeper is (again) at the other end."""
        try:
            await self.endpoints.adopt()
        except StoreError as error:
            raise LinkClosed("the store does not answer") from error
        if not self._reconciling:
            self._reconciling = True
            self.reconciler.start()

    async def _reconcile(self, kind: str, key: str) -> float | None:
        if kind == KIND:
            return await self.endpoints.reconcile(key)
        if kind == STRAY:
            await self.instances.stop_stray(key)
            return None
        if kind == KEYS:
            await self._publish_keys()
            return KEYS_SECONDS
        await self.db.write(lambda c: keys.purge(c, time.time() - EXPIRED_SECONDS))
        await asyncio.to_thread(self.logs.expire)
        return HOUSEKEEPING_SECONDS

    async def _everything(self) -> Iterable[tuple[str, str]]:
        """For the resync. Keys and housekeeping keep their own time once they have begun."""
        return await self.endpoints.all()

    async def _publish_keys(self) -> int:
        """Read the keys and enter them in the route table, whose version it returns."""
        async with self._reading_keys:  # of two that read at once, the older reading must not be the last word
            self._live = await self.db.read(lambda c: keys.live(c, time.time()))
            return self.routes.set_keys(self._live)

    async def _keys_changed(self) -> None:
        """Fresh credentials are good at once: whoever gets them may use them before the answer is cold."""
        self.keys.forget()
        try:
            async with asyncio.timeout(KEYS_REACH_SECONDS):
                await self._feed.acknowledged(await self._publish_keys())
        except (TimeoutError, StoreError) as error:
            logger.warning("keys-not-acknowledged", extra={"error": repr(error)})
            self.reconciler.wake(KEYS, "")

    def _keys_gone(self) -> None:
        self.keys.forget()
        self.reconciler.wake(KEYS, "")

    async def _head(self, bucket: str, key: str, *, account: str | None) -> ObjectInfo | None:
        try:
            return await self.objects.head(bucket, key, account=account)
        except AwsError as error:
            message = f"The object store did not say whether s3://{bucket}/{key} is there: {error.message}"
            raise Missing(Failure("fetch-failed", message)) from error

    def _presign(self, account: str, bucket: str, key: str, expires: int) -> str:
        """A GET that the account may do, for the keeper's fetchers."""
        own = next((k for k in self._live if k.account == account and k.token is None and not k.services), self._live[0])
        host = self.settings.local_url.partition("://")[2]
        return signatures.presign("GET", f"/{bucket}/{key}", own.id, own, self.settings.region, host, expires, time.time())

    async def _renew(self) -> None:
        """Keep the lease; a control that has lost it must not write any more, and ends."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                await self.db.write(lambda c: leases.renew(c, LEASE, self._token, LEASE_SECONDS))
            except LeaseLost:
                logger.error("lease-lost")
                self.lease_lost.set_result(None)
                return
            except StoreError as error:
                logger.warning("lease-not-renewed", extra={"error": str(error)})
            except Exception:
                logger.exception("lease-not-renewed")


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


def _configured(settings: Settings) -> list[Key]:
    """The settings' keys."""
    return [Key(key.id, key.secret, key.account, f"arn:aws:iam::{key.account}:{keys.CONFIGURED}") for key in settings.keys]


async def _acquire(db: Db, holder: str, fresh: Key, configured: list[Key]) -> tuple[int, Key]:
    """The lease's fencing token, when whoever held it has let go or is long gone; and the data directory's own key."""

    def acquire(connection: Connection) -> tuple[int, Key] | None:
        token = leases.acquire(connection, LEASE, holder, LEASE_SECONDS)
        if token is None:
            return None
        keys.configure(connection, configured, time.time())
        return token, keys.first(connection, fresh, time.time())

    waiting = False
    while True:
        acquired = await db.write(acquire)
        if acquired is not None:
            return acquired
        if not waiting:
            logger.warning("lease-held", extra={"seconds": LEASE_SECONDS})
            waiting = True
        await asyncio.sleep(0.5)


def _node(data_dir: str) -> str:
    """This data directory's name for itself, made once."""
    path = Path(data_dir) / "node"
    try:
        return path.read_text()
    except FileNotFoundError:
        name = secrets.token_hex(8)
        _write_private(path, name.encode())
        return name


def _write_credentials(settings: Settings, key: Key) -> None:
    """For `slipway env` and the commands: mode 0600."""
    values = {
        "access_key_id": key.id,
        "secret_access_key": key.secret,
        "account": key.account,
        "region": settings.region,
    }
    content = msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"
    path = Path(settings.data_dir) / "credentials.json"
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    _write_private(path, content)


def _write_private(path: Path, content: bytes) -> None:
    """Replace the file whole; it was never readable by others."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


if __name__ == "__main__":
    main()
