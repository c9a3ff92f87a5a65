"""One POST: where it may go, what counts as delivered, how long it may take."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme
from aiohttp import web

from slipway.backing.notices_addresses import Guard, guard
from slipway.backing.notices_http import HttpSender, Undelivered, pinned

HERE = guard((), loopback=True)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """Answers every path with `handler`; counts the requests."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.seen: list[web.Request] = []
        self.port = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.handler(request)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, **options: Any) -> Site:
        site = Site(handler)
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", site.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, **options).start()
        site.port = runner.addresses[0][1]
        return site

    yield start
    for runner in runners:
        await runner.cleanup()


async def post(url: str, allowing: Guard = HERE, seconds: float = 10.0) -> int | Undelivered:
    sender = HttpSender(allowing, seconds)
    try:
        return await sender.post(url, {"Content-Type": "text/plain"}, b"body")
    except Undelivered as error:
        return error
    finally:
        await sender.close()


async def refused(url: str, allowing: Guard = HERE, seconds: float = 10.0) -> tuple[str, bool]:
    found = await post(url, allowing, seconds)
    assert isinstance(found, Undelivered)
    return str(found), found.permanent


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(301, True), (307, True), (400, True), (404, True), (408, False), (429, False), (500, False), (503, False)],
)
async def test_statuses(serve: Callable[..., Awaitable[Site]], status: int, permanent: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    site = await serve(answer)
    assert await refused(f"http://127.0.0.1:{site.port}/") == (f"The endpoint answered {status}.", permanent)
    assert len(site.seen) == 1, "no redirect is followed"


async def test_delivered_and_kept_open(serve: Callable[..., Awaitable[Site]]) -> None:
    bodies = []

    async def answer(request: web.Request) -> web.StreamResponse:
        bodies.append((request.method, await request.read(), request.headers["Content-Type"], request.transport))
        return web.Response(status=204)

    site = await serve(answer)
    sender = HttpSender(HERE)
    for _ in range(2):
        assert await sender.post(f"http://localhost:{site.port}/x?y=z", {"Content-Type": "text/plain"}, b"body") == 204
    await sender.close()
    assert [found[:3] for found in bodies] == [("POST", b"body", "text/plain")] * 2
    assert bodies[0][3] is bodies[1][3], "the connection is used again"


async def test_an_endless_answer_is_cut(serve: Callable[..., Awaitable[Site]]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    site = await serve(answer)
    assert await post(f"http://127.0.0.1:{site.port}/") == 200


async def test_a_silent_endpoint(serve: Callable[..., Awaitable[Site]]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    site = await serve(answer)
    assert await refused(f"http://127.0.0.1:{site.port}/", seconds=0.2) == ("The endpoint did not answer in time.", False)


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    cause, permanent = await refused(f"http://127.0.0.1:{port}/")
    assert cause.startswith("The endpoint could not be reached (")
    assert not permanent


async def test_something_else_than_http() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cause, permanent = await refused(f"http://127.0.0.1:{port}/")
    server.close()
    assert cause.startswith("The endpoint did not answer with HTTP (")
    assert not permanent


async def test_a_certificate_that_nobody_vouches_for(serve: Callable[..., Awaitable[Site]]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    site = await serve(answer, ssl_context=context)
    cause, _ = await refused(f"https://localhost:{site.port}/")
    assert cause.startswith("The endpoint's certificate is not trusted (")
    assert site.seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0"])
async def test_loopback_in_every_disguise(serve: Callable[..., Awaitable[Site]], host: str) -> None:
    """Literals that aiohttp connects to without a resolver, and names that the system's resolver turns into addresses."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    site = await serve(answer)
    cause, permanent = await refused(f"http://{host}:{site.port}/", guard((), loopback=False))
    assert permanent
    assert "slipway does not call" in cause
    assert site.seen == []


async def test_a_name_of_which_one_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address is checked, and what was checked is what is connected to: the name is looked up once."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    cause, permanent = await refused("http://mixed.example/", guard((), loopback=False))
    assert permanent
    assert "mixed.example is private (10.0.0.1)" in cause
    assert asked == ["mixed.example"]


async def test_a_name_that_changes_its_address(serve: Callable[..., Awaitable[Site]], monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second look-up, had there been one, would have led elsewhere."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    site = await serve(answer)
    answers = ["127.0.0.1", "10.0.0.1"]

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert await post(f"http://rebinding.example:{site.port}/") == 200
    assert answers == ["10.0.0.1"]


async def test_an_unknown_name() -> None:
    cause, permanent = await refused("http://no-such-name.invalid/")
    assert cause.startswith("The endpoint could not be reached")
    assert not permanent


async def test_no_proxy_is_asked(serve: Callable[..., Awaitable[Site]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    site, proxy = await serve(answer), await serve(answer)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    assert await post(f"http://127.0.0.1:{site.port}/") == 200
    assert proxy.seen == []


def test_no_address_at_all() -> None:
    with pytest.raises(OSError, match="no address"):
        pinned(HERE, "x", 80, [])
