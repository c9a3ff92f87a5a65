"""A dispatcher's parts in this process: a fake control over a real link channel, workers, objects in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway.backing.objects import Attributes, ObjectInfo, Reading, Span
from slipway.backing.objects_errors import no_such_key, s3_error
from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import AsyncOptions, Claimed, Outcome, Staged
from slipway.core.routing import Endpoint, RouteTable, Variant, endpoint_key
from slipway.data.asynchronous import Dispatch
from slipway.data.asynchronous_ledger import Ledger
from slipway.data.asynchronous_pipelines import DispatcherSlots
from slipway.data.asynchronous_places import AsyncSlots, AsyncVariant
from slipway.data.lanes import DataLimits
from slipway.link import channel, claims
from slipway.link.channel import Channel
from slipway.link.claims import Claim, Heartbeat, Started
from slipway.link.client import Link
from tests.deadlines import PATIENCE
from tests.unit.data.workers import ACCOUNT, REGION

KEY = endpoint_key(ACCOUNT, REGION, "demo")
OPTIONS = AsyncOptions("s3://out/x")


class Control:
    """Control's side of the link, with a queue in memory. It can be closed and opened again, as a restart does."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.queue: deque[Claimed] = deque()
        self.outcomes: list[Outcome] = []
        self.started: list[Started] = []
        self.asked: list[int] = []
        """Counts of the claims."""
        self.held: dict[int, int] = {}
        self.beats: list[Heartbeat] = []
        self.lost: set[int] = set()
        self.void: set[int] = set()
        """Ids whose settlements are of an older lease."""
        self.batches: list[int] = []
        self.before_settled: Callable[[], Any] | None = None
        self.news = asyncio.Condition()
        self._ids = itertools.count(1)
        self._server: channel.Server | None = None

    async def open(self) -> Control:
        self._server = await channel.serve(self.path, self._attach)
        return self

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()
            self._server = None

    def _attach(self, each: Channel) -> None:
        each.on(claims.CLAIM, self._claim, Claim)
        each.on(claims.SETTLE, self._settle, tuple[Outcome, ...])
        each.on(claims.STARTED, self._start, tuple[Started, ...])
        each.on(claims.HEARTBEAT, self._beat, Heartbeat)

    def _claim(self, claim: Claim) -> tuple[Claimed, ...]:
        assert claim.endpoint == KEY
        self.asked.append(claim.count)
        found = [self.queue.popleft() for _ in range(min(claim.count, len(self.queue)))]
        self.held.update((each.id, each.lease) for each in found)
        return tuple(found)

    async def _settle(self, outcomes: tuple[Outcome, ...]) -> tuple[bool, ...]:
        self.batches.append(len(outcomes))
        if self.before_settled is not None:
            before, self.before_settled = self.before_settled, None
            await before()
        told = []
        for outcome in outcomes:
            good = self.held.get(outcome.id) == outcome.lease and outcome.id not in self.void
            if good:
                self.outcomes.append(outcome)
                external = outcome.staged is not None and outcome.staged.attempt_key is not None
                if not (external and outcome.kind == "succeeded"):
                    del self.held[outcome.id]
            told.append(good)
        async with self.news:
            self.news.notify_all()
        return tuple(told)

    async def _start(self, started: tuple[Started, ...]) -> None:
        self.started += started
        async with self.news:
            self.news.notify_all()

    def _beat(self, beat: Heartbeat) -> tuple[int, ...]:
        self.beats.append(beat)
        return tuple(id for id, _ in beat.held if id in self.lost)

    def request(self, body: bytes | None = b"x", **more: Any) -> Claimed:
        now = time.time()
        number = next(self._ids)
        made = Claimed(
            number, 1, ACCOUNT, REGION, "demo", f"id-{number}", 60, 1, now, now + 1000, f"s3://out/x/{number}.out", body=body
        )
        return replace(made, **more)

    def submit(self, *requests: Claimed) -> None:
        """Queued, and the dispatcher is told."""
        self.queue.extend(requests)
        self.tell(claims.WAKE, (KEY,))

    def tell(self, kind: str, payload: object) -> None:
        assert self._server is not None
        for each in self._server.channels:
            asyncio.get_running_loop().create_task(each.notify(kind, payload))

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds), self.news:
            await self.news.wait_for(condition)

    async def settled(self, count: int) -> list[Outcome]:
        await self.until(lambda: len(self.outcomes) >= count)
        return self.outcomes


class Memory(Staging):
    """Objects in memory; `broken` is raised by `stage`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.staged: list[Staged] = []
        self.written: dict[str, bytes] = {}
        self.discarded: list[Staged] = []
        self.published: list[Staged] = []
        self.external = False
        self.broken: Exception | None = None
        self.held = 0

    async def open(self, bucket: str, key: str, account: str) -> Reading:
        if bucket == "theirs":
            raise s3_error("AccessDenied")
        if (bucket, key) not in self.objects:
            raise no_such_key(key)
        return _Reading(bucket, key, self.objects[bucket, key], self)

    async def stage(
        self,
        bucket: str,
        key: str,
        body: bytes | AsyncIterator[bytes],
        content_type: str,
        account: str,
        most: int,
        *,
        blob: bool = False,
    ) -> Staged:
        data = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        if self.broken is not None:
            raise self.broken
        if len(data) > most:
            raise s3_error("EntityTooLarge")
        attempt = f"attempt-{len(self.staged)}" if self.external else None
        staged = Staged(bucket, key, len(data), "etag", content_type, attempt_key=attempt)
        self.staged.append(staged)
        self.written[key] = data
        return staged

    async def discard(self, staged: Staged) -> None:
        self.discarded.append(staged)

    async def publish(self, staged: Staged) -> None:
        if self.broken is not None:
            raise self.broken
        self.published.append(staged)

    async def close(self) -> None: ...


class _Reading(Reading):
    def __init__(self, bucket: str, key: str, content: bytes, owner: Memory) -> None:
        self.info = ObjectInfo(bucket, key, len(content), "etag", attributes=Attributes({"ContentType": "text/csv"}))
        self._content = content
        self._owner = owner
        self._open = True
        owner.held += 1

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        try:
            for at in range(0, len(self._content), 65536):
                yield self._content[at : at + 65536]
        finally:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._owner.held -= 1


@dataclass
class Stack:
    control: Control
    staging: Memory
    dispatch: Dispatch
    slots: AsyncSlots
    link: Link
    options: AsyncOptions = OPTIONS
    version: int = 0
    drained: list[int] = field(default_factory=list)

    def serve(self, *found: Variant, options: AsyncOptions | None = None) -> None:
        """A new table; without a variant it has no endpoint."""
        self.version += 1
        endpoint = Endpoint(ACCOUNT, REGION, "demo", found, options or self.options)
        self.dispatch.apply(RouteTable(self.version, {KEY: endpoint} if found else {}))

    @property
    def variant(self) -> AsyncVariant:
        (found,) = self.slots.endpoints[KEY].by_name.values()
        assert isinstance(found, AsyncVariant)
        return found


@contextlib.asynccontextmanager
async def stack(tmp_path: Path, *, body_bytes: int = 1 << 20, grace: float = 0.1) -> AsyncIterator[Stack]:
    control = await Control(str(tmp_path / "link.sock")).open()
    staging = Memory()
    drained: list[int] = []
    slots = DispatcherSlots(
        DataLimits(response_bytes=body_bytes, free_seconds=60.0, between_bytes=1000), on_drained=lambda: drained.append(1)
    )

    async def opened() -> Staging:
        return staging

    dispatch = Dispatch(slots, lambda on_lost: Ledger("1.test", on_lost), opened, time.time, body_bytes)
    link = Link(control.path, setup=dispatch.setup, on_connect=dispatch.connected)
    link.start()
    await link.ready(5)
    dispatch.start(link)
    try:
        yield Stack(control, staging, dispatch, slots, link, drained=drained)
    finally:
        await dispatch.stop(grace)
        await link.close()
        slots.close()
        await control.close()
        await asyncio.sleep(0)
