"""Asynchronous inference: accepting through HTTP, claiming and settling, from submission to start, a long queue, and a burst.

Accepting is measured on an endpoint without instances, so that nothing but accepting takes place.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench import report
from bench.load import Target, cpu_seconds, descendants, interleaved, pss_mb
from bench.queue import claims, fill
from bench.serving import IDENTITY, IMAGE, ROLE, Deployment, archive, image_python
from slipway.cli import launch

INPUT = "X-Amzn-SageMaker-InputLocation"
HEADERS = {INPUT: "s3://bench/in/some-input-object.json", "X-Amzn-SageMaker-Content-Type": "text/csv"}
GROUPED, ONE_BY_ONE, ECHO = "accept", "accept, one commit each", "real-time echo"
MANY = 1_000_000
BURST = 10_000
WORK_MS = 20

WORK = f"""
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    until = time.process_time() + {WORK_MS / 1000}
    while time.process_time() < until:
        pass
    return data, "text/plain"
"""

BARE_LOOP = f"""
import sys, time
for _ in range(int(sys.argv[1])):
    until = time.process_time() + {WORK_MS / 1000}
    while time.process_time() < until:
        pass
"""


def run(arguments: argparse.Namespace) -> None:
    image_python()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        folder.chmod(0o755)
        _accepting(arguments, folder)
        claims(folder, arguments.rounds)
        _latency(folder)
        _long_queue(arguments, folder)
        _burst(folder)


def _up(folder: Path, name: str, *options: str) -> Deployment:
    return Deployment(launch.start(folder / name, ["--auth", "none", *options]))


def deploy(deployment: Deployment, name: str, script: str, *, instances: int, workers: int = 1) -> None:
    """An asynchronous endpoint, InService with so many instances."""
    if not deployment.sagemaker.list_models(NameContains=name)["Models"]:
        deployment.s3.put_object(Bucket="bench", Key=f"{name}.tar.gz", Body=archive(script, None))
        deployment.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://bench/{name}.tar.gz",
                "Environment": {
                    "SAGEMAKER_PROGRAM": "inference.py",
                    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                    "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
                    "OMP_NUM_THREADS": "1",
                },
            },
        )
    deployment.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://bench/out", "S3FailurePath": "s3://bench/failed"}},
    )
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(deployment, name)
    if instances != 1:
        scale(deployment, name, instances)


def scale(deployment: Deployment, name: str, instances: int) -> None:
    change = [{"VariantName": "AllTraffic", "DesiredInstanceCount": instances}]
    deployment.sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=change)
    in_service(deployment, name)


def in_service(deployment: Deployment, name: str) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = deployment.sagemaker.describe_endpoint(EndpointName=name)
        if told["EndpointStatus"] == "InService":
            return told
        if told["EndpointStatus"] == "Failed":
            raise RuntimeError(told["FailureReason"])
        time.sleep(0.01)


def async_url(deployment: Deployment, name: str) -> str:
    return f"{deployment.launched.endpoint_url}/endpoints/{name}/async-invocations"


def asked(deployment: Deployment, path: str, **query: str) -> Any:
    """What one of slipway's own routes says."""
    with urllib.request.urlopen(f"{deployment.launched.endpoint_url}/_slipway/async{path}?{urlencode(query)}") as answer:
        return json.load(answer)


def backlog(deployment: Deployment) -> int:
    return sum(each["queued"] + each["running"] for each in asked(deployment, "")["endpoints"])


def submit(deployment: Deployment, name: str, location: str, count: int, threads: int = 4) -> None:
    """So many InvokeEndpointAsync over a few kept connections."""

    def some(number: int) -> None:
        connection = http.client.HTTPConnection(deployment.launched.endpoint_url.removeprefix("http://"))
        for _ in range(number):
            connection.request("POST", f"/endpoints/{name}/async-invocations", headers={INPUT: location})
            answer = connection.getresponse()
            if answer.status != http.client.ACCEPTED:
                raise RuntimeError(answer.read().decode())
            answer.read()
        connection.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, [count // threads] * threads))


def _below(deployment: Deployment) -> Callable[[], list[int]]:
    return lambda: descendants(deployment.launched.process.pid)


def _accepting(arguments: argparse.Namespace, folder: Path) -> None:
    grouped, single = _up(folder, "grouped"), _up(folder, "single", "--commit-group", "1")
    try:
        for each in (grouped, single):
            deploy(each, "queue", IDENTITY, instances=0)
        grouped.deploy("echo", archive(IDENTITY, None))
        targets = {
            GROUPED: Target(async_url(grouped, "queue"), HEADERS, _below(grouped)),
            ONE_BY_ONE: Target(async_url(single, "queue"), HEADERS, _below(single)),
            ECHO: Target(grouped.url("echo"), {"Content-Type": "application/json"}, _below(grouped), b'"%b"' % (b"x" * 1022)),
        }
        for count, rows in interleaved(targets, (1, 16, 64), arguments.rounds, arguments.seconds).items():
            report.samples(f"InvokeEndpointAsync, durable, {count} connections", rows, ECHO)
            if count == 16:
                ratio = rows[GROUPED].rate / rows[ONE_BY_ONE].rate
                report.verdict("accept, against one commit each, 16 clients", ratio, 3.0, 5.0)
            if count == 64:
                ratio = rows[GROUPED].rate / rows[ECHO].rate
                report.verdict("accept, against real-time echo, 64 clients", ratio, 0.2, 0.4)
    finally:
        for each in (grouped, single):
            launch.stop(each.launched)


def _latency(folder: Path, count: int = 200) -> None:
    """Idle: from the moment a request was received to the moment a container had it, as the request's own record says."""
    deployment = _up(folder, "latency")
    try:
        deploy(deployment, "quick", IDENTITY, instances=1)
        runtime = deployment.client("sagemaker-runtime")
        deployment.s3.put_object(Bucket="bench", Key="in.json", Body=b'"hello"', ContentType="application/json")
        starts, ends = [], []
        for _ in range(count):
            told = runtime.invoke_endpoint_async(EndpointName="quick", InputLocation="s3://bench/in.json")
            record = _settled(deployment, told["InferenceId"])
            starts.append((record["started"] - record["received"]) * 1000)
            ends.append((record["finished"] - record["received"]) * 1000)
        report.verdict("idle, received to started, p50", statistics.median(starts), 20, 10, unit="ms", at_most=True)
        p99 = statistics.quantiles(starts, n=100)[98]
        print(f"    p99 {p99:.1f} ms; received to settled p50 {statistics.median(ends):.1f} ms; {count} requests")
    finally:
        launch.stop(deployment.launched)


def _settled(deployment: Deployment, inference_id: str) -> dict[str, Any]:
    """The request's record, once it has ended; asked for through slipway's own route."""
    while True:
        record: dict[str, Any] = asked(deployment, "/status", inference_id=inference_id)["requests"][0]
        if record["state"] not in ("queued", "running"):
            return record
        time.sleep(0.005)


def _long_queue(arguments: argparse.Namespace, folder: Path) -> None:
    """Accept rates with a thousand and with a million requests in the queue; the memory of everything."""
    rates, memory = {}, {}
    for length in (1_000, MANY):
        name = f"long-{length}"
        deployment = _up(folder, name)
        deploy(deployment, "queue", IDENTITY, instances=0)
        launch.stop(deployment.launched)
        fill(folder / name, "queue", length)
        deployment = _up(folder, name)
        try:
            target = Target(async_url(deployment, "queue"), HEADERS, _below(deployment))
            in_service(deployment, "queue")
            rows = interleaved({GROUPED: target}, (64,), arguments.rounds, arguments.seconds)
            rates[length] = rows[64][GROUPED].rate
            memory[length] = pss_mb(descendants(deployment.launched.process.pid))
        finally:
            launch.stop(deployment.launched)
    for length, rate in rates.items():
        print(f"    {length} requests queued: {rate:.0f} accepts/s, all of slipway {memory[length]:.0f} MB")
    report.verdict("accept with 1,000,000 queued, against 1,000", rates[MANY] / rates[1_000], 0.8, 0.95)
    report.verdict("memory with 1,000,000 queued, against 1,000", memory[MANY] / memory[1_000], 1.2, 1.05, at_most=True)


def _end_of_queue(deployment: Deployment, order: str) -> dict[str, Any]:
    """The record of the request that came first, or last."""
    found = asked(deployment, "/requests", endpoint="work", limit="1", order=order)["requests"][0]
    record: dict[str, Any] = asked(deployment, "/status", id=str(found["id"]))["requests"][0]
    return record


def _burst(folder: Path, count: int = BURST, loops: int = 2) -> None:
    """`count` requests of 20 ms of CPU each, queued before the workers start, against as many bare loops at once."""
    deployment = _up(folder, "burst")
    try:
        deploy(deployment, "work", WORK, instances=1, workers=loops)
        scale(deployment, "work", 0)
        deployment.s3.put_object(Bucket="bench", Key="in.json", Body=b'"hello"', ContentType="application/json")
        begun = time.perf_counter()
        submit(deployment, "work", "s3://bench/in.json", count)
        print(f"    submitted {count} in {time.perf_counter() - begun:.1f} s")
        scale(deployment, "work", 1)
        pids = descendants(deployment.launched.process.pid)
        before = cpu_seconds(pids)
        while backlog(deployment):
            time.sleep(0.5)
        first, last = (_end_of_queue(deployment, order) for order in ("oldest", "newest"))
        took = last["finished"] - first["started"]
        spent = cpu_seconds(pids) - before
        begun = time.perf_counter()
        bare = [subprocess.Popen([sys.executable, "-c", BARE_LOOP, str(count // loops)]) for _ in range(loops)]
        for each in bare:
            each.wait()
        alone = time.perf_counter() - begun
        print(f"    slipway {took:.1f} s ({spent:.1f} s of CPU), {loops} bare loops {alone:.1f} s")
        report.verdict(f"burst of {count}, against bare loops", took / alone, 1.15, 1.05, at_most=True)
    finally:
        launch.stop(deployment.launched)
