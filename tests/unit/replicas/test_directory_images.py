"""Directory images: registered, found, started; and every way in which a server cannot be reached says why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.backing.logs import Logs
from slipway.core.replicas import Failure
from slipway.replicas import containers
from slipway.replicas.directory_images import DirectoryImage, DirectoryImages, describe
from slipway.replicas.environments import Environments
from slipway.replicas.failures import CannotRun
from slipway.replicas.sandbox import Sandbox
from slipway.roles.keeper import _host_package
from tests.deadlines import PATIENCE
from tests.unit.replicas.fakes import make_spec
from tests.unit.replicas.test_supervise import NO_SANDBOX, Node, make_node

SERVER = """#!/usr/bin/env python3
import os, socket, sys, time
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
how = os.environ.get("HOW", "")
print("server", how, flush=True)
if how == "nothing": time.sleep(600)
if how == "ends": sys.exit(0)
if how == "missing": os.execv("/bin/sh", ["sh", "-c", "no-such-program"])
if how == "segfault": os.kill(os.getpid(), 11)
host = "127.0.0.1" if how == "loopback" else "0.0.0.0"
if how == "other": port = port + 1
family = socket.AF_INET6 if how == "v6" else socket.AF_INET
sock = socket.socket(family)
if how == "v6": sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("::" if how == "v6" else host, port))
sock.listen(64)
kept = []
while True:
    peer, _ = sock.accept()
    if how == "silent": kept.append(peer); continue
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        data = peer.recv(65536)
        if not data: break
        head += data
    if how == "garbage": peer.sendall(b"SSH-2.0-hello\\r\\n"); peer.close(); continue
    if head.startswith(b"GET /ping"):
        status = b"404 Not Found" if how == "status" else b"200 OK"
        peer.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\n\\r\\n"); peer.close(); continue
    if head.startswith(b"POST /cut"): peer.close(); continue
    if head.startswith(b"POST /large"):
        peer.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n")
        for _ in range(64): peer.sendall(b"x" * 65536)
        peer.close(); continue
    length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
    body = head.partition(b"\\r\\n\\r\\n")[2]
    while len(body) < length: body += peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n" % len(body) + body)
    peer.close()
"""


@contextlib.asynccontextmanager
async def node_of(folder: Path, sandbox: Sandbox) -> AsyncIterator[Node]:
    """A keeper with our real host, and `own` registered."""
    async with make_node(folder, sandbox) as node:
        node.tools.host_package = _host_package()
        node.tools.environments = Environments(str(folder / "cache"))
        made = folder / "image"
        made.mkdir()
        serve = made / "serve"
        serve.write_text(SERVER)
        for path in (folder, made, serve):
            path.chmod(0o755)
        node.tools.environments.directories.add(describe("own", str(made)))
        yield node


@pytest.fixture
async def boxed(tmp_path: Path) -> AsyncIterator[Node]:
    sandbox = Sandbox.probe(str(tmp_path / "etc"))
    if sandbox.bwrap is None:
        pytest.skip(sandbox.reason)
    async with node_of(tmp_path, sandbox) as node:
        yield node


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_of(tmp_path, NO_SANDBOX) as node:
        yield node


async def ask(node: Node, path: str, body: bytes) -> bytes:
    """One request on the replica's socket, as a gateway sends it; the whole answer."""
    reader, writer = await asyncio.open_unix_connection(f"{node.tools.replicas_dir}/i-1/w0.sock")
    writer.write(f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


async def failure(node: Node, how: str, limit: float = PATIENCE, id: str = "i-1") -> Failure:
    await node.keeper.start(make_spec(id, image="own", environment={"HOW": how}, start_timeout=limit))
    found = (await node.until("exited", id)).failure
    assert found is not None
    return found


async def no_ping(node: Node, how: str, words: str) -> Failure:
    """When its time to start is over: a short one, and longer ones where a busy machine has not even started it by then."""
    for number, limit in enumerate((3.0, 15.0, 60.0)):
        found = await failure(node, how, limit, f"i-{number}")
        if words in found.message:
            break
    return found


async def test_bytes_go_both_ways(boxed: Node) -> None:
    await boxed.keeper.start(make_spec(image="registry.example/team/own:v3"))
    ready = await boxed.until("ready")
    assert (ready.protocol, len(ready.workers), ready.image) == ("http", 1, "directory image own")
    large = os.urandom(3_000_000)
    answers = await asyncio.gather(*(ask(boxed, "/invocations", large) for _ in range(4)))
    assert all(answer.endswith(large) for answer in answers)
    assert len(await ask(boxed, "/large", b"")) > 64 * 65536
    assert await ask(boxed, "/cut", b"") == b""
    mode = os.stat(f"{boxed.tools.replicas_dir}/i-1/w0.sock").st_mode
    assert stat.S_IMODE(mode) & 0o077 == 0
    await boxed.keeper.stop("i-1", 10.0)
    exited = await boxed.until("exited")
    assert exited.failure is None


async def test_without_a_sandbox_it_gets_a_port(plain: Node) -> None:
    await plain.keeper.start(make_spec(image="own"))
    await plain.until("ready")
    assert (await ask(plain, "/invocations", b"hello")).endswith(b"hello")
    assert any("must listen on $SAGEMAKER_BIND_TO_PORT" in line for line in plain.log())
    await plain.keeper.stop("i-1", 10.0)
    assert (await plain.until("exited")).failure is None


@pytest.mark.parametrize(
    ("how", "words", "mend"),
    [
        ("nothing", "listens on no TCP port", "0.0.0.0:8080"),
        ("other", "listens on 0.0.0.0:8081, not on port 8080", "0.0.0.0:8080"),
        ("loopback", "listens on 127.0.0.1:8080 alone", "0.0.0.0:8080"),
        ("v6", "not on IPv4", "0.0.0.0:8080"),
        ("silent", "does not answer GET /ping within 2 s", "/ping at once"),
        ("garbage", "does not answer GET /ping in HTTP/1.1", "HTTP/1.1"),
        ("status", "GET /ping with status 404", "with 200"),
    ],
)
async def test_no_good_ping_says_why(boxed: Node, how: str, words: str, mend: str) -> None:
    found = await no_ping(boxed, how, words)
    assert found.kind == "no-ping"
    assert words in found.message
    assert mend in found.mend
    assert found.log_tail


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("ends", "exited", "ended while it started, with exit code 0"),
        ("missing", "exited", "a program that it starts was not found"),
        ("segfault", "exited", "SIGSEGV"),
    ],
)
async def test_a_server_that_ends_says_why(boxed: Node, how: str, kind: str, words: str) -> None:
    found = await failure(boxed, how)
    assert found.kind == kind
    assert words in found.message


async def test_without_a_sandbox_the_port_is_named(plain: Node) -> None:
    words = "which SAGEMAKER_BIND_TO_PORT names"
    found = await no_ping(plain, "other", words)
    assert words in found.message
    assert "bubblewrap" in found.mend


async def test_a_server_that_dies_takes_its_children_along(boxed: Node) -> None:
    await boxed.keeper.start(make_spec(image="own"))
    ready = await boxed.until("ready")
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    found = (await boxed.until("exited")).failure
    assert found is not None
    assert found.signal == signal.SIGKILL


async def test_isolation_needs_a_sandbox(plain: Node) -> None:
    await plain.keeper.start(make_spec(image="own", isolated=True))
    found = (await plain.until("exited")).failure
    assert found is not None
    assert found.kind == "isolation"


async def test_batches_are_made_by_our_own_host_alone(plain: Node) -> None:
    await plain.keeper.start(make_spec(image="own", environment={"SLIPWAY_MAX_BATCH_SIZE": "8"}))
    found = (await plain.until("exited")).failure
    assert found is not None
    assert "SLIPWAY_MAX_BATCH_SIZE is set, and the container's own server" in found.message
    assert "remove SLIPWAY_MAX_BATCH_SIZE" in found.mend
    spec = make_spec(models="models", environment={"SLIPWAY_MAX_BATCH_SIZE": "8"})
    with pytest.raises(CannotRun, match="the models of a multi-model container take their requests one by one"):
        containers.check(spec)
    containers.check(make_spec(models="models", environment={"SLIPWAY_MAX_BATCH_SIZE": "1"}))


def test_names(tmp_path: Path) -> None:
    """Exactly, by repository and tag, by repository; never what AWS's images are called."""
    images = DirectoryImages(str(tmp_path))
    for name in ("spam", "spam:v2"):
        images.add(DirectoryImage(name, str(tmp_path)))
    found = {
        uri: image.name if (image := images.find(uri)) else None
        for uri in (
            "spam", "spam:v1", "spam:v2", "host/a/spam@sha256:" + "0" * 64, "1.dkr.ecr.eu-west-1.amazonaws.com/spam:v2",
            "eggs", "../spam", "spam/eggs", "",
        )
    }  # fmt: skip
    assert list(found.values()) == ["spam", "spam", "spam:v2", "spam", "spam:v2", None, "spam", None, None]
    assert [image.name for image in images.all()] == ["spam", "spam:v2"]
    assert images.remove("spam")
    assert not images.remove("spam")
    assert images.find("spam:v1") is None
    for name in ("sagemaker-xgboost", "pytorch-inference:2.0", "Spam", "a b", "../x", "", "a:b:c"):
        with pytest.raises(CannotRun):
            describe(name, str(tmp_path))


def test_a_registration_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    images = DirectoryImages(str(tmp_path))
    (tmp_path / "images").mkdir()
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"name": "c"}')):
        (tmp_path / "images" / f"{name}.json").write_text(text)
        assert images.get(name) is None
    assert images.all() == []


def test_what_a_registration_keeps(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM x\nENV PATH="/opt/program:${PATH}" A=$PATH\nWORKDIR /usr/src/app\n')
    image = describe("own", str(tmp_path))
    assert image.working_dir == "/opt/program"
    assert "/usr/src/app cannot be" in image.notes[0]
    image = replace(image, interpreter="/usr/bin/python3", python=(3, 11), requirements=("flask",))
    images = DirectoryImages(str(tmp_path / "cache"))
    images.add(image)
    assert images.get("own") == image
    path = image.variables("/env", "/opt/program")["PATH"].split(":")
    assert path[:3] == ["/opt/program", "/env/bin", "/opt/program"]


def test_a_dockerfile_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ENTRYPOINT [oops]\n")
    with pytest.raises(CannotRun, match="double quotes"):
        describe("own", str(tmp_path))
    with pytest.raises(CannotRun, match="cannot be read"):
        describe("own", str(tmp_path), dockerfile=str(tmp_path / "other"))
    (tmp_path / "Dockerfile").write_text("ENTRYPOINT python serve.py\n")
    image = describe("own", str(tmp_path))
    assert image.command == ("/bin/sh", "-c", "python serve.py")
    assert "neither the argument" in image.notes[0]
    with pytest.raises(CannotRun, match="is no folder"):
        describe("own", str(tmp_path / "none"))


async def test_the_log_of_a_replica_tells_where_it_listens(boxed: Node) -> None:
    """Long before the time to start is over."""
    await boxed.keeper.start(make_spec(image="own", environment={"HOW": "other"}, start_timeout=60.0))
    await boxed.until("starting")
    logs = Logs(str(boxed.folder / "logs"))
    async with asyncio.timeout(PATIENCE):
        while True:
            page = logs.get("1", "r", "/g", "v/i-1", limit=100, from_head=True)
            if any("no good answer to GET /ping yet" in event.message and "8081" in event.message for event in page.events):
                return
            await asyncio.sleep(0.1)
