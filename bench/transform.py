"""Batch transform against plain loops in one process over the same files: read, predict_fn for each batch, write.

Both use the interpreter and the functions of the model's environment, one thread each, batches of the same size, and the same
objects (`OBJECTS` of `ROWS / OBJECTS` rows). A plain loop's time begins when its imports and its model are there, a job's when
its first instance is ready (TransformStartTime) and ends with the last output's commit (TransformEndTime): starting models is
not what is compared. A second instance's being later than the first is in the figure.

One instance: records per second of the job against those of one plain loop over all objects.

Two instances on two cores: two plain loops at once, each over half of the objects, are all that two cores can do. The job's
cores also carry what reads, splits, joins and commits, and whatever else the machine does at that moment, so that the clock
on the wall says little on a machine that others use as well. What is compared is records per CPU second *that the cores had to
give*: cores x seconds, less what processes outside took (with the hypervisor's). What a side leaves idle counts as given, and
slipway's own processes are no outsiders: on an idle machine this is the ratio of the two rates on the wall. On a busy one
others run in what a side leaves idle, which is then not seen: the figure counts on a quiet machine, and says so on another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench import report, transform_jobs
from bench.serving import IMAGE, image_python
from bench.transform_jobs import SINGLE, Cores, Jobs

ROWS = 1_200_000
OBJECTS = 12
FIELDS = 20
QUIET = 0.1
"""Of the cores for others, beyond which they also fill what a job leaves idle."""
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
print("ready", flush=True)
sys.stdin.readline()
began = time.time()
for path in sys.argv[3:]:
    with open(path) as source, open(path + sys.argv[2], "w") as target:
        while lines := source.readlines(6 << 20):
            rows = inference.predict_fn(inference.input_fn("".join(lines), "text/csv"), model)
            target.write(inference.output_fn(rows, "text/csv")[0])
print(json.dumps([began, time.time()]), flush=True)
"""

Span = tuple[float, float]
"""Moments of time.time."""


def run(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        bench = _Bench(folder, stack.enter_context(transform_jobs.running()))
        cores = min(2, len(os.sched_getaffinity(0)))
        loops: dict[int, list[_Taken]] = {1: [], cores: []}
        jobs: dict[int, list[_Taken]] = {1: [], 2: []}
        for number in range(arguments.rounds):
            for count, found in loops.items():
                found.append(bench.loops(count))
            for instances, found in jobs.items():
                found.append(bench.job(f"large-{number}-{instances}", instances))
        for title, side in (("plain loop(s)", loops), ("instance(s)", jobs)):
            for count, found in side.items():
                wall, given, used = (statistics.median(each[at] for each in found) for at in range(3))
                said = f"{wall:.2f} s, {used:.2f} CPU seconds of {given:.2f} that the cores had"
                print(f"  {count} {title}: {ROWS / wall:,.0f} records/s ({said})")
        one = statistics.median(each[0] for each in loops[1]) / statistics.median(each[0] for each in jobs[1])
        report.verdict("records/s of one instance, against a plain loop", one, 0.9, 1.0)
        two = statistics.median(each[1] for each in loops[cores]) / statistics.median(each[1] for each in jobs[2])
        title = f"records per CPU second given, two instances against {cores} loops at once"
        report.verdict(title, two, 0.9, 1.0)
        outside = statistics.median(1 - each[1] / (cores * each[0]) for each in jobs[2])
        if outside > QUIET:
            print(f"  (others had {outside:.0%} of the cores, and what the job left idle: take this figure on a quiet machine)")
        print(f"  memory of the dispatcher after it: {bench.jobs.role('dispatcher').memory_full_info().pss / 1e6:.0f} MB (PSS)")


_Taken = tuple[float, float, float]
"""Seconds, CPU seconds that the cores had, CPU seconds that were used."""


class _Bench:
    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self.folder = folder
        self.jobs = jobs
        self.python = image_python(IMAGE)
        (folder / "inference.py").write_text(MODEL)
        (folder / "loop.py").write_text(LOOP)
        line = ",".join(f"{0.37 * n:.4f}" for n in range(FIELDS))
        rest = line[line.index(",") + 1 :]
        self.files: list[str] = []
        for part in range(OBJECTS):
            rows = range(part * ROWS // OBJECTS, (part + 1) * ROWS // OBJECTS)
            data = "".join(f"{number % 97}.5,{rest}\n" for number in rows).encode()
            path = folder / f"{part:03}.csv"
            path.write_bytes(data)
            self.files.append(str(path))
            jobs.s3.put_object(Bucket="bench", Key=f"large/{path.name}", Body=data)
        jobs.model("m", MODEL, 1)
        self.job("warm", 1)

    def loops(self, count: int) -> _Taken:
        """So many plain loops at once, which share the files."""
        single = {**os.environ, **SINGLE}
        command = [self.python, str(self.folder / "loop.py"), str(self.folder)]
        begun = [
            subprocess.Popen(
                [*command, ".out", *self.files[number::count]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=single,
                text=True,
            )
            for number in range(count)
        ]
        for each in begun:
            assert each.stdout is not None
            each.stdout.readline()
        cores = Cores(psutil.Process())
        for each in begun:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        spans: Sequence[Span] = [json.loads(each.communicate()[0]) for each in begun]
        cores.close()
        return _taken(cores, min(span[0] for span in spans), max(span[1] for span in spans))

    def job(self, name: str, instances: int) -> _Taken:
        cores = Cores(self.jobs.keeper)
        self.jobs.create(name, "m", "large/", instances, {}, MaxConcurrentTransforms=1)
        begun, ended = self.jobs.ended(name)
        cores.close()
        return _taken(cores, begun, ended)


def _taken(cores: Cores, begun: float, ended: float) -> _Taken:
    return ended - begun, *cores.given(begun, ended)
