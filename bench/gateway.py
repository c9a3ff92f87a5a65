"""InvokeEndpoint through the gateway, against nginx and Envoy in its place and against direct calls."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import contenders, report
from bench.load import Absent, Sample, Server, Target, descendants, free_port, interleaved
from bench.serving import IDENTITY, Deployment, archive, image_python
from slipway.cli.launch import temporary

JSON = {"Content-Type": "application/json"}


def run(arguments: argparse.Namespace) -> None:
    image_python()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        folder.chmod(0o755)
        open_one = Deployment(stack.enter_context(temporary(["--auth", "none"])))
        signed_one = Deployment(stack.enter_context(temporary()))
        for deployment in (open_one, signed_one):
            deployment.deploy("identity", archive(IDENTITY, None))
        socket_path, port = folder / "bare.sock", free_port()
        server = contenders.bare(folder, unix=socket_path, port=port)
        stack.callback(server.stop)
        direct = f"http://127.0.0.1:{port}/invocations"
        server.ready(direct, b"x", JSON)
        fronts: dict[str, tuple[str, Server]] = {}
        for name, start in contenders.PROXIES.items():
            try:
                running = start(folder, socket_path)
                stack.callback(running.server.stop)
                running.server.ready(running.url, b"x", JSON)
                fronts[name] = (running.url, running.server)
            except Absent as error:
                print(f"  {name}: absent ({error})")
        for size, connections in ((1024, (1, 16, 64)), (100 * 1024, (16,))):
            body = json.dumps("x" * (size - 2)).encode()
            targets = {"direct (bare server)": Target(direct, JSON, server.pids, body)}
            for name, (url, front) in fronts.items():
                targets[name] = Target(url, JSON, _both(front, server), body)
            targets["slipway"] = _target(open_one, body, signed=False)
            targets["slipway, SigV4"] = _target(signed_one, body, signed=True)
            for count, rows in interleaved(targets, connections, arguments.rounds, arguments.seconds).items():
                report.samples(f"identity, {size // 1024} KB, {count} connections, one worker", rows, "direct (bare server)")
                _judge(rows, size, count)


def _both(front: Server, behind: Server) -> Callable[[], list[int]]:
    return lambda: front.pids() + behind.pids()


def _target(deployment: Deployment, body: bytes, *, signed: bool) -> Target:
    headers = deployment.signed_headers("identity", body, "application/json") if signed else JSON
    pid = deployment.launched.process.pid
    return Target(deployment.url("identity"), headers, lambda: descendants(pid), body)


def _judge(rows: dict[str, Sample], size: int, connections: int) -> None:
    ours = rows["slipway"]
    direct = rows["direct (bare server)"]
    if connections == 1:
        print(f"  added p50: slipway {ours.p50 - direct.p50:+.0f} us", end="")
        print("".join(f", {name} {rows[name].p50 - direct.p50:+.0f} us" for name in ("nginx", "envoy") if name in rows))
    elif size == 1024:
        if "nginx" in rows:
            report.verdict("against nginx", ours.rate / rows["nginx"].rate, 0.6, 1.0)
        if "envoy" in rows:
            report.verdict("against Envoy", ours.rate / rows["envoy"].rate, 1.5, 2.5)
    print()
