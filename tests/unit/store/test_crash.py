"""A process that writes in a loop is killed; every write that it had acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

from sqlalchemy import text

from slipway.store.db import Db

CHILD = """
import asyncio, sys
from slipway.store import leases
from slipway.store.db import Db

async def writer(db, name):
    n = 0
    while True:
        key = f"{name}-{n}"
        await db.write(lambda c: c.execute(leases.leases.insert().values(name=key, holder="", token=n, expires=0.0)) and None)
        sys.stdout.write(key + "\\n")
        sys.stdout.flush()
        n += 1

async def main():
    db = await Db.open(sys.argv[1])
    await asyncio.gather(*(writer(db, f"{sys.argv[2]}-{i}") for i in range(8)))

asyncio.run(main())
"""


def killed(database_url: str, run: int) -> set[str]:
    """What a child acknowledged, up to the moment when it was killed."""
    command = [sys.executable, "-c", CHILD, database_url, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [next(child.stdout) for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        lines += [line for line in child.stdout if line.endswith(b"\n")]
    return {line.decode().strip() for line in lines}


async def test_acknowledged_writes_survive_sigkill(database_url: str) -> None:
    acknowledged: set[str] = set()
    for run in range(3):
        acknowledged |= await asyncio.to_thread(killed, database_url, run)
    db = await Db.open(database_url)
    stored = set(await db.read(lambda c: c.execute(text("SELECT name FROM leases")).scalars().all()))
    assert len(acknowledged) >= 600
    assert acknowledged <= stored
    await db.close()
