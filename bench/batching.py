"""Dynamic batching: one model deployed with and without it, called by as many connections; a layered network in numpy.

What a call costs beside its rows is reading the weights (48 MB here): a batch reads them once for all of its requests.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from bench import report
from bench.load import Target, interleaved
from bench.serving import SCRIPT, Deployment, archive
from slipway.cli import launch

CONNECTIONS = (1, 16, 32)
SIZE = 16
NETWORK = """
import numpy as np
WIDTH = 1448

def model_fn(model_dir):
    random = np.random.RandomState(0)
    return [random.standard_normal((WIDTH, WIDTH)).astype("float32") / WIDTH ** 0.5 for _ in range(6)]

def predict_fn(rows, model):
    values = np.resize(rows, (len(rows), WIDTH)).astype("float32")
    for weights in model:
        values = np.maximum(values @ weights, 0)
    return values[:, :4]

predict_fn.batched = True
"""
BODY = b"[[0.1, 0.2, 0.3, 0.4]]"
JSON = {"Content-Type": "application/json"}


def run(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        launched = launch.start(folder / "data", ["--auth", "none"])
        stack.callback(launch.stop, launched)
        deployment = Deployment(launched)
        settings = {
            "one by one": {},
            f"batches of {SIZE}, 2 ms": {"SLIPWAY_MAX_BATCH_SIZE": str(SIZE)},
            f"batches of {SIZE}, 0 ms": {"SLIPWAY_MAX_BATCH_SIZE": str(SIZE), "SLIPWAY_MAX_BATCH_DELAY_MS": "0"},
        }
        targets = {}
        for number, (name, environment) in enumerate(settings.items()):
            endpoint = f"network-{number}"
            deployment.deploy(endpoint, archive(NETWORK, None), environment={**SCRIPT, **environment})
            targets[name] = Target(deployment.url(endpoint), JSON, list, BODY)
        found = interleaved(targets, CONNECTIONS, arguments.rounds, arguments.seconds)
        singly, *together = settings
        for count, samples in found.items():
            report.samples(f"numpy network, one row, {count} connections, one worker", samples, singly)
        for name in together:
            gain = found[32][name].rate / found[32][singly].rate
            report.verdict(f"{name}: requests/s at 32 connections, against one by one", gain, 1.5, 3.0)
        ratio = found[1][together[1]].p50 / found[1][singly].p50
        report.verdict("p50 of one connection, no delay, against one by one", ratio, 1.2, 1.05, at_most=True)
