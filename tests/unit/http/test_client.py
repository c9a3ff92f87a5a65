"""The pooled client against our own server and against peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from slipway.http.client import ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import BodyTooLarge, ClientGone, Request, Response
from slipway.http.render import BadHeader
from tests.deadlines import PATIENCE
from tests.unit.http.serving import Served, echo, serving, until

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pool_of(served: Served, **limits: float) -> Pool:
    return Pool(f"tcp:127.0.0.1:{served.port}", PoolLimits(**limits))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Pool]:
    """A peer that does what `script` says for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Pool(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield pool
    finally:
        pool.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_requests_share_a_connection() -> None:
    async with serving(echo) as served:
        pool = pool_of(served)
        for number in range(5):
            response = await pool.request("POST", b"/%d" % number, [(b"x", b"y")], b"body")
            assert (response.status, response.length, await response.read(100)) == (200, 4, b"body")
        response = await pool.request("PUT", b"/", [], pieces(b"one", b"", b"two"))
        assert await response.read(100) == b"onetwo"
        response = await pool.request("PUT", b"/", [], pieces(b"one", b"two"), length=6)
        assert [piece async for piece in response] == [b"onetwo"]
        response = await pool.request("HEAD", b"/", [])
        assert await response.read(0) == b""
        assert served.server.connections == 1
        pool.close()


async def test_large_bodies_both_ways() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], aiter(request.body), length=request.body.length)

    async with serving(handler) as served:
        pool = pool_of(served)
        body = b"m" * (8 << 20)
        response = await pool.request("PUT", b"/", [], body)
        assert await response.read(8 << 20) == body
        pool.close()


async def test_read_limit_closes() -> None:
    async with serving(echo) as served:
        pool = pool_of(served)
        response = await pool.request("PUT", b"/", [], b"x" * 1000)
        with pytest.raises(BodyTooLarge):
            await response.read(999)
        await until(lambda: served.server.connections == 0)


async def test_expect_asks_before_the_body_is_touched() -> None:
    touched: list[bytes] = []

    async def source() -> AsyncIterator[bytes]:
        touched.append(b"yes")
        yield b"body"

    async def handler(request: Request) -> Response:
        if request.target == b"/no":
            return Response(403, [], b"no")
        return Response(200, [], await request.body.read(10))

    async with serving(handler) as served:
        pool = pool_of(served)
        response = await pool.request("PUT", b"/no", [], source(), length=4, expect=True)
        assert (response.status, await response.read(10), touched) == (403, b"no", [])
        response = await pool.request("PUT", b"/yes", [], source(), length=4, expect=True)
        assert (response.status, await response.read(10), touched) == (200, b"body", [b"yes"])
        pool.close()


async def test_who_asks_is_told_of_what_comes_before_the_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            )

    told: list[int] = []
    async with scripted(script) as pool:
        response = await pool.request("GET", b"/", [], informed=told.append)
        assert (response.status, response.headers, await response.read(10)) == (200, [(b"content-length", b"2")], b"ok")
        response = await pool.request("GET", b"/", [])
        assert (response.status, await response.read(10), told) == (200, b"ok", [102, 103])


async def test_early_answer_while_the_body_is_sent() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def handler(request: Request) -> Response:
        return Response(400, [], b"stop")

    async with serving(handler) as served:
        pool = pool_of(served)
        response = await asyncio.wait_for(pool.request("PUT", b"/", [], endless()), PATIENCE)
        assert (response.status, await response.read(10)) == (400, b"stop")
        await until(lambda: served.server.connections == 0)
        pool.close()


async def test_an_early_answer_to_a_body_that_is_still_on_its_way_ends_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with scripted(script) as pool:
        response = await pool.request("POST", b"/", [], b"x" * (32 << 20))
        assert response.status == 413
        await response.read(10)
        assert not pool._idle, "what is left of the body would be taken for the next request"


async def test_so_much_is_asked_of_the_kernel(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    left = asyncio.Event()
    rooms = []
    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        for size in (0, 4 << 20):
            pool = Pool(f"unix:{tmp_path}/s", PoolLimits(send_bytes=size))
            await (await pool.request("GET", b"/", [])).read(0)
            (connection,) = pool._idle
            rooms.append(connection.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
            pool.close()
            await left.wait()
            left.clear()
    assert rooms[0] < rooms[1]


async def test_connections_are_bounded_and_waiters_served_in_turn() -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response(200, [], request.target)

    async with serving(handler) as served:
        pool = pool_of(served, connections=2)

        async def ask(number: int) -> bytes:
            response = await pool.request("GET", b"/%d" % number, [])
            assert served.server.connections <= 2
            return await response.read(10)

        assert await asyncio.gather(*map(ask, range(8))) == [b"/%d" % number for number in range(8)]
        waiting = [asyncio.create_task(ask(number)) for number in range(4)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        assert await waiting[3] == b"/3"
        await asyncio.gather(*waiting, return_exceptions=True)
        pool.close()


async def test_informational_answers_are_skipped() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with scripted(script) as pool:
        response = await pool.request("GET", b"/", [])
        assert (response.status, response.header(b"link"), await response.read(10)) == (200, None, b"ok")


async def test_a_stale_connection_is_replaced_once() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")  # the second request is read, and not answered

    async with scripted(script) as pool:
        for _ in range(2):
            response = await pool.request("GET", b"/", [])
            assert await response.read(10) == b"ok"
        assert connections == 2
        with pytest.raises(NoAnswer):
            await pool.request("PUT", b"/", [], pieces(b"cannot be sent again"))


async def test_no_answer_on_a_fresh_connection_is_not_repeated() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")

    async with scripted(script) as pool:
        with pytest.raises(NoAnswer):
            await pool.request("GET", b"/", [])
        assert connections == 1


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, b"HTTP/1.1 101 Up\r\n\r\n"]
)
async def test_nonsense_is_no_answer(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    async with scripted(script) as pool:
        with pytest.raises(NoAnswer):
            await asyncio.wait_for(pool.request("GET", b"/", []), PATIENCE)


async def test_answer_cut_short() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    async with scripted(script) as pool:
        response = await pool.request("GET", b"/", [])
        with pytest.raises(ClientGone):
            await response.read(1000)


async def test_answer_that_ends_with_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with scripted(script) as pool:
        response = await pool.request("GET", b"/", [])
        assert await response.read(1000) == b"all of it"


async def test_nobody_there() -> None:
    with pytest.raises(ConnectFailed):
        await Pool("unix:/nonexistent/socket").request("GET", b"/", [])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0"])
async def test_headers_cannot_be_injected(value: bytes) -> None:
    async with serving(echo) as served:
        with pytest.raises(BadHeader):
            await pool_of(served).request("GET", b"/", [(b"x", value)])


async def test_a_body_that_fails_is_the_callers_error() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise ClientGone("uploader left")

    async with serving(echo) as served:
        pool = pool_of(served)
        with pytest.raises(ClientGone):
            await pool.request("PUT", b"/", [], failing(), length=10)
        await until(lambda: served.server.connections == 0)
