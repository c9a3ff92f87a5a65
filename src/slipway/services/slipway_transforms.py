"""slipway's own routes about transform jobs, under `/_slipway/transforms`: what AWS has no operation for (design.md 5).

| method, path | is |
| --- | --- |
| GET `/_slipway/transforms` | the account's jobs in the region, newest first, each counted: `limit` |
| GET `/_slipway/transforms/JOB` | one of them |
| GET `/_slipway/transforms/JOB/objects` | a page of its objects in order: `state`, `after`, `limit` |

Parameters are in the query, answers are JSON; times are epoch seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from slipway.core.transform_jobs import KIND
from slipway.core.transforms import BROKEN, CUT, DONE, QUEUED, RUNNING, TERMINAL, Counts
from slipway.http.messages import Request, Response
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.slipway import Auth, OwnRoute, json_response
from slipway.services.slipway_queries import parameters, signer
from slipway.store import resources, transforms
from slipway.store.db import Connection
from slipway.store.resources import Query, Resource
from slipway.wire.errors import AwsError

MOST = 1000
"""Of one answer."""
STATES = (QUEUED, RUNNING, DONE, BROKEN, CUT)

_Match = re.Match[bytes]


async def overview(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    known, query = signer(caller), parameters(request)
    wanted = Query(limit=_limit(query, 20), descending=True)

    def read(connection: Connection) -> list[dict[str, Any]]:
        page = resources.find(connection, known.account, known.region, KIND, wanted)
        return [_shown(world, job, transforms.counts(connection, job.arn)) for job in page.items]

    return json_response(200, {"jobs": await world.db.read(read)})


async def one(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    known, name = signer(caller), match["job"].decode()

    def read(connection: Connection) -> dict[str, Any]:
        job = _job(connection, known, name)
        return _shown(world, job, transforms.counts(connection, job.arn))

    return json_response(200, await world.db.read(read))


async def objects(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """`next` is the next page's `after`, null on the last."""
    known, query, name = signer(caller), parameters(request), match["job"].decode()
    limit = _limit(query, 100)
    states = tuple(each for each in query.get("state", "").split(",") if each)
    if unknown := [each for each in states if each not in STATES]:
        raise AwsError("ValidationError", f"{unknown[0]} is no state of an object: {', '.join(STATES)}", status=400)
    after = int(query["after"]) if query.get("after", "").isdecimal() else 0

    def read(connection: Connection) -> list[transforms.Row]:
        return transforms.report(connection, _job(connection, known, name).arn, after, limit, states)

    rows = await world.db.read(read)
    more = rows[-1].id if len(rows) == limit else None
    return json_response(200, {"objects": [msgspec.to_builtins(row) for row in rows], "next": more})


def _job(connection: Connection, caller: Caller, name: str) -> Resource:
    job = resources.get(connection, caller.account, caller.region, KIND, name)
    if job is None:
        raise AwsError("ResourceNotFound", f"There is no transform job {name}.", status=404)
    return job


def _shown(world: World, job: Resource, counts: Counts) -> dict[str, Any]:
    records, now = world.transform_records(job.arn), world.now()
    ended = job.observed.get("ended")
    return {
        "job": job.name,
        "status": job.status,
        "reason": job.reason,
        "created": job.created,
        "ended": ended,
        "now": now,
        "listed": job.observed.get("listed", False),
        "objects": counts.total,
        "done": counts.done,
        "failed": counts.failed,
        "stopped": counts.stopped,
        "running": counts.running,
        "queued": counts.queued,
        "records": counts.records + (records if job.status not in TERMINAL else 0),
        "bad": counts.bad,
    }


def _limit(query: Mapping[str, str], default: int) -> int:
    given = query.get("limit", "")
    return max(1, min(int(given), MOST)) if given.isdecimal() else default


_JOB = rb"/_slipway/transforms/(?P<job>[a-zA-Z0-9-]{1,63})"
ROUTES = (
    OwnRoute("GET", re.compile(rb"/_slipway/transforms"), Auth.SIGNATURE, overview),
    OwnRoute("GET", re.compile(_JOB), Auth.SIGNATURE, one),
    OwnRoute("GET", re.compile(_JOB + rb"/objects"), Auth.SIGNATURE, objects),
)
