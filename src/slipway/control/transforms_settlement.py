"""What the settlements of transform objects write, in one transaction: outputs, states, counts; and what follows its commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.core.s3_events import Origin
from slipway.core.transforms import ATTEMPTS, BROKEN, DONE, ObjectOutcome
from slipway.store import resources, transforms
from slipway.store.db import Connection
from slipway.store.jobs_shelf import Shelf


@dataclass(slots=True)
class Settlement:
    """What a transaction did, and what follows its commit."""

    answers: list[bool] = field(default_factory=list)
    ends: list[tuple[ObjectOutcome, str]] = field(default_factory=list)
    rows: dict[int, Any] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    retired: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    """Jobs without an open object."""
    jobs: dict[str, resources.Resource] = field(default_factory=dict)


def settle(connection: Connection, outcomes: Sequence[ObjectOutcome], now: float, origin: Origin) -> Settlement:
    """Settle what holds the newest lease."""
    done = Settlement(rows=transforms.running(connection, outcomes))
    shelf = Shelf(connection, now, origin)
    points = set(transforms.point_blobs(connection, list(done.rows)))
    named: set[str] = set()
    for outcome in outcomes:
        row = done.rows.get(outcome.id)
        done.answers.append(row is not None)
        if row is not None:
            _settle_one(connection, shelf, done, row, outcome, now)
            named.update(blob for staged in outcome.staged for blob, _, _ in staged.segments)
    done.retired.update(shelf.store())
    ended = [outcome.id for outcome, _ in done.ends]
    if points and ended:
        done.retired.update(set(transforms.point_blobs(connection, ended)) - named)
    transforms.end(connection, done.ends)
    transforms.put_back(connection, done.lost, counted=True)
    transforms.put_back(connection, done.released, counted=False)
    for arn in {row.job for row in done.rows.values()}:
        job = resources.get_by_arn(connection, arn)
        if job is not None:
            done.jobs[arn] = job
        if not transforms.unfinished(connection, arn):
            done.complete.add(arn)
    return done


def _settle_one(connection: Connection, shelf: Shelf, done: Settlement, row: Any, outcome: ObjectOutcome, now: float) -> None:
    kind = outcome.kind
    if kind == "published":
        transforms.published(connection, outcome.id, now)
    elif kind == "done" and any(staged.attempt_key is not None for staged in outcome.staged):
        transforms.won(connection, outcome)
    elif kind == "done":
        refused = next((why for staged in outcome.staged if (why := shelf.refused(staged.bucket, row.account))), None)
        if refused is not None:
            bucket = outcome.staged[0].bucket
            cause = f"The output could not be written to bucket {bucket}: {refused}."
            done.ends.append((replace(outcome, kind="failed", cause=cause, bytes_out=0), BROKEN))
            done.retired.update(blob for staged in outcome.staged for blob, _, _ in staged.segments)
            return
        for staged in outcome.staged:
            shelf.put(staged)
        done.ends.append((outcome, DONE))
    elif kind == "failed":
        done.ends.append((outcome, BROKEN))
    elif kind == "lost" and row.attempts + 1 >= ATTEMPTS:
        cause = f"It was given up after {ATTEMPTS} attempts. {outcome.cause}"
        done.ends.append((replace(outcome, kind="failed", cause=cause, client=False), BROKEN))
    elif kind == "lost":
        done.lost.append(outcome.id)
    else:
        done.released.append(outcome.id)
