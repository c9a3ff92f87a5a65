"""Asynchronous requests through pipelines: the same walk as in real time, one attempt, one time limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

from slipway.core.asynchronous import AsyncOptions
from slipway.core.routing import SERIAL, Container, Replica, Stage, Variant
from slipway_host import frames
from tests.unit.data.dispatching import Stack, stack
from tests.unit.data.test_asynchronous import Gate, outcome_of
from tests.unit.data.test_pipelines import adding
from tests.unit.data.workers import Asked, Told, Worker, workers
from tests.unit.http.serving import until


def serve(found: Stack, *instances: list[Worker], options: AsyncOptions | None = None) -> None:
    stages = tuple(Stage(f"c{n}") for n in range(1, len(instances[0]) + 1))
    replicas = tuple(
        Replica(f"i-{n}", f"i-{n}", "", (), tuple(Container("frames", (worker.address,)) for worker in instance))
        for n, instance in enumerate(instances, 1)
    )
    found.serve(Variant("AllTraffic", 1.0, replicas, mode=SERIAL, stages=stages), options=options)


async def test_there_and_back(tmp_path: Path) -> None:
    async with workers(tmp_path, 3) as found_workers, stack(tmp_path) as found:
        for worker, name in zip(found_workers, ("one", "two", "three"), strict=True):
            worker.answer = adding(name)
        serve(found, found_workers)
        got = await outcome_of(found, b"x", content_type="a/b", accept="c/d", timeout=7)
        assert (got.kind, got.content_type, got.instance) == ("succeeded", "text/three", "i-1")
        assert found.staging.written == {"x/1.out": b"xott"}
        heads = [dict(worker.asked[0].head) for worker in found_workers]
        assert [head[b"content-type"] for head in heads] == [b"a/b", b"text/one", b"text/two"]
        assert [head.get(b"accept") for head in heads] == [None, None, b"c/d"]
        assert len(found.control.started) <= 1
        timeouts = [worker.asked[0].timeout for worker in found_workers]
        assert timeouts[0] == 7000 >= timeouts[1] >= timeouts[2]


async def test_what_each_container_took_is_told(tmp_path: Path) -> None:
    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(1.0)
        return Told(body=asked.body)

    async def refuses(asked: Asked) -> Told:
        return Told(415)

    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        first.answer = slow
        serve(found, [first, second])
        one, two = (await outcome_of(found)).containers
        assert (one.container, one.status, two.container, two.status) == ("c1", 200, "c2", 200)
        assert one.seconds > 0.9 > two.seconds > 0
        first.answer = refuses
        (one,) = (await outcome_of(found)).containers
        assert (one.container, one.status) == ("c1", 415)
        first.answer, second.answer = adding("one"), Gate()
        one, two = (await outcome_of(found, timeout=2)).containers
        assert (one.status, two.container, two.status) == (200, "c2", 0)
        assert two.seconds > 0.5


async def test_many_go_through_two_instances_and_each_stays_in_one(tmp_path: Path) -> None:
    async with workers(tmp_path, 4) as found_workers, stack(tmp_path) as found:
        for worker, name in zip(found_workers, "abcd", strict=True):
            worker.answer = adding(name)
        serve(found, found_workers[:2], found_workers[2:])
        found.control.submit(*(found.control.request(b"x") for _ in range(40)))
        await found.control.settled(40)
        assert all(outcome.kind == "succeeded" for outcome in found.control.outcomes)
        assert set(found.staging.written.values()) == {b"xab", b"xcd"}
        assert found.variant.in_flight == 0


async def test_failures_name_the_container_and_end_the_walk(tmp_path: Path) -> None:
    async def fails(asked: Asked) -> Told:
        return Told(415, body=b"no such type")

    async def large(asked: Asked) -> Told:
        return Told(body=b"y" * 1001)

    async def long(asked: Asked) -> Told:
        return Told(parts=(b"y" * 900,) * 3, body=b"end")

    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        serve(found, [first, second])
        first.answer = fails
        got = await outcome_of(found)
        assert (got.kind, got.cause_kind, got.status) == ("failed", "model-error", 415)
        assert "from c1 with message" in got.cause
        for answer in (large, long):
            first.answer = answer
            got = await outcome_of(found)
            assert (got.kind, got.cause_kind) == ("failed", "model-error")
            assert "the request payload from c1 to c2 is" in got.cause
        assert second.asked == []


async def test_a_container_that_dies_in_the_middle_costs_the_attempt(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        second.answer = Gate()
        serve(found, [first, second])
        found.control.submit(found.control.request(b"x"))
        await until(lambda: bool(second.asked))
        await second.kill()
        await found.control.settled(1)
        assert found.control.outcomes[0].kind == "lost"


async def test_one_time_limit_for_all_containers(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        second.answer = Gate()
        serve(found, [first, second])
        got = await outcome_of(found, timeout=1)
        assert (got.kind, got.cause_kind) == ("failed", "timeout")
        assert "container c2" in got.cause


async def test_an_instance_that_leaves_finishes_what_is_in_it(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        gate = first.answer = Gate()
        serve(found, [first, second])
        found.control.submit(found.control.request(b"x"))
        await until(lambda: bool(first.asked))
        found.serve()
        assert found.slots.busy_removed() == ["i-1"]
        gate.open.set()
        await found.control.settled(1)
        assert found.control.outcomes[0].kind == "succeeded"
        assert len(second.asked) == 1
        await until(lambda: found.slots.busy_removed() == [])


async def test_an_instance_takes_no_more_than_the_endpoint_says(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        gate = second.answer = Gate()
        serve(found, [first, second], options=AsyncOptions("s3://out/x", max_concurrent=1))
        found.control.submit(*(found.control.request(b"x") for _ in range(4)))
        await until(lambda: bool(second.asked))
        await asyncio.sleep(0.05)
        assert len(first.asked) == 1
        gate.open.set()
        await found.control.settled(4)
        assert len(second.asked) == 4


async def test_a_large_answer_is_the_next_request(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second), stack(tmp_path) as found:
        object.__setattr__(found.slots.limits, "between_bytes", 1 << 20)
        body = b"z" * (frames.MAX_BODY + 1)
        found.staging.objects["in", "k"] = body
        serve(found, [first, second])
        assert (await outcome_of(found, None, input_location="s3://in/k")).kind == "succeeded"
        assert [worker.asked[0].body for worker in (first, second)] == [body, body]
