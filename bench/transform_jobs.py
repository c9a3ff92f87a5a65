"""What the suites of batch transform share: a slipway with a model, jobs on it, and what its processes use meanwhile."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

from bench.serving import IMAGE, ROLE, SCRIPT, archive
from slipway.cli import launch

SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ECHO = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data, accept
"""
ROLES = ("keeper", "gateway", "control", "dispatcher")
_UPLOADS = 16


class Jobs:
    """Clients of one slipway; a bucket `bench`."""

    def __init__(self, launched: launch.Launched) -> None:
        environment = launched.environment
        self.data_dir = launched.data_dir
        self.environment = environment
        self._place: dict[str, Any] = {
            "endpoint_url": environment["AWS_ENDPOINT_URL"],
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": environment["AWS_REGION"],
            "config": Config(max_pool_connections=2 * _UPLOADS),
        }
        self.s3, self.sagemaker = self.client("s3"), self.client("sagemaker")
        self.keeper = psutil.Process(launched.process.pid)
        self.s3.create_bucket(Bucket="bench")

    def client(self, name: str) -> Any:
        return boto3.client(name, **self._place)

    def model(self, name: str, text: str, workers: int) -> None:
        self.s3.put_object(Bucket="bench", Key=f"{name}.tar.gz", Body=archive(text, None))
        container = {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://bench/{name}.tar.gz",
            "Environment": {**SCRIPT, **SINGLE, "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)},
        }
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)

    def put_all(self, bodies: Iterator[tuple[str, bytes]]) -> None:
        with ThreadPoolExecutor(_UPLOADS) as pool:
            for _ in pool.map(lambda each: self.s3.put_object(Bucket="bench", Key=each[0], Body=each[1]), bodies):
                pass

    def create(self, name: str, model: str, prefix: str, instances: int, data: Mapping[str, Any], **more: Any) -> None:
        """`data`: more members of TransformInput."""
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://bench/{prefix}"}},
                "ContentType": "text/csv",
                "SplitType": "Line",
                **data,
            },
            TransformOutput={"S3OutputPath": f"s3://bench/out/{name}", "AssembleWith": "Line", "Accept": "text/csv"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": instances},
            **more,
        )

    def ended(self, name: str) -> tuple[float, float]:
        """Waits for the job's end: TransformStartTime (its first instance is ready) and TransformEndTime. RuntimeError."""
        while (told := self.sagemaker.describe_transform_job(TransformJobName=name))["TransformJobStatus"] == "InProgress":
            time.sleep(0.2)
        if told["TransformJobStatus"] != "Completed":
            raise RuntimeError(told["FailureReason"])
        return told["TransformStartTime"].timestamp(), told["TransformEndTime"].timestamp()

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """The roles, and under `replicas` all else that is there."""
        found: dict[str, list[psutil.Process]] = {name: [] for name in (*ROLES, "replicas")}
        found["keeper"].append(self.keeper)
        for each in self.keeper.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = each.cmdline()
                named = next((role for role in ROLES if f"slipway.roles.{role}" in line), "replicas")
                found[named].append(each)
        return found

    def role(self, name: str) -> psutil.Process:
        return self.processes()[name][0]


@contextlib.contextmanager
def running() -> Iterator[Jobs]:
    """A slipway of its own, taken down again."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        launched = launch.start(Path(folder) / "data", [])
        try:
            yield Jobs(launched)
        finally:
            launch.stop(launched)


class Peaks:
    """The most memory (PSS, bytes) that each role has had since it was made, by looks in between."""

    def __init__(self, jobs: Jobs, every: float = 0.2) -> None:
        self.most: dict[str, int] = {}
        self._jobs = jobs
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            for name, processes in self._jobs.processes().items():
                total = 0
                for process in processes:
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_full_info().pss
                self.most[name] = max(self.most.get(name, 0), total)

    def lines(self) -> Iterator[str]:
        for name, most in self.most.items():
            yield f"  {name:<12} {most / 1e6:7.0f} MB at most (PSS)"


class Cores:
    """CPU seconds that this machine's cores had for one process tree: those that nobody else used, by looks in between."""

    def __init__(self, root: psutil.Process, every: float = 0.1) -> None:
        self._root = root
        self._every = every
        self._looks: list[tuple[float, float, float]] = []
        """Moment; seconds that all cores were busy, or taken away; seconds of the tree."""
        self._used: dict[tuple[int, float], float] = {}
        """Seconds of each process that was ever there: what has ended has been used."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._look()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            for each in (self._root, *self._root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    self._used[each.pid, each.create_time()] = times.user + times.system
        tree = sum(self._used.values())
        system = psutil.cpu_times()
        busy = system.user + system.nice + system.system + system.irq + system.softirq + system.steal
        self._looks.append((time.time(), busy, tree))

    def given(self, begun: float, ended: float) -> tuple[float, float]:
        """CPU seconds that the tree could have had between two moments (of time.time), and those that it used."""
        busy, used = (self._at(ended, which) - self._at(begun, which) for which in (1, 2))
        cores = len(os.sched_getaffinity(0))
        return cores * (ended - begun) - max(busy - used, 0.0), used

    def _at(self, moment: float, which: int) -> float:
        before = max((look for look in self._looks if look[0] <= moment), default=self._looks[0])
        after = min((look for look in self._looks if look[0] >= moment), default=self._looks[-1])
        if after[0] <= before[0]:
            return before[which]
        share = (moment - before[0]) / (after[0] - before[0])
        return before[which] + share * (after[which] - before[which])
