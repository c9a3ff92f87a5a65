"""`make bench`: every figure of the design's table that this version reaches, as ratios of one interleaved run.

example: python -m bench gateway peers --seconds 3 --rounds 5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import (
    asynchronous,
    batching,
    frameworks,
    gateway,
    hotpath,
    lifecycle,
    models,
    peers,
    pipelines,
    transform,
    transform_memory,
    transform_small,
)
from bench.load import Absent

SUITES: dict[str, Callable[[argparse.Namespace], None]] = {
    "hotpath": hotpath.run,
    "gateway": gateway.run,
    "peers": peers.run,
    "lifecycle": lifecycle.run,
    "async": asynchronous.run,
    "frameworks": frameworks.run,
    "batching": batching.run,
    "transform": transform.run,
    "transform-memory": transform_memory.run,
    "transform-small": transform_small.run,
    "pipelines": pipelines.run,
    "models": models.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", default=list(SUITES), help=f"which of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown (default: 3)")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="transform-memory: of the object, unpacked (default: 1)")
    parser.add_argument("--objects", type=int, default=10_000, help="transform-small: how many (default: 10000)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.suites if name not in SUITES]:
        parser.error(f"no suite {unknown[0]!r}: choose from {', '.join(SUITES)}")
    begun = time.perf_counter()
    for name in arguments.suites:
        print(f"\n## {name}\n", flush=True)
        try:
            SUITES[name](arguments)
        except Absent as error:
            print(f"absent: {error}")
    print(f"\n{time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
