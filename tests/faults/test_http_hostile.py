"""Hostile clients of the HTTP server: smuggling, bounds, slow and vanishing peers cost bounded time and memory."""

from __future__ import annotations

import asyncio

import pytest

from slipway.http.limits import HttpLimits
from slipway.http.messages import Request, Response
from tests.deadlines import PATIENCE
from tests.unit.http.serving import echo, serving, until

SMUGGLING = {
    "length then chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked then length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "the same length twice": b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "list of lengths": b"Content-Length: 4, 4\r\n\r\nabcd",
    "signed length": b"Content-Length: +4\r\n\r\nabcd",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "hex length": b"Content-Length: 0x4\r\n\r\nabcd",
    "empty length": b"Content-Length:\r\n\r\n",
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding before chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "quoted coding": b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "tab before chunked": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"Content-Length: 4\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\nabcd",
    "bare carriage return": b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "bare line feed": b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a value": b"X: a\x00b\r\n\r\n",
    "NUL in a name": b"X\x00Y: a\r\n\r\n",
    "empty name": b": a\r\n\r\n",
    "no colon": b"nonsense\r\n\r\n",
    "chunk size no number": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk size with prefix": b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "chunk size overflow": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "chunk size negative": b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n",
    "chunk ended by line feeds": b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "chunk longer than said": b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
}
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("pair", SMUGGLING)
async def test_smuggling_is_refused_and_the_connection_closed(pair: str) -> None:
    seen: list[bytes] = []

    async def handler(request: Request) -> Response:
        seen.append(request.target)
        return Response(200, [], await request.body.read(1000))

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + SMUGGLING[pair] + SMUGGLED)
        status, headers, body = await peer.answer()
        assert status == 400
        assert headers["connection"] == "close"
        assert body.startswith(b'{"message"')
        assert await peer.closed() == b""
        assert b"/smuggled" not in seen


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 300 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000, 431),
        (b"GET /" + b"a" * 500_000, 431),
        (b"FOO / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: v\r\n" * 5000, 431),
    ],
)
async def test_bounds_and_nonsense(request_bytes: bytes, status: int) -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        await peer.send(request_bytes)
        assert (await peer.answer())[0] == status
        await peer.closed()
        await until(lambda: served.server.connections == 0)


async def test_heads_near_the_bound_are_served() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        for _ in range(2):
            await peer.send(b"POST / HTTP/1.1\r\nX: " + b"a" * 60_000 + b"\r\nContent-Length: 100000\r\n\r\n" + b"b" * 100_000)
            assert len((await peer.answer())[2]) == 100_000


async def test_a_good_request_before_a_broken_one_is_answered_first() -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.02)
        return Response(200, [], b"good")

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nbroken\r\n\r\n")
        assert [(await peer.answer())[0] for _ in range(3)] == [200, 200, 400]
        assert await peer.closed() == b""


async def test_too_many_pipelined_requests() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n" * 200)
        statuses = [(await peer.answer())[0] for _ in range(34)]
        assert statuses == [200] * 33 + [400]


FAST = HttpLimits(head_seconds=0.2, body_seconds=0.2, idle_seconds=0.2, write_seconds=0.2, connections=3)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: a", 408),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", 408),
        (b"", None),
    ],
)
async def test_slow_clients_are_cut(sent: bytes, status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.http.server._SWEEP", 0.05)
    async with serving(echo, limits=FAST) as served:
        peer = await served.peer()
        if sent:
            await peer.send(sent)
        if status is not None:
            assert (await peer.answer())[0] == status
        assert await peer.closed() == b""


async def test_a_client_that_never_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.http.server._SWEEP", 0.05)

    async def handler(request: Request) -> Response:
        return Response(200, [], b"x" * (64 << 20))

    async with serving(handler, limits=FAST) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: served.server.connections == 0)


async def test_connections_are_bounded() -> None:
    async with serving(echo, limits=HttpLimits(connections=3)) as served:
        peers = [await served.peer() for _ in range(3)]
        await until(lambda: served.server.connections == 3)
        late = await served.peer()
        assert (await late.answer())[0] == 503
        assert await late.closed() == b""
        await peers[0].send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await peers[0].answer())[0] == 200


async def test_client_gone_in_the_middle_of_a_body() -> None:
    outcome: list[str] = []
    reading = asyncio.Event()

    async def handler(request: Request) -> Response:
        reading.set()
        try:
            await request.body.read(1000)
        except BaseException as error:
            outcome.append(type(error).__name__)
            raise
        return Response(200)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        await asyncio.wait_for(reading.wait(), PATIENCE)
        peer.writer.close()
        await until(lambda: bool(outcome))
        assert outcome[0] in ("ClientGone", "CancelledError")


async def test_bad_chunk_while_the_handler_reads_ends_its_request() -> None:
    outcome: list[str] = []
    reading = asyncio.Event()

    async def handler(request: Request) -> Response:
        reading.set()
        try:
            return Response(200, [], await request.body.read(1000))
        except BaseException as error:
            outcome.append(type(error).__name__)
            raise

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.wait_for(reading.wait(), PATIENCE)
        await peer.send(b"nonsense\r\n")
        assert (await peer.answer())[0] == 400
        await until(lambda: bool(outcome))
