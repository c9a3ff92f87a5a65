"""The queue itself, without HTTP: claims and settlements together against one by one, short and long; filling a long one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import report
from slipway.core.asynchronous import AsyncOptions, Claimed, Outcome, Staged
from slipway.store import jobs, jobs_claims, jobs_settle, objects, resources
from slipway.store.db import Connection, Db
from slipway.store.jobs import NewRequest, Place
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Rules

ACCOUNT, REGION, BUCKET = "123456789012", "us-east-1", "bench"
OPTIONS = AsyncOptions(f"s3://{BUCKET}/out")
RULES = Rules(announce=lambda connection, topic, messages, now: [None] * len(messages))
BATCH = 64
"""What a busy dispatcher claims and settles at a time."""
TIMED = 1_000
MANY = 1_000_000


def fill(data_dir: Path, endpoint: str, count: int) -> None:
    """Queue so many requests of an endpoint that exists, slipway being down."""
    asyncio.run(_fill(f"{data_dir}/slipway.db", endpoint, count))


def claims(folder: Path, rounds: int) -> None:
    asyncio.run(_claims(folder, rounds))


async def _fill(path: str, endpoint: str, count: int) -> None:
    db = await Db.open(path)
    try:
        await _enqueue(db, endpoint, count)
    finally:
        await db.close()


async def _enqueue(db: Db, endpoint: str, count: int, step: int = 5_000) -> None:
    row = await db.read(lambda c: resources.get(c, ACCOUNT, REGION, "endpoint", endpoint))
    if row is None:
        raise LookupError(f"no endpoint {endpoint}")
    place = Place(ACCOUNT, REGION, row.name, row.arn, row.created)
    for start in range(0, count, step):
        now = time.time()
        new = [
            NewRequest(
                received=now,
                expires=now + 21_600,
                timeout=900,
                inference_id=f"{start + n:036d}",
                output_location=f"s3://{BUCKET}/out/{start + n:036d}.out",
                input_location=f"s3://{BUCKET}/in/some-input-object.json",
                content_type="text/csv",
            )
            for n in range(min(step, count - start))
        ]
        await db.write(partial(_accept, place, new))


def _endpoint(connection: Connection, name: str) -> None:
    now = time.time()
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{name}"
    new = resources.Resource(ACCOUNT, REGION, "endpoint", name, arn, {}, created=now, modified=now, status="InService")
    resources.add(connection, new)
    objects.insert_bucket(connection, objects.BucketRow(BUCKET, ACCOUNT, REGION, now))


async def _claims(folder: Path, rounds: int) -> None:
    """The same database for both sides, the requests queued beforehand; interleaved."""
    rates: dict[str, list[float]] = {}
    for label, length in (("a thousand", TIMED), ("a million", MANY)):
        path = folder / f"claims-{length}.db"
        db = await Db.open(str(path))
        try:
            await db.write(lambda c: _endpoint(c, "queue"))
            await _enqueue(db, "queue", length)
            for number in range(rounds):
                await _enqueue(db, "queue", TIMED + BATCH)
                rates.setdefault(f"together, {label} queued", []).append(await _rate(db, f"{number}.together", BATCH, TIMED))
                if length == TIMED:
                    rates.setdefault("one by one", []).append(await _rate(db, f"{number}.single", 1, TIMED // 4))
        finally:
            await db.close()
    found = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in found.items():
        print(f"    claimed and settled {name}: {rate:.0f}/s")
    together = found["together, a thousand queued"]
    report.verdict("claim and settle, against one by one", together / found["one by one"], 5.0, 10.0)
    ratio = found["together, a million queued"] / together
    report.verdict("claim and settle with 1,000,000 queued, against 1,000", ratio, 0.8, 0.95)


async def _rate(db: Db, holder: str, batch: int, count: int) -> float:
    """Requests per second through claim and settlement with an output object each, durable."""
    done, begun = 0, time.perf_counter()
    while done < count:
        taker = Taker(holder, time.time() + 15)
        claimed = await db.write(partial(_claim, taker, batch))
        answers = await db.write(partial(_settle, [_outcome(each) for each in claimed]))
        if not all(answers) or not answers:
            raise RuntimeError("a settlement was void")
        done += len(answers)
    return done / (time.perf_counter() - begun)


def _accept(place: Place, new: Sequence[NewRequest], connection: Connection) -> None:
    jobs.accept(connection, place, OPTIONS, new, bound=1 << 40, now=time.time())


def _claim(taker: Taker, count: int, connection: Connection) -> list[Claimed]:
    return jobs_claims.claim(connection, ACCOUNT, REGION, "queue", taker, count, RULES, time.time())[0]


def _settle(outcomes: Sequence[Outcome], connection: Connection) -> list[bool]:
    return jobs_settle.settle(connection, outcomes, RULES, time.time())[0]


def _outcome(claimed: Claimed) -> Outcome:
    now = time.time()
    key = claimed.output_location.removeprefix(f"s3://{BUCKET}/")
    staged = Staged(BUCKET, key, 7, "0" * 32, "text/csv", data=b"1.0,2.0")
    return Outcome(claimed.id, claimed.lease, "succeeded", status=200, staged=staged, started=now, finished=now)
