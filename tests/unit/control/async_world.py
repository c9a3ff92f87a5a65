"""Control's side of asynchronous inference over a real link, and a dispatcher that is none: it claims and settles as told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.core.asynchronous import AcceptAnswer, AcceptRequest, AsyncOptions, Claimed, Outcome, Staged
from slipway.core.deployments import Deployment, Reached
from slipway.core.routing import Endpoint, Replica, Variant
from slipway.link import channel as link
from slipway.link import claims
from slipway.link.claims import Claim, Heartbeat
from slipway.names import parse_s3_uri
from slipway.roles.control_async import AsyncParts
from slipway.services import World
from slipway.services.runtime.invoke_async import Acceptor
from slipway.settings import Limits, Settings
from slipway.store import jobs, objects, resources
from slipway.store.db import Connection, Db
from slipway.store.jobs_settle import Rules

ACCOUNT, REGION, ENDPOINT = "1", "eu-central-1", "Echo"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/echo"
KEY = f"{ACCOUNT}/{REGION}/{ENDPOINT}"
OPTIONS = AsyncOptions("s3://bucket/out", "s3://bucket/failed", "arn:topic:good", "arn:topic:bad")


@dataclass
class Site:
    """`now` moves by hand; what would wake others is written down."""

    folder: Path
    db: Db
    now: float = 1_700_000_000.0
    jumped: float = 0.0
    """Seconds by which the clock was set forward."""
    wakes: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    routed: dict[str, Endpoint] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    """Pids of processes that are gone."""
    broken: set[str] = field(default_factory=set)
    """InferenceIds whose notification raises."""
    limits: Limits = field(default_factory=Limits)

    async def open(self) -> None:
        settings = Settings(data_dir=str(self.folder), run_dir=str(self.folder), cache_dir=str(self.folder), limits=self.limits)
        self.objects = EmbeddedObjects(self.db, str(self.folder / "objects"), now=lambda: self.now)
        self.logs = Logs(str(self.folder / "logs"), now=lambda: self.now)
        self.metrics = Metrics(self.db, lambda: self.now)
        self.rules = Rules(self._announce, self.limits.async_attempts)
        world = World(
            settings=settings,
            db=self.db,
            objects=self.objects,
            logs=self.logs,
            metrics=self.metrics,
            now=lambda: self.now,
            wake=lambda kind, key: self.wakes.append((kind, key)),
            changed=_never,
            keys_changed=_nothing,
            async_arrived=lambda places: self.parts.link.arrived(places),
            async_rules=self.rules,
        )
        self.parts = AsyncParts(
            settings,
            self.db,
            self.objects,
            self.logs,
            self.metrics,
            rules=self.rules,
            accept=Acceptor(world),
            routed=lambda: self.routed,
            wake=lambda kind, key: self.wakes.append((kind, key)),
            now=lambda: self.now,
            steady=lambda: self.now - self.jumped,
            alive=lambda pid: pid not in self.dead,
        )
        self.server = await link.serve(str(self.folder / "link"), self.parts.link.attach)
        await self.db.write(lambda c: objects.insert_bucket(c, objects.BucketRow("bucket", ACCOUNT, REGION, self.now)))
        await self.serve()

    async def close(self) -> None:
        await self.server.close()
        await self.parts.close()
        await self.objects.close()

    def _announce(self, connection: Connection, topic: str, messages: Sequence[str], now: float) -> list[str | None]:
        told = [json.loads(message) for message in messages]
        if any(each["inferenceId"] in self.broken for each in told):
            raise RuntimeError("the notification broke")
        self.told += [(topic, each) for each in told]
        return [f"message-{len(self.told) - left}" for left in reversed(range(len(told)))]

    # The endpoint

    async def serve(self, instances: int = 1, options: AsyncOptions | None = OPTIONS) -> None:
        """It is there, and in the route table."""
        deployment = Deployment(1, "config", (), (), self.now, asynchronous=options)
        row = resources.Resource(
            ACCOUNT,
            REGION,
            "endpoint",
            ENDPOINT,
            ARN,
            {},
            self.now,
            self.now,
            status="InService",
            observed=msgspec.to_builtins(Reached(deployment)),
        )
        await self.db.write(lambda c: resources.add(c, row))
        self.scale(instances)

    def scale(self, instances: int) -> None:
        replicas = tuple(Replica(f"i-{n}", f"i-{n}", "frames", ()) for n in range(instances))
        self.routed[ARN] = Endpoint(ACCOUNT, REGION, ENDPOINT, (Variant("AllTraffic", 1.0, replicas),), OPTIONS)

    async def update(self, options: AsyncOptions) -> None:
        """It serves with another configuration."""
        deployment = Deployment(2, "other", (), (), self.now, asynchronous=options)
        observed = msgspec.to_builtins(Reached(deployment))
        statement = resources.resources.update().values(observed=observed, observed_generation=2)
        await self.db.write(lambda c: c.execute(statement))

    async def delete(self) -> None:
        await self.db.write(lambda c: resources.remove(c, ARN))
        self.routed.clear()

    # Looking

    async def job(self, ident: int) -> jobs.Job:
        found = await self.db.read(lambda c: jobs.get(c, ident))
        assert found is not None
        return found

    async def only_job(self) -> jobs.Job:
        ids = await self.db.read(lambda c: list(c.execute(jobs.requests.select()).scalars()))
        assert len(ids) == 1
        return await self.job(ids[0])

    async def content(self, location: str) -> bytes | None:
        where = parse_s3_uri(location)
        assert where is not None
        found = await self.db.read(lambda c: objects.get_object(c, where.bucket, where.key, content=True))
        return found.data if found is not None else None

    def counted(self, name: str, **dimensions: str) -> tuple[float, float] | None:
        """Sum and count of a metric's values that are not written yet."""
        given = tuple(sorted(dimensions.items()))
        for key, statistics in self.metrics._pending.items():
            if key.metric.name == name and tuple(sorted(dict(key.metric.dimensions).items())) == given:
                return statistics.sum, statistics.count
        return None


async def _never(kind: str, key: str, seconds: float) -> None: ...


async def _nothing() -> None: ...


class FakeDispatcher:
    """One end of a link, as a dispatcher uses it; also a gateway's, for `accept`."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.woken: list[str] = []
        self.cancelled: list[int] = []

    async def connect(self, path: str) -> FakeDispatcher:
        self.channel = await link.connect(path, self._setup)
        return self

    def _setup(self, channel: link.Channel) -> None:
        channel.on(claims.WAKE, self.woken.extend, tuple[str, ...])
        channel.on(claims.CANCEL, self.cancelled.extend, tuple[int, ...])

    async def accept(self, *requests: AcceptRequest) -> tuple[AcceptAnswer, ...]:
        answers: tuple[AcceptAnswer, ...] = await self.channel.request(claims.ACCEPT, requests, tuple[AcceptAnswer, ...])
        return answers

    async def claim(self, count: int = 10, key: str = KEY) -> tuple[Claimed, ...]:
        claimed: tuple[Claimed, ...] = await self.channel.request(
            claims.CLAIM, Claim(self.holder, key, count), tuple[Claimed, ...]
        )
        return claimed

    async def settle(self, *outcomes: Outcome) -> tuple[bool, ...]:
        answers: tuple[bool, ...] = await self.channel.request(claims.SETTLE, outcomes, tuple[bool, ...])
        return answers

    async def heartbeat(self, held: Sequence[Claimed]) -> tuple[int, ...]:
        beat = Heartbeat(self.holder, tuple((each.id, each.lease) for each in held))
        lost: tuple[int, ...] = await self.channel.request(claims.HEARTBEAT, beat, tuple[int, ...])
        return lost

    def close(self) -> None:
        self.channel.close()


def request(**changes: Any) -> AcceptRequest:
    return replace(AcceptRequest(ACCOUNT, REGION, ENDPOINT, input_location="s3://bucket/in.csv"), **changes)


def succeeded(claimed: Claimed, content: bytes = b"answer", **changes: Any) -> Outcome:
    where = parse_s3_uri(claimed.output_location)
    assert where is not None
    staged = Staged(where.bucket, where.key, len(content), "e", "text/csv", content)
    made = Outcome(
        claimed.id,
        claimed.lease,
        "succeeded",
        status=200,
        content_type="text/csv",
        staged=staged,
        variant="AllTraffic",
        instance="i-0",
    )
    return replace(made, **changes)


def failed(claimed: Claimed, **changes: Any) -> Outcome:
    made = Outcome(claimed.id, claimed.lease, "failed", "model-error", "It said no.", 500, variant="AllTraffic", instance="i-0")
    return replace(made, **changes)


@asynccontextmanager
async def opened(url: str, folder: Path, limits: Limits | None = None) -> AsyncIterator[Site]:
    db = await Db.open(url)
    site = Site(folder, db, limits=limits or Limits())
    await site.open()
    yield site
    await site.close()
    await db.close()
