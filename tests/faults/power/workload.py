"""The process under test: puts objects, and takes asynchronous requests from acceptance to settlement, as control and a
dispatcher do; says, in a file that is logged too, what was acknowledged.

Run as `python -m tests.faults.power.workload FOLDER COUNT`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Sequence

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_staging_embedded import EmbeddedStaging
from slipway.core.asynchronous import AsyncOptions, Claimed, Outcome
from slipway.core.queue_messages import Message
from slipway.store import jobs, jobs_claims, jobs_settle, queues, resources
from slipway.store.db import Connection, Db
from slipway.store.jobs import NewRequest, Place
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Rules

BUCKET = "power"
ACCOUNT, REGION = "123456789012", "us-east-1"
TOPIC = "arn:aws:sns:us-east-1:123456789012:done"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:done"
PLACE = Place(ACCOUNT, REGION, "ep", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/ep", 1.0)
OPTIONS = AsyncOptions(f"s3://{BUCKET}/out", success_topic=TOPIC)
SIZES = (64, 70_016, 300_000)


def content_of(seed: str, size: int) -> bytes:
    block = hashlib.sha256(seed.encode()).digest()
    return block * (size // len(block))


class Said:
    """Lines in `FOLDER/said`: each is one write, and therefore one record of the log."""

    def __init__(self, folder: str) -> None:
        self._fd = os.open(f"{folder}/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


async def put(objects: EmbeddedObjects, said: Said, writer: int, count: int) -> None:
    for n in range(count):
        key, seed = f"k{writer}-{n % 3}", f"{writer}.{n}"
        size = (1024, 70_000, 300_000)[(writer + n) % 3] // 32 * 32
        said("putting", key, seed, size)
        try:
            await objects.put(BUCKET, key, content_of(seed, size))
        except Exception as error:  # noqa: BLE001 - a fault: the caller is told, which is what counts
            said("refused", key, seed, type(error).__name__)
        else:
            said("put", key, seed, size)


def announce(connection: Connection, topic: str, messages: Sequence[str], now: float) -> list[str | None]:
    """As a topic with one queue: one row for each request that ends."""
    return [queues.send(connection, QUEUE, Message(message), now) for message in messages]


RULES = Rules(announce)


def prepare(connection: Connection) -> None:
    queues.create(connection, queues.QueueRow(QUEUE, 0, ACCOUNT, REGION, "done"))
    resources.add(
        connection, resources.Resource(ACCOUNT, REGION, "endpoint", "ep", PLACE.arn, {}, 1.0, 1.0, status="InService")
    )


async def accept(db: Db, said: Said, count: int) -> None:
    """Batches of three requests."""
    for batch in range(count):
        now = time.time()
        names = [f"r{batch}-{n}" for n in range(3)]
        new = [NewRequest(now, now + 3600, 900, name, f"s3://{BUCKET}/out/{name}", input_location="s3://b/k") for name in names]
        try:
            await db.write(lambda c, new=new, now=now: jobs.accept(c, PLACE, OPTIONS, new, bound=10_000, now=now))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - a fault: the caller is told
            said("not-accepted", type(error).__name__)
        else:
            said("accepted", *names)


async def settle(db: Db, staging: EmbeddedStaging, said: Said, count: int) -> None:
    """Claim, stage an answer of one of three sizes, settle; until so many have ended (or nothing can be written any more)."""
    done = idle = 0
    while done < count and idle < 200:
        try:
            claimed, _ = await db.write(
                lambda c: jobs_claims.claim(c, ACCOUNT, REGION, "ep", Taker("me", time.time() + 60), 4, RULES, time.time())
            )
            for each in claimed:
                said("executing", each.inference_id)
            outcomes = [await outcome(staging, each) for each in claimed]
            answers, _ = await db.write(lambda c, o=outcomes: jobs_settle.settle(c, o, RULES, time.time()))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - a fault: what is claimed stays under its lease
            said("not-settled", type(error).__name__)
            idle += 20
            continue
        for each, good in zip(claimed, answers, strict=True):
            said("settled" if good else "void", each.inference_id)
        done += len(claimed)
        if not claimed:
            idle += 1
            await asyncio.sleep(0.001)


async def outcome(staging: EmbeddedStaging, claimed: Claimed) -> Outcome:
    size = SIZES[int(claimed.inference_id.rpartition("-")[2])] // 32 * 32
    body = content_of(claimed.inference_id, size)
    staged = await staging.stage(BUCKET, f"out/{claimed.inference_id}", body, "text/plain", ACCOUNT, 1 << 30)
    return Outcome(claimed.id, claimed.lease, "succeeded", status=200, staged=staged, finished=time.time())


async def main(folder: str, count: int) -> None:
    db = await Db.open(f"{folder}/slipway.db")
    reading = Db.open_reading(f"{folder}/slipway.db")
    objects = EmbeddedObjects(db, f"{folder}/objects", now=time.time)
    staging = EmbeddedStaging(reading, f"{folder}/objects")
    objects.start()
    await objects.create_bucket(BUCKET, account=ACCOUNT, region=REGION)
    await db.write(prepare)
    said = Said(folder)
    await asyncio.gather(
        *(put(objects, said, writer, count) for writer in range(2)),
        accept(db, said, count),
        settle(db, staging, said, 3 * count),
    )
    await staging.close()
    await objects.close()
    await reading.close()
    await db.close()
    said("closed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
