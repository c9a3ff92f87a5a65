"""Objects of transform jobs under lease: claimed, brought forward, settled once, taken back from the dead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from slipway.control import transforms_settlement
from slipway.core.asynchronous import Staged
from slipway.core.s3_events import SLIPWAY
from slipway.core.transforms import ATTEMPTS, ClaimedObject, Counts, ObjectOutcome, Piece, Point
from slipway.store import objects, transforms
from slipway.store.db import Connection, Db
from slipway.store.transforms import Listed

ME, JOB = "123456789012", "arn:aws:sagemaker:us-east-1:123456789012:transform-job/j"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Db]:
    found = await Db.open(database_url)
    await found.write(_prepare)
    yield found
    await found.close()


def _prepare(connection: Connection) -> None:
    objects.insert_bucket(connection, objects.BucketRow("out", ME, "us-east-1", 1.0))
    transforms.add(connection, JOB, ME, [Listed("in", f"k{number}", 10, f"o/k{number}.out") for number in range(3)])


async def claim(db: Db, count: int, holder: str = "a", until: float = 100.0) -> list[ClaimedObject]:
    return await db.write(lambda c: transforms.claim(c, JOB, holder, until, count))


def outcome(claimed: ClaimedObject, kind: str = "done", **more: Any) -> ObjectOutcome:
    staged = (Staged("out", claimed.output, 2, "etag", "text/csv", data=b"ok"),) if kind == "done" else ()
    made = ObjectOutcome(claimed.id, claimed.lease, kind, records=7, staged=staged)  # type: ignore[arg-type]  # a literal
    return replace(made, **more)


async def settle(db: Db, *outcomes: ObjectOutcome) -> tuple[list[bool], set[str], bool]:
    done = await db.write(lambda c: transforms_settlement.settle(c, outcomes, 5.0, SLIPWAY))
    return done.answers, done.retired, bool(done.complete)


async def counts(db: Db) -> Counts:
    return await db.read(lambda c: transforms.counts(c, JOB))


async def test_an_object_is_settled_once_under_its_newest_lease(db: Db) -> None:
    first, second = await claim(db, 2)
    assert [each.key for each in (first, second)] == ["k0", "k1"]
    assert await settle(db, outcome(first), outcome(second)) == ([True, True], set(), False)
    assert await settle(db, outcome(first)) == ([False], set(), False)
    (third,) = await claim(db, 5)
    assert await settle(db, replace(outcome(third), lease=third.lease - 1)) == ([False], set(), False)
    assert await settle(db, outcome(third)) == ([True], set(), True)
    assert await counts(db) == Counts(done=3, records=21)
    found = await db.read(lambda c: objects.get_object(c, "out", "o/k0.out", content=True))
    assert found is not None
    assert found.data == b"ok"


async def test_what_the_dead_held_is_claimed_again(db: Db) -> None:
    held = await claim(db, 3, "dead")
    assert await db.read(lambda c: transforms.reap(c, 50.0)) == []
    assert len(await db.read(lambda c: transforms.reap(c, 101.0))) == 3
    found = await db.read(lambda c: transforms.reap(c, 50.0, ("dead",)))
    await db.write(lambda c: transforms.put_back(c, [id for id, _, _ in found], counted=True))
    again = await claim(db, 3, "alive")
    assert [each.attempt for each in again] == [2, 2, 2]
    assert await settle(db, outcome(held[0])) == ([False], set(), False)
    lost = await db.write(lambda c: transforms.heartbeat(c, "alive", 200.0, [(again[0].id, again[0].lease), (99, 1)]))
    assert lost == [99]


async def test_an_object_whose_instances_die_is_given_up(db: Db) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        claimed = (await claim(db, 1))[0]
        assert (claimed.key, claimed.attempt) == ("k0", attempt)
        await settle(db, outcome(claimed, "lost", cause="gone"))
    failed = await db.read(lambda c: transforms.first_failed(c, JOB))
    assert failed is not None
    assert f"given up after {ATTEMPTS} attempts" in failed.cause
    released = (await claim(db, 1))[0]
    await settle(db, outcome(released, "released"))
    assert (await claim(db, 1))[0].attempt == released.attempt, "it was never begun"


async def test_a_durable_point_is_kept_for_the_next_and_its_pieces_go_with_a_failure(db: Db) -> None:
    claimed = (await claim(db, 1))[0]
    point = Point("etag", 100, 4, (Piece("blob-1", 50, "md5"),), (Piece("blob-2", 5, "md5"),), 1, "text/csv")
    assert await db.write(lambda c: transforms.reach(c, claimed.id, claimed.lease, point))
    assert not await db.write(lambda c: transforms.reach(c, claimed.id, claimed.lease + 1, point))
    assert set(await db.read(lambda c: list(transforms.referenced(c)))) == {"blob-1", "blob-2"}
    await settle(db, outcome(claimed, "lost"))
    again = (await claim(db, 1))[0]
    assert again.point == point
    assert await settle(db, outcome(again, "failed", cause="bad")) == ([True], {"blob-1", "blob-2"}, False)
    assert list(await db.read(lambda c: list(transforms.referenced(c)))) == []


async def test_an_output_that_another_account_s_bucket_would_take_fails(db: Db) -> None:
    claimed = (await claim(db, 1))[0]
    staged = Staged("nowhere", "k", 9, "etag", "", segments=(("blob-3", 0, 9),))
    assert await settle(db, outcome(claimed, staged=(staged,))) == ([True], {"blob-3"}, False)
    failed = await db.read(lambda c: transforms.first_failed(c, JOB))
    assert failed is not None
    assert "could not be written to bucket nowhere" in failed.cause


async def test_a_stopped_job_s_objects_are_settled_no_more(db: Db) -> None:
    claimed = (await claim(db, 1))[0]
    assert await db.write(lambda c: transforms.cut(c, JOB, 9.0)) == [claimed.id]
    assert await settle(db, outcome(claimed)) == ([False], set(), False)
    assert (await counts(db)).stopped == 3
    assert await claim(db, 5) == []
    assert await db.write(lambda c: transforms.purge(c, (JOB,))) == 3
