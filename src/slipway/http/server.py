"""The HTTP/1.1 server: a listening socket, its connections, their sweep, and a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import socket
import ssl as tls
from collections.abc import Callable

from slipway.http.connection import Connection
from slipway.http.exchange import Exchange
from slipway.http.limits import Budget, HttpLimits
from slipway.http.messages import Handler

_SWEEP = 1.0
_BACKLOG = 2048

Fast = Callable[[Exchange], bool]
"""Called at a request's head. True: it claimed the exchange (`Exchange.claim`) or answered it; False: the handler's."""


class Server:
    """Serves `handler`; `fast`, if given, sees every request first, at its head, and may answer it without a task."""

    def __init__(
        self,
        handler: Handler,
        *,
        fast: Fast | None = None,
        limits: HttpLimits | None = None,
        ssl: tls.SSLContext | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.handler = handler
        self.fast = fast
        self.limits = limits or HttpLimits()
        self.budget = budget or Budget(1 << 62)
        self.stopping = False
        self.clock = 0.0
        """The loop's time, to a second."""
        self.date = b""
        self._ssl = ssl
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, *, sock: socket.socket | None = None, path: str | None = None) -> None:
        """Listen on `sock` (bound, perhaps inherited), or on a unix socket at `path` (a dead one there is replaced)."""
        loop = asyncio.get_running_loop()
        self._tick()
        scheme = "https" if self._ssl else "http"
        handshake = 10.0 if self._ssl else None
        if path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, 0o600)
        if sock is None:
            raise ValueError("a socket or a path is needed")
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            self._listener = await loop.create_unix_server(
                lambda: Connection(self, scheme), sock=sock, backlog=_BACKLOG, ssl=self._ssl, ssl_handshake_timeout=handshake
            )
        else:
            self._listener = await loop.create_server(
                lambda: Connection(self, scheme), sock=sock, backlog=_BACKLOG, ssl=self._ssl, ssl_handshake_timeout=handshake
            )

    async def stop(self, grace: float = 5.0) -> None:
        """Accept no more, let what runs finish for `grace` seconds, then cut the rest."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.stop()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace)
        for connection in list(self._connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)

    def opened(self, connection: Connection) -> bool:
        """False: there are too many already."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time()
        self.date = b"date: %b\r\n" % email.utils.formatdate(usegmt=True).encode()
        for connection in list(self._connections):
            connection.sweep(self.clock)
        self._sweeper = loop.call_later(_SWEEP, self._tick)
