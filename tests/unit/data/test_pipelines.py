"""Serial pipelines and direct mode in a gateway's slots: the walk through one instance's containers, and what may go wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.core.models import LOADED, ModelAnswer, ModelAsk
from slipway.core.routing import SERIAL, Container, Replica, RouteTable, Stage, Variant
from slipway.data.invoke import DIED, TIMEOUT, Call, Oversize, Ticket
from slipway.data.lanes import DataLimits
from slipway.data.several import GatewaySlots
from slipway.data.slots import VariantSlots
from slipway_host.frames import pack_head, unpack_head
from tests.deadlines import PATIENCE
from tests.unit.data.test_models import MODELS, Control
from tests.unit.data.workers import ACCOUNT, REGION, Asked, Told, Worker, table
from tests.unit.http.serving import until

NAMES = ("first", "second", "third")


class Caller(Call):
    """A call that keeps what it is told."""

    __slots__ = ("answer", "told", "why")

    def __init__(self, body: bytes = b"x", **headers: bytes) -> None:
        super().__init__(pack_head([(name.replace("_", "-").encode(), value) for name, value in headers.items()]), body)
        self.told = asyncio.Event()
        self.why: str | None = None
        self.answer: tuple[int, dict[bytes, bytes], bytes] | None = None

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        self.answer = (status, dict(unpack_head(head)), body)
        self.told.set()

    def failed(self, why: str) -> None:
        self.why = why
        self.told.set()

    @property
    def at(self) -> str:
        """The container that the caller would be told of."""
        assert self.slots is not None
        return self.slots.variant.container


def adding(name: str) -> Callable[[Asked], Any]:
    async def answer(asked: Asked) -> Told:
        return Told(200, [(b"Content-Type", f"text/{name}".encode())], asked.body + name[:1].encode())

    return answer


class Site:
    """Instances of three containers, and the slots of a gateway."""

    def __init__(self, path: Path, slots: GatewaySlots) -> None:
        self.path = path
        self.slots = slots
        self.workers: dict[tuple[str, str], Worker] = {}

    async def instance(self, name: str, answers: dict[str, Callable[[Asked], Any]] | None = None) -> Replica:
        parts = []
        for container in NAMES:
            answer = (answers or {}).get(container, adding(container))
            worker = await Worker(self.path / f"{name}{container}.sock", answer).start()
            self.workers[name, container] = worker
            parts.append(Container("frames", (worker.address,)))
        return Replica(name, name, "", (), tuple(parts))

    def serve(self, version: int, *replicas: Replica, mode: str = SERIAL) -> VariantSlots:
        stages = tuple(Stage(name) for name in NAMES)
        self.slots.apply(table(version, Variant("A", 1.0, replicas, mode=mode, stages=stages)))
        return self.variant

    @property
    def variant(self) -> VariantSlots:
        return self.slots.endpoints[f"{ACCOUNT}/{REGION}/demo"].by_name["A"]

    def asked(self, instance: str, container: str) -> list[Asked]:
        return self.workers[instance, container].asked


@contextlib.asynccontextmanager
async def site(path: Path, **limits: Any) -> AsyncIterator[Site]:
    slots = GatewaySlots(DataLimits(**limits))
    slots.start()
    found = Site(path, slots)
    try:
        yield found
    finally:
        slots.close()
        for worker in found.workers.values():
            await worker.kill()


async def ask(variant: VariantSlots, body: bytes = b"x", **headers: bytes) -> Caller:
    caller = Caller(body, **headers)
    variant.submit(caller)
    await asyncio.wait_for(caller.told.wait(), PATIENCE)
    return caller


async def test_each_answer_is_the_next_request(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1"))
        caller = await ask(
            variant,
            content_type=b"image/png",
            accept=b"application/json",
            X_Amzn_SageMaker_Custom_Attributes=b"trace",
            X_Amzn_SageMaker_Target_Model=b"m.tar.gz",
        )
        assert caller.answer == (200, {b"Content-Type": b"text/third"}, b"xfst")
        heads = [{n.lower(): v for n, v in found.asked("i-1", name)[0].head} for name in NAMES]
        assert [head.get(b"content-type") for head in heads] == [b"image/png", b"text/first", b"text/second"]
        assert [head.get(b"accept") for head in heads] == [None, None, b"application/json"]
        assert [head.get(b"x-amzn-sagemaker-custom-attributes") for head in heads] == [b"trace"] * 3
        assert [head.get(b"x-amzn-sagemaker-target-model") for head in heads] == [None] * 3
        assert variant.in_flight == 0
        counted = variant.containers_counters()
        assert [counted[name].invocations for name in NAMES] == [1, 1, 1]


async def test_containers_that_speak_only_http(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        replica = await found.instance("i-1")
        foreign = replace(replica, containers=tuple(replace(part, protocol="http") for part in replica.containers))
        variant = found.serve(1, foreign)
        caller = await ask(variant, b"y" * 200_000)
        assert caller.answer is not None
        assert caller.answer[2] == b"y" * 200_000 + b"fst"
        assert [found.asked("i-1", name)[0].over for name in NAMES] == ["http"] * 3
        await found.workers["i-1", "second"].kill()
        caller = await ask(variant)
        assert (caller.why, caller.at) == (DIED, "second")


async def test_a_walk_stays_on_its_instance_and_walks_spread(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1"), await found.instance("i-2"))
        await until(lambda: all(each.ready for each in variant._instances))  # type: ignore[attr-defined]
        callers = [Caller(b"%d" % number) for number in range(8)]
        for caller in callers:
            variant.submit(caller)
        for caller in callers:
            await asyncio.wait_for(caller.told.wait(), PATIENCE)
        for instance in ("i-1", "i-2"):
            bodies = [{asked.body[:1] for asked in found.asked(instance, name)} for name in NAMES]
            assert len(bodies[0]) == 4
            assert bodies[0] == bodies[1] == bodies[2]


async def test_a_refusal_ends_the_walk_and_names_the_container(tmp_path: Path) -> None:
    async def refuses(asked: Asked) -> Told:
        return Told(415, body=b"no such type")

    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1", {"second": refuses}))
        caller = await ask(variant)
        assert caller.answer is not None
        assert (caller.answer[0], caller.answer[2], caller.at) == (415, b"no such type", "second")
        assert found.asked("i-1", "third") == []
        counted = variant.containers_counters()
        assert (counted["second"].errors_4xx, counted["third"].invocations) == (1, 0)


async def test_a_container_that_dies_is_named(tmp_path: Path) -> None:
    async def hangs(asked: Asked) -> Told:
        await asyncio.sleep(60)
        return Told()

    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1", {"second": hangs}))
        caller = Caller()
        variant.submit(caller)
        await until(lambda: ("i-1", "second") in found.workers and bool(found.asked("i-1", "second")))
        await found.workers["i-1", "second"].kill()
        await asyncio.wait_for(caller.told.wait(), PATIENCE)
        assert (caller.why, caller.at) == (DIED, "second")
        assert variant.in_flight == 0


async def test_one_deadline_for_the_whole_walk(tmp_path: Path) -> None:
    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(0.1)
        return Told(body=asked.body)

    async def hangs(asked: Asked) -> Told:
        await asyncio.sleep(60)
        return Told()

    async with site(tmp_path, invoke_seconds=1.5) as found:
        variant = found.serve(1, await found.instance("i-1", {"first": slow, "second": hangs}))
        caller = await ask(variant)
        assert (caller.why, caller.at) == (TIMEOUT, "second")
        assert found.asked("i-1", "third") == []
        timeouts = [found.asked("i-1", name)[0].timeout for name in ("first", "second")]
        assert timeouts[1] <= timeouts[0] - 100 <= 1400


async def test_a_multi_model_container_has_what_is_left_of_the_walks_time(tmp_path: Path) -> None:
    """Whether its model is there already, or has to be loaded first."""

    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(0.2)
        return Told(body=asked.body)

    async def load(ask: ModelAsk) -> ModelAnswer:
        await asyncio.sleep(0.1)
        return ModelAnswer(LOADED, "m-1", many.address, "frames")

    slots = GatewaySlots(DataLimits(invoke_seconds=10), loader=Control(load))
    slots.start()
    one, many = await Worker(tmp_path / "one.sock", slow).start(), await Worker(tmp_path / "many.sock").start()
    try:
        parts = (Container("frames", (one.address,)), Container("frames", ()))
        stages = (Stage("one"), Stage("many", MODELS))
        slots.apply(table(1, Variant("A", 1.0, (Replica("r0", "r0", "", (), parts),), mode=SERIAL, stages=stages)))
        variant = slots.endpoints[f"{ACCOUNT}/{REGION}/demo"].by_name["A"]
        for _ in range(2):
            caller = await ask(variant, X_Amzn_SageMaker_Target_Model=b"m.tar.gz")
            assert caller.answer is not None
        assert [asked.timeout <= 9800 for asked in many.asked] == [True, True]
        assert all(asked.timeout > 9000 for asked in one.asked)
    finally:
        slots.close()
        await one.kill()
        await many.kill()


async def test_who_reads_the_last_answer_himself_leaves_nothing_behind(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1"))
        ticket = Ticket(pack_head([(b"content-type", b"image/png")]), b"x")
        variant.submit(ticket)
        lane = await asyncio.wait_for(ticket.lane, PATIENCE)
        assert lane is ticket.place
        assert (ticket.body, unpack_head(ticket.head)) == (b"xfs", [(b"content-type", b"text/second")])
        assert (found.slots.pipes.between, variant.in_flight) == (0, 0)
        ticket.release(clean=True)


async def test_an_answer_too_large_for_the_next_container(tmp_path: Path) -> None:
    async def large(asked: Asked) -> Told:
        return Told(body=b"y" * 101)

    async with site(tmp_path, between_bytes=100) as found:
        variant = found.serve(1, await found.instance("i-1", {"first": large}))
        why = (await ask(variant)).why
        assert isinstance(why, Oversize)
        assert (why.container, why.following, why.size, why.limit) == ("first", "second", 101, 100)
        assert found.asked("i-1", "second") == []


async def test_answers_between_containers_are_bounded(tmp_path: Path) -> None:
    """Where as much as is allowed waits for a slow container, those before it wait too, and all is answered in the end."""
    gate = asyncio.Event()

    async def slow(asked: Asked) -> Told:
        await gate.wait()
        return Told(body=asked.body[:1])

    async def large(asked: Asked) -> Told:
        return Told(body=asked.body + b"y" * 1000)

    async with site(tmp_path, between_memory=3000) as found:
        variant = found.serve(1, await found.instance("i-1", {"first": large, "second": large, "third": slow}))
        callers = [Caller(b"%d" % number) for number in range(9)]
        for caller in callers:
            variant.submit(caller)
        await until(lambda: found.slots.pipes.between >= 3000)
        await asyncio.sleep(0.1)
        # What a container had already been sent may still come: a few answers, never all of them.
        assert found.slots.pipes.between < 8000
        gate.set()
        for caller in callers:
            await asyncio.wait_for(caller.told.wait(), PATIENCE)
        assert all(caller.answer is not None for caller in callers)
        assert found.slots.pipes.between == 0


async def test_an_instance_that_leaves_finishes_its_walks(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(asked: Asked) -> Told:
        await gate.wait()
        return Told(body=asked.body)

    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1", {"first": slow}))
        caller = Caller()
        variant.submit(caller)
        await until(lambda: bool(found.asked("i-1", "first")))
        found.serve(2, await found.instance("i-2"))
        assert found.variant is variant
        assert found.slots.busy_removed() == ["i-1"]
        gate.set()
        await asyncio.wait_for(caller.told.wait(), PATIENCE)
        assert caller.answer is not None
        assert len(found.asked("i-1", "third")) == 1
        await until(lambda: found.slots.busy_removed() == [])


async def test_an_instance_whose_container_is_gone_does_not_hold_its_walks(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(asked: Asked) -> Told:
        await gate.wait()
        return Told(body=asked.body)

    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1", {"first": slow}))
        caller = Caller()
        variant.submit(caller)
        await until(lambda: bool(found.asked("i-1", "first")))
        await found.workers["i-1", "second"].kill()
        found.serve(2)
        gate.set()
        await asyncio.wait_for(caller.told.wait(), PATIENCE)
        assert (caller.why, caller.at) == (DIED, "second")
        await until(lambda: found.slots.busy_removed() == [])


async def test_who_must_choose_again_when_all_instances_leave_waits_for_another(tmp_path: Path) -> None:
    """One waits in the second instance for a worker that is gone; the first one, which was free, leaves a moment before."""

    async def hangs(asked: Asked) -> Told:
        await asyncio.Event().wait()
        return Told()

    async with site(tmp_path) as found:
        variant = found.serve(1, await found.instance("i-1"), await found.instance("i-2", {"first": hangs}))
        await until(lambda: all(each.ready for each in variant._instances))  # type: ignore[attr-defined]
        callers = [Caller() for _ in range(4)]
        for caller in callers:
            variant.submit(caller)
        await until(lambda: sum(caller.told.is_set() for caller in callers) == 2)
        await found.workers["i-2", "first"].kill()
        await until(lambda: sum(caller.told.is_set() for caller in callers) == 3)
        (last,) = [caller for caller in callers if not caller.told.is_set()]
        found.serve(2)
        assert (variant.waiting, last.why) == (1, None)
        found.serve(3, await found.instance("i-3"))
        await asyncio.wait_for(last.told.wait(), PATIENCE)
        assert last.answer is not None
        assert sorted(caller.why or "" for caller in callers) == ["", "", "", DIED]


async def test_requests_wait_for_an_instance_that_is_complete(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        variant = found.serve(1)
        caller = Caller()
        variant.submit(caller)
        assert variant.waiting == 1
        found.serve(2, await found.instance("i-1"))
        await asyncio.wait_for(caller.told.wait(), PATIENCE)
        assert caller.answer is not None
        assert caller.answer[2] == b"xfst"


async def test_from_one_container_to_a_pipeline_and_back(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        worker = await Worker(tmp_path / "one.sock").start()
        found.workers["i-0", "only"] = worker
        one = Variant("A", 1.0, (Replica("i-0", "i-0", "frames", (worker.address,)),))
        for version in range(1, 5):
            if version % 2:
                found.slots.apply(table(version, one))
                assert (await ask(found.variant)).answer == (200, {b"content-type": b"text/plain"}, b"x")
            else:
                variant = found.serve(version, await found.instance(f"i-{version}"))
                answer = (await ask(variant)).answer
                assert answer is not None
                assert answer[2] == b"xfst"
        found.slots.apply(RouteTable(9))
