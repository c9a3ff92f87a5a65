"""What pings find out about a server that is not ours."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from slipway_host import container
from slipway_host.container import Config, Server
from slipway_host.listeners import Listener, listeners


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """Bound to the loopback alone, and not listening yet; once it does, every request gets a 200."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    yield sock
    sock.close()


def _answer(sock: socket.socket) -> None:
    while True:
        try:
            peer, _ = sock.accept()
        except OSError:
            return
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_server_that_begins_to_listen_between_two_looks_is_not_taken_for_good(
    bound: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its loopback alone: on AWS it would never get a request, however early the ping that it answers."""
    look = listeners
    answering = threading.Thread(target=_answer, args=(bound,), daemon=True)

    def look_just_before_it_listens(pid: int, *, everyone: bool) -> list[Listener]:
        found = look(pid, everyone=everyone)
        if not answering.is_alive():
            bound.listen()
            answering.start()
        return found

    monkeypatch.setattr(container, "listeners", look_just_before_it_listens)
    port = bound.getsockname()[1]
    config = Config(
        {
            "command": ["serve"],
            "folder": "/",
            "port": port,
            "own_network": True,
            "start_seconds": 60.0,
            "sockets": [],
            "report": 1,
        }
    )
    server = Server(config, os.getpid())
    assert [server.ping(), server.ping(), server.ping()] == [False, False, False]
    assert not server.good.is_set()
    assert server.trouble == "loopback"
    assert f"127.0.0.1:{port} alone" in server.explain().message
    bound.shutdown(socket.SHUT_RDWR)
