from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.link import channel as link
from slipway.link.client import Link
from slipway.link.keeper import KeeperClient, KeeperServer
from slipway.link.start import encode_start, read_start
from tests.deadlines import PATIENCE


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[link.Channel, link.Channel]]:
    """A client's channel and the server's end of it."""
    accepted: asyncio.Queue[link.Channel] = asyncio.Queue()
    server = await link.serve(str(tmp_path / "s"), accepted.put_nowait)
    client = await link.connect(str(tmp_path / "s"))
    yield client, await accepted.get()
    client.close()
    await server.close()


async def test_requests_go_both_ways_and_carry_dataclasses(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair

    async def describe(state: ReplicaState) -> str:
        return f"{state.id} is {state.phase}"

    server.on("describe", describe, ReplicaState)
    client.on("double", lambda n: n * 2, int)
    assert await client.request("describe", ReplicaState("i-1", "arn", "ready"), str) == "i-1 is ready"
    assert await server.request("double", 21, int) == 42


async def test_many_requests_overlap_and_each_gets_its_own_answer(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair
    gate = asyncio.Event()

    async def slow(n: int) -> int:
        if n == 0:
            await gate.wait()
        return n

    server.on("slow", slow, int)
    first = asyncio.create_task(client.request("slow", 0, int))
    assert await asyncio.gather(*(client.request("slow", n, int) for n in range(1, 50))) == list(range(1, 50))
    assert not first.done()
    gate.set()
    assert await first == 0


async def test_errors_keep_their_kind(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair

    def refuse(_: Any) -> None:
        raise link.LinkError("busy", "come back")

    def breaks(_: Any) -> None:
        raise ValueError("odd")

    server.on("refuse", refuse)
    server.on("breaks", breaks)
    for kind, expected in (("refuse", ("busy", "come back")), ("breaks", ("internal", "ValueError: odd"))):
        with pytest.raises(link.LinkError) as caught:
            await client.request(kind, None)
        assert (caught.value.kind, caught.value.message) == expected
    with pytest.raises(link.LinkError, match="unknown-kind"):
        await client.request("nothing", None)
    server.on("typed", lambda n: n, int)
    with pytest.raises(link.LinkError, match="internal"):
        await client.request("typed", "not a number")


async def test_notifications_are_handled_in_order_and_one_at_a_time(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair
    seen: list[int] = []
    done = asyncio.Event()

    async def note(n: int) -> None:
        await asyncio.sleep(0)
        seen.append(n)
        if n == 99:
            done.set()

    server.on("note", note, int)
    for n in range(100):
        await client.notify("note", n)
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert seen == list(range(100))


async def test_a_notification_handler_may_ask_the_same_peer(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def note(n: int) -> None:
        answers.put_nowait(await server.request("double", n, int))

    server.on("note", note, int)
    client.on("double", lambda n: n * 2, int)
    await client.notify("note", 4)
    assert await asyncio.wait_for(answers.get(), PATIENCE) == 8


async def test_closing_fails_what_waits_and_tells_both(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair
    closed: list[str] = []
    client.on_close(lambda: closed.append("client"))

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    server.on("hang", hang)
    waiting = asyncio.create_task(client.request("hang", None))
    await asyncio.sleep(0.01)
    server.close()
    with pytest.raises(link.LinkClosed):
        await waiting
    await client.wait_closed()
    assert closed == ["client"]
    with pytest.raises(link.LinkClosed):
        await client.notify("hang", None)


async def test_a_request_that_times_out_leaves_the_channel_usable(pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    server.on("hang", hang)
    server.on("ping", lambda _: "pong")
    with pytest.raises(TimeoutError):
        await client.request("hang", None, timeout=0.01)
    assert await client.request("ping", None, str) == "pong"


async def test_the_socket_is_ours_alone_and_names_its_peer(tmp_path: Path, pair: tuple[link.Channel, link.Channel]) -> None:
    client, server = pair
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
    assert server.peer == link.Peer(os.getpid(), os.geteuid())
    assert client.peer.pid == os.getpid()


@pytest.mark.parametrize(
    "data", [struct.pack("!I", link.MAX_FRAME + 1), struct.pack("!I", 3) + b"{ha", struct.pack("!I", 2) + b"[]"]
)
async def test_garbage_closes_the_channel_and_not_the_server(
    tmp_path: Path, pair: tuple[link.Channel, link.Channel], data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = pair
    server.on("ping", lambda _: "pong")
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(data)
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    assert await client.request("ping", None, str) == "pong"


async def test_too_large_a_message_is_refused_at_the_sender(
    pair: tuple[link.Channel, link.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    server.on("ping", lambda _: "pong")
    monkeypatch.setattr(link, "MAX_FRAME", 1000)
    with pytest.raises(link.LinkError, match="too-large"):
        await client.request("ping", "x" * 2000)
    assert await client.request("ping", None, str) == "pong"


async def test_a_link_reconnects_and_tells(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    events: asyncio.Queue[str] = asyncio.Queue()

    async def connected(channel: link.Channel) -> None:
        events.put_nowait(f"up {await channel.request('who', None, str)}")

    client = Link(path, on_connect=connected, on_disconnect=lambda: events.put_nowait("down"), backoff=(0.005, 0.01))
    client.start()
    for name in ("first", "second"):
        answer = _answering(name)
        server = await link.serve(path, answer)
        assert await asyncio.wait_for(events.get(), PATIENCE) == f"up {name}"
        assert await client.request("who", None, str, timeout=PATIENCE) == name
        await server.close()
        assert await asyncio.wait_for(events.get(), PATIENCE) == "down"
    with pytest.raises(TimeoutError):
        await client.request("who", None, timeout=0.01)
    await client.close()


def _answering(name: str) -> Callable[[link.Channel], None]:
    return lambda channel: channel.on("who", lambda _: name)


async def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="107 bytes"):
        await link.serve(str(tmp_path / ("x" * 120)), lambda _: None)


class FakeKeeping:
    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[tuple[str, float]] = []
        self.callbacks: list[Callable[[ReplicaState], None]] = []

    async def start(self, spec: ReplicaSpec) -> None:
        self.started.append(spec.id)

    async def stop(self, id: str, grace: float) -> None:
        self.stopped.append((id, grace))

    def list(self) -> list[ReplicaState]:
        return [ReplicaState("i-1", "arn", "ready", workers=("unix:/w0",))]

    async def usage(self) -> tuple[Usage, ...]:
        return ()

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


async def test_keeper_requests_and_reports(tmp_path: Path) -> None:
    keeping = FakeKeeping()
    server = KeeperServer(str(tmp_path / "k"), keeping)
    await server.start()
    states: asyncio.Queue[ReplicaState] = asyncio.Queue()
    known: list[ReplicaState] = []
    ready = asyncio.Event()

    async def relist() -> None:
        known.extend(await client.list())
        ready.set()

    client = KeeperClient(str(tmp_path / "k"), on_state=states.put_nowait, on_connect=relist)
    client.open()
    await asyncio.wait_for(ready.wait(), PATIENCE)
    spec = ReplicaSpec("i-2", "i-2", "arn", "e", "v", "primary", "img", {"A": "b"}, {}, (), "1", "r", "g", "s")
    await client.start(spec)
    await client.stop("i-2", 2.5)
    keeping.callbacks[0](ReplicaState("i-2", "arn", "exited"))
    assert (await asyncio.wait_for(states.get(), PATIENCE)).phase == "exited"
    assert known == keeping.list()
    assert keeping.started == ["i-2"]
    assert keeping.stopped == [("i-2", 2.5)]
    await client.close()
    await server.close()
    assert keeping.callbacks == []


def test_role_start_round_trip() -> None:
    settings = {"data_dir": "/d", "port": 1}
    start = read_start(io.BytesIO(encode_start(settings, 17, 5)))
    assert (start.keeper_pid, start.fd) == (17, 5)
    assert start.settings_as(dict) == settings
    with pytest.raises(msgspec.DecodeError):
        read_start(io.BytesIO(b""))


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_role_dies_with_its_parent() -> None:
    role = "import os,sys,time; from slipway.link.start import die_with_parent; die_with_parent(os.getppid()); "
    role += "print(os.getpid(), flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {role!r}]).wait()"],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    watch = os.pidfd_open(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == b""  # the pipe's last writer is gone: the role died
    os.close(watch)
    parent.stdout.close()


def test_a_role_whose_parent_is_already_gone_leaves() -> None:
    code = "from slipway.link.start import die_with_parent; die_with_parent(1)"
    if os.getpid() == 1:
        pytest.skip("our own process is 1")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "the keeper that started this process is gone" in result.stderr


def test_bind_unix_replaces_a_stale_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    for _ in range(2):
        with link.bind_unix(path) as sock:
            sock.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)


async def test_a_link_outlives_a_handshake_that_breaks(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = await link.serve(path, _answering("me"))
    attempts: list[int] = []

    async def connected(channel: link.Channel) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")

    client = Link(path, on_connect=connected, backoff=(0.001, 0.002))
    client.start()
    assert await client.request("who", None, str, timeout=PATIENCE) == "me"
    assert len(attempts) == 3
    await client.close()
    await server.close()
