"""What the parent's socket answers: `GET /ping`, 200 while workers can answer, 503 before; `POST /abandon`.

`GET /ping?wait=SECONDS` holds its answer until the workers are ready: who starts a replica need not ask again and again.
Each answer tells the number of workers in X-Slipway-Workers.

`POST /abandon?worker=N&request=NAME`: nobody waits for this request any more (`slipway_host.unwanted`). 202, whatever the
worker is at.
"""

from __future__ import annotations

import select
import socket
from typing import Any, Callable

from . import http11

MAX_CONNECTIONS = 32
MAX_WAIT = 600.0


class Pings:
    """Owned by the parent, whose loop calls `handle` for each descriptor that is ready. Never blocks."""

    def __init__(
        self,
        listener: socket.socket,
        poller: select.poll,
        workers: int,
        ready: Callable[[], bool],
        abandoned: Callable[[int, int], None],
    ) -> None:
        """`abandoned` is told the worker and the name of a request."""
        self._listener = listener
        self._poller = poller
        self._workers = workers
        self._ready = ready
        self._abandoned = abandoned
        self._peers: dict[int, tuple[socket.socket, http11.Parser]] = {}
        self._held: dict[int, float] = {}
        """Descriptor to when the wait ends."""
        listener.setblocking(False)
        poller.register(listener.fileno(), select.POLLIN)

    def handle(self, descriptor: int, now: float) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor in self._peers:
            try:
                self._read(descriptor, now)
            except OSError:
                self._close(descriptor)

    def settle(self, now: float) -> float | None:
        """Answer what was held and is due; seconds until the next wait ends."""
        ready = self._ready()
        for descriptor in [fd for fd, until in self._held.items() if ready or until <= now]:
            del self._held[descriptor]
            try:
                self._reply(descriptor, 200 if ready else 503, True)
            except OSError:
                self._close(descriptor)
        return max(0.0, min(self._held.values()) - now) if self._held else None

    def close(self) -> None:
        for descriptor in list(self._peers):
            self._close(descriptor)
        self._listener.close()

    def descriptors(self) -> list[socket.socket]:
        """What a forked child has to close."""
        return [self._listener, *(sock for sock, _ in self._peers.values())]

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._peers) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        self._peers[sock.fileno()] = (sock, http11.Parser(0))
        self._poller.register(sock.fileno(), select.POLLIN)

    def _read(self, descriptor: int, now: float) -> None:
        sock, parser = self._peers[descriptor]
        data = sock.recv(8192)
        if not data:
            self._close(descriptor)
            return
        parser.feed(data)
        while descriptor in self._peers:
            try:
                request = parser.next()
            except http11.BadRequest as error:
                self._reply(descriptor, error.status, False)
                return
            if request is None:
                return
            self._answer(descriptor, request, now)

    def _answer(self, descriptor: int, request: http11.Request, now: float) -> None:
        method = {"/ping": "GET", "/abandon": "POST"}.get(request.path)
        if method is None:
            self._reply(descriptor, 404, request.keep_alive)
        elif request.method != method:
            self._reply(descriptor, 405, request.keep_alive)
        elif method == "POST":
            self._abandoned(int(_number(request.query, "worker", -1)), int(_number(request.query, "request", 0)))
            self._reply(descriptor, 202, request.keep_alive)
        elif self._ready():
            self._reply(descriptor, 200, request.keep_alive)
        else:
            wait = min(_number(request.query, "wait", 0.0), MAX_WAIT)
            if wait > 0:
                self._held[descriptor] = now + wait
            else:
                self._reply(descriptor, 503, request.keep_alive)

    def _reply(self, descriptor: int, status: int, keep: bool) -> None:
        pairs = [(b"X-Slipway-Workers", b"%d" % self._workers)]
        self._peers[descriptor][0].send(http11.head(status, pairs, 0, keep))  # a peer that reads none of it loses it
        if not keep:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self._held.pop(descriptor, None)
        peer: Any = self._peers.pop(descriptor, None)
        if peer is not None:
            self._poller.unregister(descriptor)
            peer[0].close()


def _number(query: str, name: str, default: float) -> float:
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name and len(value) <= 16 and value.replace(".", "", 1).isdecimal():
            return float(value)
    return default
