"""A keeper and its replicas: workers that speak frames, one request at a time, and answer, fail, hang or die as asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.core.replicas import Failure, ReplicaSpec, ReplicaState
from slipway_host import frames
from tests.simulation.loops import Process
from tests.simulation.site import Site

TRIP = 0.001
"""Seconds of a frame's way at most."""
RESPAWN = 0.3
ID_HEADER = b"X-Amzn-SageMaker-Inference-Id"


@dataclass
class Ask:
    """A request at a worker."""

    transport: Transport
    ident: int
    inference_id: str
    body: bytes
    timeout: float
    number: int = 0
    tell: bool = False
    """Its sender wants to hear that it begins."""


class Watcher:
    """Who is told of executions."""

    def sent(self, ask: Ask, worker: Worker) -> None: ...
    def begun(self, ask: Ask, worker: Worker) -> None: ...
    def ended(self, ask: Ask, worker: Worker) -> None: ...
    def stopping(self, worker: Worker) -> None: ...
    def replica_failed(self) -> None: ...


class Transport(asyncio.Transport):
    """A process' connection to a worker."""

    def __init__(self, worker: Worker, process: Process, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.worker = worker
        self.process = process
        self.protocol = protocol
        self.closed = False
        self._out = 0.0
        self._in = 0.0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            site = self.worker.site
            self._out = max(self._out, site.now + site.chance.random() * TRIP)
            site.world.loop.call_at(self._out, self.worker.receive, self, bytes(data))

    def answer(self, data: bytes) -> None:
        """From the worker's side."""
        site = self.worker.site
        self._in = max(self._in, site.now + site.chance.random() * TRIP)
        site.world.loop.call_at(self._in, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self.closed and not self.process.dead:
            self.process.loop.call_soon(self._received, data)

    def _received(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def hang_up(self) -> None:
        """The worker is gone."""
        site = self.worker.site
        site.world.loop.call_at(max(self._in, site.now), self._lost)

    def _lost(self) -> None:
        if not self.process.dead:
            self.process.loop.call_soon(self._close)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.process.loop.call_soon(self._close)

    close = abort


class Worker:
    """One process of a host; the next one has another number. `behave` says how long a request takes, and what it comes to."""

    role = "worker"

    def __init__(self, site: Site, replica: Replica, index: int, watcher: Watcher) -> None:
        self.site = site
        self.replica = replica
        self.path = f"/r/{replica.id}/w{index}.sock"
        self.dead = False
        self.stopping = False
        self.overdue = False
        """Its host kills it: that is no accident."""
        self.current: Ask | None = None
        self._waiting: deque[Ask] = deque()
        self._unwanted: set[int] = set()
        self._watcher = watcher
        self._transports: list[Transport] = []
        self._runs = 0

    def __repr__(self) -> str:
        return self.path

    def connect(self, process: Process, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        if self.dead:
            raise ConnectionRefusedError(self.path)
        protocol = factory()
        transport = Transport(self, process, protocol)
        self._transports.append(transport)
        protocol.connection_made(transport)
        return protocol

    def receive(self, transport: Transport, data: bytes) -> None:
        """A worker reads when it is at nothing: whatever comes meanwhile waits in its sockets, a greeting too."""
        if self.dead:
            return
        position = 0
        while position < len(data):
            length, kind, flags, head_size, _, timeout, ident = frames.HEADER.unpack_from(data, position)
            start = position + frames.HEADER_SIZE
            position = start + length
            if kind == frames.HELLO:
                self._waiting.append(Ask(transport, 0, "", b"", 0.0))
                continue
            head = dict(frames.unpack_head(data[start : start + head_size]))
            body, tell = data[start + head_size : position], bool(flags & frames.TELL)
            ask = Ask(transport, ident, head[ID_HEADER].decode(), body, timeout / 1000, tell=tell)
            self._watcher.sent(ask, self)
            self._waiting.append(ask)
        self._read()

    def _read(self) -> None:
        while self._waiting and self.current is None and not self.dead:
            ask = self._waiting.popleft()
            if not ask.inference_id:
                ask.transport.answer(frames.hello())
            elif self.stopping:
                ask.transport.answer(frames.pack(frames.BUSY, ask.ident))
            else:
                self.current = ask
                self._begin(ask)

    @property
    def asks(self) -> list[Ask]:
        """What it is at, and what waits in its sockets."""
        found = [ask for ask in self._waiting if ask.inference_id]
        return found if self.current is None else [self.current, *found]

    def _begin(self, ask: Ask) -> None:
        self._runs += 1
        ask.number = self._runs
        self._watcher.begun(ask, self)
        if ask.tell:
            ask.transport.answer(frames.pack(frames.BEGUN, 1))
        self.site.step("container begins", self, ask.transport.process)
        seconds, _ = self.site_behaviour(ask)
        loop = self.site.world.loop
        if seconds is not None:
            loop.call_later(seconds, self._end, ask)
        # The host kills a worker that outlives its request's timeout, or is at what nobody waits for.
        grace = frames.GRACE if ask.ident in self._unwanted else ask.timeout + frames.GRACE
        loop.call_later(grace, self._overdue, ask)

    def abandon(self, ident: int) -> None:
        """Nobody waits for this request."""
        self._unwanted.add(ident)
        if self.current is not None and self.current.ident == ident:
            self.site.world.loop.call_later(frames.GRACE, self._overdue, self.current)

    def site_behaviour(self, ask: Ask) -> tuple[float | None, str]:
        return behaviour(ask.body, self.site.chance.random())

    def _overdue(self, ask: Ask) -> None:
        if not self.dead and self.current is ask:
            self.overdue = True
            self.site.kill(self, "overdue")

    def _end(self, ask: Ask) -> None:
        if self.dead or self.current is not ask:
            return
        kind = self.site_behaviour(ask)[1]
        if kind == "die":
            self.site.kill(self, "its model killed it")
            return
        self.site.step("container answers", self, ask.transport.process)
        if self.current is not ask:  # killed there
            return
        self._watcher.ended(ask, self)
        self.current = None
        self._answer(ask, kind)
        self._read()

    def _answer(self, ask: Ask, kind: str) -> None:
        head = frames.pack_head([(b"content-type", b"text/plain")])
        status = {"refuse": 400, "fail": 500}.get(kind, 200)
        body = answer_to(ask.body) if status == 200 else b"no"
        if kind == "parts":
            half = len(body) // 2
            ask.transport.answer(frames.pack(frames.PART, ask.ident, status, 0, head, body[:half]))
            body = body[half:]
        ask.transport.answer(frames.pack(frames.RESPONSE, ask.ident, status, 0, head, body))

    def die(self) -> None:
        """What the kernel does with it; its parent starts another."""
        self.dead = True
        self.current = None
        self._waiting.clear()
        for transport in self._transports:
            transport.hang_up()


@dataclass
class Replica:
    id: str
    spec: ReplicaSpec
    state: ReplicaState
    workers: list[Worker] = field(default_factory=list)


class Keeper:
    """Outlives every control. `report` goes to the control of now."""

    def __init__(self, site: Site, watcher: Watcher, workers: int) -> None:
        self.site = site
        self.watcher = watcher
        self.count = workers
        self.replicas: dict[str, Replica] = {}
        self.report: Callable[[ReplicaState], None] = lambda state: None
        self.start_seconds = (0.2, 3.0)
        self.failing = 0
        """So many starts to come fail."""

    # Asked by control

    def start(self, spec: ReplicaSpec) -> None:
        if spec.id in self.replicas:
            return
        replica = Replica(spec.id, spec, ReplicaState(spec.id, spec.owner, "preparing"))
        self.replicas[spec.id] = replica
        self._say(replica, phase="starting")
        low, high = self.start_seconds
        self.site.world.loop.call_later(low + self.site.chance.random() * (high - low), self._started, replica)

    def _started(self, replica: Replica) -> None:
        if replica.state.phase != "starting":
            return
        if self.failing:
            self.failing -= 1
            self.watcher.replica_failed()
            self._exit(replica, Failure("exited", "it broke"))
            return
        replica.workers = [Worker(self.site, replica, index, self.watcher) for index in range(self.count)]
        addresses = tuple(f"unix:{worker.path}" for worker in replica.workers)
        self._say(replica, phase="ready", protocol="frames", workers=addresses, image="sk")

    def stop(self, id: str, grace: float) -> None:
        replica = self.replicas.get(id)
        if replica is None:
            return
        if replica.state.phase == "exited":
            del self.replicas[id]
        elif replica.state.phase != "stopping":
            for worker in replica.workers:
                if not worker.dead:
                    self.watcher.stopping(worker)
                worker.stopping = True
            self._say(replica, phase="stopping")
            self.site.world.loop.call_later(min(grace, 0.1), self._exit, replica, None)

    def listed(self) -> list[ReplicaState]:
        return [replica.state for replica in self.replicas.values()]

    # What happens to them

    def crash(self, replica: Replica) -> None:
        """The whole container dies."""
        if replica.state.phase == "ready":
            self.site.say(f"*** replica {replica.id} dies")
            self.watcher.replica_failed()
            self._exit(replica, Failure("exited", "it was killed", exit_code=137))

    def _exit(self, replica: Replica, failure: Failure | None) -> None:
        if replica.state.phase == "exited":
            return
        self._say(replica, phase="exited", failure=failure)
        for worker in replica.workers:
            self.site.kill(worker, "its replica ends")

    def fell(self, worker: Worker) -> None:
        """A worker was killed: its parent starts another in its place."""
        worker.die()
        replica = worker.replica
        if replica.state.phase == "ready":
            self.site.world.loop.call_later(RESPAWN, self._respawn, worker)

    def _respawn(self, dead: Worker) -> None:
        replica = dead.replica
        if replica.state.phase == "ready" and dead in replica.workers:
            index = replica.workers.index(dead)
            replica.workers[index] = Worker(self.site, replica, index, self.watcher)

    def _say(self, replica: Replica, **changes: Any) -> None:
        replica.state = replace(replica.state, **changes)
        self.site.say(f"replica {replica.id} {replica.state.phase}")
        self.site.world.loop.call_later(self.site.chance.random() * 0.01, self._tell, replica.state)

    def _tell(self, state: ReplicaState) -> None:
        self.report(state)

    # For loops

    async def abandon(self, worker: str, request: int) -> None:
        """For `data.lanes`: what a host is told."""
        await asyncio.sleep(self.site.chance.random() * TRIP)
        for replica in self.replicas.values():
            for each in replica.workers:
                if f"unix:{each.path}" == worker and not each.dead:
                    each.abandon(request)

    def connector(self, process: Process) -> Callable[[Callable[[], asyncio.Protocol], str], asyncio.Protocol]:
        def connect(factory: Callable[[], asyncio.Protocol], path: str) -> asyncio.Protocol:
            for replica in self.replicas.values():
                for worker in replica.workers:
                    if worker.path == path:
                        return worker.connect(process, factory)
            raise FileNotFoundError(path)

        return connect

    def idle(self) -> bool:
        return not any(worker.asks for replica in self.replicas.values() for worker in replica.workers if not worker.dead)


class KeeperClient:
    """One control's way to the keeper."""

    def __init__(self, keeper: Keeper, process: Process) -> None:
        self._keeper = keeper
        self._process = process

    async def start(self, spec: ReplicaSpec) -> None:
        await self._ask(lambda: self._keeper.start(spec))

    async def stop(self, id: str, grace: float) -> None:
        await self._ask(lambda: self._keeper.stop(id, grace))

    async def list(self) -> list[ReplicaState]:
        found: list[ReplicaState] = await self._ask(self._keeper.listed)
        return found

    async def _ask(self, what: Callable[[], Any]) -> Any:
        site = self._keeper.site
        answer = self._process.loop.create_future()

        def perform() -> None:
            value = what()
            site.world.loop.call_later(site.chance.random() * TRIP, told, value)

        def told(value: Any) -> None:
            if not self._process.dead and not answer.done():
                answer.set_result(value)

        site.world.loop.call_later(site.chance.random() * TRIP, perform)
        return await answer


# The model: what an input makes of it

KINDS = ("ok", "ok", "ok", "slow", "parts", "big", "refuse", "fail", "die", "hang", "moody")


def input_of(kind: str, number: int, seconds: float) -> bytes:
    return f"{kind} {number} {seconds:.3f} {'x' * 60 if kind == 'big' else ''}".encode()


def behaviour(body: bytes, roll: float) -> tuple[float | None, str]:
    """Seconds (None: it hangs), and what it does then. `moody` dies now and then."""
    kind, _, seconds, *_ = body.decode().split(" ")
    if kind == "hang":
        return None, kind
    if kind == "moody":
        return float(seconds), "die" if roll < 0.5 else "ok"
    return float(seconds), kind


def answer_to(body: bytes) -> bytes:
    return b"answer to " + body
