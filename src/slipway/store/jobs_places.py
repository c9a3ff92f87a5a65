"""Where asynchronous requests belong: endpoints as invocations and claims look for them, and what became of those gone."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, and_, bindparam, select

from slipway.core.asynchronous import AsyncOptions
from slipway.core.deployments import Reached
from slipway.store.jobs import QUEUE_COLUMNS, Place, Queue, queues, requests, to_queue
from slipway.store.resources import resources

KIND = "endpoint"
SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack")
"""Statuses of an endpoint whose requests are accepted and claimed."""

Version = tuple[str, float, int, float]


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint that a request names."""

    place: Place
    serving: bool
    version: Version
    """Another one whenever what it serves with may be another: a key for whoever remembers `options`."""


_c = resources.c
_NAMED = and_(
    _c.account == bindparam("of_account"),
    _c.region == bindparam("of_region"),
    _c.kind == KIND,
    _c.key == bindparam("of_key"),
)
_FIND = select(_c.name, _c.arn, _c.created, _c.status, _c.observed_generation, _c.modified).where(_NAMED)
_SERVED_QUEUE = (
    select(*QUEUE_COLUMNS)
    .select_from(queues.join(resources, and_(_c.arn == queues.c.arn, _c.created == queues.c.created)))
    .where(_NAMED, _c.status.in_(SERVING))
)
_SERVED = select(_c.arn).where(_c.arn == queues.c.arn, _c.created == queues.c.created, _c.status.in_(SERVING)).exists()
_BUSY = (queues.c.queued > 0) | (queues.c.running > 0)


def find(connection: Connection, account: str, region: str, endpoint: str) -> Found | None:
    """The endpoint of exactly that name: runtime calls must match its case (hosting.md 2.1)."""
    row = connection.execute(_FIND, {"of_account": account, "of_region": region, "of_key": endpoint.lower()}).first()
    if row is None or row[0] != endpoint:
        return None
    _, arn, created, status, observed, modified = row
    place = Place(account, region, endpoint, arn, created)
    return Found(place, status in SERVING, (arn, created, observed, modified))


def options(connection: Connection, place: Place) -> AsyncOptions | None:
    """The AsyncInferenceConfig that the endpoint serves with; None: it is not asynchronous, or gone."""
    where = and_(_c.arn == place.arn, _c.created == place.created)
    observed = connection.execute(select(_c.observed).where(where)).scalar()
    serving = msgspec.convert(observed, Reached).serving if observed else None
    return serving.asynchronous if serving is not None else None


def serving_queue(connection: Connection, account: str, region: str, endpoint: str) -> Queue | None:
    """The queue of the endpoint that now bears the name and is in service; None: there is none, or it has had no request."""
    values = {"of_account": account, "of_region": region, "of_key": endpoint.lower()}
    row = connection.execute(_SERVED_QUEUE, values).first()
    return None if row is None else to_queue(row)


def busy_queues(connection: Connection) -> list[Queue]:
    """Those with requests that have not ended."""
    return [to_queue(row) for row in connection.execute(select(*QUEUE_COLUMNS).where(_BUSY).order_by(queues.c.id))]


def unserved_queues(connection: Connection) -> list[Queue]:
    """Busy queues whose endpoint is not in service (any more)."""
    return [to_queue(row) for row in connection.execute(select(*QUEUE_COLUMNS).where(_BUSY, ~_SERVED).order_by(queues.c.id))]


def fate(connection: Connection, place: Place) -> str | None:
    """What became of an endpoint that serves no more, to follow its name in a sentence; None: it may serve again."""
    where = and_(_c.arn == place.arn, _c.created == place.created)
    row = connection.execute(select(_c.status, _c.reason).where(where)).first()
    if row is None or row[0] == "Deleting":
        return "was deleted"
    return f"failed ({row[1][:512]})" if row[0] == "Failed" else None


def drop_queues(connection: Connection) -> int:
    """Drop the queues of endpoints that are gone, once no record of a request names them; how many."""
    known = select(_c.arn).where(_c.arn == queues.c.arn, _c.created == queues.c.created).exists()
    used = select(requests.c.id).where(requests.c.queue == queues.c.id).exists()
    return int(connection.execute(queues.delete().where(~_BUSY, ~known, ~used)).rowcount)
