"""The same model behind slipway and behind other model servers: identity, and one row through scikit-learn. Logs off."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from bench import contenders, report
from bench.load import Absent, Target, descendants, interleaved
from bench.serving import IDENTITY, PINS, ROW, SCIKIT_LEARN, Deployment, archive, image_python, train
from slipway.cli.launch import temporary

JSON = {"Content-Type": "application/json"}
BOUNDS = {"echo": {"mosec": (2.0, 4.0), "": (5.0, 8.0)}, "sklearn": {"mosec": (1.3, 1.6), "": (1.8, 2.5)}}


def run(arguments: argparse.Namespace) -> None:
    python = image_python()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        folder.chmod(0o755)
        model = train(python, folder)
        deployment = Deployment(stack.enter_context(temporary(["--auth", "none"])))
        deployment.deploy("echo", archive(IDENTITY, None))
        deployment.deploy("sklearn", archive(SCIKIT_LEARN, model))
        pid = deployment.launched.process.pid
        for kind in ("echo", "sklearn"):
            targets = {"slipway": Target(deployment.url(kind), JSON, lambda: descendants(pid), ROW)}
            with contextlib.ExitStack() as running:
                for name, start in contenders.PEERS.items():
                    try:
                        peer = start(folder, kind, model, PINS)
                        running.callback(peer.server.stop)
                        peer.server.ready(peer.url, peer.body(ROW), JSON)
                        targets[name] = Target(peer.url, JSON, peer.server.pids, peer.body(ROW))
                    except Absent as error:
                        print(f"  {name}: absent ({error})")
                rows = interleaved(targets, (16,), arguments.rounds, arguments.seconds)[16]
            report.samples(f"{kind}, one row of 30 numbers, 16 connections, one worker", rows, "slipway")
            for name in rows:
                if name != "slipway":
                    must, aim = BOUNDS[kind].get(name, BOUNDS[kind][""])
                    report.verdict(f"slipway against {name}", rows["slipway"].rate / rows[name].rate, must, aim)
            print()
