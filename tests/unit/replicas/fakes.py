"""A host, an environment and an object service for tests: real processes and sockets, no framework, no control."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from slipway.backing.logs import Logs
from slipway.core.replicas import Artifact, ReplicaSpec
from slipway.replicas.artifacts import Artifacts
from slipway.replicas.cgroups import Cgroups
from slipway.replicas.environments import Environment, Environments, Progress
from slipway.replicas.failures import cannot
from slipway.replicas.images import Runtime, own_interpreter
from slipway.replicas.launch import Tools
from slipway.replicas.requirements import Wanted
from slipway.replicas.sandbox import Sandbox
from slipway.replicas.unpack import Bounds

HOST = """
import json, os, signal, socket, sys, time
config = json.load(open(sys.argv[2]))
run, how = config["run_dir"], os.environ.get("HOW", "")
print("host up", how, flush=True)
if how == "exit": print("last words", file=sys.stderr, flush=True); sys.exit(7)
if how == "signal": os.kill(os.getpid(), signal.SIGSEGV)
if how == "failure":
    told = {"kind": "import-error", "message": "No module named 'x'.", "mend": "add it", "traceback": ["line 1"]}
    os.write(config["report"], b"no JSON\\n" + json.dumps(told).encode() + b"\\n"); sys.exit(1)
if how == "babble":
    try:
        while True: os.write(config["report"], b"x" * 4096)
    except BlockingIOError: sys.exit(1)
if how == "memory":
    held = []
    while True: held.append(bytearray(os.urandom(4096)) * 1024)
if how == "silent": time.sleep(600)
if how == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "fork":
    if os.fork() == 0: time.sleep(600)
if how == "script": exec(os.environ["SCRIPT"])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: (stopped.append(1), sys.exit(0))) if how != "deaf" else None
host = socket.socket(fileno=config["sockets"][0])
while True:
    peer, _ = host.accept()
    if os.path.exists(os.path.join(run, "sulk")): peer.close(); continue
    peer.recv(4096); peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"); peer.close()
"""


class FakeEnvironments(Environments):
    """The interpreter that runs the tests is the only environment."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Wanted | None]] = []
        self.gate: asyncio.Event | None = None

    async def runtime(self, image: str) -> Runtime:
        if image == "unknown":
            raise cannot("unknown-image", "nobody knows it", "use another")
        return Runtime("sklearn", "fake 1.0", (), own_interpreter())

    async def ensure(
        self, image: str, progress: Progress, *, wanted: Wanted | None = None, isolated: bool = False, engine: bool = False
    ) -> Environment:
        self.asked.append((image, wanted))
        if self.gate is not None:
            progress("building")
            await self.gate.wait()
        python = own_interpreter().path
        prefix = os.path.dirname(os.path.dirname(python))
        return Environment(prefix, python, (prefix,), "fake 1.0", "sklearn")

    def hold(self, environment: Environment, replica: str, label: str) -> Callable[[], None]:
        return lambda: None


class ObjectService:
    """Answers GETs on a unix socket with what `objects` holds; counts, cuts, refuses as told."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.requests: list[bytes] = []
        self.cut_after: list[int] = []
        self.statuses: list[int] = []
        self.gate: asyncio.Event | None = None
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            os.unlink(self.path)

    def put(self, key: str, data: bytes, etag: str = "e1") -> Artifact:
        self.objects[f"/bucket/{key}"] = (etag, data)
        return Artifact("/opt/ml/model", f"s3://bucket/{key}", f"/bucket/{key}?X-Amz-Signature=0", f'"{etag}"', len(data))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        if self.gate is not None:
            await self.gate.wait()
        path = head.split(b" ")[1].partition(b"?")[0].decode()
        status = self.statuses.pop(0) if self.statuses else 200 if path in self.objects else 404
        etag, data = self.objects.get(path, ("", b"<Code>NoSuchKey</Code>"))
        if status not in (200, 404):
            data = b"<Code>AccessDenied</Code>"
        if status == 200 and b"range: bytes=" in head.lower():
            data = data[int(head.lower().split(b"range: bytes=")[1].split(b"-")[0]) :]
            status = 206
        extra = f"ETag: {etag}\r\n" if etag else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode())
        writer.write(data[: self.cut_after.pop(0)] if self.cut_after else data)
        try:
            await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()


def archive(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 1)


def make_tools(folder: Path, service: ObjectService, *, sandbox: Sandbox, cgroups: Cgroups, name: str = "") -> Tools:
    host = folder / "host"
    host.mkdir()
    (host / "__main__.py").write_text(HOST)
    (folder / "r").mkdir()
    artifacts = Artifacts(str(folder / "artifacts"), f"unix:{service.path}", "localhost:4566", Bounds(10**9, 1000, 200))
    artifacts.open()
    logs = Logs(str(folder / "logs"))
    return Tools(
        replicas_dir=str(folder / "r"),
        host_package=str(host),
        sandbox=sandbox,
        cgroups=cgroups,
        artifacts=artifacts,
        environments=FakeEnvironments(),
        open_log=lambda spec: logs.writer(spec.account, spec.region, spec.log_group, spec.log_stream),
    )


def make_spec(id: str = "i-1", *artifacts: Artifact, **changes: object) -> ReplicaSpec:
    fields: dict[str, object] = {
        "id": id, "instance": id, "owner": "arn:e", "endpoint": "e", "variant": "v", "container": "primary", "image": "img",
        "environment": {}, "platform": {}, "artifacts": artifacts, "account": "1", "region": "r", "log_group": "/g",
        "log_stream": f"v/{id}", "start_timeout": 30.0,
    }  # fmt: skip
    return ReplicaSpec(**{**fields, **changes})  # type: ignore[arg-type]


def python_prefix() -> str:
    return os.path.realpath(sys.base_prefix)
