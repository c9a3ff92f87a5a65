"""The host of many models: the contract's server, processes that come and go, connections that are handed over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.slipway_host.running import ENTRY, Reply, alive, ask, children_of, eventually

SCRIPT = """
import os, time
def model_fn(model_dir):
    name = open(os.path.join(model_dir, "name")).read()
    if name == "bad": raise ValueError("no such luck")
    if name == "dead": os._exit(3)
    if name == "huge": return name, bytearray(1 << 40)
    if name == "slow": time.sleep(30)
    return name
def transform_fn(model, data, content_type, accept):
    if data == "hang": time.sleep(60)
    if data == "die": os._exit(4)
    return model + ":" + data, "text/plain"
"""


class Host:
    def __init__(self, folder: Path) -> None:
        self.clients: list[Framed] = []
        self.run = folder / "run"
        self.models = folder / "models"
        self.run.mkdir()
        for name in ("a", "b", "bad", "dead", "huge", "slow"):
            code = self.models / name / "model" / "code"
            code.mkdir(parents=True)
            (code / "inference.py").write_text(SCRIPT)
            (code.parent / "name").write_text(name)
        sockets = [_listen(self.run / name) for name in ("host.sock", "w0.sock")]
        config = {
            "flavour": "sklearn", "run_dir": str(self.run), "multi_model": True, "models_dir": str(self.models), "workers": 1,
            "invoke_seconds": 1.0, "grace_seconds": 0.2, "sockets": [each.fileno() for each in sockets],
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ENTRY), "--config", str(folder / "config.json")],
                pass_fds=[each.fileno() for each in sockets], stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        for each in sockets:
            each.close()

    def ask(self, method: str, target: str, body: Any = None) -> Reply:
        return ask(str(self.run / "host.sock"), method, target, body)

    def load(self, name: str) -> Reply:
        return self.ask("POST", "/models", json.dumps({"model_name": name, "url": str(self.models / name / "model")}))

    def listed(self) -> list[str]:
        return [row["modelName"] for row in json.loads(self.ask("GET", "/models").body)["models"]]

    def stop(self) -> None:
        for client in self.clients:
            client.sock.close()
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(64)
    return sock


class Framed:
    def __init__(self, host: Host, model: str) -> None:
        host.clients.append(self)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(host.run / "w0.sock"))
        self.sock.sendall(frames.hello(model=model))
        self.buffer = b""

    def send(self, ident: int, body: bytes) -> None:
        self.sock.sendall(frames.pack(frames.REQUEST, ident, body=body))

    def frame(self) -> tuple[int, int, bytes]:
        while True:
            if len(self.buffer) >= frames.HEADER_SIZE:
                length, kind, _, head, _, _, ident = frames.HEADER.unpack_from(self.buffer)
                end = frames.HEADER_SIZE + length
                if len(self.buffer) >= end:
                    content, self.buffer = self.buffer[frames.HEADER_SIZE : end], self.buffer[end:]
                    return kind, ident, content[head:]
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError
            self.buffer += data


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.stop()


def test_the_contract(host: Host) -> None:
    assert host.ask("GET", "/ping").status == 200
    assert host.listed() == []
    assert host.load("b").status == 200
    assert json.loads(host.load("a").body)["bytes"] > 0
    assert host.load("a").status == 409
    first = json.loads(host.ask("GET", "/models?limit=1").body)
    assert [row["modelName"] for row in first["models"]] == ["a"]
    second = json.loads(host.ask("GET", f"/models?limit=1&next_page_token={first['nextPageToken']}").body)
    assert [row["modelName"] for row in second["models"]] == ["b"]
    assert "nextPageToken" not in second
    assert json.loads(host.ask("GET", "/models/a").body)["modelUrl"] == str(host.models / "a" / "model")
    answer = host.ask("POST", "/models/a/invoke", b"x")
    assert (answer.status, answer.body) == (200, b"a:x")
    assert host.ask("DELETE", "/models/a").status == 200
    for method, target in (("GET", "/models/a"), ("DELETE", "/models/a"), ("POST", "/models/a/invoke")):
        assert host.ask(method, target, b"").status == 404
    assert host.listed() == ["b"]
    assert json.loads(host.ask("GET", "/models/b").body)["uses"] == 0
    assert host.ask("PUT", "/models").status == 405
    assert host.ask("GET", "/elsewhere").status == 404


@pytest.mark.parametrize(
    ("name", "status", "words"), [("bad", 500, "no such luck"), ("dead", 500, "status 3"), ("huge", 507, "memory")]
)
def test_a_model_that_does_not_load_says_why_and_leaves_nothing(host: Host, name: str, status: int, words: str) -> None:
    assert host.load("b").status == 200
    found = host.load(name)
    assert found.status == status
    told = json.loads(found.body)
    assert words in told["message"].lower()
    assert told.get("alone", False) is (status == 507)
    assert host.ask("POST", "/models/b/invoke", b"y").body == b"b:y"
    assert eventually(lambda: len(children_of(host.process.pid)) == 1)
    assert host.load(name).status == status


def test_bad_orders_are_refused(host: Host) -> None:
    assert host.ask("POST", "/models", b"no json").status == 400
    assert host.ask("POST", "/models", json.dumps({"model_name": "../x", "url": "/"})).status == 400
    assert host.ask("POST", "/models", json.dumps({"model_name": "x", "url": "/etc"})).status == 400
    assert host.ask("POST", "/models", json.dumps({"model_name": "x", "url": f"{host.models}/../run"})).status == 400


def test_frames_reach_the_named_model_and_hear_good_bye(host: Host) -> None:
    host.load("a")
    client = Framed(host, "a")
    client.send(7, b"x")
    assert client.frame()[0] == frames.HELLO
    assert client.frame() == (frames.RESPONSE, 7, b"a:x")
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(host.run / "host.sock"))
    waiting.sendall(b"DELETE /models/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.frame()[0] == frames.BYE
    client.send(8, b"late")
    assert client.frame()[:2] == (frames.BUSY, 8)
    client.sock.close()
    assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    waiting.close()
    unknown = Framed(host, "a")
    assert unknown.frame()[0] == frames.HELLO
    assert unknown.frame()[0] == frames.BYE


def test_a_model_that_dies_or_hangs_goes_alone(host: Host) -> None:
    host.load("a")
    host.load("b")
    for words in (b"die", b"hang"):
        host.load("a")
        client = Framed(host, "a")
        client.send(1, words)
        assert client.frame()[0] == frames.HELLO
        with pytest.raises(ConnectionError):
            client.frame()
        assert host.ask("POST", "/models/b/invoke", b"y").body == b"b:y"
        assert eventually(lambda: host.listed() == ["b"])


def test_a_load_can_be_given_up_and_nothing_outlives_the_host(host: Host) -> None:
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(host.run / "host.sock"))
    body = json.dumps({"model_name": "slow", "url": str(host.models / "slow" / "model")}).encode()
    waiting.sendall(b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    (child,) = eventually(lambda: children_of(host.process.pid))
    assert host.ask("DELETE", "/models/slow").status == 200
    assert b"500" in waiting.recv(100)
    waiting.close()
    assert not alive(child)
    host.load("a")
    (child,) = children_of(host.process.pid)
    os.kill(host.process.pid, signal.SIGTERM)
    assert host.process.wait(PATIENCE) == 0
    assert not alive(child)
