"""Frameworks: what the host adds to a request, memory of four workers against one, a connector's share, cold starts.

A cold start is from CreateEndpoint, the environment being cached, to the first answer; beside it the framework's own import.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench import frameworks_host, report
from bench.frameworks_cases import CASES, Case, archive, make
from bench.load import post
from bench.serving import Deployment, image_python
from slipway.cli import launch

IN_A_LOOP = ("sklearn", "pytorch")


def run(arguments: argparse.Namespace) -> None:
    print(f"  load average {', '.join(f'{each:.1f}' for each in os.getloadavg())}; {os.cpu_count()} CPUs\n")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        pythons = {case.flavour: image_python(case.image) for case in CASES}
        models = {case.flavour: make(case, pythons[case.flavour], folder) for case in CASES}
        for case in CASES:
            if case.flavour in IN_A_LOOP:
                python, model = pythons[case.flavour], models[case.flavour]
                frameworks_host.overhead(case, python, model, folder, arguments.rounds, arguments.seconds)
        for case in CASES:
            frameworks_host.memory(case, pythons[case.flavour], models[case.flavour], folder)
        frameworks_host.connector(arguments.rounds, arguments.seconds)
        launched = launch.start(folder / "data", ["--auth", "none"])
        stack.callback(launch.stop, launched)
        deployment = Deployment(launched)
        for case in CASES:
            _cold(arguments.rounds, deployment, case, pythons[case.flavour], archive(models[case.flavour]))


def _cold(rounds: int, deployment: Deployment, case: Case, python: str, data: bytes) -> None:
    totals, imports = [], []
    _seconds([python, "-c", case.imports])  # its files are in memory from here on, for both sides
    for number in range(rounds):
        imports.append(_seconds([python, "-c", case.imports]))
        name = f"{case.flavour}-{number}"
        in_service = deployment.deploy(name, data, image=case.image, environment=case.environment)
        begun = time.perf_counter()
        post(deployment.url(name), case.body, {"Content-Type": case.content_type})
        totals.append(in_service + time.perf_counter() - begun)
        deployment.sagemaker.delete_endpoint(EndpointName=name)
    total, imported = statistics.median(totals), statistics.median(imports)
    print(f"    {case.name}: CreateEndpoint to first answer {min(totals):.2f} to {max(totals):.2f} s; a bare process that only")
    print(f"    imports the framework {imported:.2f} s, which is {imported / total:.0%} of the median {total:.2f} s")
    report.verdict(f"{case.name}: first answer, against the import alone", total / imported, 2.0, 1.4, at_most=True)


def _seconds(command: list[str]) -> float:
    """In a session of its own, as replicas are: on a busy machine the kernel shares CPU between sessions."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, start_new_session=True)
    return time.perf_counter() - begun
