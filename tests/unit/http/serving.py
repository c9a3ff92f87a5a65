"""A server on a loopback port and raw bytes to it, for the tests of http."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from slipway.http.limits import Budget, HttpLimits
from slipway.http.messages import Handler, Request, Response
from slipway.http.server import Fast, Server
from tests.deadlines import PATIENCE


class Peer:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        lines = raw.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in headers.items()}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One answer with Content-Length or chunks."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self.chunks()
        return (
            status,
            headers,
            await asyncio.wait_for(self.reader.readexactly(int(headers.get("content-length", "0"))), PATIENCE),
        )

    async def chunks(self) -> bytes:
        out = b""
        while True:
            size = int(await asyncio.wait_for(self.reader.readline(), PATIENCE), 16)
            out += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return out

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionError:
            return b""


class Served:
    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()
        await self.server.stop(0.2)


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, *, fast: Fast | None = None, limits: HttpLimits | None = None, budget: Budget | None = None
) -> AsyncIterator[Served]:
    server = Server(handler, fast=fast, limits=limits, budget=budget)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start(sock=sock)
    served = Served(server, sock.getsockname()[1])
    try:
        yield served
    finally:
        await served.close()


async def echo(request: Request) -> Response:
    body = await request.body.read(1 << 20)
    return Response(200, [(b"x-method", request.method.encode()), (b"x-target", request.target)], body)


async def until(condition: object, seconds: float = PATIENCE) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  conditions of other objects, which have no event
            await asyncio.sleep(0.005)
