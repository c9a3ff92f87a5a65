"""A transform job over very many tiny objects: how fast, how much memory each role takes, how large the database gets.

example: python -m bench transform-small --objects 100000

While the job runs it asks what `slipway transform watch` asks, and lists jobs and outputs, as their owner would: how long the
answers take is told. A second job over the same objects loses its dispatcher and control by kill -9 at a third
of its way, and goes on; a third one is stopped there.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from bench import transform_jobs
from bench.load import Absent
from bench.transform_jobs import ECHO, Jobs, Peaks
from slipway.cli.options import UsageError
from slipway.cli.own_routes import call

LOOK_SECONDS = 1.0
LINE_SECONDS = 10.0


def run(arguments: argparse.Namespace) -> None:
    with transform_jobs.running() as jobs:
        bench = _Bench(jobs, arguments.objects)
        bench.undisturbed()
        bench.killed()
        bench.stopped()


class _Bench:
    def __init__(self, jobs: Jobs, objects: int) -> None:
        self.jobs = jobs
        self.objects = objects
        jobs.model("echo", ECHO, 1)
        begun = time.perf_counter()
        jobs.put_all((f"small/{number // 1000:03}/{number:06}", b"%d,2,3\n" % number) for number in range(objects))
        passed = time.perf_counter() - begun
        print(f"  {objects:,} objects put by boto3: {objects / passed:,.0f} objects/s", flush=True)
        self._sizes("before")

    def undisturbed(self) -> None:
        peaks = Peaks(self.jobs)
        found = self._carry("quiet", 1.1)
        peaks.close()
        print(f"  undisturbed: {self._ended('quiet', found)}")
        for line in peaks.lines():
            print(line)
        self._sizes("after")
        began = time.perf_counter()
        pages = self.jobs.s3.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix="out/quiet/")
        outputs = sum(len(page.get("Contents", ())) for page in pages)
        print(f"  {outputs:,} outputs listed in {time.perf_counter() - began:.1f} s", flush=True)
        if outputs != self.objects:
            raise Absent("outputs are missing")

    def killed(self) -> None:
        """kill -9 of who works at it, at a third of the way."""
        self._carry("killed", 0.33)
        for role in ("dispatcher", "control"):
            for process in self.jobs.processes()[role]:
                process.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        found = self._watched("killed")
        while not found:
            time.sleep(0.05)
            found = self._watched("killed")
        print(f"  dispatcher and control killed at a third: answers again after {time.perf_counter() - began:.1f} s")
        found = self._carry("killed", 1.1, begin=False)
        print(f"  killed: {self._ended('killed', found)}; attempts beyond one: {self._again('killed'):,}", flush=True)

    def stopped(self) -> None:
        self._carry("stopped", 0.33)
        began = time.perf_counter()
        self.jobs.sagemaker.stop_transform_job(TransformJobName="stopped")
        found: Mapping[str, Any] = {}
        while not found or found["status"] not in ("Stopped", "Completed"):
            time.sleep(0.02)
            found = self._watched("stopped")
        print(f"  stopped at a third: {found['status']} after {time.perf_counter() - began:.2f} s, {found['done']:,} done")
        leftover = found["running"] + found["queued"]
        if leftover:
            raise Absent(f"{leftover} objects are still open")

    # ---- looking on

    def _carry(self, name: str, share: float, *, begin: bool = True) -> Mapping[str, Any]:
        """Begin the job, and look on until so much of it is done, or it has ended."""
        if begin:
            self.jobs.create(name, "echo", "small/", 1, {})
        slow: dict[str, list[float]] = {}
        said = began = time.perf_counter()
        while True:
            found: Mapping[str, Any] = _timed(slow, "watch", lambda: self._watched(name))
            _timed(slow, "ListTransformJobs", lambda: self.jobs.sagemaker.list_transform_jobs(MaxResults=10))
            _timed(slow, "HeadObject", lambda: self.jobs.s3.head_object(Bucket="bench", Key="small/000/000000"))
            now = time.perf_counter()
            if found and now - said > LINE_SECONDS:
                said = now
                print(f"    {now - began:5.0f} s: {found['done']:,} done of {found['objects']:,}", flush=True)
            if found and (found["status"] != "InProgress" or found["done"] >= share * self.objects):
                break
            time.sleep(LOOK_SECONDS)
        for what, times in slow.items():
            middle, most = statistics.median(times) * 1e3, max(times) * 1e3
            print(f"    {what}: {middle:.0f} ms, {most:.0f} ms at most ({len(times)} times)", flush=True)
        return found

    def _watched(self, name: str) -> Mapping[str, Any]:
        """What the command of that name sees; nothing while nobody answers."""
        try:
            return dict(call(argparse.Namespace(data_dir=str(self.jobs.data_dir)), "GET", f"/_slipway/transforms/{name}"))
        except (UsageError, OSError, ValueError):
            return {}

    def _ended(self, name: str, found: Mapping[str, Any]) -> str:
        began, ended = self.jobs.ended(name)
        passed = ended - began
        return f"{found['done']:,} objects in {passed:.1f} s, {found['done'] / passed:,.0f} objects/s"

    def _again(self, name: str) -> int:
        again = 0
        after: int | None = 0
        while after is not None:
            where = argparse.Namespace(data_dir=str(self.jobs.data_dir))
            page = call(where, "GET", f"/_slipway/transforms/{name}/objects?limit=1000&after={after}")
            again += sum(each["attempts"] for each in page["objects"])
            after = page["next"]
        return again

    def _sizes(self, when: str) -> None:
        files = (self.jobs.data_dir / name for name in ("slipway.db", "slipway.db-wal"))
        size = sum(path.stat().st_size for path in files if path.exists())
        with_pss = {
            name: sum(process.memory_full_info().pss for process in found if psutil.pid_exists(process.pid)) / 1e6
            for name, found in self.jobs.processes().items()
        }
        roles = ", ".join(f"{name} {pss:.0f}" for name, pss in with_pss.items() if pss)
        print(f"  {when}: database {size / 1e6:.0f} MB; memory in MB (PSS): {roles}", flush=True)


def _timed(slow: dict[str, list[float]], what: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    try:
        return work()
    finally:
        slow.setdefault(what, []).append(time.perf_counter() - began)
