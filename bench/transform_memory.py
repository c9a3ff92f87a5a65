"""How much memory each process takes at most while a transform job reads one gzip object of many gigabytes.

example: python -m bench transform-memory --gigabytes 5

The object is gzip of csv lines, the model answers with what it is given, so that as many bytes are written as are read.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile

from bench import report, transform_jobs
from bench.load import Absent
from bench.transform_jobs import ECHO, ROLES, Peaks

_LINES = 10_000
_MOST = 200.0
"""MB of all roles that serve a job's data, as the issue has it."""


def run(arguments: argparse.Namespace) -> None:
    with transform_jobs.running() as jobs:
        jobs.model("echo", ECHO, 2)
        block = b"".join(b"%07d,%s\n" % (number, b"abcdefghij" * 9) for number in range(_LINES))
        packed = gzip.compress(block, 1)
        count = max(1, round(arguments.gigabytes * 1e9 / len(block)))
        with tempfile.TemporaryFile() as whole:  # gzip members, one after the other, are gzip
            for _ in range(count):
                whole.write(packed)
            whole.seek(0)
            jobs.s3.upload_fileobj(whole, "bench", "packed/large.gz")
        peaks = Peaks(jobs)
        jobs.create("large", "echo", "packed/", 1, {"CompressionType": "Gzip"})
        begun, ended = jobs.ended("large")
        peaks.close()
        size = jobs.s3.head_object(Bucket="bench", Key="out/large/large.gz.out")["ContentLength"]
        if size != count * len(block):
            raise Absent(f"the output has {size} bytes, not {count * len(block)}")
        passed = ended - begun
        print(f"  {size / 1e9:.1f} GB unpacked, {count * len(packed) / 1e6:.0f} MB of gzip: {size / passed / 1e6:.0f} MB/s")
        for line in peaks.lines():
            print(line)
        report.verdict("most memory of the dispatcher", peaks.most["dispatcher"] / 1e6, _MOST, 125.0, unit="MB", at_most=True)
        every = sum(peaks.most[role] for role in ROLES) / 1e6
        print(f"  all roles together: {every:.0f} MB at most, each at its own highest", flush=True)
