"""Connections to a server on a TCP port of this network namespace, from outside: a unix socket in the run folder leads there.

A unix socket's file reaches across network namespaces. Bytes are passed on, not the connected descriptor: whoever holds a copy
of it (the model) could make it blocking under the gateway's event loop. One thread, no copy kept beyond `BUFFER` a direction.
"""

from __future__ import annotations

import errno
import selectors
import socket
from typing import Callable

BUFFER = 256 * 1024
"""Bytes held in one direction while its receiver is slow; then its sender is not read."""
_PIECE = 64 * 1024
CONNECTIONS = 1024
"""At a time; more wait in the socket's queue."""


class Side:
    """One end of a pair, and what waits to be sent to it."""

    __slots__ = ("closed_for_reading", "ending", "events", "other", "pair", "sock", "waiting")

    def __init__(self, sock: socket.socket, pair: Pair) -> None:
        self.sock = sock
        self.pair = pair
        self.waiting = bytearray()
        self.closed_for_reading = False
        self.ending = False
        """The other side will send no more: shut down for writing once `waiting` is out."""
        self.events = 0
        self.other: Side = self


class Pair:
    """A connection from outside and the one to the server."""

    __slots__ = ("connecting", "inner", "outer")

    def __init__(self, outer: socket.socket, inner: socket.socket) -> None:
        self.outer = Side(outer, self)
        self.inner = Side(inner, self)
        self.outer.other, self.inner.other = self.inner, self.outer
        self.connecting = True


class Connector:
    """`handle` is called from the owner's loop for each event of `selector` whose data is this connector's."""

    def __init__(self, selector: selectors.BaseSelector, listener: socket.socket, port: int) -> None:
        self._selector = selector
        self._listener = listener
        self._address = ("127.0.0.1", port)
        self._pairs: set[Pair] = set()
        self._accepting = True
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    @property
    def open(self) -> int:
        return len(self._pairs)

    def close(self) -> None:
        """Cut every connection."""
        for pair in list(self._pairs):
            self._drop(pair)
        if self._accepting:
            self._selector.unregister(self._listener)
            self._accepting = False

    def _accept(self, _events: int) -> None:
        try:
            outer, _ = self._listener.accept()
        except OSError:  # taken back, or no descriptor is free: the next event tries again
            return
        outer.setblocking(False)
        try:
            inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            outer.close()
            return
        inner.setblocking(False)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(outer, inner)
        self._pairs.add(pair)
        if self.open >= CONNECTIONS and self._accepting:
            self._selector.unregister(self._listener)
            self._accepting = False
        status = inner.connect_ex(self._address)
        if status not in (0, errno.EINPROGRESS):
            self._drop(pair)
            return
        self._want(pair.inner, selectors.EVENT_WRITE)

    def _handler(self, side: Side) -> Callable[[int], None]:
        return lambda events: self._ready(side, events)

    def _ready(self, side: Side, events: int) -> None:
        pair = side.pair
        if pair not in self._pairs:
            return
        try:
            if pair.connecting:
                if pair.inner.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._drop(pair)
                    return
                pair.connecting = False
            else:
                if events & selectors.EVENT_WRITE:
                    self._send(side)
                if events & selectors.EVENT_READ:
                    self._receive(side)
        except OSError:
            self._drop(pair)
            return
        if pair.outer.closed_for_reading and pair.inner.closed_for_reading and not (pair.outer.waiting or pair.inner.waiting):
            self._drop(pair)
            return
        for each in (pair.outer, pair.inner):
            self._watch(each)

    def _receive(self, side: Side) -> None:
        try:
            data = side.sock.recv(_PIECE)
        except BlockingIOError:
            return
        other = side.other
        if not data:
            side.closed_for_reading = True
            other.ending = True
        else:
            if not other.waiting:
                sent = _send(other.sock, data)
                if sent == len(data):
                    return
                data = data[sent:]
            other.waiting += data
        self._send(other)

    def _send(self, side: Side) -> None:
        if side.waiting:
            sent = _send(side.sock, side.waiting)
            del side.waiting[:sent]
        if side.ending and not side.waiting:
            side.ending = False
            side.sock.shutdown(socket.SHUT_WR)

    def _watch(self, side: Side) -> None:
        """Read while the other side takes it; write while something waits."""
        events = 0
        if not side.closed_for_reading and len(side.other.waiting) < BUFFER:
            events |= selectors.EVENT_READ
        if side.waiting:
            events |= selectors.EVENT_WRITE
        self._want(side, events)

    def _want(self, side: Side, events: int) -> None:
        if events == side.events:
            return
        if side.events == 0:
            self._selector.register(side.sock, events, self._handler(side))
        elif events == 0:
            self._selector.unregister(side.sock)
        else:
            self._selector.modify(side.sock, events, self._handler(side))
        side.events = events

    def _drop(self, pair: Pair) -> None:
        self._pairs.discard(pair)
        for side in (pair.outer, pair.inner):
            if side.events:
                self._selector.unregister(side.sock)
                side.events = 0
            side.sock.close()
        if not self._accepting and self._listener.fileno() >= 0 and self.open < CONNECTIONS:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            self._accepting = True


def _send(sock: socket.socket, data: bytes | bytearray) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0
