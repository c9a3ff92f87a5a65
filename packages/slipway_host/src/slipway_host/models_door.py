"""Who knocks at a multi-model host: the platform with `/models…`, the keeper with `/ping`, and connections for one model.

A connection of frames names its model in its HELLO, one of HTTP in its first request (`POST /models/<name>/invoke`); either
goes to the model's process with what has been read of it. Everything else is answered here (containers.md 5.2):

    POST   /models          {"model_name", "url"}       200, 409 loaded already, 507 not enough memory, 500 it does not load
    GET    /models          ?next_page_token=…&limit=…  {"models": [{"modelName", "modelUrl", …}], "nextPageToken"}
    GET    /models/<name>                               200, 404
    DELETE /models/<name>                               200 once its memory is free, 404
    GET    /ping                                        200
    POST   /abandon?model=<name>&request=<number>       202: nobody waits for this request any more
"""

from __future__ import annotations

import json
import re
import select
import socket
from typing import TYPE_CHECKING, Any

from . import frames, http11

if TYPE_CHECKING:
    from .models import ModelParent, Outcome

MAX_BODY = 64 * 1024
PAGE = 100
_READ = 16 * 1024
_INVOKE = re.compile(rb"POST /models/([A-Za-z0-9._-]{1,128})/invoke(?:\?[^ ]*)? HTTP/1\.[01]\r?\n")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_PEERS = 1024


class Peer:
    """A connection whose first bytes are not all here, or that asks for what is answered here."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.begun = b""
        self.parser: http11.Parser | None = None
        """Set once it is HTTP for us."""
        self.busy = False
        """Its answer is under way."""


class Door:
    """Owned by the parent, whose loop calls `handle` for each descriptor that is ready. Never blocks."""

    def __init__(self, parent: ModelParent, poller: select.poll) -> None:
        self._parent = parent
        self._poller = poller
        self._listeners: dict[int, socket.socket] = {}
        self._peers: dict[int, Peer] = {}

    def listen(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._listeners[sock.fileno()] = sock
        self._poller.register(sock.fileno(), select.POLLIN)

    def forget(self) -> None:
        """In a forked child: none of this is its own."""
        for sock in [*self._listeners.values(), *(peer.sock for peer in self._peers.values())]:
            sock.close()

    def close(self) -> None:
        for sock in self._listeners.values():
            sock.close()
        for descriptor in list(self._peers):
            self._drop(descriptor)

    def handle(self, descriptor: int) -> None:
        if descriptor in self._listeners:
            self._accept(self._listeners[descriptor])
        elif descriptor in self._peers:
            try:
                self._read(descriptor)
            except OSError:
                self._drop(descriptor)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if len(self._peers) >= MAX_PEERS:
            sock.close()
            return
        sock.setblocking(False)
        self._peers[sock.fileno()] = Peer(sock)
        self._poller.register(sock.fileno(), select.POLLIN)
        self.handle(sock.fileno())

    def _read(self, descriptor: int) -> None:
        peer = self._peers[descriptor]
        try:
            data = peer.sock.recv(_READ)
        except BlockingIOError:
            return
        if not data:
            self._drop(descriptor)
            return
        if peer.parser is not None:
            peer.parser.feed(data)
            self._serve(descriptor, peer)
            return
        peer.begun += data
        if peer.begun[:1] == b"\0":
            self._greeted(descriptor, peer)
        elif b"\n" in peer.begun or len(peer.begun) > 2048:
            self._asked(descriptor, peer)

    def _greeted(self, descriptor: int, peer: Peer) -> None:
        if len(peer.begun) < frames.HEADER_SIZE:
            return
        length, kind, *_ = frames.HEADER.unpack_from(peer.begun)
        if kind != frames.HELLO or length > 256:
            self._drop(descriptor)
            return
        end = frames.HEADER_SIZE + length
        if len(peer.begun) < end:
            return
        name = frames.hello_model(peer.begun[frames.HEADER_SIZE : end])
        if not self._parent.pass_on(name, peer.sock, peer.begun):
            peer.sock.send(frames.hello() + frames.pack(frames.BYE, 0))
        self._drop(descriptor)

    def _asked(self, descriptor: int, peer: Peer) -> None:
        match = _INVOKE.match(peer.begun)
        if match is not None and self._parent.pass_on(match[1].decode(), peer.sock, peer.begun):
            self._drop(descriptor)
            return
        peer.parser = http11.Parser(MAX_BODY)
        peer.parser.feed(peer.begun)
        peer.begun = b""
        self._serve(descriptor, peer)

    def _serve(self, descriptor: int, peer: Peer) -> None:
        while descriptor in self._peers and self._peers[descriptor] is peer and not peer.busy and peer.parser is not None:
            try:
                request = peer.parser.next()
            except http11.BadRequest as error:
                self._reply(peer, error.status, {"code": error.status, "message": str(error)}, keep=False)
                return
            if request is None:
                return
            peer.busy = True
            self._answer(peer, request)

    def _answer(self, peer: Peer, request: http11.Request) -> None:
        keep = request.keep_alive
        method, path = request.method, request.path
        if path == "/ping":
            self._reply(peer, 200 if method == "GET" else 405, None, keep)
        elif path == "/abandon":
            query = _query(request.query)
            if query.get("request", "").isdigit():
                self._parent.abandon(query.get("model", ""), int(query["request"]))
            self._reply(peer, 202, None, keep)
        elif path == "/models":
            if method == "POST":
                self._load(peer, request, keep)
            elif method == "GET":
                self._list(peer, request, keep)
            else:
                self._reply(peer, 405, None, keep)
        elif path.startswith("/models/"):
            self._one(peer, request, path[len("/models/") :], keep)
        else:
            self._reply(peer, 404, None, keep)

    def _load(self, peer: Peer, request: http11.Request, keep: bool) -> None:
        try:
            asked = json.loads(request.body)
            name, url = asked["model_name"], asked["url"]
            if not isinstance(url, str) or not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(name)
        except (ValueError, KeyError, TypeError, RecursionError):
            message = 'The body must be JSON: {"model_name": …, "url": …}.'
            self._reply(peer, 400, {"code": 400, "type": "BadRequestException", "message": message}, keep)
            return
        self._parent.load(name, url, lambda outcome: self._told(peer, outcome, keep))

    def _list(self, peer: Peer, request: http11.Request, keep: bool) -> None:
        """In order of names; a page goes on after the name that its token is."""
        query = _query(request.query)
        limit = min(int(query["limit"]), 100_000) if query.get("limit", "").isdigit() else PAGE
        after = query.get("next_page_token", "")
        names = sorted(name for name, model in self._parent.models.items() if model.state == "loaded" and name > after)
        shown = names[: max(1, limit)]
        answer: dict[str, Any] = {"models": [self._parent.seen(self._parent.models[name]) for name in shown]}
        if len(shown) < len(names):
            answer["nextPageToken"] = shown[-1]
        self._reply(peer, 200, answer, keep)

    def _one(self, peer: Peer, request: http11.Request, name: str, keep: bool) -> None:
        model = self._parent.models.get(name)
        if request.method == "DELETE":
            self._parent.unload(name, lambda outcome: self._told(peer, outcome, keep))
        elif model is None or model.state != "loaded" or name.endswith("/invoke"):
            name = name.partition("/")[0]
            self._reply(
                peer,
                404,
                {"code": 404, "type": "ModelNotFoundException", "message": f"Model {name} is not loaded."},
                keep=False,
            )
        elif request.method == "GET":
            self._reply(peer, 200, self._parent.seen(model), keep)
        else:
            self._reply(peer, 405, None, keep)

    def _told(self, peer: Peer, outcome: Outcome, keep: bool) -> None:
        self._reply(peer, outcome.status, outcome.body, keep)

    def _reply(self, peer: Peer, status: int, body: dict[str, Any] | None, keep: bool) -> None:
        descriptor = peer.sock.fileno()
        if descriptor < 0 or self._peers.get(descriptor) is not peer:
            return  # it has gone
        data = b"" if body is None else json.dumps(body).encode()
        pairs = [(b"X-Slipway-Workers", b"1")]
        if body is not None:
            pairs.append((b"Content-Type", b"application/json"))
        try:
            peer.sock.setblocking(True)
            peer.sock.settimeout(2.0)
            peer.sock.sendall(http11.head(status, pairs, len(data), keep) + data)
            peer.sock.setblocking(False)
        except OSError:
            self._drop(descriptor)
            return
        peer.busy = False
        if not keep:
            self._drop(descriptor)
        else:
            self._serve(descriptor, peer)

    def _drop(self, descriptor: int) -> None:
        peer = self._peers.pop(descriptor, None)
        if peer is not None:
            self._poller.unregister(descriptor)
            peer.sock.close()


def _query(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split("&"))
    return {key: value for key, _, value in pairs}
