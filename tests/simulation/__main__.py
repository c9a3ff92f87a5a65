"""`python -m tests.simulation SEED --trace` shows one run; `--seeds N` runs many, in as many processes as there are cores."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

from tests.simulation.run import Library, Simulation, plan_of

CHUNK = 50


def chunk(seeds: range) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Failures, and what came of the requests."""
    logging.disable(logging.CRITICAL)
    began = time.process_time()
    library = Library()
    failures: list[tuple[int, str]] = []
    total: Counter[str] = Counter()
    for seed in seeds:
        try:
            simulation = Simulation(library, plan_of(seed))
            checker = simulation.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed has failed
            failures.append((seed, f"{type(error).__name__}: {error}"))
            continue
        total.update(checker.summary())
        total["executions"] += sum(checker.executions.values())
        total["kills that hit a request"] += sum(checker.hits.values())
        total["steps"] += simulation.site.number
        total["checks"] += checker.checks
    total["CPU milliseconds"] = int((time.process_time() - began) * 1000)
    return failures, total


def chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def many(first: int, count: int, jobs: int) -> int:
    began = time.perf_counter()
    failures: list[tuple[int, str]] = []
    total: Counter[str] = Counter()
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for seeds, (failed, counted) in zip(chunks(first, count), pool.map(chunk, chunks(first, count)), strict=True):
            done += len(seeds)
            failures += failed
            total += counted
            for seed, text in failed:
                print(f"seed {seed}: {text[:600]}\n    replay: python -m tests.simulation {seed} --trace", flush=True)
            if done % 1000 < CHUNK:
                print(f"{done} seeds, {done / (time.perf_counter() - began):.1f} per second", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n{count} seeds in {seconds:.0f} s ({count / seconds:.1f} per second), {len(failures)} failed")
    for name, value in sorted(total.items()):
        print(f"  {name:26} {value}")
    return 1 if failures else 0


def one(seed: int, trace: bool) -> int:
    lines: list[str] | None = [] if trace else None
    plan = plan_of(seed)
    try:
        if not trace:
            logging.disable(logging.CRITICAL)
        checker = Simulation(Library(), plan, lines).run()
    except Exception:  # noqa: BLE001 - as above
        print("\n".join(lines or ()))
        print(plan)
        traceback.print_exc()
        return 1
    print("\n".join(lines or ()))
    print(dict(checker.summary()), dict(checker.executions))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=1, help="the (first) seed")
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="every step of the one run")
    options = parser.parse_args()
    if options.seeds:
        return many(options.seed, options.seeds, options.jobs)
    return one(options.seed, options.trace)


if __name__ == "__main__":
    sys.exit(main())
