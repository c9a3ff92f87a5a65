"""Asynchronous inference in control, over a real link: accepted, claimed, settled; dispatchers that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.backing.objects_blobs import Blobs
from slipway.backing.objects_digests import Digests
from slipway.core.asynchronous import AsyncOptions, Outcome, Spent, Staged
from slipway.link import claims
from slipway.link.channel import LinkError
from slipway.link.claims import Claim, Started
from slipway.settings import Limits
from slipway.store import jobs, jobs_claims
from tests.deadlines import PATIENCE
from tests.unit.control.async_world import ARN, KEY, FakeDispatcher, Site, failed, opened, request, succeeded

SIDE = {"EndpointName": "Echo", "VariantName": "AllTraffic"}


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(database_url, tmp_path) as found:
        yield found


@pytest.fixture
async def one(site: Site) -> AsyncIterator[FakeDispatcher]:
    found = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
    yield found
    found.close()


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of another task, over a socket
            await asyncio.sleep(0.005)


async def test_a_request_goes_from_its_acceptance_to_its_end(site: Site, one: FakeDispatcher) -> None:
    (answer,) = await one.accept(request(inference_id="mine", content_type="text/csv"))
    assert (answer.status, answer.inference_id) == (202, "mine")
    assert answer.output_location.startswith("s3://bucket/out/")
    assert answer.failure_location is not None
    assert answer.failure_location.endswith("-error.out")
    (claimed,) = await one.claim()
    assert (claimed.inference_id, claimed.attempt, claimed.input_location) == ("mine", 1, "s3://bucket/in.csv")
    assert await one.settle(succeeded(claimed, b"42")) == (True,)
    assert await site.content(answer.output_location) == b"42"
    assert [topic for topic, _ in site.told] == ["arn:topic:good"]
    assert await one.claim() == ()


async def test_a_batch_answers_each_in_order(site: Site, one: FakeDispatcher) -> None:
    answers = await one.accept(
        request(inference_id="a"),
        request(endpoint="Nobody"),
        request(ttl=5),
        request(inference_id="b", body=b"x", input_location=None),
        request(account="2"),
    )
    assert [(each.code, each.inference_id) for each in answers] == [
        (None, "a"),
        ("ValidationError", ""),
        ("ValidationError", ""),
        (None, "b"),
        ("ValidationError", ""),
    ]
    assert answers[1].message == "Endpoint Nobody of account 1 not found."
    assert [each.inference_id for each in await one.claim()] == ["a", "b"]


async def test_dispatchers_are_woken_and_from_zero_the_autoscaler(site: Site, one: FakeDispatcher) -> None:
    assert await one.claim() == ()
    await one.accept(request(), request())
    await until(lambda: one.woken)
    assert one.woken == [KEY]
    assert site.wakes == []
    site.scale(0)
    await one.accept(request())
    await one.accept(request())
    assert site.wakes == [("scaling", ARN)]
    await until(lambda: len(site.wakes) == 2)


async def test_outcomes_are_counted_and_failures_logged(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request(inference_id="good"), request(inference_id="bad"), request(inference_id="lost input"))
    good, bad, missing = await one.claim()
    at = site.now + 3
    times: dict[str, Any] = {"started": at, "download_seconds": 0.5, "model_seconds": 2.0, "upload_seconds": 0.25}
    site.now += 6
    await one.settle(
        succeeded(good, **times), failed(bad, **times), failed(missing, cause_kind="download", cause="No such key.", status=0)
    )
    assert site.counted("InvocationsProcessed", **SIDE) == (2, 2)
    assert site.counted("InvocationsProcesssed", **SIDE) == (2, 2)
    assert site.counted("InvocationFailures", **SIDE) == (1, 1)
    assert site.counted("RequestDownloadFailures", **SIDE) == (1, 1)
    assert site.counted("Invocation5XXErrors", **SIDE) == (1, 2)
    assert site.counted("Invocation4XXErrors", **SIDE) == (0, 2)
    assert site.counted("ModelLatency", **SIDE) == (4e6, 2)
    assert site.counted("RequestDownloadLatency", **SIDE) == (1e6, 2)
    assert site.counted("ResponseUploadLatency", **SIDE) == (0.5e6, 2)
    assert site.counted("TimeInBacklog", **SIDE) == (6000, 2)
    assert site.counted("TotalProcessingTime", **SIDE) == (12000, 2)
    assert site.counted("ExpiredRequests", **SIDE) is None
    await site.parts.close()
    page = site.logs.get("1", "eu-central-1", "/aws/sagemaker/Endpoints/Echo", "AllTraffic/i-0/data-log", from_head=True)
    lines = [event.message for event in page.events]
    assert [line.partition(":[sagemaker logs] ")[2] for line in lines] == ["[bad] It said no.", "[lost input] No such key."]


async def test_each_container_of_a_pipeline_has_metrics(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request(), request())
    good, bad = await one.claim(2)
    took = (Spent("first", 1.0, 0.5, 200), Spent("second", 2.0, 0.25, 200))
    await one.settle(succeeded(good, containers=took), failed(bad, containers=(Spent("first", 3.0, 0.0, 415),)))
    first, second = {**SIDE, "ContainerName": "first"}, {**SIDE, "ContainerName": "second"}
    for side, count, latency, overhead, bad_ones in ((first, 2, 4e6, 0.5e6, 1), (second, 1, 2e6, 0.25e6, 0)):
        assert site.counted("Invocations", **side) == (count, count)
        assert site.counted("ContainerLatency", **side) == (latency, count)
        assert site.counted("OverheadLatency", **side) == (overhead, count)
        assert site.counted("Invocation4XXErrors", **side) == (bad_ones, count)
        assert site.counted("Invocation5XXErrors", **side) == (0, count)
        assert site.counted("InvocationModelErrors", **side) == (bad_ones, count)
    assert site.counted("ContainerLatency", **SIDE) is None


async def test_backlog_metrics_with_their_zeros(site: Site, one: FakeDispatcher) -> None:
    await site.parts.metrics.publish(site.now)
    for name in ("ApproximateBacklogSize", "ApproximateAgeOfOldestRequest", "HasBacklogWithoutCapacity"):
        assert site.counted(name, EndpointName="Echo") == (0, 1)
    assert site.counted("ApproximateBacklogSizePerInstance", EndpointName="Echo") == (0, 1)
    assert site.counted("ExpiredRequests", **SIDE) == (0, 1)
    site.metrics._pending.clear()
    await one.accept(*(request() for _ in range(6)))
    await one.claim(2)
    site.scale(3)
    site.now += 10
    await site.parts.metrics.publish(site.now)
    assert site.counted("ApproximateBacklogSize", EndpointName="Echo") == (6, 1)
    assert site.counted("ApproximateBacklogSizePerInstance", EndpointName="Echo") == (2, 1)
    assert site.counted("ApproximateAgeOfOldestRequest", EndpointName="Echo") == (10, 1)
    assert site.counted("HasBacklogWithoutCapacity", EndpointName="Echo") == (0, 1)
    site.metrics._pending.clear()
    site.scale(0)
    await site.parts.metrics.publish(site.now)
    assert site.counted("ApproximateBacklogSizePerInstance", EndpointName="Echo") is None
    assert site.counted("HasBacklogWithoutCapacity", EndpointName="Echo") == (1, 1)


async def test_an_outcome_that_breaks_the_transaction_breaks_no_other(
    site: Site, one: FakeDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    await one.accept(request(inference_id="good"), request(inference_id="odd"))
    good, odd = await one.claim()
    site.broken.add("odd")
    assert await one.settle(succeeded(good), succeeded(odd)) == (True, False)
    assert (await site.job(good.id)).state == "succeeded"
    assert (await site.job(odd.id)).state == "running"
    site.broken.clear()
    assert await one.settle(succeeded(good), succeeded(odd)) == (True, True)
    assert (await site.job(odd.id)).state == "succeeded"
    assert "settlement-failed" in caplog.text


async def test_text_with_null_characters_is_kept_without_them(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    assert await one.settle(failed(claimed, cause="a\0b", answer=b"a\0b")) == (True,)
    assert (await site.job(claimed.id)).cause == "a\ufffdb"


async def test_an_answer_whose_content_died_with_its_dispatcher_is_tried_again(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    staged = Staged("bucket", "out/x.out", 70_000, "e", "", segments=(("0badcafe" + "0" * 24, 0, 70_000),))
    assert await one.settle(replace(succeeded(claimed), staged=staged)) == (True,)
    job = await site.job(claimed.id)
    assert job.state == "queued"
    assert "lost with the dispatcher" in (job.cause or "")


async def test_a_blob_that_a_dispatcher_staged_becomes_the_output(site: Site, one: FakeDispatcher) -> None:
    blobs = Blobs(f"{site.folder}/objects")
    writer = await blobs.create()
    await writer.feed(b"large", Digests())
    await writer.finish()
    await one.accept(request())
    (claimed,) = await one.claim()
    staged = replace(succeeded(claimed).staged or Staged("", "", 0, "", ""), data=None, segments=((writer.name, 0, 5),))
    assert await one.settle(replace(succeeded(claimed), staged=staged)) == (True,)
    _, pieces = await site.objects.get("bucket", staged.key)
    assert b"".join([piece async for piece in pieces]) == b"large"
    blobs.close()


async def test_started_shows_where_a_request_runs(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    await one.channel.notify(claims.STARTED, (Started(claimed.id, claimed.lease, site.now, "AllTraffic", "i-7"),))
    async with asyncio.timeout(PATIENCE):
        while (await site.job(claimed.id)).instance != "i-7":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# Dispatchers that die


async def test_what_a_dead_dispatcher_held_is_free_at_once(site: Site, one: FakeDispatcher) -> None:
    """What a container had of it has cost an attempt, what was claimed ahead has not."""
    await one.accept(request(), request(), request())
    other = await FakeDispatcher("2.b").connect(f"{site.folder}/link")
    held, ahead = await other.claim(2)
    (mine,) = await one.claim(1)
    site.dead.add(other.channel.peer.pid)
    await other.channel.notify(claims.STARTED, (Started(held.id, held.lease, site.now, "AllTraffic", "i-7"),))
    await other.heartbeat([held, ahead])
    other.close()
    await until(lambda: ("async", "") in site.wakes)
    assert (await site.job(held.id)).state == "queued"
    assert (await site.job(mine.id)).state == "running"
    assert (await one.claim()) == (), "it has its backoff"
    site.now += 1.2
    assert [(each.id, each.attempt) for each in await one.claim()] == [(held.id, 2), (ahead.id, 1)]


async def test_a_broken_link_alone_takes_nothing_away(site: Site) -> None:
    first = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
    await first.accept(request())
    (claimed,) = await first.claim()
    first.close()
    again = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
    assert await again.heartbeat([claimed]) == ()
    await asyncio.sleep(0.15)
    assert await again.settle(succeeded(claimed)) == (True,)
    again.close()


async def test_leases_of_an_earlier_control_have_their_time(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    keeping = site.parts.keeping
    site.now += claims.LEASE_SECONDS - 0.5
    assert await one.heartbeat([claimed]) == ()
    await keeping.reconcile("")
    site.now += 1
    assert site.parts.link.may_reap
    await keeping.reconcile("")
    assert (await site.job(claimed.id)).state == "running", "its lease was renewed"
    site.now += claims.LEASE_SECONDS
    await keeping.reconcile("")
    assert (await site.job(claimed.id)).state == "queued"
    assert await one.heartbeat([claimed]) == (claimed.id,)


async def test_leases_that_ran_out_while_the_machine_slept_have_their_time(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    await site.parts.keeping.reconcile("")
    site.now += 3600
    site.jumped += 3600
    await site.parts.keeping.reconcile("")
    assert (await site.job(claimed.id)).state == "running"
    assert await one.heartbeat([claimed]) == ()
    site.now += claims.LEASE_SECONDS - 1
    await site.parts.keeping.reconcile("")
    assert (await site.job(claimed.id)).state == "running"
    site.now += 2
    await site.parts.keeping.reconcile("")
    assert (await site.job(claimed.id)).state == "queued"


async def test_what_a_living_dispatcher_never_heard_of_goes_back_at_once(site: Site) -> None:
    """Control died, or the link broke, between a claim's commit and its answer."""
    one = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
    other = await FakeDispatcher("2.b").connect(f"{site.folder}/link")
    await one.accept(request(), request(), request())
    (heard,) = await one.claim(1)
    (unheard,) = await one.claim(1)
    (its,) = await other.claim(1)
    assert await one.heartbeat([heard]) == (), "on the channel of the claims, it may be on its way"
    assert (await site.job(unheard.id)).state == "running"
    one.close()
    again = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
    assert await again.heartbeat([heard]) == ()
    assert [(await site.job(each.id)).state for each in (heard, unheard, its)] == ["running", "queued", "running"]
    await until(lambda: bool(again.woken))
    (claimed,) = await again.claim()
    assert (claimed.id, claimed.attempt, claimed.lease) == (unheard.id, 1, 2)
    assert await again.settle(succeeded(unheard), succeeded(claimed)) == (False, True)
    again.close()
    other.close()


async def test_no_lease_is_taken_before_it_could_be_renewed(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as site:
        one = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
        await one.accept(request())
        (claimed,) = await one.claim()
        await site.db.write(lambda c: c.execute(jobs.requests.update().values(lease_until=site.now - 100)))
        await site.parts.keeping.reconcile("")
        assert (await site.job(claimed.id)).state == "running"
        one.close()


async def test_a_new_control_frees_what_dispatchers_held_that_died_with_the_old_one(site: Site) -> None:
    one = await FakeDispatcher("123.a").connect(f"{site.folder}/link")
    await one.accept(request(), request())
    taker = jobs_claims.Taker("99999.gone", site.now + 15)
    await site.db.write(lambda c: jobs_claims.claim(c, "1", "eu-central-1", "Echo", taker, 1, site.rules, site.now))
    (mine,) = await one.claim()
    site.dead |= {99999, 123}
    await site.parts.keeping.reconcile("")
    assert (await site.db.read(jobs_claims.holders)) == {"99999.gone", "123.a"}, "not yet"
    site.now += 3
    await site.parts.keeping.reconcile("")
    assert (await site.db.read(jobs_claims.holders)) == {"123.a"}, "that one is connected"
    assert (await site.job(mine.id)).state == "running"
    one.close()


# What happens by itself


async def test_requests_expire_where_nobody_claims_and_are_counted(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request(ttl=60))
    site.now += 61
    await site.parts.keeping.reconcile("")
    assert (await site.only_job()).state == "expired"
    assert site.counted("ExpiredRequests", **SIDE) == (1, 1)
    assert [topic for topic, _ in site.told] == ["arn:topic:bad"]


async def test_deleting_the_endpoint_settles_its_requests_and_tells_the_dispatcher(site: Site, one: FakeDispatcher) -> None:
    await one.accept(*(request() for _ in range(3)))
    (claimed,) = await one.claim(1)
    await site.delete()
    await site.parts.keeping.reconcile("")
    await until(lambda: one.cancelled)
    assert one.cancelled == [claimed.id]
    assert await one.settle(succeeded(claimed)) == (False,)
    assert len(site.told) == 3
    assert all(told["invocationStatus"] == "Failed" for _, told in site.told)
    assert await site.db.read(lambda c: [queue.backlog for queue in jobs.every_queue(c)]) == [0]


async def test_requests_end_with_the_topics_that_their_endpoint_has_now(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request(), request())
    first, second = await one.claim()
    await site.parts.keeping.reconcile("")
    await site.update(AsyncOptions("s3://bucket/out", success_topic="arn:topic:other"))
    await site.parts.keeping.reconcile("")
    await one.settle(succeeded(first), failed(second))
    assert [topic for topic, _ in site.told] == ["arn:topic:other"]


async def test_a_million_orphans_would_not_hold_up_the_rest(
    site: Site, one: FakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_claims, "CHUNK", 5)
    monkeypatch.setattr("slipway.control.asynchronous_keeping.ROUNDS", 2)
    await one.accept(*(request() for _ in range(23)))
    await site.delete()
    for left in (13, 3, 0):
        await site.parts.keeping.reconcile("")
        assert await site.db.read(lambda c: [queue.queued for queue in jobs.every_queue(c)]) == [left]


async def test_retries_wake_dispatchers_when_they_are_due(site: Site, one: FakeDispatcher) -> None:
    await one.accept(request())
    (claimed,) = await one.claim()
    one.woken.clear()
    await one.settle(Outcome(claimed.id, claimed.lease, "lost", cause="killed"))
    assert ("async", "") in site.wakes
    soon = await site.parts.keeping.reconcile("")
    assert soon is not None
    assert 0 < soon <= 1.0
    assert one.woken == []
    site.now += 1.2
    await site.parts.keeping.reconcile("")
    await until(lambda: one.woken)
    assert one.woken == [KEY]


async def test_records_are_dropped_when_they_are_old(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path, Limits(async_kept_seconds=100)) as site:
        one = await FakeDispatcher("1.a").connect(f"{site.folder}/link")
        await one.accept(request())
        (claimed,) = await one.claim()
        await one.settle(succeeded(claimed))
        site.now += 99
        await site.parts.keeping.reconcile("")
        await site.job(claimed.id)
        site.now += 62
        await site.parts.keeping.reconcile("")
        assert await site.db.read(lambda c: jobs.get(c, claimed.id)) is None
        one.close()


@pytest.mark.parametrize(
    "claim", [Claim("", KEY, 1), Claim("x" * 300, KEY, 1), Claim("1.a", "no-key", 1)], ids=["no name", "long name", "no key"]
)
async def test_claims_that_make_no_sense_are_refused(site: Site, one: FakeDispatcher, claim: Claim) -> None:
    with pytest.raises(LinkError):
        await one.channel.request(claims.CLAIM, claim)
    assert await one.claim(-5) == ()
