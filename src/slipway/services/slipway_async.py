"""slipway's own routes about asynchronous requests, under `/_slipway/async`: what AWS has no operation for (design.md 5).

| method, path | is |
| --- | --- |
| GET `/_slipway/async` | the account's asynchronous endpoints in the region, each counted |
| GET `/_slipway/async/requests` | a page of an `endpoint`'s: `state`, `dead`, `since`, `until`, `after`, `order`, `limit` |
| GET `/_slipway/async/status` | every request of an `inference_id`, or the one of an `id` |
| POST `/_slipway/async/cancel` | the same ones, if they have not ended |
| POST `/_slipway/async/replay` | those of them that ended without success, once more |
| POST `/_slipway/async/purge` | cancel everything that an `endpoint` has queued |

Parameters are in the query, answers are JSON; times are epoch seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.core.asynchronous import QUEUED, RUNNING, TERMINAL, State
from slipway.http.messages import Request, Response
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.runtime.invoke_async import ordered_uuid
from slipway.services.slipway import Auth, OwnRoute, json_response
from slipway.services.slipway_queries import invalid, parameters, signer
from slipway.store import jobs, jobs_claims, jobs_queries, jobs_replay, topics_outbox
from slipway.store.db import Connection
from slipway.store.jobs import COUNTED, Job, Place, Queue
from slipway.store.jobs_queries import Backlog, Wanted
from slipway.store.jobs_settle import Result, Rules
from slipway.wire.errors import AwsError

MOST = 1000
"""Requests of one answer."""
ROUNDS = 100
"""Transactions of one purge; the answer says whether more is queued."""

_Match = re.Match[bytes]


async def overview(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """Endpoints that have had a request, and how many of their requests are where."""
    known = signer(caller)
    now = world.now()
    found = await world.db.read(lambda c: jobs_queries.backlogs(c, known.account))
    endpoints = [_counted(each, now) for each in found if each.queue.place.region == known.region]
    return json_response(200, {"endpoints": endpoints})


async def listing(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """One page; `next` is the next page's `after`, null on the last."""
    known, query = signer(caller), parameters(request)
    endpoint = _needed(query, "endpoint")
    wanted = Wanted(
        states=_states(query),
        received_after=_number(query, "since"),
        received_before=_number(query, "until"),
        dead=query.get("dead") == "1",
        after=int(_number(query, "after") or 0),
        newest_first=query.get("order") == "newest",
        limit=max(1, min(int(_number(query, "limit") or 100), MOST)),
    )
    now = world.now()

    def read(connection: Connection) -> list[dict[str, Any]]:
        of = {queue.id: queue for queue in jobs_queries.named_queues(connection, known.account, known.region, endpoint)}
        found = jobs_queries.page(connection, list(of), wanted)
        return [_shown(connection, job, of[job.queue], now, detailed=False) for job in found]

    shown = await world.db.read(read)
    more = shown[-1]["id"] if len(shown) == wanted.limit else None
    return json_response(200, {"requests": shown, "next": more})


async def status(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """All there is to know of the requests; 404 when there is none."""
    known, query = signer(caller), parameters(request)
    now = world.now()

    def read(connection: Connection) -> list[dict[str, Any]]:
        found = _named(connection, known, query)
        return [_shown(connection, job, queue, now, detailed=True) for job, queue in found]

    return json_response(200, {"requests": await world.db.read(read)})


async def cancel(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """Ids of those that were cancelled, and of those that had ended already."""
    known, query = signer(caller), parameters(request)
    rules, now = _rules(world), world.now()

    def write(connection: Connection) -> tuple[list[int], Result]:
        ids = [job.id for job, _ in _named(connection, known, query)]
        return ids, jobs_claims.cancel(connection, ids, rules, now)

    ids, result = await world.db.write(write)
    world.async_ended(result)
    cancelled = {each.job.id for each in result.settled}
    return json_response(200, {"cancelled": sorted(cancelled), "ended": [each for each in ids if each not in cancelled]})


async def replay(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """For each: the new request's id and output location, or why not."""
    known, query = signer(caller), parameters(request)
    now, bound = world.now(), world.settings.limits.async_queue

    def write(connection: Connection) -> tuple[list[dict[str, Any]], list[Place]]:
        told: list[dict[str, Any]] = []
        places: list[Place] = []
        named = _named(connection, known, query)
        alone = len(named) == 1
        for job, queue in named:
            if job.state not in jobs_replay.REPLAYABLE and not alone:
                continue  # of several requests of one id, those that can be
            name = ordered_uuid(now, os.urandom(10))
            made = jobs_replay.replay(connection, job, queue, name, bound=bound, now=now)
            if made.accepted is None or made.place is None:
                told.append({"replay_of": job.id, "error": made.why})
                continue
            places.append(made.place)
            location = made.accepted.output_location
            told.append({"replay_of": job.id, "id": made.accepted.id, "output_location": location})
        return told, places

    told, places = await world.db.write(write)
    world.async_arrived(places)
    return json_response(200, {"replayed": told})


async def purge(world: World, request: Request, caller: Caller | None, match: _Match) -> Response:
    """Cancel what the endpoint has queued; how many, and how many are left (arrived meanwhile)."""
    known, query = signer(caller), parameters(request)
    endpoint = _needed(query, "endpoint")
    queues = await world.db.read(lambda c: jobs_queries.named_queues(c, known.account, known.region, endpoint))
    if not queues:
        raise AwsError("NotFound", f"No asynchronous endpoint {endpoint} has had a request here.", status=404)
    cancelled = 0
    for queue in queues:
        for _ in range(ROUNDS):
            result = await _purge_some(world, queue.id)
            cancelled += len(result.settled)
            if not result.settled:
                break
    left = await world.db.read(lambda c: jobs_queries.named_queues(c, known.account, known.region, endpoint))
    return json_response(200, {"cancelled": cancelled, "queued": sum(queue.queued for queue in left)})


async def _purge_some(world: World, queue: int) -> Result:
    rules, now = _rules(world), world.now()
    result = await world.db.write(lambda c: jobs_claims.purge(c, queue, rules, now))
    world.async_ended(result)
    return result


def _rules(world: World) -> Rules:
    return world.async_rules or Rules(lambda connection, topic, messages, now: [None] * len(messages))


# What is asked for


def _needed(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise invalid(f"{name} is missing")
    return query[name]


def _number(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if not text:
        return None
    if re.fullmatch(r"\d{1,17}(\.\d{1,9})?", text) is None:
        raise invalid(f"{name} must be a number")
    return float(text) if "." in text else int(text)


def _states(query: Mapping[str, str]) -> tuple[State, ...]:
    wanted = [state for state in query.get("state", "").split(",") if state]
    known = tuple(state for state in COUNTED if state in wanted)
    if len(known) != len(set(wanted)):
        raise invalid(f"state is one of {', '.join(COUNTED)}, or several with commas between")
    return known


def _named(connection: Connection, caller: Caller, query: Mapping[str, str]) -> list[tuple[Job, Queue]]:
    """The requests of an InferenceId, or the one of an id; of an endpoint if it is given."""
    inference_id, ident = query.get("inference_id"), _number(query, "id")
    if inference_id:
        found = jobs_queries.by_inference_id(connection, caller.account, caller.region, inference_id)
    elif ident is not None:
        found = _by_id(connection, caller, int(ident))
    else:
        raise invalid("inference_id or id is missing")
    endpoint = query.get("endpoint")
    found = [each for each in found if not endpoint or each[1].place.endpoint == endpoint]
    if not found:
        named = f"InferenceId {inference_id[:64]}" if inference_id else f"id {int(ident or 0)}"
        raise AwsError("NotFound", f"There is no asynchronous request with {named}.", status=404)
    return found


def _by_id(connection: Connection, caller: Caller, ident: int) -> list[tuple[Job, Queue]]:
    job = jobs.get(connection, ident)
    queue = jobs.queues_by_id(connection, [job.queue]).get(job.queue) if job is not None else None
    if job is None or queue is None or (queue.place.account, queue.place.region) != (caller.account, caller.region):
        return []
    return [(job, queue)]


# What is shown


def _counted(backlog: Backlog, now: float) -> dict[str, Any]:
    queue = backlog.queue
    counts: dict[str, int] = {state: getattr(queue, state) for state in COUNTED}
    counts[QUEUED] += backlog.ahead
    counts[RUNNING] -= backlog.ahead
    age = None if backlog.oldest is None else max(0.0, now - backlog.oldest)
    return {"endpoint": queue.place.endpoint, "created": queue.place.created, **counts, "oldest_age": age, "now": now}


def _shown(connection: Connection, job: Job, queue: Queue, now: float, *, detailed: bool) -> dict[str, Any]:
    waits = jobs_queries.waits(job)
    shown: dict[str, Any] = {
        "id": job.id,
        "inference_id": job.inference_id,
        "endpoint": queue.place.endpoint,
        "state": QUEUED if waits else job.state,
        "received": job.received,
        "age": max(0.0, (job.finished if job.finished is not None else now) - job.received),
        "attempts": job.attempts,
        "finished": job.finished,
        "output_location": job.output_location,
        "cause_kind": job.cause_kind,
        "cause": job.cause,
        "dead": bool(job.dead),
        "replay_of": job.replay_of,
    }
    if not detailed:
        return shown
    shown |= {
        "input_location": job.input_location,
        "content_type": job.content_type,
        "failure_location": job.failure_location,
        "expires": job.expires,
        "timeout": job.timeout,
        "container_status": job.status,
        "notification": _notification(connection, job),
    }
    if waits:
        shown["ready_at"] = job.ready_at or None
        shown["position"] = jobs_queries.position(connection, job) + 1
    elif job.state == RUNNING or job.state in TERMINAL:
        shown |= {"claimed": job.claimed, "started": job.started, "variant": job.variant, "instance": job.instance}
    return shown


def _notification(connection: Connection, job: Job) -> dict[str, Any] | None:
    """The topic that was told, and how the deliveries to its subscriptions stand."""
    if job.notice is None:
        return None
    shown = dict(job.notice)
    message = shown.get("message")
    outcomes: Sequence[topics_outbox.Outcome] = ()
    if isinstance(message, str):
        outcomes = topics_outbox.outcomes_of(connection, [message])
    shown["deliveries"] = [
        {"subscription": each.subscription, "state": each.state, "cause": each.cause, "attempts": each.attempts, "at": each.at}
        for each in outcomes
    ]
    return shown


ROUTES = (
    OwnRoute("GET", re.compile(rb"/_slipway/async"), Auth.SIGNATURE, overview),
    OwnRoute("GET", re.compile(rb"/_slipway/async/requests"), Auth.SIGNATURE, listing),
    OwnRoute("GET", re.compile(rb"/_slipway/async/status"), Auth.SIGNATURE, status),
    OwnRoute("POST", re.compile(rb"/_slipway/async/cancel"), Auth.SIGNATURE, cancel),
    OwnRoute("POST", re.compile(rb"/_slipway/async/replay"), Auth.SIGNATURE, replay),
    OwnRoute("POST", re.compile(rb"/_slipway/async/purge"), Auth.SIGNATURE, purge),
)
