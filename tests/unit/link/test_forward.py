"""What the gateway hands on to control arrives as it was sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import botocore.session
import pytest
from botocore.parsers import create_parser

from slipway.http.messages import Headers, Request, Response
from slipway.http.server import Server
from slipway.link.forward import Forwarder
from tests.deadlines import PATIENCE
from tests.unit.http.serving import serving


async def test_path_header_order_and_body_are_untouched(tmp_path: Path) -> None:
    seen: list[tuple[str, bytes, Headers]] = []

    async def control(request: Request) -> Response:
        seen.append((request.method, request.target, request.headers))
        return Response(201, [(b"x-amz-request-id", b"r")], await request.body.read(1 << 20))

    server = Server(control)
    await server.start(path=f"{tmp_path}/c.sock")
    forwarder = Forwarder(f"unix:{tmp_path}/c.sock")
    async with serving(forwarder) as served:
        peer = await served.peer()
        head = b"PUT /b/%2e%2e/a%2Fb?x=%20&y HTTP/1.1\r\nHost: h:1\r\nZ: 1\r\nA: 2\r\nZ: 3\r\nContent-Length: 4\r\nB: 4\r\n\r\n"
        await peer.send(head + b"body")
        status, headers, body = await peer.answer()
        assert (status, headers["x-amz-request-id"], body) == (201, "r", b"body")
        assert seen == [
            (
                "PUT",
                b"/b/%2e%2e/a%2Fb?x=%20&y",
                [(b"host", b"h:1"), (b"z", b"1"), (b"a", b"2"), (b"z", b"3"), (b"content-length", b"4"), (b"b", b"4")],
            )
        ]
        await peer.send(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert (await peer.answer())[2] == b"abc"
    forwarder.close()
    await server.stop(0.1)


async def test_large_bodies_stream_through(tmp_path: Path) -> None:
    async def control(request: Request) -> Response:
        digest, count = hashlib.sha256(), 0
        async for piece in request.body:
            digest.update(piece)
            count += len(piece)

        async def back() -> AsyncIterator[bytes]:
            for _ in range(count >> 16):
                yield b"y" * 65536

        return Response(200, [(b"x-digest", digest.hexdigest().encode())], back(), length=count)

    server = Server(control)
    await server.start(path=f"{tmp_path}/c.sock")
    forwarder = Forwarder(f"unix:{tmp_path}/c.sock")
    async with serving(forwarder) as served:
        peer = await served.peer()
        size = 16 << 20
        await peer.send(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        status, headers, body = await peer.answer()
        assert (status, headers["x-digest"]) == (200, hashlib.sha256(b"x" * size).hexdigest())
        assert body == b"y" * size
        await peer.send(b"HEAD / HTTP/1.1\r\n\r\n")
        assert (await peer.head())[1]["content-length"] == "0"
    forwarder.close()
    await server.stop(0.1)


async def test_expect_is_relayed_so_that_a_refused_put_never_uploads(tmp_path: Path) -> None:
    async def control(request: Request) -> Response:
        if request.target == b"/refused":
            return Response(403, [], b"no")
        return Response(200, [], await request.body.read(100))

    server = Server(control)
    await server.start(path=f"{tmp_path}/c.sock")
    forwarder = Forwarder(f"unix:{tmp_path}/c.sock")
    async with serving(forwarder) as served:
        peer = await served.peer()
        await peer.send(b"PUT /ok HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"abc")
        assert (await peer.answer())[2] == b"abc"
        await peer.send(b"PUT /refused HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await peer.answer())[0] == 403
    forwarder.close()
    await server.stop(0.1)


async def test_waits_for_control_to_come_back_and_gives_up(tmp_path: Path) -> None:
    async def control(request: Request) -> Response:
        return Response(200, [], b"here")

    path = f"{tmp_path}/c.sock"
    async with serving(Forwarder(f"unix:{path}", patience=0.1)) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        status, headers, body = await peer.answer()
        assert (status, headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
        assert b"__type" in body
    async with serving(Forwarder(f"unix:{path}")) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.05)
        server = Server(control)
        await server.start(path=path)
        assert (await peer.answer())[2] == b"here"
        await server.stop(0.1)


@pytest.mark.parametrize(
    ("protocol", "content_type", "service", "operation"),
    [
        ("query", "application/x-www-form-urlencoded; charset=utf-8", "sns", "Publish"),
        ("json", "application/x-amz-json-1.1", "sagemaker", "ListModels"),
        ("rest-xml", "", "s3", "ListBuckets"),
        ("smithy-rpc-v2-cbor", "application/cbor", "cloudwatch", "ListMetrics"),
    ],
)
async def test_that_control_is_away_is_told_in_every_protocol(
    tmp_path: Path, protocol: str, content_type: str, service: str, operation: str
) -> None:
    head = f"POST / HTTP/1.1\r\ncontent-type: {content_type}\r\ncontent-length: 0\r\n"
    if protocol == "smithy-rpc-v2-cbor":
        head += "smithy-protocol: rpc-v2-cbor\r\n"
    async with serving(Forwarder(f"unix:{tmp_path}/c.sock", patience=0.05)) as served:
        peer = await served.peer()
        await peer.send(head.encode() + b"\r\n")
        status, headers, body = await peer.answer()
    shape = botocore.session.Session().get_service_model(service).operation_model(operation).output_shape
    told = create_parser(protocol).parse({"status_code": status, "headers": headers, "body": body}, shape)
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert told["Error"]["Code"] in ("ServiceUnavailable", "503")


async def test_client_gone_cancels_in_control(tmp_path: Path) -> None:
    cancelled, running = asyncio.Event(), asyncio.Event()

    async def control(request: Request) -> Response:
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return Response(200)

    server = Server(control)
    await server.start(path=f"{tmp_path}/c.sock")
    async with serving(Forwarder(f"unix:{tmp_path}/c.sock")) as served:
        peer = await served.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(running.wait(), PATIENCE)
        peer.writer.close()
        await asyncio.wait_for(cancelled.wait(), PATIENCE)
    await server.stop(0.1)
