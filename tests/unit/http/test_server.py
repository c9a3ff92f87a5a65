"""The server's ordinary side: handlers, bodies, streaming, claims, order, backpressure, stopping."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import trustme

from slipway.http.client import Pool
from slipway.http.exchange import Exchange
from slipway.http.limits import Budget, HttpLimits
from slipway.http.messages import Request, Response
from slipway.http.server import Server
from tests.deadlines import PATIENCE
from tests.unit.http.serving import Peer, echo, serving, until


async def test_echo_and_keep_alive() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        for number in range(3):
            body = b"hello %d" % number
            await peer.send(b"POST /a%%20b?c HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            status, headers, got = await peer.answer()
            assert (status, got) == (200, body)
            assert headers["x-target"] == "/a%20b?c"
            assert "connection" not in headers


async def test_chunked_request_in_single_bytes() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        for octet in b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: v\r\n\r\n":
            await peer.send(bytes([octet]))
        assert (await peer.answer())[2] == b"abcde"


async def test_http_1_0_closes() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await peer.closed() == b""


async def test_head_has_length_and_no_body() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"", length=1234)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"HEAD / HTTP/1.1\r\n\r\n")
        status, headers = await peer.head()
        assert (status, headers["content-length"]) == (200, "1234")
        await peer.send(b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await peer.head())[0] == 200
        assert await peer.closed() == b""


async def test_continue_is_sent_when_the_body_is_read_and_only_then() -> None:
    read = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.target == b"/refused":
            return Response(403, [], b"no")
        read.set()
        return Response(200, [], await request.body.read(100))

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"PUT /ok HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"abc")
        assert (await peer.answer())[2] == b"abc"
        await peer.send(b"PUT /refused HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (403, "close")


async def test_body_too_large_is_refused_before_it_is_asked_for() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], await request.body.read(10))

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
        assert (await peer.answer())[0] == 413


async def test_streamed_answer_is_chunked_or_has_its_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    async def handler(request: Request) -> Response:
        return Response(200, [], pieces(), length=6 if request.target == b"/known" else None)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\nGET /known HTTP/1.1\r\n\r\n")
        status, headers, body = await peer.answer()
        assert (headers["transfer-encoding"], body) == ("chunked", b"onetwo")
        status, headers, body = await peer.answer()
        assert (status, headers["content-length"], body) == (200, "6", b"onetwo")


async def test_a_stream_that_breaks_cuts_the_connection() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"start"
        raise RuntimeError("broken")

    async def handler(request: Request) -> Response:
        return Response(200, [], pieces())

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await peer.head())[0] == 200
        assert not (await peer.closed()).endswith(b"0\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order() -> None:
    order: list[bytes] = []

    async def handler(request: Request) -> Response:
        order.append(request.target)
        await asyncio.sleep(0.02 if request.target == b"/0" else 0)
        return Response(200, [], request.target)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(5)))
        await asyncio.sleep(0)
        await peer.send(b"GET /5 HTTP/1.1\r\n\r\n")
        assert [(await peer.answer())[2] for _ in range(6)] == [b"/%d" % number for number in range(6)]
        assert order == [b"/%d" % number for number in range(6)]


async def test_upgrade_is_ignored_also_with_a_body() -> None:
    async with serving(echo) as served:
        peer = await served.peer()
        await peer.send(
            b"POST /u HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /next HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /last HTTP/1.1\r\n\r\n"
        )
        assert [(await peer.answer())[1]["x-target"] for _ in range(3)] == ["/u", "/next", "/last"]


async def test_client_gone_cancels_the_handler() -> None:
    cancelled = asyncio.Event()
    running = asyncio.Event()

    async def handler(request: Request) -> Response:
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response(200)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(running.wait(), PATIENCE)
        peer.writer.close()
        await asyncio.wait_for(cancelled.wait(), PATIENCE)
        await until(lambda: served.server.connections == 0)


async def test_handler_that_raises_gives_500_and_the_connection_goes_on() -> None:
    async def handler(request: Request) -> Response:
        if request.target == b"/bad-header":
            return Response(200, [(b"x", b"a\r\nSet-Cookie: evil")])
        raise RuntimeError("secret detail")

    async with serving(handler) as served:
        peer = await served.peer()
        for target in (b"/", b"/bad-header"):
            await peer.send(b"GET %b HTTP/1.1\r\n\r\n" % target)
            status, headers, body = await peer.answer()
            assert status == 500
            assert b"secret" not in body
            assert "set-cookie" not in headers


async def test_slow_reader_stops_the_stream() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield b"x" * 65536

    async def handler(request: Request) -> Response:
        return Response(200, [], pieces())

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: sent > 0)
        await asyncio.sleep(0.3)
        assert sent < 300
        assert (await peer.head())[0] == 200
        assert len(await peer.chunks()) == 400 * 65536


async def test_request_body_is_bounded_while_the_handler_does_not_read() -> None:
    start = asyncio.Event()

    async def handler(request: Request) -> Response:
        await start.wait()
        return Response(200, [], b"%d" % sum([len(piece) async for piece in request.body]))

    async with serving(handler, limits=HttpLimits(buffer_bytes=65536)) as served:
        peer = await served.peer()
        size = 32 * 1024 * 1024
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(peer.send(b"y" * size))
        done, _ = await asyncio.wait({sending}, timeout=0.2)
        assert not done
        start.set()
        assert (await peer.answer())[2] == b"%d" % size
        await sending


async def test_early_answer_drains_a_small_rest_and_closes_on_a_large_one() -> None:
    async def handler(request: Request) -> Response:
        return Response(400, [], b"early")

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert (await peer.answer())[2] == b"early"
        await peer.send(b"z" * 1000 + b"GET / HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"early"
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert (await peer.answer())[1]["connection"] == "close"
        assert await peer.closed() == b""


class Collector:
    """A claimant that answers with what it got."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.events: list[str] = []

    def whole(self, body: bytes) -> None:
        self.events.append("whole")
        if self.exchange.target == b"/crash":
            raise RuntimeError("a bug")
        if self.exchange.target != b"/hold":
            self.exchange.respond(200, [], b"got " + body)

    def refused(self, why: str) -> None:
        self.events.append(why)
        self.exchange.respond(400, [], why.encode())

    def gone(self) -> None:
        self.events.append("gone")


async def test_claimed_exchanges() -> None:
    claims: list[Collector] = []

    def fast(exchange: Exchange) -> bool:
        if exchange.target == b"/other":
            return False
        if exchange.target == b"/at-once":
            exchange.respond(403, [], b"no")
            return True
        claims.append(Collector(exchange))
        exchange.claim(claims[-1], 10)
        return True

    budget = Budget(15)
    async with serving(echo, fast=fast, budget=budget) as served:
        peer = await served.peer()
        await peer.send(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"abc")
        assert (await peer.answer())[2] == b"got abc"
        await peer.send(b"POST /at-once HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /other HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[0] == 403
        assert (await peer.answer())[1]["x-target"] == "/other"
        await peer.send(b"POST /b HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + b"x" * 11)
        assert (await peer.answer())[2] == b"too-large"
        hold = await served.peer()
        await hold.send(b"POST /hold HTTP/1.1\r\nContent-Length: 10\r\n\r\n" + b"x" * 10)
        await until(lambda: budget.used == 10)
        await peer.send(b"POST /c HTTP/1.1\r\nContent-Length: 6\r\n\r\n" + b"x" * 6)
        assert (await peer.answer())[2] == b"no-memory"
        hold.writer.close()
        await until(lambda: "gone" in claims[2].events)
        assert claims[2].events == ["whole", "gone"]
        assert budget.used == 0
        claims[2].exchange.respond(200, [], b"nobody hears this")
        await peer.send(b"POST /crash HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        assert (await peer.answer())[0] == 500


async def test_pipelined_claims_answered_at_once() -> None:
    def fast(exchange: Exchange) -> bool:
        exchange.claim(Collector(exchange), 10)
        return True

    async with serving(echo, fast=fast) as served:
        peer = await served.peer()
        await peer.send(b"".join(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(9)))
        assert [(await peer.answer())[2] for _ in range(9)] == [b"got %d" % number for number in range(9)]


async def test_stop_lets_a_running_request_finish_and_cuts_the_rest() -> None:
    release, running = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        running.set()
        await release.wait()
        return Response(200, [], b"done")

    async with serving(handler) as served:
        idle, busy = await served.peer(), await served.peer()
        await busy.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: served.server.connections == 2)
        await asyncio.wait_for(running.wait(), PATIENCE)
        stopping = asyncio.create_task(served.server.stop(5))
        assert await idle.closed() == b""
        release.set()
        status, headers, body = await busy.answer()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        await asyncio.wait_for(stopping, PATIENCE)


async def test_unix_socket_replaces_a_dead_one(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    for _ in range(2):
        server = Server(echo)
        await server.start(path=path)
        pool = Pool(f"unix:{path}")
        response = await pool.request("POST", b"/x", [], b"hello")
        assert await response.read(100) == b"hello"
        pool.close()
        await server.stop(0.1)


async def test_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def handler(request: Request) -> Response:
        return Response(200, [(b"x-scheme", request.scheme.encode())], await request.body.read(1 << 20))

    server = Server(handler, ssl=context)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start(sock=sock)
    peer = Peer(*await asyncio.open_connection("localhost", sock.getsockname()[1], ssl=client))
    body = b"t" * 300_000
    for _ in range(2):
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + body)
        status, headers, got = await peer.answer()
        assert (status, headers["x-scheme"], got == body) == (200, "https", True)
    await peer.send(b"nonsense\r\n\r\n")
    assert (await peer.answer())[0] == 400
    peer.writer.close()
    await server.stop(0.2)
