"""Batch transform against a plain loop in one process over the same file: read it, predict_fn for each batch, write.

Both use the interpreter and the functions of the model's environment, and batches of the same size. A job's time is from its
first instance's being ready to the last output's being written: starting the model is not what is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil

from bench import report
from bench.serving import IMAGE, SCRIPT, archive, image_python
from slipway.cli import launch

ROWS = 400_000
FIELDS = 20
SMALL = 10_000
"""Objects of the second comparison."""
MODEL = """
import numpy as np

def model_fn(model_dir):
    random = np.random.RandomState(0)
    return random.standard_normal((FIELDS, 8))

def input_fn(body, content_type):
    text = body if isinstance(body, str) else body.decode()
    return np.array(text.replace("\\n", ",").rstrip(",").split(","), dtype="float64").reshape(-1, FIELDS)

def predict_fn(rows, model):
    values = rows @ model
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)

def output_fn(prediction, accept):
    return "".join("%.6f,%.6f\\n" % (row[0], row[1]) for row in prediction.tolist()), "text/csv"
""".replace("FIELDS", str(FIELDS))
LOOP = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import inference
model = inference.model_fn("")
began = time.perf_counter()
cpu = time.process_time()
with open(sys.argv[2]) as source, open(sys.argv[3], "w") as target:
    while lines := source.readlines(6 << 20):
        rows = inference.predict_fn(inference.input_fn("".join(lines), "text/csv"), model)
        target.write(inference.output_fn(rows, "text/csv")[0])
print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
"""


def run(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        launched = launch.start(folder / "data", [])
        stack.callback(launch.stop, launched)
        bench = _Bench(folder, launched)
        cores = min(2, len(os.sched_getaffinity(0)))
        alone: list[float] = []
        together: list[float] = []
        jobs: dict[int, list[float]] = {1: [], 2: []}
        for number in range(arguments.rounds):
            alone.append(bench.loops(1))
            together.append(bench.loops(cores))
            for instances, found in jobs.items():
                found.append(bench.job(f"large-{number}-{instances}", "large/", instances, MaxConcurrentTransforms=1))
        plain = statistics.median(alone)
        print(f"  a plain loop: {ROWS / plain:,.0f} records/s ({plain:.2f} s)")
        for instances, found in jobs.items():
            taken = statistics.median(found)
            print(f"  {instances} instance(s): {ROWS / taken:,.0f} records/s ({taken:.2f} s)")
        report.verdict("records/s of one instance, against a plain loop", plain / statistics.median(jobs[1]), 0.9, 1.0)
        at_once = statistics.median(together) / cores
        print(f"  {cores} plain loops at once: {ROWS / at_once:,.0f} records/s")
        report.verdict(
            f"records/s of two instances, against {cores} loops at once", at_once / statistics.median(jobs[2]), 0.9, 1.0
        )
        bench.memory_of(bench.dispatcher)
        one = bench.job("one-object", "one", 1)
        many = bench.job("small", "small/", 1)
        print(f"  {SMALL:,} objects of one record: {SMALL / many:,.0f} objects/s; one object of them all: {one:.2f} s")


class _Bench:
    def __init__(self, folder: Path, launched: launch.Launched) -> None:
        self.folder = folder
        environment = launched.environment
        place: dict[str, Any] = {
            "endpoint_url": environment["AWS_ENDPOINT_URL"],
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": environment["AWS_REGION"],
        }
        self.s3, self.sagemaker = boto3.client("s3", **place), boto3.client("sagemaker", **place)
        self.process = psutil.Process(launched.process.pid)
        self.python = image_python(IMAGE)
        (folder / "inference.py").write_text(MODEL)
        (folder / "loop.py").write_text(LOOP)
        line = ",".join(f"{0.37 * n:.4f}" for n in range(FIELDS))
        lines = [f"{number % 97}.5,{line[line.index(',') + 1 :]}\n" for number in range(ROWS)]
        (folder / "in.csv").write_text("".join(lines))
        self.s3.create_bucket(Bucket="bench")
        half = ROWS // 2
        for number, part in enumerate((lines[:half], lines[half:])):
            self.s3.put_object(Bucket="bench", Key=f"large/{number}", Body="".join(part).encode())
        self.s3.put_object(Bucket="bench", Key="one", Body="".join(lines[:SMALL]).encode())
        with ThreadPoolExecutor(32) as pool:
            list(
                pool.map(
                    lambda n: self.s3.put_object(Bucket="bench", Key=f"small/{n:05}", Body=lines[n].encode()), range(SMALL)
                )
            )
        self.s3.put_object(Bucket="bench", Key="model.tar.gz", Body=archive(MODEL, None))
        container = {
            "Image": IMAGE,
            "ModelDataUrl": "s3://bench/model.tar.gz",
            "Environment": {**SCRIPT, "SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
        }
        role = "arn:aws:iam::123456789012:role/service"
        self.sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=container)
        self.job("warm", "one", 1)

    @property
    def dispatcher(self) -> psutil.Process:
        return next(p for p in self.process.children(recursive=True) if "slipway.roles.dispatcher" in p.cmdline())

    def loops(self, count: int) -> float:
        """Seconds of the slowest of so many plain loops at once, each over the whole file."""
        command = [self.python, str(self.folder / "loop.py"), str(self.folder), str(self.folder / "in.csv")]
        single = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        begun = [
            subprocess.Popen([*command, str(self.folder / f"out-{number}.csv")], stdout=subprocess.PIPE, env=single)
            for number in range(count)
        ]
        return max(float(json.loads(each.communicate()[0])[0]) for each in begun)

    def job(self, name: str, prefix: str, instances: int, **more: Any) -> float:
        """Seconds from its first instance's being there to its end."""
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName="m",
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://bench/{prefix}"}},
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            TransformOutput={"S3OutputPath": f"s3://bench/out/{name}", "AssembleWith": "Line", "Accept": "text/csv"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": instances},
            Environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            **more,
        )
        while (told := self.sagemaker.describe_transform_job(TransformJobName=name))["TransformJobStatus"] == "InProgress":
            time.sleep(0.01)
        if told["TransformJobStatus"] != "Completed":
            raise RuntimeError(told["FailureReason"])
        return float((told["TransformEndTime"] - told["TransformStartTime"]).total_seconds())

    def memory_of(self, process: psutil.Process) -> None:
        print(f"  memory of the dispatcher after it: {process.memory_full_info().pss / 1e6:.0f} MB (PSS)")
