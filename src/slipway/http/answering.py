"""The task of an exchange that a handler answers: from what it returns, or raises, to bytes on the connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from slipway.http import render
from slipway.http.messages import BodyTooLarge, ClientGone, Response

if TYPE_CHECKING:
    from slipway.http.connection import Connection
    from slipway.http.exchange import Exchange

logger = logging.getLogger(__name__)


async def answer_with(connection: Connection, exchange: Exchange, answer: Callable[[], Awaitable[Response]]) -> None:
    """Run the handler and send its answer; cancelled when the client goes."""
    try:
        response = await answer()
    except BodyTooLarge as error:
        response = _plain(413, str(error))
    except ClientGone:
        connection.transport.abort()
        return
    except Exception:
        logger.exception("handler-failed", extra={"method": exchange.method})
        response = _plain(500, "internal failure")
    if isinstance(response.body, bytes):
        _respond(connection, exchange, response, response.body)
    else:
        await _stream(connection, exchange, response, response.body)


def _respond(connection: Connection, exchange: Exchange, response: Response, body: bytes) -> None:
    connection.answering_ends()
    try:
        exchange.respond(response.status, response.headers, body, response.length)
    except render.BadHeader as error:
        logger.error("bad-answer-header", extra={"error": str(error)})
        failure = _plain(500, "internal failure")
        exchange.respond(500, failure.headers, render.refusal(500, "internal failure"))


async def _stream(connection: Connection, exchange: Exchange, response: Response, body: AsyncIterator[bytes]) -> None:
    """An iterator that fails, or does not keep its length, cuts the connection: the peer must see a short body."""
    try:
        if exchange.method == "HEAD" or response.status in (204, 304):
            _respond(connection, exchange, response, b"")
            return
        chunked = exchange.stream_head(response.status, render.header_block(response.headers), response.length)
        sent = 0
        async for data in body:
            if data:
                sent += len(data)
                connection.write(render.chunk(data) if chunked else data)
                await connection.writable()
        if response.length is not None and sent != response.length:
            raise ValueError(f"the answer's body has {sent} bytes, not {response.length}")
        if chunked:
            connection.write(render.LAST_CHUNK)
    except (ClientGone, asyncio.CancelledError):
        connection.transport.abort()
        return
    except Exception:
        logger.exception("answer-cut-short", extra={"method": exchange.method})
        connection.transport.abort()
        return
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    connection.answering_ends()
    connection.finished(exchange)


def _plain(status: int, message: str) -> Response:
    return Response(status, [(b"content-type", b"application/json")], render.refusal(status, message))
