"""Objects whose lease ran out: taken back, but not those that nobody could renew."""

from __future__ import annotations

from typing import Any, cast

from slipway.control.transforms_link import LinkWorld, TransformLink
from slipway.link.transforms import LEASE_SECONDS
from slipway.store import objects, transforms
from slipway.store.db import Connection, Db
from slipway.store.transforms import Listed

ME, JOB = "123456789012", "arn:aws:sagemaker:us-east-1:123456789012:transform-job/j"


def _prepare(connection: Connection) -> None:
    objects.insert_bucket(connection, objects.BucketRow("out", ME, "us-east-1", 1.0))
    transforms.add(connection, JOB, ME, [Listed("in", "k", 10, "o/k.out")])


class Site:
    """A link over a store; its clocks."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.now, self.steady = 1_661_820_555.0, 0.0
        world = LinkWorld(
            db,
            cast("Any", None),
            None,
            instances=lambda job: 1,
            wake=lambda kind, key: None,
            now=lambda: self.now,
            alive=lambda pid: True,
            steady=lambda: self.steady,
        )
        self.link = TransformLink(world)

    async def claimed(self) -> bool:
        """Whether somebody holds the object."""
        await self.link.reap()
        return not await self.db.read(lambda c: transforms.queued_up_to(c, JOB, 10))

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds


async def test_objects_are_not_taken_back_because_the_machine_slept(db: Db) -> None:
    await db.write(_prepare)
    site = Site(db)
    site.passes(LEASE_SECONDS)
    await site.link.reap()
    until = site.now + LEASE_SECONDS
    await db.write(lambda c: transforms.claim(c, JOB, "1.a", until, 1))
    assert await site.claimed()
    site.now += 3600  # asleep: nobody could renew it
    assert await site.claimed()
    site.passes(LEASE_SECONDS - 1)
    assert await site.claimed()
    site.passes(2)
    assert not await site.claimed()
    await site.link.close()
