"""`slipway transform`: batch transform jobs listed, watched, stopped, and their objects reported one by one."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from slipway.cli.client import connect, one_line
from slipway.cli.options import UsageError, add_location
from slipway.cli.own_routes import call
from slipway.core.transforms import counted

EXAMPLE = (
    "  slipway transform list                    # jobs, newest first\n"
    "  slipway transform watch my-job            # progress: objects, records, rate, time to go\n"
    "  slipway transform report my-job           # every object: state, records, cause\n"
    "  slipway transform report my-job --state failed\n"
    "  slipway transform stop my-job"
)
WINDOW_SECONDS = 10.0
"""Over which a rate is measured."""
PAGE = 500
_OVER = ("Completed", "Failed", "Stopped")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|watch|report|stop")
    listing = actions.add_parser("list", help="jobs, newest first")
    listing.add_argument("-n", "--lines", type=int, default=20, metavar="N", help="at most N jobs (default: 20)")
    watching = actions.add_parser("watch", help="progress, until the job has ended")
    watching.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default: 1)")
    report = actions.add_parser("report", help="what became of each object")
    report.add_argument("--state", default="", metavar="STATES", help="any of queued, running, done, failed, stopped")
    stopping = actions.add_parser("stop", help="stop it: objects that are done stay")
    for each in (watching, report, stopping):
        each.add_argument("job", metavar="JOB")
    for each in (listing, report):
        each.add_argument("--json", action="store_true", help="one JSON object in each line")
    for each in actions.choices.values():
        # Also behind the action, where people write them; there they are set only if they are given.
        _add_place(each, default=argparse.SUPPRESS)


def _add_place(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    add_location(parser, default=default)
    text = "where the job is (default: the one of `slipway env`)"
    parser.add_argument("--region", metavar="REGION", default=default, help=text)


def run(args: argparse.Namespace) -> int:
    if args.action == "watch":
        return _watch(args)
    if args.action == "stop":
        _ask(args, f"/{args.job}")  # with a sentence of ours, should there be no such job
        with one_line():
            connect(args, "sagemaker", args.region).stop_transform_job(TransformJobName=args.job)
        print(f"{args.job} is being stopped")
        return 0
    for line in _list(args) if args.action == "list" else _report(args):
        print(line)
    return 0


def _ask(args: argparse.Namespace, path: str, **query: Any) -> Any:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return call(args, "GET", f"/_slipway/transforms{path}{'?' if given else ''}{urlencode(given)}", region=args.region)


def _list(args: argparse.Namespace) -> Iterator[str]:
    for job in _ask(args, "", limit=max(1, args.lines))["jobs"]:
        yield json.dumps(job) if args.json else f"{job['status']:<11} {job['job']:<32} {summary(job)}"


def summary(job: Mapping[str, Any]) -> str:
    """Objects and records in a few words."""
    text = f"{job['done']:,} of {counted(job['objects'], 'object')}, {counted(job['records'], 'record')}"
    if job["failed"]:
        text += f", {counted(job['failed'], 'object')} failed"
    if job["bad"]:
        text += f", {counted(job['bad'], 'bad record')} put aside"
    return text


def _report(args: argparse.Namespace) -> Iterator[str]:
    after: int | None = 0
    while after is not None:
        page = _ask(args, f"/{args.job}/objects", after=after, limit=PAGE, state=args.state)
        for each in page["objects"]:
            yield json.dumps(each) if args.json else object_line(each)
        after = page["next"]


def object_line(each: Mapping[str, Any]) -> str:
    """One object: state, where, how much, and why not."""
    line = f"{each['state']:<8} s3://{each['bucket']}/{each['key']}  {counted(each['records'], 'record')}"
    if each["bad"]:
        line += f", {each['bad']:,} bad"
    if each["started"] is not None and each["finished"] is not None:
        line += f", {each['finished'] - each['started']:.1f} s"
    return f"{line}  {each['cause']}" if each["cause"] else line


class Rate:
    """Records per second over the last readings, and when the job will be through."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def line(self, job: Mapping[str, Any]) -> str:
        now, ended = job["now"], job["done"] + job["failed"]
        self._seen.append((now, job["records"], ended))
        while self._seen[0][0] < now - WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        at, records, before = self._seen[0]
        passed = max(now - at, 1e-9)
        parts = [job["status"], summary(job), f"{max(job['records'] - records, 0) / passed:,.0f} records/s"]
        left = job["queued"] + job["running"]
        if left and ended > before:
            parts.append(f"some {left / ((ended - before) / passed):.0f} s to go")
        return "   ".join(parts)


def _watch(args: argparse.Namespace) -> int:
    """A line every time; on a terminal it is written over. 1 where the job has failed."""
    if not 0.1 <= args.every <= 3600:
        raise UsageError("--every takes 0.1 to 3600 seconds")
    rate, over = Rate(), sys.stdout.isatty()
    while True:
        job = _ask(args, f"/{args.job}")
        text = rate.line(job)
        ended = job["status"] in _OVER
        if over:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:{width}}", end="\n" if ended else "", flush=True)
        else:
            print(text, flush=True)
        if ended:
            if job["reason"]:
                print(job["reason"])
            return 0 if job["status"] == "Completed" else 1
        time.sleep(args.every)
