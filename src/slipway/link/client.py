"""A channel's client that stays connected, whatever happens at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from slipway.link.channel import Channel, LinkClosed, LinkError, connect

logger = logging.getLogger(__name__)

_ASK_SECONDS = 0.005
"""The shortest wait before a link asks again whether somebody listens."""
_ASK_SHARE = 0.05
"""And after that, this share of the time that nobody has."""


class Link:
    """A client that stays connected: it reconnects and says when it is up and when it is down.

    While nobody listens it asks again after a twentieth of the time that it has waited; after a handshake that failed, with a
    `backoff` (seconds, the first and the longest, which is the longest for both).

    `setup(channel)` registers handlers; `on_connect(channel)` runs when the channel reads (it may send requests; raising
    closes the channel and tries again); `on_disconnect()` after each loss.
    """

    def __init__(
        self,
        path: str,
        *,
        setup: Callable[[Channel], None] | None = None,
        on_connect: Callable[[Channel], Awaitable[None]] | None = None,
        on_disconnect: Callable[[], None] | None = None,
        backoff: tuple[float, float] = (0.02, 0.5),
    ) -> None:
        self._path = path
        self._setup = setup
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._backoff = backoff
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self._up = asyncio.Event()

    @property
    def channel(self) -> Channel | None:
        """The channel while there is one."""
        return self._channel

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            channel = self._channel
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            if channel is not None:
                await channel.ended()

    async def ready(self, timeout: float | None = None) -> Channel:
        """The channel, when connected; TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while self._channel is None:
                await self._up.wait()
        return self._channel

    async def request(self, kind: str, payload: Any, type: Any = Any, *, timeout: float | None = None) -> Any:
        """As `Channel.request`; waits for the connection within `timeout`. A loss after sending raises LinkClosed."""
        async with asyncio.timeout(timeout):
            channel = await self.ready()
            return await channel.request(kind, payload, type)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        least, most = self._backoff
        delay = least
        alone = loop.time()
        while True:
            try:
                channel = await connect(self._path, self._setup)
            except OSError:
                # Asking costs next to nothing, and who starts beside us is to be found at once.
                await asyncio.sleep(min(max(_ASK_SECONDS, (loop.time() - alone) * _ASK_SHARE), most))
                continue
            try:
                if self._on_connect is not None:
                    await self._on_connect(channel)
                self._channel = channel
                self._up.set()
                delay = least
                await channel.wait_closed()
            except Exception as error:
                # Whatever `on_connect` raises, this link tries again: nothing else would ever connect it.
                expected = isinstance(error, LinkError | LinkClosed | TimeoutError)
                logger.warning(
                    "link-handshake-failed",
                    extra={"path": self._path, "error": repr(error)},
                    exc_info=None if expected else error,
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, most)
            finally:
                self._channel = None
                self._up.clear()
                channel.close()
                alone = loop.time()
                if self._on_disconnect is not None:
                    self._on_disconnect()
