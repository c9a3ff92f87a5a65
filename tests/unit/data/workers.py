"""Fake workers that speak frames and HTTP/1.1 on one unix socket, one request at a time as real ones do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from slipway.core.routing import Endpoint, Replica, RouteTable, Variant, endpoint_key
from slipway_host import frames

ACCOUNT, REGION = "123456789012", "us-east-1"


@dataclass
class Asked:
    """A request that a worker got."""

    head: list[tuple[bytes, bytes]]
    body: bytes
    timeout: int = 0
    over: str = "frames"


@dataclass
class Told:
    """Its answer: parts go before the last body; `flags` of the RESPONSE; BUSY instead if `busy`."""

    status: int = 200
    head: list[tuple[bytes, bytes]] = field(default_factory=lambda: [(b"content-type", b"text/plain")])
    body: bytes = b""
    parts: tuple[bytes, ...] = ()
    flags: int = 0
    busy: bool = False


Answer = Callable[[Asked], Awaitable[Told]]


async def echo(asked: Asked) -> Told:
    return Told(body=asked.body)


class Worker:
    """Listens at `path`; `answer` decides; `asked` is what came."""

    def __init__(self, path: Path, answer: Answer = echo, version: int = frames.VERSION) -> None:
        self.path = path
        self.answer = answer
        self.version = version
        self.asked: list[Asked] = []
        self.idents: list[int] = []
        """Of the frames among them."""
        self.running = 0
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._one = asyncio.Lock()

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    async def start(self) -> Worker:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def kill(self) -> None:
        """As a process that dies: the listener and every connection go."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            first = await reader.readexactly(1)
            if first == b"\0":
                await self._frames(reader, writer, first)
            else:
                await self._http(reader, writer, first)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        while True:
            header = first + await reader.readexactly(frames.HEADER_SIZE - len(first))
            first = b""
            length, kind, flags, head_size, _, timeout, ident = frames.HEADER.unpack(header)
            payload = await reader.readexactly(length)
            if kind == frames.HELLO:
                writer.write(frames.hello(self.version))
                if self.version != frames.VERSION:
                    return
                continue
            self.idents.append(ident)
            asked = Asked(frames.unpack_head(payload[:head_size]), payload[head_size:], timeout)
            told = await self._ask(asked, writer, frames.pack(frames.BEGUN, 1) if flags & frames.TELL else b"")
            if told.busy:
                writer.write(frames.pack(frames.BUSY, ident))
                continue
            head = frames.pack_head(told.head)
            for part in told.parts:
                writer.write(frames.pack(frames.PART, ident, told.status, 0, head, part))
            writer.write(frames.pack(frames.RESPONSE, ident, told.status, 0, head, told.body, told.flags))
            await writer.drain()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        while True:
            raw = first + await reader.readuntil(b"\r\n\r\n")
            first = b""
            lines = raw.split(b"\r\n")[1:-2]
            head = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
            body = await reader.readexactly(int(dict(head).get(b"content-length", b"0")))
            if raw.startswith(b"GET /ping "):
                async with self._one:
                    writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n")
                continue
            tell = frames.TELL_HEADER.lower().encode() in dict(head)
            asked = Asked(head, body, over="http")
            told = await self._ask(asked, writer, b"HTTP/1.1 102 Processing\r\n\r\n" if tell else b"")
            lines = [b"HTTP/1.1 %d X" % told.status, *(b"%b: %b" % pair for pair in told.head)]
            if told.parts:
                writer.write(b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", b""]))
                for part in told.parts:
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if told.flags:
                    raise ConnectionError
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"\r\n".join([*lines, b"content-length: %d" % len(told.body), b"", told.body]))
            await writer.drain()

    async def _ask(self, asked: Asked, writer: asyncio.StreamWriter, first: bytes) -> Told:
        """`first`: what is written when it begins."""
        async with self._one:
            if first:
                writer.write(first)
                await writer.drain()
            self.asked.append(asked)
            self.running += 1
            try:
                return await self.answer(asked)
            finally:
                self.running -= 1


@contextlib.asynccontextmanager
async def workers(tmp_path: Path, count: int = 1, answer: Answer = echo):  # type: ignore[no-untyped-def]
    found = [await Worker(tmp_path / f"w{number}.sock", answer).start() for number in range(count)]
    try:
        yield found
    finally:
        for worker in found:
            await worker.kill()


def replica(name: str, *found: Worker, protocol: str = "frames") -> Replica:
    return Replica(name, name, protocol, tuple(worker.address for worker in found))


def table(version: int, *variants: Variant, name: str = "demo") -> RouteTable:
    endpoint = Endpoint(ACCOUNT, REGION, name, variants)
    return RouteTable(version, {endpoint_key(ACCOUNT, REGION, name): endpoint})


def variant(*replicas: Replica, name: str = "AllTraffic", weight: float = 1.0) -> Variant:
    return Variant(name, weight, replicas)
