"""What a host adds: CPU beside `predict_fn` in a loop, memory of four workers against one, a connector's share."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import slipway_host
from bench import host, report
from bench.frameworks_cases import Case
from bench.load import Sample, Server, Target, free_port, measure, median, post, pss_mb

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PACKAGE = str(Path(slipway_host.__file__).parents[1])
LOOP = """
import json, os, sys, time
sys.path.append(sys.argv[1])
from slipway_host import flavours
from slipway_host.contract import Place
flavour, model_dir, content_type, seconds = sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])
body = sys.stdin.buffer.read()
service = flavours.load(flavour, Place(model_dir, None, os.environ))
call = service.prepare([(b"Content-Type", content_type.encode())])
data = service._input(body.decode(), content_type)

def cost(function):
    for _ in range(50):
        function()
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        for _ in range(20):
            function()
        count += 20
    return [(time.process_time() - cpu) / count * 1e6, count / (time.perf_counter() - wall)]

print(json.dumps([cost(lambda: service._predict(data, service._model)), cost(lambda: service.invoke(call, body))]))
"""
FOREIGN = """
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 2\\r\\n\\r\\nok"

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER * data.count(b"HTTP/1.1\\r\\n"))

async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
CONNECT = """
import selectors, socket, sys
sys.path.append(sys.argv[1])
from slipway_host.connector import Connector
selector = selectors.DefaultSelector()
Connector(selector, socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=1024), int(sys.argv[3]))
while True:
    for key, events in selector.select():
        key.data(events)
"""


def overhead(case: Case, python: str, model: Path, folder: Path, rounds: int, seconds: float) -> None:
    """Interleaved: the loop, then the host, each alone on the machine."""
    place = folder / f"one-{case.flavour}"
    server, (path,) = host.serve(place, python, case.flavour, model, {**ONE_THREAD, **case.environment}, unix=True)
    try:
        host.by_frames(path, case.body, case.content_type, 0.5, server.pids)  # waits until the model is loaded
        loops, samples = [], []
        for _ in range(rounds):
            loops.append(_loop(case, python, model, seconds))
            samples.append(host.by_frames(path, case.body, case.content_type, seconds, server.pids))
    finally:
        server.stop()
    predict, whole = (statistics.median(loop[part][0] for loop in loops) for part in (0, 1))
    rate, ours = statistics.median(loop[0][1] for loop in loops), median(samples)
    print(
        f"    {case.name}: predict_fn in a loop {predict:.0f} CPU-us ({rate:.0f}/s), with input_fn and output_fn {whole:.0f};"
    )
    share = f"of which predict_fn is {predict / ours.cpu:.0%}"
    print(f"    a request to the host {ours.cpu:.0f} CPU-us ({ours.rate:.0f}/s), {share}; errors {ours.errors}")
    report.verdict(
        f"{case.name}: what the host adds to the script's functions", ours.cpu - whole, 40, 25, unit="us", at_most=True
    )


def _loop(case: Case, python: str, model: Path, seconds: float) -> list[list[float]]:
    """[CPU-microseconds, calls per second] of predict_fn, and of all functions."""
    command = [python, "-W", "ignore", "-c", LOOP, PACKAGE, case.flavour, str(model), case.content_type, str(seconds / 2)]
    environment = {**os.environ, **ONE_THREAD, **case.environment}
    told = subprocess.run(command, input=case.body, capture_output=True, env=environment, check=True)
    found: list[list[float]] = json.loads(told.stdout.splitlines()[-1])
    return found


def memory(case: Case, python: str, model: Path, folder: Path) -> None:
    """PSS of all of a host's processes, each worker having answered 50 requests."""
    used = {}
    for workers in (1, 4):
        place = folder / f"memory-{case.flavour}-{workers}"
        server, urls = host.serve(place, python, case.flavour, model, case.environment, workers)
        try:
            for url in urls:
                server.ready(url, case.body, {"Content-Type": case.content_type})
                for _ in range(50):
                    post(url, case.body, {"Content-Type": case.content_type})
            used[workers] = pss_mb(server.pids())
        finally:
            server.stop()
    print(f"    {case.name}: one worker {used[1]:.0f} MB, four {used[4]:.0f} MB")
    report.verdict(f"{case.name}: memory of 4 workers against 1", used[4] / used[1], 2.0, 1.3, at_most=True)


def connector(rounds: int, seconds: float) -> None:
    """A bare server on TCP called directly, and through the connector that leads into a directory image's own network."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        inner, outer = free_port(), free_port()
        servers = [Server("foreign", [sys.executable, "-c", FOREIGN, str(inner)], cwd=Path(folder))]
        try:
            direct = f"http://127.0.0.1:{inner}/invocations"
            servers[0].ready(direct, b"1", {})
            servers.append(Server("connector", [sys.executable, "-c", CONNECT, PACKAGE, str(outer), str(inner)]))
            through = f"http://127.0.0.1:{outer}/invocations"
            servers[1].ready(through, b"1", {})
            kilobyte = b"x" * 1024
            for connections in (1, 16):
                samples: dict[str, list[Sample]] = {"direct": [], "through the connector": []}
                for _ in range(rounds):
                    samples["direct"].append(measure(Target(direct, {}, servers[1].pids, kilobyte), connections, seconds))
                    target = Target(through, {}, servers[1].pids, kilobyte)
                    samples["through the connector"].append(measure(target, connections, seconds))
                found = {name: median(rows) for name, rows in samples.items()}
                report.samples(f"1 KB, {connections} connections (CPU: the connector's)", found, "direct")
                added = found["through the connector"].p50 - found["direct"].p50
                if connections == 1:
                    report.verdict("the connector's share of p50, one connection", added, 150, 80, unit="us", at_most=True)
        finally:
            for server in servers:
                server.stop()
