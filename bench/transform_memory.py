"""How much memory each process takes at most while a transform job reads one gzip object of many gigabytes.

example: python -m bench transform-memory --gigabytes 5

The object is gzip of csv lines, the model answers with what it is given, so that as many bytes are written as are read. Once
with the default payload, once with the largest one.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile

from bench import report, transform_jobs
from bench.load import Absent
from bench.transform_jobs import ECHO, ROLES, Peaks

_LINES = 10_000
_MOST = {6: 200.0, 100: 400.0}
"""MB of the dispatcher, by MaxPayloadInMB: a request of 100 MB and its answer are held whole."""
_AIM = {6: 125.0, 100: 300.0}


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
        unpacked = count * len(block)
        print(f"  {unpacked / 1e9:.1f} GB in {count * len(packed) / 1e6:.0f} MB of gzip")
        for payload in (6, 100):
            peaks = Peaks(jobs)
            name = f"payload-{payload}"
            jobs.create(name, "echo", "packed/", 1, {"CompressionType": "Gzip"}, MaxPayloadInMB=payload)
            begun, ended = jobs.ended(name)
            peaks.close()
            size = jobs.s3.head_object(Bucket="bench", Key=f"out/{name}/large.gz.out")["ContentLength"]
            if size != unpacked:
                raise Absent(f"the output has {size} bytes, not {unpacked}")
            print(f"  MaxPayloadInMB {payload}: {size / (ended - begun) / 1e6:.0f} MB/s")
            for line in peaks.lines():
                print(line)
            most = peaks.most["dispatcher"] / 1e6
            report.verdict("most memory of the dispatcher", most, _MOST[payload], _AIM[payload], unit="MB", at_most=True)
            every = sum(peaks.most[role] for role in ROLES) / 1e6
            print(f"  all roles together: {every:.0f} MB at most, each at its own highest", flush=True)
