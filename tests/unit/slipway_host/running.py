"""A real host in a folder of its own: started, asked over HTTP and frames, stopped."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slipway_host import frames
from tests.deadlines import PATIENCE

ENTRY = Path(frames.__file__).with_name("__main__.py")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = PATIENCE) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: str, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = PATIENCE
) -> Reply:
    connection = _UnixConnection(path, timeout)
    try:
        with contextlib.suppress(BrokenPipeError):  # refused by its head: the answer is here, the body is not wanted
            connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


class FrameClient:
    """One connection that speaks frames, blocking."""

    def __init__(self, path: str, version: int = frames.VERSION) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.sock.sendall(frames.hello(version))
        self.buffer = b""
        self.worker_version = frames.hello_version(self.frame()[3])

    def send(
        self, ident: int, body: bytes, headers: Mapping[str, str] | None = None, timeout: int = 60_000, flags: int = 0
    ) -> None:
        head = frames.pack_head([(k.encode(), v.encode()) for k, v in (headers or {}).items()])
        self.sock.sendall(frames.pack(frames.REQUEST, ident, timeout=timeout, head=head, body=body, flags=flags))

    def frame(self) -> tuple[int, int, Any, bytes]:
        """(kind, id, (status, head, flags), body). Raises ConnectionError at the end."""
        while True:
            if len(self.buffer) >= frames.HEADER_SIZE:
                length, kind, flags, head_length, status, _, ident = frames.HEADER.unpack_from(self.buffer)
                end = frames.HEADER_SIZE + length
                if len(self.buffer) >= end:
                    content, self.buffer = self.buffer[frames.HEADER_SIZE : end], self.buffer[end:]
                    head = dict(frames.unpack_head(content[:head_length]))
                    return kind, ident, (status, head, flags), content[head_length:]
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the worker closed the connection")
            self.buffer += data

    def taken(self) -> None:
        """Wait until the worker has read all that was sent."""
        eventually(lambda: fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)) == bytes(4))

    def close(self) -> None:
        self.sock.close()


class Host:
    """`start` returns when it is ready, or raises; `fails` waits for the failure it is meant to have."""

    def __init__(self, folder: Path, python: str | None = None) -> None:
        """`python`: the interpreter; SLIPWAY_TEST_HOST_PYTHON runs the tests with another one (3.9 or newer)."""
        self.folder = folder
        self.python = python or os.environ.get("SLIPWAY_TEST_HOST_PYTHON", sys.executable)
        self.model = folder / "model"
        self.run = folder / "run"
        self.log = folder / "log"
        (self.model / "code").mkdir(parents=True)
        self.run.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[FrameClient] = []
        self.patience = 0.0
        """Time (monotonic) until which `start` goes on waiting: a large framework's import takes a while."""
        self.config: dict[str, Any] = {
            "flavour": "sklearn",
            "model_dir": str(self.model),
            "code_dir": None,
            "run_dir": str(self.run),
            "workers": 1,
            "cpus": 2,
            "invoke_seconds": 60,
            "response_bytes": 64 * 1024 * 1024,
        }

    def script(self, text: str, name: str = "inference.py") -> None:
        (self.model / "code" / name).write_text(text)

    def launch(self, environment: Mapping[str, str] | None = None, **config: Any) -> None:
        self.patience = max(self.patience, time.monotonic() + PATIENCE)
        path = self.folder / "config.json"
        path.write_text(json.dumps({**self.config, **config}))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "SM_", "PYTHON", "OMP_"))}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.python, str(ENTRY), "--config", str(path)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**clean, **(environment or {})},
            )

    def start(self, environment: Mapping[str, str] | None = None, **config: Any) -> Host:
        self.launch(environment, **config)
        reply = self.ping(30)
        while reply.status == 503 and time.monotonic() < self.patience:
            reply = self.ping(30)
        assert reply.status == 200, self.output()
        return self

    def ping(self, wait: float = 0.0) -> Reply:
        path = self.run / "host.sock"
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return ask(str(path), "GET", f"/ping?wait={wait}" if wait else "/ping", timeout=PATIENCE)
            except (FileNotFoundError, ConnectionError, http.client.HTTPException):
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(self.output()) from None
                time.sleep(0.01)

    def fails(self, environment: Mapping[str, str] | None = None, **config: Any) -> dict[str, Any]:
        self.launch(environment, **config)
        assert self.process is not None
        assert self.process.wait(max(60.0, self.patience - time.monotonic())) == 1, self.output()
        report: dict[str, Any] = json.loads((self.run / "failure.json").read_text())
        return report

    def worker(self, index: int = 0) -> str:
        return str(self.run / f"w{index}.sock")

    def frames(self, index: int = 0, version: int = frames.VERSION) -> FrameClient:
        client = FrameClient(self.worker(index), version)
        self.clients.append(client)
        return client

    def invoke(self, body: Any = b"", content_type: str = "", accept: str = "", index: int = 0, **headers: str) -> Reply:
        if content_type:
            headers["Content-Type"] = content_type
        if accept:
            headers["Accept"] = accept
        return ask(self.worker(index), "POST", "/invocations", body, headers)

    def children(self) -> list[int]:
        assert self.process is not None
        return children_of(self.process.pid)

    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        for client in self.clients:
            client.close()
        process = self.process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Any, seconds: float = PATIENCE) -> Any:
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
