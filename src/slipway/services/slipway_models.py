"""`/_slipway/models/ENDPOINT`: which models of a multi-model endpoint are loaded, how large, how used, what had to go and why.

With `/pin`, `/unpin` and `/preload` (`?target=…`): what shall be there. Beyond AWS.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from slipway.core.models import LATE, LOADED, ModelAnswer, ModelsSeen, target_fault
from slipway.http.messages import Request, Response
from slipway.link.channel import LinkClosed, LinkError
from slipway.names import sagemaker_arn
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.slipway import Auth, OwnRoute, json_response

EVICTIONS = 50
"""Of each replica, newest first."""


async def seen(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """Every replica's models."""
    if caller is None or world.models is None:
        return json_response(403, {"message": "not signed"})
    name = match["endpoint"].decode()
    try:
        found = await world.models.seen(sagemaker_arn(caller.region, caller.account, "endpoint", name))
    except (LinkClosed, LinkError, TimeoutError):
        return _keeper_away()
    if found is None:
        return _no_endpoint(name)
    replicas = []
    for variant, models, rows in found:
        about = {"variant": variant, "prefix": models.prefix, "cached": models.cached}
        replicas += [{**about, **_replica(each)} for each in rows]
    return json_response(200, {"endpoint": name, "replicas": replicas})


def _replica(each: ModelsSeen) -> dict[str, Any]:
    return {
        "replica": each.replica,
        "budget": each.budget,
        "used": each.used,
        "measured": each.measured,
        "pinned": list(each.pinned),
        "models": [
            {
                "target": row.target,
                "hash": row.hash,
                "etag": row.etag,
                "state": row.state,
                "bytes": row.bytes,
                "uses": row.uses,
                "idle": round(row.idle, 3),
                "busy": row.busy,
                "pinned": row.pinned,
            }
            for row in sorted(each.models, key=lambda row: (row.idle, row.target))
        ],
        "evictions": [
            {"at": one.at, "target": one.target, "bytes": one.bytes, "uses": one.uses, "why": one.why}
            for one in reversed(each.evictions[-EVICTIONS:])
        ],
    }


async def change(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """Pin (which loads it), unpin, preload."""
    if caller is None or world.models is None:
        return json_response(403, {"message": "not signed"})
    path, _, asked = request.target.partition(b"?")
    name, action = match["endpoint"].decode(), path.rpartition(b"/")[2].decode()
    query = parse_qs(asked.decode("latin-1"), max_num_fields=5)
    target = query.get("target", [""])[0]
    if (fault := target_fault(target)) is not None:
        return json_response(400, {"code": "ValidationError", "message": f"Invalid target {target[:64]!r}: {fault}."})
    arn = sagemaker_arn(caller.region, caller.account, "endpoint", name)
    try:
        if action == "unpin":
            was = await world.models.unpin(arn, target)
            if was is None:
                return _no_endpoint(name)
            return json_response(200, {"endpoint": name, "target": target, "pinned": False, "was_pinned": was})
        answers = await world.models.preload(arn, target, pin=action == "pin", everywhere="everywhere" in query)
    except (LinkClosed, LinkError, TimeoutError):
        return _keeper_away()
    if answers is None:
        return _no_endpoint(name)
    if not answers:
        return json_response(409, {"code": LATE, "message": f"No instance of {name} is ready. Try again."})
    bad: ModelAnswer | None = next((each for each in answers if each.state != LOADED), None)
    if bad is not None:
        return json_response(409, {"code": bad.state, "message": bad.message or f"{target} is not loaded ({bad.state})."})
    return json_response(200, {"endpoint": name, "target": target, "pinned": action == "pin", "replicas": len(answers)})


def _no_endpoint(name: str) -> Response:
    return json_response(404, {"code": "NotFound", "message": f"There is no multi-model endpoint {name} in service."})


def _keeper_away() -> Response:
    return json_response(503, {"code": "ServiceUnavailable", "message": "The keeper does not answer. Try again."})


_ENDPOINT = rb"/_slipway/models/(?P<endpoint>[a-zA-Z0-9-]{1,63})"
ROUTES = (
    OwnRoute("GET", re.compile(_ENDPOINT), Auth.SIGNATURE, seen),
    *(
        OwnRoute("POST", re.compile(_ENDPOINT + b"/" + action), Auth.SIGNATURE, change)
        for action in (b"pin", b"unpin", b"preload")
    ),
)
