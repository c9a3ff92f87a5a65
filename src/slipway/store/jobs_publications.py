"""Answers that were won for an external store and whose endpoint went before they were published: control does the rest.

A dispatcher claims for endpoints that it serves. Where there is none, nobody would ever come for these.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from slipway.core.asynchronous import QUEUED, SUCCEEDED, Staged
from slipway.store import jobs
from slipway.store.jobs import COLUMNS, Job, requests
from slipway.store.jobs_places import unserved_queues
from slipway.store.jobs_settle import End, Result, Rules, decided, finish

CHUNK = 100
"""Publications of one look."""

_c = requests.c
_WAITING = (_c.state == QUEUED) & _c.decided.is_not(None)


def unpublished(connection: Connection) -> list[tuple[int, Staged]]:
    """Id and answer of up to CHUNK requests that wait to be published, of endpoints that are not in service."""
    found: list[tuple[int, Staged]] = []
    for queue in unserved_queues(connection):
        if queue.queued and len(found) < CHUNK:
            statement = select(*COLUMNS).where(_c.queue == queue.id, _WAITING).order_by(_c.id).limit(CHUNK - len(found))
            for job in [Job(*row) for row in connection.execute(statement)]:
                won = decided(job)
                if won is not None and won.staged is not None:
                    found.append((job.id, won.staged))
    return found


def published(connection: Connection, ids: Sequence[int], rules: Rules, now: float) -> Result:
    """They are shown under their keys: they have succeeded, unless a dispatcher has taken them since."""
    found = [Job(*row) for row in connection.execute(select(*COLUMNS).where(_c.id.in_(list(ids)), _WAITING))]
    queues = jobs.queues_by_id(connection, sorted({job.queue for job in found}))
    return finish(connection, [End(job, SUCCEEDED, outcome=decided(job)) for job in found], queues, rules, now)
