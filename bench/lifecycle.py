"""Starting: `slipway up` to its first answer, control again after a kill, an endpoint to InService, the first answer of a plain
start; idle memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from bench import contenders, report
from bench.load import Server, descendants, free_port, post, pss_mb
from bench.serving import ROW, SCIKIT_LEARN, Deployment, archive, image_python, train
from slipway.cli import launch

JSON = {"Content-Type": "application/json"}
WHO_AM_I = b"Action=GetCallerIdentity&Version=2011-06-15"


def run(arguments: argparse.Namespace) -> None:
    python = image_python()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        model = train(python, folder)
        _start_up(arguments.rounds, folder)
        launched = launch.start(folder / "data", ["--auth", "none"])
        stack.callback(launch.stop, launched)
        deployment = Deployment(launched)
        _memory(deployment)
        _restart(arguments.rounds, deployment)
        _plain_start(arguments.rounds, deployment, python, model)


def _start_up(rounds: int, folder: Path) -> None:
    """Process start, imports and store included; with bytecode in place, as an installed slipway has it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    launch.stop(launch.start(folder / "bytecode", ["--auth", "none"]))
    fresh: list[float] = []
    again: list[float] = []
    for number in range(rounds):
        for times in (fresh, again):
            begun = time.perf_counter()
            launched = launch.start(folder / f"up-{number}", ["--auth", "none"])
            post(f"{launched.endpoint_url}/", WHO_AM_I, {})
            times.append(time.perf_counter() - begun)
            launch.stop(launched)
    for what, times in (("new folder", fresh), ("again", again)):
        report.verdict(f"`slipway up` to first answer, {what}", statistics.median(times), 1.5, 0.7, unit="s", at_most=True)
        print(f"    {min(times):.2f} to {max(times):.2f} s")


def _memory(deployment: Deployment) -> None:
    pid = deployment.launched.process.pid
    pids = descendants(pid)
    for each in pids:
        command = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        print(f"    {pss_mb([each]):6.1f} MB  {command[:100]}")
    report.verdict("idle memory (PSS), all of slipway", pss_mb(pids), 220, 170, unit="MB", at_most=True)
    gateway = [p for p in pids if b"gateway" in Path(f"/proc/{p}/cmdline").read_bytes()]
    report.verdict("idle memory (PSS), gateway", pss_mb(gateway), 45, 45, unit="MB", at_most=True)


def _restart(rounds: int, deployment: Deployment) -> None:
    """SIGKILL to control, until a call is answered again."""
    times: list[float] = []
    for _ in range(rounds):
        deployment.sagemaker.list_endpoints()
        control = _role(deployment, b"slipway.roles.control")
        begun = time.perf_counter()
        os.kill(control, signal.SIGKILL)
        while _role(deployment, b"slipway.roles.control") in (control, 0):
            time.sleep(0.002)
        while True:
            with contextlib.suppress(OSError):
                post(f"{deployment.launched.endpoint_url}/", WHO_AM_I, {})
                break
            time.sleep(0.01)
        times.append(time.perf_counter() - begun)
    report.verdict("control killed, to its next answer", statistics.median(times), 1.5, 0.7, unit="s", at_most=True)


def _role(deployment: Deployment, module: bytes) -> int:
    """Its process, 0 if there is none."""
    for pid in descendants(deployment.launched.process.pid):
        with contextlib.suppress(OSError):
            if module in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


def _plain_start(rounds: int, deployment: Deployment, python: str, model: Path) -> None:
    """A bare Python process that imports, loads and answers, against one endpoint from CreateEndpoint to its first answer."""
    ours: list[float] = []
    in_service: list[float] = []
    bare: list[float] = []
    data = archive(SCIKIT_LEARN, model)
    for number in range(rounds):
        name = f"start-{number}"
        begun = time.perf_counter()
        in_service.append(deployment.deploy(name, data))
        created = time.perf_counter() - in_service[-1]
        post(deployment.url(name), ROW, JSON)
        ours.append(time.perf_counter() - max(begun, created))
        port = free_port()
        server = Server("bare-start", [python, "-c", BARE_START, str(model), str(port)], env=contenders.ONE_THREAD)
        bare.append(server.ready(f"http://127.0.0.1:{port}/invocations", ROW, JSON))
        server.stop()
        deployment.sagemaker.delete_endpoint(EndpointName=name)
    report.verdict("CreateEndpoint to InService, scikit-learn", statistics.median(in_service), 4.0, 2.0, unit="s", at_most=True)
    print(f"    first answer: slipway {statistics.median(ours):.2f} s, a bare process {statistics.median(bare):.2f} s")
    ratio = statistics.median(ours) / statistics.median(bare)
    report.verdict("first answer of a plain start, against a bare process", ratio, 1.3, 1.1, at_most=True)


BARE_START = """
import http.server, json, sys
import joblib, numpy as np
model = joblib.load(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(model.predict(np.array(rows, dtype=np.float32)).tolist()).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
