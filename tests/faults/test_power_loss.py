"""Power loss at any moment: what was acknowledged is recovered, the database is sound, no torn object is visible."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db
from tests.faults.power.build import run, shim
from tests.faults.power.replay import Disk, Event, read_log
from tests.faults.power.workload import BUCKET, content_of

CUTS = 120
HEAVY_CUTS = 1000


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim(tmp_path_factory.mktemp("shim"))


def said_so_far(events: list[Event]) -> list[list[str]]:
    text = b"".join(event.data for event in events if event.path == "said" and event.kind == "W").decode()
    return [line.split() for line in text.splitlines()]


async def check(folder: Path, said: list[list[str]]) -> None:
    """Invariants of a data directory that was found after power loss."""
    with sqlite3.connect(folder / "slipway.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db = await Db.open(str(folder / "slipway.db"))
    objects = EmbeddedObjects(db, str(folder / "objects"), now=time.time)
    try:
        await objects.sweep()
        acknowledged = {words[1]: words for words in said if words[0] == "put"}
        begun: dict[str, list[str]] = {}
        for words in said:
            if words[0] == "putting":
                begun.setdefault(words[1], []).append(words[2])
        for key, seeds in begun.items():
            info = await objects.head(BUCKET, key)
            if key not in acknowledged and info is None:
                continue
            assert info is not None, f"{key} was acknowledged and is gone"
            _, pieces = await objects.get(BUCKET, key)
            found = b"".join([piece async for piece in pieces])
            last = acknowledged[key][2] if key in acknowledged else None
            possible = seeds[seeds.index(last) :] if last is not None else seeds
            assert any(found == content_of(seed, len(found)) for seed in possible), f"{key} is torn, or older than acknowledged"
            assert len(found) == info.size
    finally:
        await objects.close()
        await db.close()


async def replayed(tmp_path: Path, library: Path, cuts: int, count: int) -> None:
    log = tmp_path / "writes"
    assert run(library, tmp_path / "run", "tests.faults.power.workload", str(count), log=log) == 0
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
async def test_power_loss_at_a_thousand_moments(tmp_path: Path, library: Path) -> None:
    await replayed(tmp_path, library, HEAVY_CUTS, 40)
