"""Power loss at any moment, and disk faults: what was acknowledged is recovered, the database is sound, no torn object is
visible, and every request that was accepted has ended once or can still be executed.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db
from slipway.store.jobs import queue_of, requests
from slipway.store.queues import messages
from tests.faults.power.build import run, shim
from tests.faults.power.replay import Disk, Event, read_log
from tests.faults.power.workload import BUCKET, PLACE, content_of

CUTS = 120
HEAVY_CUTS = 1000
WORKLOAD = "tests.faults.power.workload"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim(tmp_path_factory.mktemp("shim"))


def said_so_far(events: list[Event]) -> list[list[str]]:
    text = b"".join(event.data for event in events if event.path == "said" and event.kind == "W").decode()
    return [line.split() for line in text.splitlines()]


async def check(folder: Path, said: list[list[str]]) -> None:
    """Invariants of a data directory that was found after power loss, or that a process with a broken disk left."""
    with sqlite3.connect(folder / "slipway.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db = await Db.open(str(folder / "slipway.db"))
    objects = EmbeddedObjects(db, str(folder / "objects"), now=time.time)
    try:
        await objects.sweep()
        await check_objects(objects, said)
        await check_requests(db, objects, said)
    finally:
        await objects.close()
        await db.close()


async def content(objects: EmbeddedObjects, key: str) -> bytes | None:
    if await objects.head(BUCKET, key) is None:
        return None
    _, pieces = await objects.get(BUCKET, key)
    return b"".join([piece async for piece in pieces])


async def check_requests(db: Db, objects: EmbeddedObjects, said: list[list[str]]) -> None:
    """Each accepted request is there; each settled one has its output and one notification; no other has either."""
    jobs = await db.read(lambda c: {row.inference_id: row for row in c.execute(select(requests))})
    notices = await db.read(lambda c: [json.loads(body)["inferenceId"] for (body,) in c.execute(select(messages.c.body))])
    queue = await db.read(lambda c: queue_of(c, PLACE.arn, PLACE.created))
    assert {name for words in said if words[0] == "accepted" for name in words[1:]} <= set(jobs)
    settled = {words[1] for words in said if words[0] == "settled"}
    executions = Counter(words[1] for words in said if words[0] == "executing")
    for name, job in jobs.items():
        found = await content(objects, f"out/{name}")
        ended = job.state == "succeeded"
        assert ended or name not in settled, f"{name} was settled, and is {job.state}"
        assert ended or job.state in ("queued", "running")
        assert (found is not None) == ended, f"{name} is {job.state}, its output {'there' if found is not None else 'not'}"
        assert found is None or found == content_of(name, len(found))
        assert notices.count(name) == (1 if ended else 0)
        assert executions[name] <= 1
    states = Counter(job.state for job in jobs.values())
    if jobs:
        assert queue is not None
        assert (queue.queued, queue.running) == (states["queued"], states["running"])


async def check_objects(objects: EmbeddedObjects, said: list[list[str]]) -> None:
    acknowledged = {words[1]: words for words in said if words[0] == "put"}
    begun: dict[str, list[str]] = {}
    for words in said:
        if words[0] == "putting":
            begun.setdefault(words[1], []).append(words[2])
    for key, seeds in begun.items():
        found = await content(objects, key)
        if key not in acknowledged and found is None:
            continue
        assert found is not None, f"{key} was acknowledged and is gone"
        last = acknowledged[key][2] if key in acknowledged else None
        possible = seeds[seeds.index(last) :] if last is not None else seeds
        assert any(found == content_of(seed, len(found)) for seed in possible), f"{key} is torn, or older than acknowledged"


async def replayed(tmp_path: Path, library: Path, cuts: int, count: int) -> None:
    log = tmp_path / "writes"
    assert run(library, tmp_path / "run", WORKLOAD, str(count), log=log) == 0
    events = read_log(log)
    assert [words[0] for words in said_so_far(events)][-1] == "closed"
    ready = next(i for i, event in enumerate(events) if event.path == "said")
    chance = random.Random(20261122)
    moments = sorted(chance.sample(range(ready, len(events)), min(cuts, len(events) - ready)))
    disk, applied = Disk(), 0
    for moment in moments:
        for event in events[applied:moment]:
            disk.apply(event)
        applied = moment
        folder = tmp_path / "found"
        shutil.rmtree(folder, ignore_errors=True)
        disk.after_power_loss(folder, chance)
        await check(folder, said_so_far(events[:moment]))


async def test_power_loss_between_any_two_writes(tmp_path: Path, library: Path) -> None:
    await replayed(tmp_path, library, CUTS, 12)


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_power_loss_at_a_thousand_moments(tmp_path: Path, library: Path) -> None:
    await replayed(tmp_path, library, HEAVY_CUTS, 40)


async def faulty(tmp_path: Path, library: Path, faults: int) -> None:
    """The n-th write or sync fails, and the two after it: the caller hears of it, or nothing was lost."""
    log = tmp_path / "writes"
    assert run(library, tmp_path / "whole", WORKLOAD, "4", log=log) == 0
    events = read_log(log)
    first = next(i for i, event in enumerate(events) if event.path == "said")
    writes = [i for i, event in enumerate(events) if event.kind in "WS"]
    begun = sum(1 for i in writes if i < first)
    chance = random.Random(20261122)
    for number, nth in enumerate(sorted(chance.sample(range(begun + 2, len(writes)), faults))):
        folder = tmp_path / f"faulty-{number}"
        code = run(library, folder, WORKLOAD, "4", fault=f"{nth}:{chance.choice((errno.ENOSPC, errno.EIO))}")
        assert code in (0, 1), "it ends by itself, or says that it cannot go on"
        said = (folder / "said").read_text().splitlines()
        await check(folder, [line.split() for line in said])
        shutil.rmtree(folder)


async def test_a_write_that_fails_is_never_acknowledged(tmp_path: Path, library: Path) -> None:
    await faulty(tmp_path, library, 12)


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_a_hundred_writes_that_fail(tmp_path: Path, library: Path) -> None:
    await faulty(tmp_path, library, 100)
