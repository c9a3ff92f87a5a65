"""Tells a host that nobody waits for a request of one of its workers any more."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re

from slipway.http.client import ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import BodyTooLarge, ClientGone

logger = logging.getLogger(__name__)

TRIES = 3
PAUSE = 0.5
_SECONDS = 5.0
_WORKER = re.compile(r"w([0-9]{1,6})\.sock")


async def abandon(worker: str, request: int, model: str = "") -> None:
    """`worker`: its address, `unix:/…/w<n>.sock`, with the host's socket beside; `request`: its name (`slipway_host.frames`).
    `model`: which one, of a host of many.

    Returns when the host knows, or does not want to: an older one has no such route, and its worker goes on.
    """
    folder, name = posixpath.split(worker)
    number = _WORKER.fullmatch(name)
    if number is None:
        return
    pool = Pool(f"{folder}/host.sock", PoolLimits(connections=1, idle=0))
    target = b"/abandon?worker=%d&request=%d" % (int(number[1]), request)
    if model:
        target += b"&model=%b" % model.encode()
    try:
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(_SECONDS):
                    response = await pool.request("POST", target, [])
                    await response.read(1024)
            except (TimeoutError, ConnectFailed, NoAnswer, BodyTooLarge, ClientGone) as error:
                logger.debug("host-does-not-answer", extra={"worker": worker, "error": str(error)})
                await asyncio.sleep(PAUSE)
            else:
                logger.info("request-abandoned", extra={"worker": worker, "status": response.status})
                return
    finally:
        pool.close()
