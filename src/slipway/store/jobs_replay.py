"""Asynchronous requests done again: a new request in the place of one that failed, was cancelled or expired."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, update

from slipway.core.asynchronous import CANCELLED, EXPIRED, FAILED
from slipway.store import jobs, jobs_places
from slipway.store.jobs import Accepted, Job, NewRequest, Place, Queue, requests

REPLAYABLE = frozenset({FAILED, EXPIRED, CANCELLED})
REPLAYED = 2
"""`Job.dead` of a dead letter that was replayed: it is no more among those that wait for somebody."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """`why` it was not; else the new request and where it was queued."""

    why: str = ""
    accepted: Accepted | None = None
    place: Place | None = None


def replay(connection: Connection, job: Job, queue: Queue, name: str, *, bound: int, now: float) -> Replayed:
    """Queue its input once more, for the endpoint that has the name now; the new request names the old one.

    `name` is the new objects' own: what an earlier attempt wrote stays as it is. A Filename of the caller's is kept.
    """
    if job.state not in REPLAYABLE:
        return Replayed(f"it is {job.state}: only a failed, expired or cancelled request can be replayed")
    old = queue.place
    found = jobs_places.find(connection, old.account, old.region, old.endpoint)
    options = jobs_places.options(connection, found.place) if found is not None and found.serving else None
    if found is None or options is None:
        return Replayed(f"there is no asynchronous endpoint {old.endpoint} in service")
    folder, _, file = job.output_location.rpartition("/")
    row = NewRequest(
        received=now,
        expires=now + (job.expires - job.received),
        timeout=job.timeout,
        inference_id=job.inference_id,
        output_location=f"{folder}/{f'{name}.out' if _own(file) else file}",
        failure_location=None if options.failure_path is None else f"{options.failure_path}/{name}-error.out",
        input_location=job.input_location,
        body=jobs.body(connection, job.id) if job.input_location is None else None,
        content_type=job.content_type,
        accept=job.accept,
        custom_attributes=job.custom_attributes,
        replay_of=job.id,
    )
    (answer,) = jobs.accept(connection, found.place, options, [row], bound=bound, now=now)
    if not isinstance(answer, Accepted):
        return Replayed(f"the queue of endpoint {old.endpoint} is full: {bound} requests wait or run")
    if job.dead:
        connection.execute(update(requests).where(requests.c.id == job.id).values(dead=REPLAYED))
    return Replayed(accepted=answer, place=found.place)


def _own(file: str) -> bool:
    """Whether an output's name is one that we made (a UUID), and not the caller's Filename."""
    stem = file.removesuffix(".out")
    return stem != file and len(stem) == 36 and stem.count("-") == 4
