"""What a gateway does not answer goes to control over HTTP: path, header order, body untouched; streamed both ways."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import Headers, Request, Response

logger = logging.getLogger(__name__)

_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))
_HOP_BACK = _HOP | {b"transfer-encoding", b"content-length", b"date"}
_SMALL = 64 * 1024
"""Bodies up to this, of known length, travel in one piece and can be sent again."""
_CODE, _AWAY = "ServiceUnavailable", "The control process is not there; it is being restarted."
_PAUSES = (0.01, 0.02, 0.03, 0.05)


class Forwarder:
    """An http Handler. While control restarts (`patience` seconds) requests wait: nothing of them has been sent then."""

    def __init__(self, address: str, patience: float = 10.0) -> None:
        self._pool = Pool(address, PoolLimits(connections=1024, idle=64))
        self._patience = patience

    async def __call__(self, request: Request) -> Response:
        headers: Headers = [pair for pair in request.headers if pair[0] not in _HOP]
        length = request.body.length
        expect = _expects(request)
        body: bytes | AsyncIterator[bytes]
        if length is not None and length <= _SMALL and not expect:
            body = await request.body.read(_SMALL)
        else:
            body = aiter(request.body)
        try:
            response = await self._send(request, headers, body, length, expect)
        except (ConnectFailed, NoAnswer) as error:
            logger.warning("control-unreachable", extra={"error": str(error)})
            return unavailable(request)
        return await _passed_on(request, response)

    async def _send(
        self, request: Request, headers: Headers, body: bytes | AsyncIterator[bytes], length: int | None, expect: bool
    ) -> ClientResponse:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        tries = 0
        while True:
            try:
                return await self._pool.request(request.method, request.target, headers, body, length=length, expect=expect)
            except ConnectFailed:
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                if loop.time() + pause > deadline:
                    raise
                tries += 1
                await asyncio.sleep(pause)

    def close(self) -> None:
        self._pool.close()


def _expects(request: Request) -> bool:
    value = request.header(b"expect")
    return value is not None and value.lower() == b"100-continue"


async def _passed_on(request: Request, response: ClientResponse) -> Response:
    headers: Headers = [pair for pair in response.headers if pair[0] not in _HOP_BACK]
    length = response.length
    if request.method == "HEAD" or (length is not None and length <= _SMALL):
        return Response(response.status, headers, await response.read(_SMALL), length)
    return Response(response.status, headers, _Passing(response), length)


class _Passing:
    """The answer's body; `aclose` cuts the connection if it was not read to its end (also when nothing was)."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self._pieces = aiter(response)

    def __aiter__(self) -> _Passing:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._response.close()


def unavailable(request: Request) -> Response:
    """In the caller's protocol, as its content type tells it: an SDK that cannot read an answer does not retry it either.

    Of CBOR there is no codec here; a 5xx without a body is an error to every SDK.
    """
    if request.header(b"smithy-protocol") is not None:
        return Response(503, [], b"")
    if (request.header(b"content-type") or b"").startswith(b"application/x-www-form-urlencoded"):
        text = (
            f"<ErrorResponse><Error><Type>Receiver</Type><Code>{_CODE}</Code><Message>{_AWAY}</Message></Error></ErrorResponse>"
        )
        return Response(503, [(b"content-type", b"text/xml")], text.encode())
    headers = [(b"content-type", b"application/json"), (b"x-amzn-errortype", _CODE.encode())]
    return Response(503, headers, json.dumps({"__type": _CODE, "message": _AWAY}).encode())
