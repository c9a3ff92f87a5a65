"""Slow and broken clients against the real gateway: the others are served as ever, memory and descriptors stay bounded (F7)."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import psutil
import pytest

from slipway.cli.launch import temporary
from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import IDENTITY, Deployments, script, until
from tests.faults.load import role

MB = 1024 * 1024
LARGE = 4 * MB


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    """Unsigned, so that a request is a few bytes written by hand."""
    with temporary(["--auth", "none"]) as launched:
        made = Deployments(launched)
        made.deploy("identity", script(IDENTITY))
        yield made


class Raw:
    """Connections that behave badly, closed in the end."""

    def __init__(self, server: Deployments) -> None:
        host, _, port = server.launched.endpoint_url.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))
        self.sockets: list[socket.socket] = []

    def open(self, sent: bytes = b"") -> socket.socket:
        sock = socket.create_connection(self.address, timeout=PATIENCE)
        self.sockets.append(sock)
        if sent:
            sock.sendall(sent)
        return sock

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def raw(server: Deployments) -> Iterator[Raw]:
    made = Raw(server)
    yield made
    made.close()


def head(length: int, path: str = "/endpoints/identity/invocations") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n".encode()


def latencies(server: Deployments, count: int = 100) -> list[float]:
    """Seconds of calls over one connection, sorted, of a machine without other work."""
    host, _, port = server.launched.endpoint_url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    taken = []
    for _ in range(count):
        began = Watch()
        connection.request("POST", "/endpoints/identity/invocations", b"payload", {"Content-Type": "text/plain"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"payload")
        taken.append(began.free)
    connection.close()
    return sorted(taken)


def served_as_ever(server: Deployments, before: list[float]) -> None:
    """p90 at most twice what it was, and no more than some milliseconds in any case of doubt: this machine has other work."""
    for _ in range(10):
        after = latencies(server)
        if after[90] <= max(2 * before[90], 0.01):
            return
    raise AssertionError(f"p90 was {before[90] * 1000:.2f} ms and is {after[90] * 1000:.2f} ms")


def answer_of(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(65536):
            data += piece
            if b"\r\n\r\n" in data:
                break
    return data


def test_500_idle_connections(server: Deployments, raw: Raw) -> None:
    gateway = role(server, "gateway")
    before, memory = latencies(server), gateway.memory_info().rss
    for _ in range(500):
        raw.open()
    served_as_ever(server, before)
    assert gateway.memory_info().rss - memory < 30 * MB
    descriptors = gateway.num_fds()
    raw.close()
    until(lambda: gateway.num_fds() < descriptors - 450, what="their end")


def test_100_heads_that_arrive_byte_by_byte(server: Deployments, raw: Raw) -> None:
    before = latencies(server)
    slow = [raw.open(b"POST /endpoints/identity/invocations HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") for _ in range(100)]
    for _ in range(3):
        for sock in slow:
            sock.sendall(b"h")
        served_as_ever(server, before)
    slow[0].sendall(b"\r\nContent-Length: 2\r\n\r\nhi")
    assert answer_of(slow[0]).startswith(b"HTTP/1.1 200"), "slow is not forbidden"


def test_large_bodies_that_never_come_hold_no_memory_and_no_worker(server: Deployments, raw: Raw) -> None:
    gateway = role(server, "gateway")
    before, memory = latencies(server), gateway.memory_info().rss
    for _ in range(200):
        raw.open(head(20 * MB) + b"x" * 1000)
    served_as_ever(server, before)
    assert gateway.memory_info().rss - memory < 40 * MB


def test_bodies_in_memory_are_bounded_together(server: Deployments, raw: Raw) -> None:
    """The budget is 256 MB for one gateway: who comes beyond is told 503, who is small is still served."""
    gateway = role(server, "gateway")
    memory = gateway.memory_info().rss
    block = bytes(MB)
    told: list[bytes] = []
    for _ in range(20):
        sock = raw.open(head(20 * MB))
        try:
            for _ in range(19):
                sock.sendall(block)
        except OSError:
            told.append(b"cut")
    for sock in raw.sockets:
        sock.settimeout(0.2)
        if data := answer_of(sock):
            told.append(data)
    assert any(b"503" in data or data == b"cut" for data in told), "the budget has a bound"
    assert gateway.memory_info().rss - memory < 400 * MB
    raw.close()
    until(lambda: server.invoke("identity", b"x" * LARGE, ContentType="text/plain") == b"x" * LARGE)


def test_clients_that_do_not_read_their_answers(server: Deployments, raw: Raw) -> None:
    gateway = role(server, "gateway")
    before, memory = latencies(server), gateway.memory_info().rss
    for _ in range(20):
        sock = raw.open(head(LARGE))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(bytes(LARGE))
    served_as_ever(server, before)
    assert gateway.memory_info().rss - memory < 20 * LARGE * 2 + 40 * MB


def test_half_closed_connections_are_over(server: Deployments, raw: Raw) -> None:
    """As nginx has it: who has closed is gone. Nothing is held for them, whatever they had sent by then."""
    gateway = role(server, "gateway")
    before, descriptors = latencies(server), gateway.num_fds()
    for sent in (b"", b"POST /endp", head(5), head(5) + b"he", head(5) + b"hello", head(LARGE) + bytes(LARGE)):
        for _ in range(20):
            sock = raw.open(sent)
            sock.shutdown(socket.SHUT_WR)
    for sock in raw.sockets:
        sock.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            while sock.recv(1 << 20):
                continue
    served_as_ever(server, before)
    until(lambda: gateway.num_fds() < descriptors + 10, what="their end")


def test_connections_that_vanish_in_the_middle(server: Deployments, raw: Raw) -> None:
    gateway = role(server, "gateway")
    before, descriptors = latencies(server), gateway.num_fds()
    for number in range(300):
        sock = raw.open(head(1000)[: 20 + number % 100] if number % 2 else head(1000) + bytes(number))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        sock.close()  # a reset
    served_as_ever(server, before)
    until(lambda: gateway.num_fds() < descriptors + 20, what="their end")


@pytest.mark.parametrize("path", ["/", "/some-bucket/key"])
def test_slow_bodies_for_control_do_not_hold_up_its_others(server: Deployments, raw: Raw, path: str) -> None:
    control = role(server, "control")
    memory = control.memory_info().rss
    for _ in range(100):
        raw.open(head(10_000, path) + b"x" * 100)
    began = Watch()
    for _ in range(20):
        assert server.status("identity") == "InService"
    assert began.free < 3
    assert control.memory_info().rss - memory < 40 * MB


def test_it_is_still_there_and_has_lost_nothing(server: Deployments) -> None:
    assert psutil.pid_exists(role(server, "gateway").pid)
    assert "ended" not in (server.launched.data_dir / "logs" / "roles" / "keeper.log").read_text()
