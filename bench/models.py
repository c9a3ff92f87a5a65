"""Multi-model endpoints: a loaded model against a single-model endpoint, a first request against unpacking and loading by hand.

The first by one caller who waits for each answer, both ways in turn; must: ≤ 1.1 ×. The second: the same archive unpacked and
loaded in a process that has its framework imported, page cache warm on both sides; must: ≤ 1.3 ×. Then a thousand models under
a Zipf load, each of which has to answer for itself: figures only.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import io
import json
import random
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import report
from bench.serving import IDENTITY, IMAGE, ROLE, ROW, SCIKIT_LEARN, SCRIPT, Deployment, archive, image_python, train
from slipway.cli.launch import temporary

FOREST = """
import sys, joblib, numpy
from sklearn.ensemble import RandomForestRegressor
chance = numpy.random.default_rng(int(sys.argv[2]))
x = chance.random((6000, 20))
joblib.dump(RandomForestRegressor(n_estimators=60, n_jobs=1, random_state=int(sys.argv[2])).fit(x, x.sum(axis=1)), sys.argv[1])
"""
BY_HAND = """
import sys, time, tarfile, tempfile, json, os
import numpy, joblib, sklearn, sklearn.ensemble, sklearn.linear_model
row = numpy.zeros((1, 20))
for line in sys.stdin:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(line.strip()) as tar:
            tar.extractall(folder)
        model = joblib.load(os.path.join(folder, "model.joblib"))
        model.predict(row)
        took = time.perf_counter() - began
    print(json.dumps(took), flush=True)
"""
CONSTANT = """
import json, os
def model_fn(model_dir):
    return open(os.path.join(model_dir, "name")).read()
def transform_fn(model, data, content_type, accept):
    return model, "text/plain"
"""
MODELS, REQUESTS, CALLERS = 1000, 6000, 8


def run(arguments: argparse.Namespace) -> None:
    python = image_python()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name, temporary() as launched:
        deployment = Deployment(launched)
        folder = Path(name)
        _loaded(deployment, train(python, folder), arguments.rounds * arguments.seconds)
        _first(deployment, python, folder, max(3, arguments.rounds))
    with temporary(("--replica-memory", "4GiB")) as launched:
        _many(Deployment(launched))


def many(deployment: Deployment, name: str) -> None:
    """A multi-model endpoint below `s3://bench/<name>/`."""
    environment = {**SCRIPT, "OMP_NUM_THREADS": "1"}
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://bench/{name}/", "Environment": environment}
    deployment.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    deployment.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})


def _loaded(deployment: Deployment, model: Path, seconds: float) -> None:
    for what, data, body in (("identity, 1 KB", archive(IDENTITY, None), json.dumps("x" * 1022).encode()),
                             ("scikit-learn, one row", archive(SCIKIT_LEARN, model), ROW)):  # fmt: skip
        short = what.split(",")[0]
        deployment.deploy(f"one-{short}", data)
        deployment.s3.put_object(Bucket="bench", Key=f"many-{short}/model.tar.gz", Body=data)
        many(deployment, f"many-{short}")
        connection = http.client.HTTPConnection(urlsplit(deployment.launched.endpoint_url).netloc)
        single = _caller(connection, deployment, f"one-{short}", body, {})
        loaded = _caller(connection, deployment, f"many-{short}", body, {"X-Amzn-SageMaker-Target-Model": "model.tar.gz"})
        times: tuple[list[float], list[float]] = ([], [])
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for call, kept in ((single, times[0]), (loaded, times[1])):
                began = time.perf_counter()
                call()
                kept.append(time.perf_counter() - began)
        alone, of_many = (statistics.median(each) for each in times)
        print(f"  {what}: single-model {alone * 1e6:.0f} us, one of many {of_many * 1e6:.0f} us")
        report.verdict("loaded model / single-model endpoint", of_many / alone, 1.1, 1.05, at_most=True)


def _first(deployment: Deployment, python: str, folder: Path, rounds: int) -> None:
    many(deployment, "forests")
    by_hand = subprocess.Popen([python, "-c", BY_HAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert by_hand.stdin is not None
    assert by_hand.stdout is not None
    hands, firsts, size = [], [], 0
    try:
        for number in range(rounds):
            model = folder / f"forest-{number}.joblib"
            subprocess.run([python, "-c", FOREST, str(model), str(number)], check=True)
            data = archive(SCIKIT_LEARN, model)
            size = len(data)
            (folder / "forest.tar.gz").write_bytes(data)
            deployment.s3.put_object(Bucket="bench", Key=f"forests/{number}.tar.gz", Body=data)
            body = json.dumps([[0.0] * 20]).encode()
            connection = http.client.HTTPConnection(urlsplit(deployment.launched.endpoint_url).netloc)
            call = _caller(connection, deployment, "forests", body, {"X-Amzn-SageMaker-Target-Model": f"{number}.tar.gz"})
            began = time.perf_counter()
            call()
            firsts.append(time.perf_counter() - began)
            by_hand.stdin.write(f"{folder / 'forest.tar.gz'}\n")
            by_hand.stdin.flush()
            hands.append(float(json.loads(by_hand.stdout.readline())))
    finally:
        by_hand.kill()
        by_hand.wait()
    hand, first = statistics.median(hands), statistics.median(firsts)
    print(f"  forest of {size / 1e6:.0f} MB packed: by hand {hand * 1e3:.0f} ms, first request {first * 1e3:.0f} ms")
    report.verdict("first request / unpacking and loading by hand", first / hand, 1.3, 1.1, at_most=True)


def _many(deployment: Deployment) -> None:
    """Each model answers with its name; the k-th most wanted is asked for in proportion to 1/k."""
    many(deployment, "zipf")
    for number in range(MODELS):
        deployment.s3.put_object(Bucket="bench", Key=f"zipf/{number}.tar.gz", Body=_named(str(number)))
    chance = random.Random(7)
    wanted = chance.choices(range(MODELS), [1 / (rank + 1) for rank in range(MODELS)], k=REQUESTS)
    runtime = deployment.client("sagemaker-runtime")

    def ask(number: int) -> float:
        began = time.perf_counter()
        answer = runtime.invoke_endpoint(EndpointName="zipf", TargetModel=f"{number}.tar.gz", Body=b"", ContentType="text/csv")
        said = answer["Body"].read().decode()
        if said != str(number):
            raise RuntimeError(f"model {number} said {said!r}")
        return time.perf_counter() - began

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        times = sorted(pool.map(ask, wanted))
    took = time.perf_counter() - began
    p50, p90, p99 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.9, 0.99))
    print(
        f"  {MODELS} models, {REQUESTS} requests of {len(set(wanted))} models by {CALLERS} callers: all right, in {took:.0f} s"
    )
    longest = times[-1] * 1e3
    print(f"  {REQUESTS / took:.0f} requests/s; p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.0f} ms, most {longest:.0f} ms")


def _named(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for path, text in (("code/inference.py", CONSTANT), ("name", name)):
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def _caller(
    connection: http.client.HTTPConnection, deployment: Deployment, name: str, body: bytes, more: dict[str, Any]
) -> Callable[[], None]:
    path = urlsplit(deployment.url(name)).path
    headers = {**deployment.signed_headers(name, body, "application/json"), **more}

    def call() -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{name} answered {answer.status}: {data[:200]!r}")

    return call
