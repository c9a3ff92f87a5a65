"""A control in one process with a real store, a keeper that obeys a script, and gateways that acknowledge when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.objects import ObjectInfo, Objects
from slipway.control.changes import Changes
from slipway.control.endpoints import KIND, Endpoints, Surroundings
from slipway.control.instances import STRAY, Instances
from slipway.control.routes import Routes
from slipway.control.specs import Making, Missing
from slipway.core.limits import GIB, InstanceType
from slipway.core.replicas import Failure, ReplicaSpec, ReplicaState
from slipway.core.routing import RouteTable
from slipway.services import Context, World, sagemaker
from slipway.settings import Settings
from slipway.store.db import Db

ACCOUNT, REGION = "123456789012", "us-east-1"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sagemaker"

HANGS = "hangs"
"""As a script: the replica never becomes ready."""


@dataclass
class FakeKeeper:
    """Starts what it is asked for, as `script` says for the container or variant: ready, hanging, or a failure."""

    report: Callable[[ReplicaState], None]
    script: dict[str, Failure | str] = field(default_factory=dict)
    slow_to_stop: bool = False
    broken: bool = False
    specs: dict[str, ReplicaSpec] = field(default_factory=dict)
    states: dict[str, ReplicaState] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)

    async def start(self, spec: ReplicaSpec) -> None:
        if self.broken:
            raise ConnectionError("the keeper does not answer")
        if spec.id in self.states:
            return
        self.specs[spec.id] = spec
        will = self.script.get(spec.container, self.script.get(spec.variant, "ready"))
        self.say(ReplicaState(spec.id, spec.owner, "starting"))
        if isinstance(will, Failure):
            self.say(ReplicaState(spec.id, spec.owner, "exited", failure=will))
        elif will == "ready":
            self.ready(spec.id)

    def ready(self, id: str) -> None:
        worker = f"unix:/run/{id}/w0.sock"
        self.say(
            replace(self.states.get(id) or self._blank(id), phase="ready", protocol="frames", workers=(worker,), image="sk")
        )

    def _blank(self, id: str) -> ReplicaState:
        return ReplicaState(id, self.specs[id].owner, "starting")

    def die(self, id: str, failure: Failure | None = None) -> None:
        self.say(replace(self.states[id], phase="exited", failure=failure))

    def say(self, state: ReplicaState) -> None:
        self.states[state.id] = state
        asyncio.get_running_loop().call_soon(self.report, state)

    async def stop(self, id: str, grace: float) -> None:
        if self.broken:
            raise ConnectionError("the keeper does not answer")
        state = self.states.get(id)
        if state is None:
            return
        self.stops.append(id)
        if state.phase == "exited":
            del self.states[id]
        else:
            self.say(replace(state, phase="stopping"))
            if not self.slow_to_stop:
                self.die(id)

    async def list(self) -> list[ReplicaState]:
        return list(self.states.values())

    def running(self) -> set[str]:
        return {id for id, state in self.states.items() if state.phase not in ("exited", "stopping")}


@dataclass
class FakeFeed:
    """Gateways: they acknowledge and drain at once, or when they are let."""

    tables: list[RouteTable] = field(default_factory=list)
    acknowledge: asyncio.Event = field(default_factory=asyncio.Event)
    drain: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, table: RouteTable) -> None:
        self.tables.append(table)

    async def acknowledged(self, version: int) -> None:
        await self.acknowledge.wait()

    async def drained(self, replica_ids: Iterable[str]) -> None:
        await self.drain.wait()


class FakeObjects:
    def __init__(self) -> None:
        self.there = {"s3://bucket/model.tar.gz"}
        self.failing = 0
        """So many calls to come fail."""

    async def head(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo | None:
        if self.failing:
            self.failing -= 1
            raise Missing(Failure("fetch-failed", "the external S3 is away"))
        return ObjectInfo(bucket, key, 10, "etag") if f"s3://{bucket}/{key}" in self.there else None


class Control:
    """What roles.control builds, driven by hand: `drive` until nothing is due, `clock` moved by the test."""

    def __init__(self, db: Db, path: Path, keeper: FakeKeeper | None = None) -> None:
        self.db = db
        self.now = 1_000_000.0
        self.due: dict[tuple[str, str], float] = {}
        self.changes = Changes()
        self.feed = FakeFeed()
        self.feed.acknowledge.set()
        self.feed.drain.set()
        self.objects = FakeObjects()
        self.keeper = keeper or FakeKeeper(lambda state: None)
        self.keeper.report = self._report
        self.made = len(self.keeper.specs)
        self.routes = Routes(self.feed, lambda arn: self.wake(KIND, arn))
        making = Making("http://127.0.0.1:4566", InstanceType(2, 4 * GIB), 0, 480.0, lambda a, b, k, e: f"/{b}/{k}?signed")
        self.instances = Instances(self.keeper, self.wake, lambda: self.now)
        self.keys_gone = 0
        self.endpoints = Endpoints(
            Surroundings(
                db=db,
                instances=self.instances,
                head=self.objects.head,
                making=making,
                wake=self.wake,
                changes=self.changes,
                now=lambda: self.now,
                new_id=self.new_id,
                new_token=lambda: "token",
                keys_gone=self._keys_gone,
            ),
            self.routes,
        )
        settings = Settings(str(path), str(path), str(path), describe_wait_seconds=0)
        self.world = World(
            settings=settings,
            db=db,
            objects=cast("Objects", self.objects),
            logs=cast("Logs", None),
            metrics=cast("Metrics", None),
            now=lambda: self.now,
            wake=self.wake,
            changed=self.changes.wait,
            keys_changed=self._keys_changed,
        )
        self.ctx = Context(self.world, ACCOUNT, REGION, "request", f"arn:aws:iam::{ACCOUNT}:root")

    async def _keys_changed(self) -> None:
        """Nobody has keys here."""

    def _keys_gone(self) -> None:
        self.keys_gone += 1

    def new_id(self) -> str:
        self.made += 1
        return f"i-{self.made:017x}"

    def _report(self, state: ReplicaState) -> None:
        self.endpoints.state_changed(state)

    def wake(self, kind: str, key: str) -> None:
        self.due[kind, key] = self.now

    async def drive(self, steps: int = 200) -> None:
        """Reconcile what is due now, until nothing is."""
        for _ in range(steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ready = [key for key, at in self.due.items() if at <= self.now]
            if not ready:
                return
            for kind, key in ready:
                del self.due[kind, key]
                if kind == STRAY:
                    await self.instances.stop_stray(key)
                    continue
                wait = await self.endpoints.reconcile(key)
                if wait is not None:
                    self.due.setdefault((kind, key), self.now + wait)
        raise AssertionError(f"never at rest: {self.due}")

    async def later(self, seconds: float) -> None:
        self.now += seconds
        await self.drive()

    async def up(self) -> None:
        await self.endpoints.adopt()
        await self.drive()

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        function: Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]] = getattr(sagemaker, operation)
        return await function(self.ctx, request)

    async def deploy(
        self,
        name: str = "E",
        *,
        config: str = "c",
        variants: tuple[str, ...] = ("A",),
        count: int = 1,
        asynchronous: dict[str, Any] | None = None,
    ) -> None:
        """A model, a configuration and an endpoint, not driven yet."""
        await self.configure(config, variants=variants, count=count, asynchronous=asynchronous)
        await self.call("create_endpoint", EndpointName=name, EndpointConfigName=config)

    async def configure(
        self,
        config: str,
        *,
        variants: tuple[str, ...] = ("A",),
        count: int = 1,
        environment: dict[str, str] | None = None,
        asynchronous: dict[str, Any] | None = None,
        containers: tuple[str, ...] = (),
        mode: str = "Serial",
    ) -> None:
        """`asynchronous`: an AsyncInferenceConfig. `containers`: hostnames of several."""
        container: dict[str, Any] = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"}
        container["Environment"] = environment or {}
        model: dict[str, Any] = {"PrimaryContainer": container}
        if containers:
            model = {"Containers": [{**container, "ContainerHostname": name} for name in containers]}
            model["InferenceExecutionConfig"] = {"Mode": mode}
        await self.call("create_model", ModelName=f"m-{config}", ExecutionRoleArn=ROLE, **model)
        production = [
            {
                "VariantName": name,
                "ModelName": f"m-{config}",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": count,
            }
            for name in variants
        ]
        more = {"AsyncInferenceConfig": asynchronous} if asynchronous else {}
        await self.call("create_endpoint_config", EndpointConfigName=config, ProductionVariants=production, **more)

    async def describe(self, name: str = "E") -> dict[str, Any]:
        return await self.call("describe_endpoint", EndpointName=name)

    async def status(self, name: str = "E") -> str:
        status: str = (await self.describe(name))["EndpointStatus"]
        return status

    def routed(self, name: str = "E") -> dict[str, set[str]] | None:
        """What the newest table has for the endpoint: replica ids by variant."""
        entry = self.feed.tables[-1].endpoints.get(f"{ACCOUNT}/{REGION}/{name}") if self.feed.tables else None
        return None if entry is None else {v.name: {r.id for r in v.replicas} for v in entry.variants}
