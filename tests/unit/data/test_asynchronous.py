"""Asynchronous requests through a dispatcher's parts: what containers see, what control hears, who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipway.backing.objects_errors import s3_error
from slipway.core.asynchronous import AsyncOptions, Outcome, Staged
from slipway.link import claims
from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.data.dispatching import OPTIONS, Stack, stack
from tests.unit.data.workers import Asked, Told, Worker, echo, replica, variant, workers
from tests.unit.http.serving import until

BIG = bytes(range(256)) * 4096
"""1 MiB: no frame holds it."""


class Gate:
    """Answers wait until it opens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, asked: Asked) -> Told:
        await self.open.wait()
        return Told(body=asked.body)


async def outcome_of(found: Stack, body: bytes | None = b"x", **more: Any) -> Outcome:
    found.control.submit(found.control.request(body, **more))
    await found.control.settled(1)
    return found.control.outcomes.pop()


async def test_there_and_back(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        got = await outcome_of(found, b"hello", content_type="a/b", accept="c/d", custom_attributes="e=f", timeout=7)
        assert (got.kind, got.status, got.content_type, got.variant, got.instance) == (
            "succeeded",
            200,
            "text/plain",
            "AllTraffic",
            "i-1",
        )
        assert got.staged is not None
        assert (got.staged.bucket, got.staged.key, got.answer) == ("out", "x/1.out", None)
        assert found.staging.written == {"x/1.out": b"hello"}
        assert worker.asked[0].head == [
            (b"content-type", b"a/b"),
            (b"accept", b"c/d"),
            (b"X-Amzn-SageMaker-Custom-Attributes", b"e=f"),
            (b"X-Amzn-SageMaker-Inference-Id", b"id-1"),
        ]
        assert (worker.asked[0].over, worker.asked[0].timeout) == ("frames", 7000)
        assert got.started is not None
        assert got.started <= got.finished
        assert got.model_seconds is not None
        assert got.upload_seconds is not None
        assert got.download_seconds is None
        await found.control.until(lambda: bool(found.control.started))
        began = found.control.started[0]
        assert (began.id, began.lease, began.variant, began.instance, began.at) == (1, 1, "AllTraffic", "i-1", got.started)


@pytest.mark.parametrize("protocol", ["frames", "http"])
@pytest.mark.parametrize("size", [0, 10, frames.MAX_BODY, frames.MAX_BODY + 1, len(BIG)])
async def test_inputs_and_outputs_of_any_size(tmp_path: Path, size: int, protocol: str) -> None:
    async def parts(asked: Asked) -> Told:
        data = asked.body
        pieces = [data[at : at + frames.MAX_BODY] for at in range(0, len(data), frames.MAX_BODY)]
        return Told(body=data) if len(pieces) < 2 or asked.over == "http" else Told(body=pieces[-1], parts=tuple(pieces[:-1]))

    async with workers(tmp_path, answer=parts) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker, protocol=protocol)))
        found.staging.objects["in", "k"] = BIG[:size]
        got = await outcome_of(found, None, input_location="s3://in/k")
        assert got.kind == "succeeded", got
        assert found.staging.written == {"x/1.out": BIG[:size]}
        assert found.staging.held == 0
        assert got.download_seconds is not None
        framed = protocol == "frames" and size <= frames.MAX_BODY
        assert worker.asked[0].over == ("frames" if framed else "http")
        assert dict(worker.asked[0].head)[b"content-type"] == b"text/csv"


async def test_a_short_request_with_a_long_answer(tmp_path: Path) -> None:
    async def long(asked: Asked) -> Told:
        return Told(parts=tuple(BIG[at : at + 100_000] for at in range(0, len(BIG), 100_000)), body=b"end")

    async with workers(tmp_path, answer=long) as (worker,), stack(tmp_path, body_bytes=2 << 20) as found:
        found.serve(variant(replica("i-1", worker)))
        assert (await outcome_of(found)).kind == "succeeded"
        assert found.staging.written == {"x/1.out": BIG + b"end"}


@pytest.mark.parametrize("how", ["frame", "parts", "http"])
async def test_too_large_an_answer(tmp_path: Path, how: str) -> None:
    async def long(asked: Asked) -> Told:
        return Told(parts=(b"x" * 100_000,) * 3, body=b"end") if how == "parts" else Told(body=b"x" * 120_000)

    async with workers(tmp_path, answer=long) as (worker,), stack(tmp_path, body_bytes=100_000) as found:
        found.serve(variant(replica("i-1", worker, protocol="http" if how == "http" else "frames")))
        got = await outcome_of(found)
        assert (got.kind, got.cause_kind) == ("failed", "too-large")
        assert "100000 bytes" in got.cause
        worker.answer = echo
        assert (await outcome_of(found)).kind == "succeeded"  # the worker is free


async def test_models_that_fail(tmp_path: Path) -> None:
    async def fail(asked: Asked) -> Told:
        if asked.body == b"broken":
            return Told(flags=frames.BROKEN)
        return Told(int(asked.body), body=b"no: " + b"x" * 100_000)

    async with workers(tmp_path, answer=fail) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        for status, side in ((500, "server"), (400, "client")):
            got = await outcome_of(found, b"%d" % status)
            assert (got.kind, got.cause_kind, got.status) == ("failed", "model-error", status)
            assert got.cause.startswith(f'Received {side} error ({status}) from primary with message "no: xxx')
            assert got.answer is not None
            assert got.answer.startswith(b"no: xxx")
            assert len(got.answer) == 64 * 1024
        got = await outcome_of(found, b"broken")
        assert (got.kind, got.cause_kind) == ("failed", "model-error")


async def test_inputs_that_cannot_be_had(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.staging.objects["in", "huge"] = b"x" * ((1 << 20) + 1)
        for key, word in (("in/none", "NoSuchKey"), ("theirs/x", "AccessDenied"), ("in/huge", "at most 1048576")):
            got = await outcome_of(found, None, input_location=f"s3://{key}")
            assert (got.kind, got.cause_kind, got.started) == ("failed", "download", None)
            assert word in got.cause
            assert f"s3://{key}" in got.cause
        assert worker.asked == []
        assert found.staging.held == 0


async def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.staging.broken = s3_error("NoSuchBucket")
        got = await outcome_of(found)
        assert (got.kind, got.cause_kind) == ("failed", "upload")
        assert "bucket out" in got.cause
        assert "NoSuchBucket" in got.cause


async def test_a_notification_may_include_the_answer(tmp_path: Path) -> None:
    async def long(asked: Asked) -> Told:
        return Told(parts=(b"x" * int(asked.body),), body=b"end")

    async with workers(tmp_path, answer=long) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)), options=AsyncOptions("s3://out/x", include_success=True))
        assert (await outcome_of(found, b"10")).answer == b"x" * 10 + b"end"
        assert (await outcome_of(found, b"131069")).answer == b"x" * 131069 + b"end"
        assert (await outcome_of(found, b"131070")).answer is None


async def test_a_timeout_begins_when_the_worker_does(tmp_path: Path) -> None:
    """The second is sent ahead while the first hangs; it has its own time after that."""

    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(1.5 if asked.body == b"slow" else 0.2)
        return Told(body=asked.body)

    async with workers(tmp_path, answer=slow) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        slow_one = found.control.request(b"slow", timeout=1)
        found.control.submit(slow_one, found.control.request(b"quick", timeout=1))
        first, second = await found.control.settled(2)
        assert (first.kind, first.cause_kind) == ("failed", "timeout")
        assert "primary" in first.cause
        assert second.kind == "succeeded"
        assert second.started is not None
        assert first.started is not None
        assert second.started - first.started > 1.4


@contextlib.asynccontextmanager
async def two_dispatchers(tmp_path: Path, worker: Worker) -> AsyncIterator[tuple[Stack, Stack]]:
    """Neither knows of what the other has sent to their worker."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with stack(folders[0]) as one, stack(folders[1]) as two:
        for each in (one, two):
            each.serve(variant(replica("i-1", worker)))
            each.staging.objects["in", "k"] = BIG
        yield one, two


@pytest.mark.parametrize("body", [b"x", None], ids=["frames", "http"])
async def test_behind_another_dispatchers_request_one_keeps_its_time(tmp_path: Path, body: bytes | None) -> None:
    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(1.5 if asked.body == b"hangs" else 0.2)
        return Told(body=b"done")

    async with workers(tmp_path, answer=slow) as (worker,), two_dispatchers(tmp_path, worker) as (one, two):
        one.control.submit(one.control.request(b"hangs", timeout=1))
        await until(lambda: worker.running == 1)
        two.control.submit(two.control.request(body, input_location="s3://in/k", timeout=1))
        (late,) = await one.control.settled(1)
        assert (late.kind, late.cause_kind) == ("failed", "timeout")
        assert two.control.started == []
        (innocent,) = await two.control.settled(1)
        assert innocent.kind == "succeeded"
        assert innocent.started is not None
        assert late.started is not None
        assert innocent.started - late.started > 1.4


async def test_what_waits_behind_another_dispatchers_request_costs_no_attempt_when_that_kills_the_worker(
    tmp_path: Path,
) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), two_dispatchers(tmp_path, worker) as (one, two):
        one.control.submit(one.control.request(b"kills"))
        await until(lambda: worker.running == 1)
        framed, over_http = two.control.request(b"framed"), two.control.request(None, input_location="s3://in/k")
        two.control.submit(framed)
        await until(lambda: len(worker.idents) == 2)
        await worker.kill()
        (lost,) = await one.control.settled(1)
        assert (lost.kind, lost.instance) == ("lost", "i-1")

        one.control.submit(one.control.request(b"kills too"))
        gate.open.set()
        await worker.start()
        assert [outcome.kind for outcome in await two.control.settled(1)] == ["succeeded"]
        await one.control.settled(2)

        gate.open.clear()
        one.control.submit(one.control.request(b"kills again"))
        await until(lambda: worker.running == 1)
        two.control.submit(over_http)
        await until(lambda: two.variant.in_flight == 1)
        await worker.kill()
        assert (await two.control.settled(2))[1].kind == "released"
        assert [started.id for started in two.control.started] == [framed.id]


@pytest.mark.parametrize(("lease", "kind"), [(5, "released"), (40, "lost")])
async def test_workers_that_die_again_and_again_before_they_begin_are_no_accident(
    tmp_path: Path, lease: int, kind: str
) -> None:
    """Receiving a large input may be what they die of."""
    async with workers(tmp_path, answer=Gate()) as (worker,), two_dispatchers(tmp_path, worker) as (one, two):
        one.control.submit(one.control.request())
        await until(lambda: worker.running == 1)
        two.control.submit(two.control.request(None, input_location="s3://in/k", lease=lease))
        await until(lambda: two.variant.in_flight == 1)
        await worker.kill()
        (got,) = await two.control.settled(1)
        assert (got.kind, got.started) == (kind, None)


async def test_a_worker_that_never_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.data.asynchronous_calls.UNBEGUN_SECONDS", 0.2)
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(found.control.request(b"first"), found.control.request(b"second"))
        (got,) = await found.control.settled(1)
        assert (got.id, got.kind, got.started) == (2, "released", None)
        gate.open.set()
        assert (await found.control.settled(2))[1].kind == "succeeded"


@pytest.mark.parametrize("protocol", ["frames", "http"])
async def test_a_timeout_over_either_protocol(tmp_path: Path, protocol: str) -> None:
    async with workers(tmp_path, answer=Gate()) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker, protocol=protocol)))
        got = await outcome_of(found, timeout=1)
        assert (got.kind, got.cause_kind) == ("failed", "timeout")


@pytest.mark.parametrize("body", [b"x", BIG])
async def test_a_worker_that_dies(tmp_path: Path, body: bytes) -> None:
    """What it was at is lost; what was sent ahead was not begun, and is done by another."""
    gate = Gate()
    async with workers(tmp_path, 2, gate) as (one, two), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", one), replica("i-2", two)))
        await until(lambda: len(found.variant.lanes) == 2)
        found.staging.objects["in", "k"] = body
        found.control.submit(*(found.control.request(None, input_location="s3://in/k") for _ in range(4)))
        await until(lambda: one.running == two.running == 1)
        await one.kill()
        (lost,) = await found.control.settled(1)
        assert (lost.kind, lost.instance) == ("lost", "i-1")
        gate.open.set()
        assert [outcome.kind for outcome in (await found.control.settled(4))[1:]] == ["succeeded"] * 3
        assert found.staging.held == 0


async def test_without_a_worker_claims_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with workers(tmp_path, answer=Gate()) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(*(found.control.request() for _ in range(3)))
        await until(lambda: worker.running == 1)
        monkeypatch.setattr("slipway.data.asynchronous.LOST_SECONDS", 0.05)
        await worker.kill()
        kinds = sorted(outcome.kind for outcome in await found.control.settled(3))
        assert kinds == ["lost", "released", "released"]


async def test_a_late_request_is_not_sent(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        assert (await outcome_of(found, expires=1.0)).kind == "released"
        assert worker.asked == []


async def test_a_request_that_expires_while_it_waits_for_a_worker_is_not_sent(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)), options=AsyncOptions("s3://out/x", max_concurrent=1))
        soon = time.time() + 1.0
        found.control.submit(found.control.request(b"first"), found.control.request(b"late", expires=soon))
        await until(lambda: found.variant.waiting == 1)
        await asyncio.sleep(max(0.0, soon - time.time()))
        gate.open.set()
        kinds = {outcome.id: outcome.kind for outcome in await found.control.settled(2)}
        assert kinds == {1: "succeeded", 2: "released"}
        assert [asked.body for asked in worker.asked] == [b"first"]


async def test_what_expires_in_line_does_not_wait_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.data.asynchronous_places.LOOK_SECONDS", 0.05)
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)), options=AsyncOptions("s3://out/x", max_concurrent=1))
        found.control.submit(found.control.request(b"first"))
        await until(lambda: worker.running == 1)
        found.control.submit(found.control.request(b"late", expires=time.time() + 0.5))
        await until(lambda: found.variant.waiting == 1)
        (got,) = await found.control.settled(1)
        assert (got.id, got.kind, worker.running) == (2, "released", 1)
        gate.open.set()


async def test_how_many_an_instance_gets(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 3, gate) as found_workers, stack(tmp_path) as found:
        one = replica("i-1", *found_workers[:2])
        two = replica("i-2", found_workers[2])
        found.serve(variant(one, two), options=AsyncOptions("s3://out/x", max_concurrent=1))
        await until(lambda: len(found.variant.lanes) == 3)
        assert (found.variant.workers, found.variant.places) == (2, 2)
        found.control.submit(*(found.control.request() for _ in range(20)))
        await until(lambda: sum(worker.running for worker in found_workers) == 2)
        assert found.variant.in_flight == 2
        found.serve(variant(one, two), options=OPTIONS)
        await until(lambda: sum(worker.running for worker in found_workers) == 3)
        assert (found.variant.workers, found.variant.places) == (3, 6)
        await until(lambda: found.variant.in_flight == 6)  # one each is sent ahead
        gate.open.set()
        await found.control.settled(20)
        assert sorted(outcome.id for outcome in found.control.outcomes) == list(range(1, 21))


@pytest.mark.parametrize(("most", "expected"), [(0, 4), (3, 3), (9, 9)])
async def test_how_many_a_foreign_container_gets(tmp_path: Path, most: int, expected: int) -> None:
    open_ = asyncio.Event()
    running = 0

    async def many(asked: Asked) -> Told:
        nonlocal running
        running += 1
        await open_.wait()
        return Told(body=asked.body)

    async with workers(tmp_path, answer=many) as (worker,), stack(tmp_path) as found:
        worker._one = _Unlocked()
        found.serve(variant(replica("i-1", worker, protocol="http")), options=AsyncOptions("s3://out/x", max_concurrent=most))
        found.control.submit(*(found.control.request() for _ in range(20)))
        await until(lambda: running == expected)
        assert found.variant.in_flight == expected
        open_.set()
        await found.control.settled(20)


class _Unlocked:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_container_that_takes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.data.asynchronous_places.REST_SECONDS", 0.02)
    async with stack(tmp_path) as found:
        worker = Worker(tmp_path / "late.sock")
        found.serve(variant(replica("i-1", worker, protocol="http")))
        found.control.submit(found.control.request(b"hello"))
        await until(lambda: found.variant.waiting == 1)
        await worker.start()
        (got,) = await found.control.settled(1)
        assert got.kind == "succeeded"
        await worker.kill()


async def test_no_more_is_claimed_than_is_worked_on_soon(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.control.queue.extend(found.control.request() for _ in range(500))
        found.serve(variant(replica("i-1", worker)))
        await until(lambda: worker.running == 1)
        await asyncio.sleep(0.05)
        assert len(found.control.held) <= 20
        gate.open.set()
        await found.control.settled(500)
        assert len(found.control.asked) < 200
        assert max(found.control.batches) > 1


async def test_settlements_share_commits_while_requests_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And wait for nobody where nothing is behind them."""

    async def a_while(asked: Asked) -> Told:
        await asyncio.sleep(0.004)
        return Told(body=asked.body)

    async with workers(tmp_path, answer=a_while) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        await until(lambda: bool(found.variant.lanes))
        found.variant.service = 0.004
        found.control.submit(*(found.control.request() for _ in range(100)))
        await found.control.settled(100)
        assert len(found.control.batches) < 25
        monkeypatch.setattr("slipway.data.settlements.GATHER_SECONDS", 3600.0)
        found.control.submit(found.control.request())
        await found.control.settled(101)


async def test_endpoints_that_take_long_are_not_claimed_ahead(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        await until(lambda: bool(found.variant.lanes and found.control.asked))  # the first claim has found nothing
        found.variant.service = 30.0
        found.control.submit(*(found.control.request() for _ in range(10)))
        await until(lambda: worker.running == 1)
        await asyncio.sleep(0.05)
        assert len(found.control.held) == 1
        gate.open.set()


async def test_cancelled_requests(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        requests = [found.control.request(b"%d" % number) for number in range(4)]
        found.control.submit(*requests)
        await until(lambda: worker.running == 1)
        await until(lambda: len(found.control.held) == 4)
        found.control.tell(claims.CANCEL, (requests[0].id, requests[3].id))
        await until(lambda: len(found.dispatch._jobs) == 2)
        gate.open.set()
        await found.control.settled(2)
        assert sorted(outcome.id for outcome in found.control.outcomes) == [2, 3]
        assert [asked.body for asked in worker.asked] == [b"0", b"1", b"2"]


async def test_a_lost_lease_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.data.asynchronous_ledger.LEASE_SECONDS", 0.06)
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(found.control.request(), found.control.request())
        await until(lambda: len(found.control.beats) > 2 and found.control.beats[-1].held == ((1, 1), (2, 1)))
        assert found.control.beats[-1].holder == "1.test"
        found.control.lost.add(1)
        await until(lambda: len(found.control.beats[-1].held) == 1)
        gate.open.set()
        (got,) = await found.control.settled(1)
        assert got.id == 2


async def test_what_control_is_just_settling_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The heartbeat that crosses the settlement on its way finds no lease any more."""
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))

        async def beat() -> None:
            found.control.lost.add(1)
            channel = found.link.channel
            assert channel is not None
            beating = asyncio.create_task(found.dispatch.ledger.connected(channel))
            await until(lambda: found.control.beats[-1].held == ((1, 1),))
            await asyncio.wait([beating], timeout=PATIENCE)

        found.control.before_settled = beat
        found.control.submit(found.control.request())
        (got,) = await found.control.settled(1)
        assert got.kind == "succeeded"
        assert "leases-lost" not in caplog.text


async def test_a_void_settlement_drops_what_was_staged(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.void.add(1)
        found.control.submit(found.control.request())
        await until(lambda: bool(found.staging.discarded))
        assert found.staging.discarded == found.staging.staged
        assert not found.dispatch._jobs


async def test_control_dies_before_it_has_settled(tmp_path: Path) -> None:
    """The word is said again to the next one; if that calls it void, it may have counted before: nothing is dropped."""
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.before_settled = found.control.close
        found.control.submit(found.control.request(), found.control.request())
        await until(lambda: found.link.channel is None)
        found.control.outcomes.clear()
        found.control.held = {2: 1}
        await found.control.open()
        await found.control.settled(1)
        await until(lambda: not found.dispatch._jobs)
        assert [outcome.id for outcome in found.control.outcomes] == [2]
        assert found.staging.discarded == []


async def test_work_goes_on_while_control_is_away(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(*(found.control.request() for _ in range(3)))
        await until(lambda: len(found.control.held) == 3)
        await found.control.close()
        gate.open.set()
        await until(lambda: found.dispatch.ledger.settlements.unsent == 3)
        await found.control.open()
        assert len(await found.control.settled(3)) == 3


async def test_an_external_store_is_told_after_the_settlement(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.staging.external = True
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(found.control.request())
        first, second = await found.control.settled(2)
        assert (first.kind, second.kind) == ("succeeded", "published")
        assert first.staged == second.staged
        assert found.staging.published == found.staging.staged == [first.staged]


async def test_a_publication_left_behind(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        staged = Staged("out", "x/1.out", 3, "etag", "", attempt_key="attempt")
        got = await outcome_of(found, publish=staged)
        assert (got.kind, got.staged) == ("published", staged)
        assert found.staging.published == [staged]
        assert worker.asked == []


async def test_a_publication_that_fails_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.data.asynchronous.PUBLISH_PAUSES", (0.01,))
    async with workers(tmp_path) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.staging.broken = s3_error("NoSuchBucket")
        got = await outcome_of(found, publish=Staged("out", "x/1.out", 3, "etag", "", attempt_key="attempt"))
        assert got.kind == "released"


async def test_scaling_in_lets_run_what_runs(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, answer=gate) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(*(found.control.request() for _ in range(4)))
        await until(lambda: worker.running == 1)
        await until(lambda: len(found.control.held) == 4)
        found.serve(variant())
        assert found.slots.busy_removed() == ["i-1"]
        found.variant.give_up()
        gate.open.set()
        kinds = sorted(outcome.kind for outcome in await found.control.settled(4))
        assert kinds == ["released", "released", "succeeded", "succeeded"]
        await until(lambda: found.slots.busy_removed() == [])
        assert found.drained


async def test_a_deleted_endpoint_gives_back_what_waits(tmp_path: Path) -> None:
    async with workers(tmp_path, answer=Gate()) as (worker,), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", worker)))
        found.control.submit(*(found.control.request() for _ in range(4)))
        await until(lambda: worker.running == 1)
        found.serve()
        kinds = [outcome.kind for outcome in await found.control.settled(2)]
        assert kinds == ["released", "released"]


async def test_stopping(tmp_path: Path) -> None:
    """What no container has goes back; what runs may finish; what does not in time is lost."""
    gate = Gate()
    async with workers(tmp_path, 2, gate) as (one, two), stack(tmp_path) as found:
        found.serve(variant(replica("i-1", one)), options=AsyncOptions("s3://out/x", max_concurrent=1))
        two.answer = echo
        found.control.submit(*(found.control.request() for _ in range(3)))
        await until(lambda: one.running == 1)
        await until(lambda: len(found.control.held) == 3)
        await found.dispatch.stop(0.05)
        assert sorted(outcome.kind for outcome in found.control.outcomes) == ["lost", "released", "released"]
        assert found.control.held == {}
