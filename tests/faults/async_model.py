"""A model whose every execution is heard of: it says to a listener of the test when it begins and ends a request.

What a worker has sent reaches the listener although the worker is killed right after, and its death closes the connection: so
the test knows of each execution, and which ones a kill has hit.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.deployments import script

_SCRIPT = """
import hashlib, json, os, signal, socket, time

line = None

def tell(word, name):
    global line
    if line is None:
        line = socket.create_connection(("127.0.0.1", {port}))
    line.sendall((word + " " + name + "\\n").encode())

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    data = data if isinstance(data, bytes) else data.encode()
    asked = json.loads(data)
    tell("begin", asked["id"])
    ill = asked.get("ill") if {ill} else None
    if ill == "exits":
        os._exit(3)
    if ill == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    if ill == "hangs":
        time.sleep(600)
    if ill == "eats":
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20) * 16))
    if ill == "raises":
        raise RuntimeError("poisoned by " + asked["id"])
    time.sleep(asked["work"])
    answer = hashlib.shake_128(data).digest(asked["size"])
    tell("end", asked["id"])
    return answer, "application/octet-stream"
"""


def model(port: int, *, ill: bool = True) -> bytes:
    """The archive; its executions are told to this port. `ill`: inputs that name an illness have it."""
    return script(_SCRIPT.format(port=port, ill=ill))


def asked(name: str, size: int, work: float, **more: Any) -> bytes:
    """An input: who it is, how long an answer it wants and how long that takes."""
    return json.dumps({"id": name, "size": size, "work": work, **more}).encode()


def answer(body: bytes) -> bytes:
    """What the model answers to that input."""
    size: int = json.loads(body)["size"]
    return hashlib.shake_128(body).digest(size)


@dataclass(slots=True)
class Execution:
    worker: int
    began: float
    """Monotonic, as heard."""
    ended: float | None = None


class Executions:
    """The listener. `close` it."""

    def __init__(self) -> None:
        self.of: dict[str, list[Execution]] = {}
        """By the input's id."""
        self.died: dict[int, float] = {}
        """Workers whose connection has closed, and when."""
        self._workers = 0
        self._lock = threading.Lock()
        listener = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                listener._listen(self.rfile)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _listen(self, lines: Any) -> None:
        with self._lock:
            self._workers += 1
            worker = self._workers
        try:
            for line in lines:
                word, _, name = line.decode().strip().partition(" ")
                with self._lock:
                    self._heard(worker, word, name)
        except ConnectionError:
            pass
        with self._lock:
            self.died[worker] = time.monotonic()

    def _heard(self, worker: int, word: str, name: str) -> None:
        runs = self.of.setdefault(name, [])
        if word == "begin":
            runs.append(Execution(worker, time.monotonic()))
            return
        for run in runs:
            if run.worker == worker and run.ended is None:
                run.ended = time.monotonic()

    def count(self, name: str) -> int:
        return len(self.of.get(name, ()))

    def unfinished(self) -> list[str]:
        """Executions that go on: begun, neither ended nor died with their worker."""
        with self._lock:
            return [name for name, runs in self.of.items() for run in runs if run.ended is None and run.worker not in self.died]
