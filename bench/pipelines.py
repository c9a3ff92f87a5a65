"""A pipeline of n identity containers against n InvokeEndpoint calls one after another, through the same gateway.

One connection, one caller who waits for each answer; both ways in turn, request by request, so that they share every moment of
the machine. Must: ≤ 0.7 × for each n at 1 KB (issue 5).
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from bench import report
from bench.serving import IDENTITY, IMAGE, ROLE, SCRIPT, Deployment, archive
from slipway.cli.launch import temporary

LENGTHS = (2, 3, 5)
SIZES = (1024, 100 * 1024)
MUST, AIM = 0.7, 0.6


def run(arguments: argparse.Namespace) -> None:
    with temporary() as launched:
        deployment = Deployment(launched)
        for number in range(max(LENGTHS)):
            deployment.deploy(f"single-{number}", archive(IDENTITY, None))
        for length in LENGTHS:
            _deploy(deployment, length)
        for size in SIZES:
            body = json.dumps("x" * (size - 2)).encode()
            for length in LENGTHS:
                calls, pipeline = _measure(deployment, length, body, arguments.rounds * arguments.seconds)
                print(f"  {size // 1024} KB, {length} containers: calls {calls * 1e3:.2f} ms, pipeline {pipeline * 1e3:.2f} ms")
                if size == SIZES[0]:
                    report.verdict("pipeline / calls", pipeline / calls, MUST, AIM, at_most=True)
                else:  # most of it is the workers' own copying, which both ways have in common
                    print(f"  pipeline / calls: {pipeline / calls:.2f} x", flush=True)


def _deploy(deployment: Deployment, length: int) -> None:
    """A pipeline of identity containers, one worker each, as the single endpoints have."""
    name = f"pipeline-{length}"
    deployment.s3.put_object(Bucket="bench", Key="identity.tar.gz", Body=archive(IDENTITY, None))
    environment = {**SCRIPT, "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    container = {"Image": IMAGE, "ModelDataUrl": "s3://bench/identity.tar.gz", "Environment": environment}
    deployment.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[container] * length)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    deployment.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})


def _measure(deployment: Deployment, length: int, body: bytes, seconds: float) -> tuple[float, float]:
    """Medians in seconds: of `length` calls one after another, and of one call of the pipeline."""
    connection = http.client.HTTPConnection(urlsplit(deployment.launched.endpoint_url).netloc)
    singles = [_caller(connection, deployment, f"single-{number}", body) for number in range(length)]
    pipeline = _caller(connection, deployment, f"pipeline-{length}", body)
    several, one = [], []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        for call in singles:
            call()
        between = time.perf_counter()
        pipeline()
        several.append(between - began)
        one.append(time.perf_counter() - between)
    connection.close()
    return statistics.median(several), statistics.median(one)


def _caller(connection: http.client.HTTPConnection, deployment: Deployment, name: str, body: bytes) -> Callable[[], None]:
    path = urlsplit(deployment.url(name)).path
    headers: Mapping[str, str] = deployment.signed_headers(name, body, "application/json")

    def call() -> None:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200 or len(data) < len(body) // 2:
            raise RuntimeError(f"{name} answered {answer.status}: {data[:200]!r}")

    return call
