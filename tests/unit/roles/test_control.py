"""The control process in this one: first start, restart, what it listens on, and losing its lease."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.core.routing import Key, RouteTable
from slipway.http.client import Pool
from slipway.link.keeper import KeeperServer
from slipway.link.routes import RouteSubscriber
from slipway.roles.control import Control
from slipway.services import Context, sagemaker
from slipway.settings import Settings
from slipway.store import keys, leases
from slipway.store.db import Connection, StoreUnavailable
from tests.deadlines import PATIENCE, Watch


class Keeping:
    """A keeper that has everything ready at once."""

    def __init__(self) -> None:
        self.states: dict[str, ReplicaState] = {}
        self.callbacks: list[Callable[[ReplicaState], None]] = []

    async def start(self, spec: ReplicaSpec) -> None:
        if spec.id not in self.states:
            self.say(ReplicaState(spec.id, spec.owner, "ready", protocol="frames", workers=("unix:/w0",)))

    async def stop(self, id: str, grace: float) -> None:
        state = self.states.pop(id, None)
        if state is not None and state.phase != "exited":
            self.say(ReplicaState(id, state.owner, "exited"))

    def say(self, state: ReplicaState) -> None:
        self.states[state.id] = state
        for callback in self.callbacks:
            callback(state)

    def list(self) -> list[ReplicaState]:
        return list(self.states.values())

    async def usage(self) -> tuple[Usage, ...]:
        return ()

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    run = tmp_path / "r"
    run.mkdir(mode=0o700)
    return Settings(str(tmp_path / "data"), str(run), str(tmp_path / "cache"), describe_wait_seconds=2.0)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def credentials(settings: Settings) -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(settings.data_dir, "credentials.json").read_text())
    return found


async def get(settings: Settings, target: bytes) -> int:
    pool = Pool(f"unix:{settings.control_socket}")
    try:
        response = await pool.request("GET", target, [(b"host", b"localhost")], b"", length=0)
        await response.read(100_000)
        return response.status
    finally:
        pool.close()


def context(control: Control) -> Context:
    return Context(control.world, control.settings.account, "us-east-1", "r", "arn:aws:iam::1:root")


async def create(control: Control) -> None:
    ctx = context(control)
    await sagemaker.create_model(ctx, {"ModelName": "m", "PrimaryContainer": {"Image": "image:1"}})
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    await sagemaker.create_endpoint_config(ctx, {"EndpointConfigName": "c", "ProductionVariants": [variant]})
    await sagemaker.create_endpoint(ctx, {"EndpointName": "E", "EndpointConfigName": "c"})


async def status(control: Control) -> str:
    answer: str = (await sagemaker.describe_endpoint(context(control), {"EndpointName": "E"}))["EndpointStatus"]
    return answer


async def test_a_whole_control_over_its_links(settings: Settings) -> None:
    keeping = Keeping()
    keeper = KeeperServer(settings.keeper_socket, keeping)
    await keeper.start()
    tables: list[RouteTable] = []
    gateway = RouteSubscriber(settings.link_socket, settings.routes_file, tables.append, lambda: ())
    gateway.start()
    control = await Control.open(settings)
    await control.start()
    assert await get(settings, b"/_slipway/health") == 200
    await create(control)
    assert await status(control) == "InService", "Describe holds its answer until there is one"
    assert tables[-1].endpoints[f"{settings.account}/us-east-1/E"].variants[0].replicas[0].workers == ("unix:/w0",)
    assert len(tables[-1].keys) == 1
    first = credentials(settings)
    assert first["access_key_id"] in tables[-1].keys
    assert stat.S_IMODE(os.stat(f"{settings.data_dir}/credentials.json").st_mode) == 0o600
    await control.stop()

    running = dict(keeping.states)
    version = tables[-1].version
    control = await Control.open(settings)
    await control.start()
    assert credentials(settings) == first
    assert await status(control) == "InService"

    async def newer() -> bool:
        return tables[-1].version > version

    await until(newer)
    assert len(tables[-1].endpoints) == 1
    assert keeping.states == running

    await sagemaker.delete_endpoint(context(control), {"EndpointName": "E"})

    async def gone() -> bool:
        return not keeping.states and not tables[-1].endpoints

    await until(gone)
    await control.stop()
    await gateway.close()
    await keeper.close()


async def test_new_keys_are_published(settings: Settings) -> None:
    keeper = KeeperServer(settings.keeper_socket, Keeping())
    await keeper.start()
    tables: list[RouteTable] = []
    gateway = RouteSubscriber(settings.link_socket, settings.routes_file, tables.append, lambda: ())
    gateway.start()
    control = await Control.open(settings)
    await control.start()
    key = keys.mint_session(settings.account, "arn", 2e9, ("s3",))
    await control.db.write(lambda c: keys.add(c, key, 1.0))
    await control.world.keys_changed()
    assert tables[-1].keys.get(key.id) == key, "good at the gateways before it is told"
    await control.stop()
    await gateway.close()
    await keeper.close()


async def test_a_gateway_that_hangs_does_not_hold_up_fresh_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.roles.control_keys.KEYS_REACH_SECONDS", 0.02)
    control = await Control.open(settings)
    await control.start()
    began = Watch()
    await asyncio.wait_for(control.world.keys_changed(), PATIENCE)
    assert began.free < 1
    await control.stop()


async def test_no_table_goes_out_without_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = KeeperServer(settings.keeper_socket, Keeping())
    await keeper.start()
    tables: list[RouteTable] = []
    gateway = RouteSubscriber(settings.link_socket, settings.routes_file, tables.append, lambda: ())
    gateway.start()

    def broken(connection: Connection, now: float) -> list[Key]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr("slipway.store.keys.live", broken)
    control = await Control.open(settings)
    with pytest.raises(StoreUnavailable):
        await control.start()
    await asyncio.sleep(0.05)
    await control.stop()
    assert tables == []
    await gateway.close()
    await keeper.close()


async def test_a_control_that_loses_its_lease_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.roles.lease.LEASE_SECONDS", 0.03)
    control = await Control.open(settings)
    await control.start()

    def steal(connection: Connection) -> int | None:
        leases.release(connection, "control", 1)
        return leases.acquire(connection, "control", "another", 60.0)

    assert await control.db.write(steal) == 2
    await asyncio.wait_for(control.lease_lost, PATIENCE)
    await control.stop()
