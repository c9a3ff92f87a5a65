"""The process under test: puts objects (small and large) and says, in a file that is logged too, what was acknowledged.

Run as `python -m tests.faults.power.workload FOLDER COUNT`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db

BUCKET = "power"


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


async def main(folder: str, count: int) -> None:
    db = await Db.open(f"{folder}/slipway.db")
    objects = EmbeddedObjects(db, f"{folder}/objects", now=time.time)
    objects.start()
    await objects.create_bucket(BUCKET, account="123456789012", region="us-east-1")
    said = Said(folder)
    await asyncio.gather(*(put(objects, said, writer, count) for writer in range(4)))
    await objects.close()
    await db.close()
    said("closed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
