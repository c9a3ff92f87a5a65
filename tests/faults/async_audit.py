"""What was promised to callers of asynchronous inference, checked from the outside once a storm is over."""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from slipway.cli import own_routes
from slipway.cli.options import UsageError
from tests.deadlines import PATIENCE
from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import BUCKET, Deployments, until
from tests.faults.async_clients import Clients, Request
from tests.faults.async_consumer import Consumer, patiently
from tests.faults.async_model import Executions
from tests.faults.load import hosts

ATTEMPTS = 3
"""`limits.async_attempts`."""
LATE = 3.0
"""Seconds by which the listener of executions may lag behind on a busy machine."""
HITS = frozenset({"dispatcher", "worker", "host", "keeper"})
"""Kills that may cost a request an execution; those of gateway and control may not."""


def ask(server: Deployments, path: str, method: str = "GET", **query: str | int) -> Any:
    """What one of slipway's own routes says; waits while there is nobody to say it."""
    where = argparse.Namespace(data_dir=str(server.launched.data_dir), config=None)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return own_routes.call(where, method, f"/_slipway/async{path}?{urlencode(query)}")
        except (UsageError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def counts(found: Asynchronous) -> dict[str, int]:
    """The endpoint's requests by state."""
    totals: collections.Counter[str] = collections.Counter()
    for each in ask(found.server, "")["endpoints"]:
        if each["endpoint"] == found.name:
            states = ("queued", "running", "succeeded", "failed", "expired", "cancelled")
            totals.update({state: each[state] for state in states})
    return dict(totals)


def listed(found: Asynchronous) -> list[dict[str, Any]]:
    """All requests that slipway knows of."""
    rows: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = ask(found.server, "/requests", endpoint=found.name, limit=1000, after=after)
        rows += page["requests"]
        after = page["next"]
    return rows


def settled(found: Asynchronous, seconds: float) -> None:
    """Wait until all requests have ended, those of earlier endpoints of the name too."""
    until(lambda: all(row["state"] not in ("queued", "running") for row in listed(found)), seconds, "the end of all requests")


def drained(found: Asynchronous, seconds: float) -> None:
    """Wait until the endpoint has nothing queued and nothing runs; at most `seconds` (or PATIENCE) without one that ends."""
    seconds = max(seconds, PATIENCE)
    before, deadline = -1, 0.0
    while (now := counts(found)).get("queued", 0) + now.get("running", 0):
        ended = sum(many for state, many in now.items() if state not in ("queued", "running"))
        if ended > before:
            before, deadline = ended, time.monotonic() + seconds
        assert time.monotonic() < deadline, f"no request has ended for {seconds:.0f} s: {now}"
        time.sleep(0.2)


def heard(consumer: Consumer, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Wait until each of these requests has its notification, and nothing more is in the queue; at most so long without any."""
    seconds = max(seconds, PATIENCE)
    names = {row["inference_id"] for row in rows}
    before, deadline = -1, 0.0
    while missing := names - consumer.of.keys():
        if len(consumer.of) > before:
            before, deadline = len(consumer.of), time.monotonic() + seconds
        assert time.monotonic() < deadline, f"{len(missing)} of {len(names)} requests were not told of: {sorted(missing)[:5]}"
        time.sleep(0.2)
    until(lambda: consumer.left() == (0, 0), seconds, "an empty queue")


def ends(clients: Clients, consumer: Consumer, rows: Sequence[Mapping[str, Any]]) -> None:
    """Each 202 has one request, each request one terminal state and one notification, of which all is true."""
    assert clients.surprises == []
    assert consumer.wrong == []
    names = collections.Counter(row["inference_id"] for row in rows)
    doubled = {name: many for name, many in names.items() if many > 1}
    assert not doubled, f"more than one request: {doubled}"
    assert not (lost := clients.accepted - names.keys()), f"accepted and not there: {sorted(lost)[:5]}"
    assert not (strange := names.keys() - clients.tries.keys()), f"never submitted: {sorted(strange)[:5]}"
    assert not (strange := consumer.of.keys() - names.keys()), f"told of, and not there: {sorted(strange)[:5]}"
    for row in rows:
        told = consumer.of[row["inference_id"]]
        assert len(told) == 1, f"{len(told)} notifications of {row['inference_id']}: {told}"
        (notice,) = told
        assert row["state"] in ("succeeded", "failed"), row
        assert notice.good == (row["state"] == "succeeded"), (row, notice)
        _where_promised(clients.tries[row["inference_id"]], row, notice.where)


def _where_promised(request: Request, row: Mapping[str, Any], where: str) -> None:
    if request.accepted:
        promised = request.output if row["state"] == "succeeded" else request.failure
        assert where == promised, f"{request.id}: announced at {where}, promised at {promised}"
    if row["state"] == "succeeded":
        assert where == row["output_location"], row


def executed(
    executions: Executions, rows: Sequence[Mapping[str, Any]], kills: Sequence[tuple[float, str]], inputs: Mapping[str, str]
) -> collections.Counter[int]:
    """Executions ≤ 1 + the kills that hit the request in flight. `inputs`: their ids by inference id. The histogram."""
    histogram: collections.Counter[int] = collections.Counter()
    for row in rows:
        runs = executions.of.get(inputs[row["inference_id"]], [])
        histogram[len(runs)] += 1
        assert row["attempts"] <= ATTEMPTS, row
        if row["state"] == "succeeded":
            assert any(run.ended is not None for run in runs), f"never executed: {row}"
        for run, again in itertools.pairwise(runs):
            hit = any(run.began - LATE <= at <= again.began and whom in HITS for at, whom in kills)
            died = executions.died.get(run.worker, float("inf")) <= again.began + LATE
            assert hit or died, f"executed again without a kill between: {row}, {runs}"
    return histogram


def uncounted(executions: Executions, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, str]) -> int:
    """Executions beyond the attempts that slipway knows of."""
    return sum(max(0, executions.count(inputs[row["inference_id"]]) - row["attempts"]) for row in rows)


def dead(rows: Sequence[Mapping[str, Any]]) -> int:
    """Only what died with its worker so often may have failed, and says so."""
    failed = [row for row in rows if row["state"] == "failed"]
    for row in failed:
        assert row["dead"], row
        assert row["attempts"] == ATTEMPTS
        assert "The worker died 3 times" in row["cause"], row
    return len(failed)


def objects(found: Asynchronous, rows: Sequence[Mapping[str, Any]]) -> None:
    """One object for each end, and no other."""
    keys = []
    for prefix in ("out/", "failed/"):
        pages = found.server.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{found.name}/{prefix}")
        keys.append({item["Key"] for page in pages for item in page.get("Contents", ())})
    wanted = {row["output_location"].removeprefix(f"s3://{BUCKET}/") for row in rows if row["state"] == "succeeded"}
    assert keys[0] == wanted, f"{len(keys[0] - wanted)} outputs too many, {len(wanted - keys[0])} too few"
    assert len(keys[1]) == sum(row["state"] != "succeeded" for row in rows)


def nothing_is_left(found: Asynchronous, instances: int) -> None:
    """As many model processes as asked for; none once the endpoint is gone; no file once the objects are gone."""
    server = found.server

    def fleet() -> int:
        models = {process.pid for process in hosts(server)}
        return sum(process.ppid() not in models for process in hosts(server))

    server.settle(found.name, "InService")
    until(lambda: patiently(fleet) == instances, what=f"{instances} hosts")
    for role in ("control", "gateway", "dispatcher"):
        until(lambda role=role: len(server.processes(f"slipway.roles.{role}")) == 1, what=f"one {role}")  # type: ignore[misc]
    server.delete(found.name)
    server.gone(found.name)
    until(lambda: not hosts(server), what="no model process")
    for page in server.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        named = [{"Key": item["Key"]} for item in page.get("Contents", ())]
        if named:
            server.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": named, "Quiet": True})
    until(lambda: not blobs(server), what=f"an empty folder of objects instead of {blobs(server)[:5]}")


def blobs(server: Deployments) -> list[str]:
    """Files with contents of objects, and those being written."""
    root = Path(server.launched.data_dir) / "objects"
    return [
        os.path.join(folder, name)
        for folder, _, names in os.walk(root)
        if os.path.basename(folder) != "writers"
        for name in names
    ]


def table(title: str, rows: Mapping[str, object]) -> str:
    width = max(len(name) for name in rows)
    return "\n".join(["", title, *(f"  {name:<{width}}  {value}" for name, value in rows.items())])
