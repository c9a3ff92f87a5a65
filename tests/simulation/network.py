"""Links between processes: real channels whose messages take a while, keep their order, and are lost with the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import msgspec

from slipway.link.channel import Channel, LinkClosed, Peer, _encode, _Message
from tests.simulation.loops import Agenda, Process, Victim

DELAY = 0.002
"""Seconds that a message takes at most."""


class Steps(Protocol):
    def step(self, name: str, *victims: Victim) -> bool:
        """Something happens; True: it killed one of those that it happens to."""


class _Writer:
    """What a channel knows of its socket."""

    def __init__(self) -> None:
        self.channel: Wire | None = None

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        if self.channel is not None:
            self.channel.hung_up()

    async def wait_closed(self) -> None: ...


class Wire(Channel):
    """One end of a connection."""

    other: Wire

    def __init__(self, network: Network, process: Process, peer: Process) -> None:
        writer = _Writer()
        super().__init__(None, writer)  # type: ignore[arg-type]
        writer.channel = self
        self.peer = Peer(peer.pid, 0)
        self.process = process
        self.broken = False
        self._network = network
        self._last = 0.0

    def start(self) -> None:
        self._spawn(self._handle_notes())

    async def _send(self, type: str, ident: int, kind: str, payload: Any) -> None:
        if self._closed.is_set():
            raise LinkClosed("the channel is closed")
        message = _Message(type, ident, kind, msgspec.Raw(_encode(payload)))
        self._later(self.other._arrive, message)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        """After whatever was sent before."""
        network = self._network
        self._last = max(self._last, network.agenda.now + network.chance.random() * DELAY)
        network.world.loop.call_at(self._last, callback, *args)

    def _arrive(self, message: _Message) -> None:
        if self.broken or self.closed or self.process.dead:
            return
        kind = message.kind or "answer"
        if self._network.steps.step(f"message {kind} {message.type}", self.process, self.other.process):
            return
        self.process.loop.call_soon(self._take, message)

    def hung_up(self) -> None:
        """This end is closed, or its process is gone: the other hears of it after all that was sent."""
        self._later(self.other._hear_end)

    def _hear_end(self) -> None:
        if not self.closed and not self.process.dead:
            self.process.loop.call_soon(self.close)

    def cut(self) -> None:
        """Both ends lose it, and what is on its way."""
        for end in (self, self.other):
            end.broken = True
            if not end.closed and not end.process.dead:
                end.process.loop.call_soon(end.close)


class Network:
    """Who listens is `serve`d; `connect` is for `link.client`."""

    def __init__(self, agenda: Agenda, world: Process, chance: Random, steps: Steps) -> None:
        self.agenda = agenda
        self.world = world
        self.chance = chance
        self.steps = steps
        self._wires: list[Wire] = []
        self._apart: dict[int, float] = {}
        """Until when a process (a pid) reaches nobody."""
        self._server: tuple[Process, Callable[[Channel], None]] | None = None

    def serve(self, process: Process, attach: Callable[[Channel], None]) -> None:
        self._server = (process, attach)

    async def connect(self, path: str, setup: Callable[[Channel], None] | None = None) -> Channel:
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(self.chance.random() * DELAY)
        if self._server is None or self._server[0].dead or self._apart.get(loop.process.pid, 0.0) > self.agenda.now:
            raise ConnectionRefusedError(path)
        server, attach = self._server
        mine, theirs = Wire(self, loop.process, server), Wire(self, server, loop.process)
        mine.other, theirs.other = theirs, mine
        self._wires = [wire for wire in self._wires if not wire.closed] + [mine, theirs]
        if setup is not None:
            setup(mine)
        mine.start()

        def accept() -> None:
            attach(theirs)
            theirs.start()

        server.loop.call_soon(accept)
        return mine

    def killed(self, process: Process) -> None:
        for wire in self._wires:
            if wire.process is process and not wire.closed:
                wire.hung_up()

    def cut(self, process: Process, seconds: float = 0.0) -> None:
        """Its connections break, and it gets no other for so long."""
        self._apart[process.pid] = self.agenda.now + seconds
        for wire in self._wires:
            if wire.process is process and not wire.closed:
                wire.cut()
