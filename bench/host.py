"""slipway_host called directly: the same model server that the gateway has behind it, listening on TCP for wrk."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import slipway_host
from bench.contenders import ONE_THREAD
from bench.load import Absent, Sample, Server, cpu_seconds
from slipway_host import frames

IN_FLIGHT = 8


def start(folder: Path, name: str, python: str, script: str, model: Path | None) -> tuple[Server, str]:
    """One worker with `script` as inference.py and scikit-learn's defaults; the server and its URL."""
    place = folder / f"host-{name}"
    (place / "model" / "code").mkdir(parents=True)
    (place / "model" / "code" / "inference.py").write_text(script)
    if model is not None:
        (place / "model" / "model.joblib").write_bytes(model.read_bytes())
    variables = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"{place}/model/code"}
    server, (url,) = serve(place, python, "sklearn", place / "model", {**ONE_THREAD, **variables})
    return server, url


def serve(
    place: Path,
    python: str,
    flavour: str,
    model_dir: Path,
    environment: Mapping[str, str],
    workers: int = 1,
    unix: bool = False,
) -> tuple[Server, list[str]]:
    """A host in the folder `place`; the server, and a URL for each worker. `unix`: the path of its socket, as for a gateway."""
    place.mkdir(exist_ok=True)
    ping = socket.socket(socket.AF_UNIX)
    ping.bind(str(place / "host.sock"))
    ping.listen()
    doors = [
        _unix(place / f"w{n}.sock") if unix else socket.create_server(("127.0.0.1", 0), backlog=1024) for n in range(workers)
    ]
    values = {
        "flavour": flavour,
        "model_dir": str(model_dir),
        "code_dir": None,
        "run_dir": str(place),
        "workers": workers,
        "sockets": [ping.fileno(), *(door.fileno() for door in doors)],
    }
    config = place / "config.json"
    config.write_text(json.dumps(values))
    urls = [door.getsockname() if unix else f"http://127.0.0.1:{door.getsockname()[1]}/invocations" for door in doors]
    command = [python, f"{Path(slipway_host.__file__).parent}/__main__.py", "--config", str(config)]
    passed = [ping.fileno(), *(door.fileno() for door in doors)]
    server = Server(f"host-{place.name}", command, env={**os.environ, **environment}, pass_fds=passed)
    for sock in (ping, *doors):
        sock.close()
    return server, urls


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1024)
    return sock


def by_frames(path: str, body: bytes, content_type: str, seconds: float, pids: Callable[[], list[int]]) -> Sample:
    """Requests over frames as a gateway sends them, IN_FLIGHT at a time on one connection."""
    request = frames.pack(
        frames.REQUEST, 1, timeout=60_000, head=frames.pack_head([(b"content-type", content_type.encode())]), body=body
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(frames.hello(frames.VERSION))
        answers = _Answers(sock)
        answers.take(1)
        count = errors = 0
        before, begun = cpu_seconds(pids()), time.perf_counter()
        sock.sendall(request * IN_FLIGHT)
        while time.perf_counter() - begun < seconds:
            bad, got = answers.take_some()
            count, errors = count + got, errors + bad
            sock.sendall(request * got)
        took = time.perf_counter() - begun
        spent = cpu_seconds(pids()) - before
        answers.take(IN_FLIGHT)
    return Sample(count / took, 0.0, 0.0, spent / max(1, count) * 1e6, errors)


class _Answers:
    """Whole frames as they come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""

    def take_some(self) -> tuple[int, int]:
        """(answers other than 200, answers) of one look at the socket; at least one."""
        bad = count = 0
        while not count:
            data = self._sock.recv(1 << 18)
            if not data:
                raise Absent("the host closed the connection")
            self._buffer += data
            at = 0
            while len(self._buffer) - at >= frames.HEADER_SIZE:
                length, _kind, _flags, _head, status, _, _ident = frames.HEADER.unpack_from(self._buffer, at)
                if len(self._buffer) - at < frames.HEADER_SIZE + length:
                    break
                at += frames.HEADER_SIZE + length
                count += 1
                bad += status != 200
            self._buffer = self._buffer[at:]
        return bad, count

    def take(self, count: int) -> None:
        while count > 0:
            count -= self.take_some()[1]
