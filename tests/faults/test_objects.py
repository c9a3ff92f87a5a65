"""The object store's process is killed in the middle of puts: what was acknowledged is there, whole; nothing else is left."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db
from slipway.store.objects import get_object

CHILD = """
import asyncio, hashlib, itertools, os, sys, time
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db
from slipway.store.objects import get_object

class Body:
    def __init__(self, seed, size):
        self.block = hashlib.sha256(seed.encode()).digest() * 2048
        self.count = size // len(self.block)
    async def __aiter__(self):
        for _ in range(self.count):
            yield self.block
            await asyncio.sleep(0)

async def writer(store, key, size):
    for n in itertools.count():
        seed = f"{key}-{n}"
        print("begin", key, seed, flush=True)
        info = await store.put("b", key, Body(seed, size))
        print("done", key, seed, info.etag, flush=True)

async def main():
    db = await Db.open(sys.argv[1] + "/slipway.db")
    store = EmbeddedObjects(db, sys.argv[1] + "/objects", now=time.time)
    store.start()
    if await store.head("b", "none") is None and not await store.buckets("me"):
        await store.create_bucket("b", account="me", region="r")
    await asyncio.gather(*(writer(store, f"k{i}", (65_536, 1_048_576, 8_388_608)[i % 3]) for i in range(6)))

asyncio.run(main())
"""


def killed_after(folder: Path, lines: int) -> list[list[str]]:
    """What the child said before it was killed."""
    said: list[list[str]] = []
    command = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):  # a kill in the middle of a write leaves half a line
                said.append(line.split())
            if len(said) == lines:
                child.send_signal(signal.SIGKILL)
    return said


@pytest.mark.parametrize("lines", [20, 33, 61])
async def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, lines: int) -> None:
    for _ in range(2):
        said = killed_after(tmp_path, lines)
        db = await Db.open(str(tmp_path / "slipway.db"))
        store = EmbeddedObjects(db, str(tmp_path / "objects"), now=time.time)
        await store.sweep()
        for key in {words[1] for words in said}:
            mine = [words for words in said if words[1] == key]
            acknowledged = [words for words in mine if words[0] == "done"]
            info = await store.head("b", key)
            if acknowledged:
                assert info is not None
            if info is None:
                continue
            _, pieces = await store.get("b", key)
            content = b"".join([piece async for piece in pieces])
            assert hashlib.md5(content).hexdigest() == info.etag
            possible = {
                content_of(words[2], len(content)) for words in mine[mine.index(acknowledged[-1]) if acknowledged else 0 :]
            }
            if acknowledged:
                assert hashlib.sha256(content).digest() in possible
        await store.close()  # waits for the removal of garbage
        named = await asyncio.to_thread(files, tmp_path)
        kept = sum([1 for key in range(6) if await large(db, f"k{key}")])
        assert len(named) == kept
        await db.close()


def content_of(seed: str, size: int) -> bytes:
    block = hashlib.sha256(seed.encode()).digest() * 2048
    return hashlib.sha256(block * (size // len(block))).digest()


def files(folder: Path) -> list[str]:
    return [path.name for path in (folder / "objects").rglob("*") if path.is_file() and path.parent.name != "writers"]


async def large(db: Db, key: str) -> bool:
    row = await db.read(lambda conn: get_object(conn, "b", key, content=True))
    return row is not None and bool(row.segments)
