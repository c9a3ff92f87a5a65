"""Messages between our processes: length-prefixed JSON over a unix socket, requests and notifications in both directions.

A message is `| length u32, big-endian | JSON [type, id, kind, payload] |`. Types: `q` a request, `a` its answer, `e` its
error (payload `[error kind, message]`), `n` a notification. Payloads are core's dataclasses, encoded and decoded by msgspec.
Touches sockets only; knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one message; a longer one closes the channel."""
MAX_WAITING = 10_000
"""Notifications not yet handled, or requests under way, of one peer; beyond it the channel closes."""

Handler = Callable[[Any], Any]
_LENGTH = struct.Struct("!I")
_PEERCRED = struct.Struct("3i")


class LinkClosed(ConnectionError):
    """The channel is closed, or was closed before the answer came."""


class LinkError(Exception):
    """The peer answered with an error; raised by a handler, it travels to the caller as it is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says; `pid` is 0 where it cannot tell."""

    pid: int
    uid: int


class _Message(msgspec.Struct, array_like=True):
    type: str
    id: int
    kind: str
    payload: msgspec.Raw


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_error = msgspec.json.Decoder(tuple[str, str]).decode
_encode = msgspec.json.Encoder().encode


class Channel:
    """One connection. Register handlers with `on` before it starts to read (in `serve`'s `on_channel`, `connect`'s `setup`)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers: dict[str, tuple[Handler, Any]] = {}
        self._pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._last_id = 0
        self._notes: asyncio.Queue[_Message] = asyncio.Queue(MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._closed = asyncio.Event()
        self._on_close: list[Callable[[], None]] = []
        self.peer = _peer_of(writer)

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def on(self, kind: str, handler: Handler, type: Any = Any) -> None:
        """Handle requests and notifications of `kind`: `handler(payload decoded as type)`, sync or async.

        What it returns answers a request. Notifications of one channel are handled one after the other, in order;
        requests each in a task of their own.
        """
        self._handlers[kind] = (handler, type)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the channel has closed, for whatever reason."""
        self._on_close.append(callback)

    def start(self) -> None:
        """Begin to read. `serve` and `connect` do this."""
        self._spawn(self._read())
        self._spawn(self._handle_notes())

    async def request(self, kind: str, payload: Any, type: Any = Any, *, timeout: float | None = None) -> Any:
        """The peer's answer, decoded as `type`. LinkError: the peer refused; LinkClosed; TimeoutError after `timeout` s."""
        self._last_id += 1
        ident = self._last_id
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[ident] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._send("q", ident, kind, payload)
                raw = await answer
        finally:
            self._pending.pop(ident, None)
        return msgspec.json.decode(raw, type=type)

    async def notify(self, kind: str, payload: Any) -> None:
        """Tell the peer; resolves when the socket has room again. LinkClosed when it cannot be sent."""
        await self._send("n", 0, kind, payload)

    def close(self) -> None:
        """Close at once; pending requests fail with LinkClosed."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._writer.close()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(LinkClosed("the channel closed before the answer came"))
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for callback in self._on_close:
            callback()

    async def wait_closed(self) -> None:
        """Until it is closed, from either end."""
        await self._closed.wait()

    async def ended(self) -> None:
        """After `close`: until the socket is closed too, unless a peer that does not read holds it open."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, type: str, ident: int, kind: str, payload: Any) -> None:
        body = _encode(_Message(type, ident, kind, msgspec.Raw(_encode(payload))))
        if len(body) > MAX_FRAME:
            raise LinkError(
                "too-large", f"a {kind} message of {len(body)} bytes is over the {MAX_FRAME} that a channel carries"
            )
        async with self._sending:
            if self._closed.is_set():
                raise LinkClosed("the channel is closed")
            try:
                self._writer.write(_LENGTH.pack(len(body)) + body)
                await self._writer.drain()
            except (ConnectionError, RuntimeError) as error:
                self.close()
                raise LinkClosed("the peer went away") from error

    async def _read(self) -> None:
        try:
            while True:
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if size > MAX_FRAME:
                    logger.error("link-frame-too-large", extra={"bytes": size, "peer": self.peer.pid})
                    break
                self._take(_decode_message(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (msgspec.DecodeError, asyncio.QueueFull) as error:
            logger.error("link-broken", extra={"error": str(error), "peer": self.peer.pid})
        finally:
            self.close()

    def _take(self, message: _Message) -> None:
        if message.type == "n":
            self._notes.put_nowait(message)
        elif message.type == "q":
            if len(self._tasks) > MAX_WAITING:
                raise asyncio.QueueFull
            self._spawn(self._answer(message))
        elif (answer := self._pending.get(message.id)) is not None and not answer.done():
            if message.type == "a":
                answer.set_result(message.payload)
            else:
                answer.set_exception(LinkError(*_decode_error(message.payload)))

    async def _call(self, message: _Message) -> Any:
        known = self._handlers.get(message.kind)
        if known is None:
            raise LinkError("unknown-kind", f"nobody handles {message.kind!r} here")
        handler, type = known
        result = handler(msgspec.json.decode(message.payload, type=type))
        return await result if inspect.isawaitable(result) else result

    async def _answer(self, message: _Message) -> None:
        """Every request gets an answer, also when its handler breaks: a caller must never wait for nothing."""
        with contextlib.suppress(LinkClosed):
            try:
                result = await self._call(message)
                await self._send("a", message.id, "", result)
            except LinkError as error:
                await self._send("e", message.id, "", (error.kind, error.message))
            except LinkClosed:
                raise
            except Exception as error:
                logger.exception("link-request-failed", extra={"kind": message.kind})
                await self._send("e", message.id, "", ("internal", f"{type(error).__name__}: {error}"))

    async def _handle_notes(self) -> None:
        while True:
            message = await self._notes.get()
            try:
                await self._call(message)
            except Exception:
                logger.exception("link-notification-failed", extra={"kind": message.kind})


class Server:
    """A listening socket and the channels that came in through it."""

    def __init__(self, path: str, on_channel: Callable[[Channel], None]) -> None:
        self._path = path
        self._on_channel = on_channel
        self._server: asyncio.AbstractServer | None = None
        self.channels: set[Channel] = set()

    async def start(self) -> None:
        sock = bind_unix(self._path)
        self._server = await asyncio.start_unix_server(self._accept, sock=sock)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer)
        if channel.peer.uid not in (0, os.geteuid()):
            channel.close()
            return
        self.channels.add(channel)
        channel.on_close(lambda: self.channels.discard(channel))
        try:
            self._on_channel(channel)
        except Exception:
            logger.exception("link-accept-failed", extra={"path": self._path})
            channel.close()
            return
        channel.start()

    async def close(self) -> None:
        """Stop listening, close every channel, remove the socket."""
        if self._server is not None:
            self._server.close()
        open_now = list(self.channels)
        for channel in open_now:
            channel.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        await asyncio.gather(*(channel.ended() for channel in open_now))


async def serve(path: str, on_channel: Callable[[Channel], None]) -> Server:
    """Listen on the unix socket `path` (mode 0600); `on_channel` registers each new channel's handlers."""
    server = Server(path, on_channel)
    await server.start()
    return server


async def connect(path: str, setup: Callable[[Channel], None] | None = None) -> Channel:
    """One connection, no retry: OSError when nobody listens. `setup` registers handlers before anything is read."""
    channel = Channel(*await asyncio.open_unix_connection(path))
    if setup is not None:
        setup(channel)
    channel.start()
    return channel


def bind_unix(path: str) -> socket.socket:
    """A bound unix socket (non-blocking, not listening yet), mode 0600 before anybody can connect; an old file gives way."""
    if len(os.fsencode(path)) > 107:
        raise OSError(f"{path} is too long for a unix socket (107 bytes): start with a shorter TMPDIR")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _peer_of(writer: asyncio.StreamWriter) -> Peer:
    """SO_PEERCRED of a duplicate descriptor: uvloop's own socket object does not offer getsockopt on all versions."""
    transport_socket = writer.get_extra_info("socket")
    option = getattr(socket, "SO_PEERCRED", None)
    if transport_socket is None or option is None:
        return Peer(0, os.geteuid())
    with socket.socket(fileno=os.dup(transport_socket.fileno())) as sock:
        pid, uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _PEERCRED.size))
    return Peer(pid, uid)
