"""InvokeEndpoint through the gateway: against the same host called directly, nginx and Envoy in the gateway's place, mosec."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import contenders, host, report
from bench.load import Absent, Sample, Server, Target, descendants, free_port, interleaved
from bench.serving import IDENTITY, PINS, ROW, SCIKIT_LEARN, Deployment, archive, image_python, train
from slipway.cli.launch import temporary

JSON = {"Content-Type": "application/json"}
DIRECT, BARE, OURS, SIGNED = "the same host, direct", "bare server, direct", "slipway", "slipway, SigV4"


def run(arguments: argparse.Namespace) -> None:
    python = image_python()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        folder.chmod(0o755)
        model = train(python, folder)
        deployments = [Deployment(stack.enter_context(temporary(options))) for options in (["--auth", "none"], [])]
        for deployment in deployments:
            deployment.deploy("identity", archive(IDENTITY, None))
            deployment.deploy("sklearn", archive(SCIKIT_LEARN, model))
        for size, connections in ((1024, (1, 16, 64)), (100 * 1024, (16,))):
            body = json.dumps("x" * (size - 2)).encode()
            with contextlib.ExitStack() as running:
                targets = _targets(running, folder, "identity", f"identity-{size}", python, None, body, deployments)
                title = f"identity, {size // 1024} KB"
                _show(title, interleaved(targets, connections, arguments.rounds, arguments.seconds), judged=size == 1024)
        with contextlib.ExitStack() as running:
            targets = _targets(running, folder, "sklearn", "sklearn", python, model, ROW, deployments)
            rows = interleaved(targets, (1, 16, 64), arguments.rounds, arguments.seconds)
            _show("scikit-learn, one row of 30 numbers", rows, judged=False)


def _targets(
    stack: contextlib.ExitStack,
    folder: Path,
    endpoint: str,
    name: str,
    python: str,
    model: Path | None,
    body: bytes,
    deployments: list[Deployment],
) -> dict[str, Target]:
    """Everything that answers the same request, started; what cannot be had is named as absent."""
    ours, url = host.start(folder, name, python, SCIKIT_LEARN if model else IDENTITY, model)
    stack.callback(ours.stop)
    ours.ready(url, body, JSON)
    targets = {DIRECT: Target(url, JSON, ours.pids, body)}
    if model is None:
        upstream, port = folder / f"{name}.sock", free_port()
        bare = contenders.bare(folder, unix=upstream, port=port)
        stack.callback(bare.stop)
        bare.ready(f"http://127.0.0.1:{port}/invocations", body, JSON)
        targets[BARE] = Target(f"http://127.0.0.1:{port}/invocations", JSON, bare.pids, body)
        for front, start in contenders.PROXIES.items():
            with _absent(front):
                running = start(folder, upstream)
                stack.callback(running.server.stop)
                running.server.ready(running.url, body, JSON)
                targets[front] = Target(running.url, JSON, _both(running.server, bare), body)
    with _absent("mosec"):
        peer = contenders.mosec(folder, "sklearn" if model else "echo", model or Path("/"), PINS)
        stack.callback(peer.server.stop)
        peer.server.ready(peer.url, body, JSON)
        targets["mosec"] = Target(peer.url, JSON, peer.server.pids, body)
    for label, deployment in zip((OURS, SIGNED), deployments, strict=True):
        headers = deployment.signed_headers(endpoint, body, "application/json") if label == SIGNED else JSON
        targets[label] = Target(deployment.url(endpoint), headers, _below(deployment.launched.process.pid), body)
    return targets


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    try:
        yield
    except Absent as error:
        print(f"  {name}: absent ({error})")


def _both(front: Server, behind: Server) -> Callable[[], list[int]]:
    return lambda: front.pids() + behind.pids()


def _below(pid: int) -> Callable[[], list[int]]:
    return lambda: descendants(pid)


def _show(title: str, by_count: Mapping[int, Mapping[str, Sample]], *, judged: bool) -> None:
    for count, rows in by_count.items():
        report.samples(f"{title}, {count} connections, one worker", rows, DIRECT)
        direct, ours = rows[DIRECT], rows[OURS]
        added = {name: rows[name] for name in (OURS, SIGNED) if name in rows}
        text = ", ".join(f"{name} {s.p50 - direct.p50:+.0f} / {s.p99 - direct.p99:+.0f} us" for name, s in added.items())
        print(f"  added p50 / p99 over the same host, direct: {text}")
        if BARE in rows:
            fronts = {name: rows[name] for name in contenders.PROXIES if name in rows}
            text = ", ".join(f"{name} {s.p50 - rows[BARE].p50:+.0f} us" for name, s in fronts.items())
            print(f"  added p50 of the proxies over the bare server: {text}")
        if judged and count > 1:
            if "nginx" in rows:
                report.verdict("against nginx", ours.rate / rows["nginx"].rate, 0.6, 1.0)
            if "envoy" in rows:
                report.verdict("against Envoy", ours.rate / rows["envoy"].rate, 1.5, 2.5)
        print()
