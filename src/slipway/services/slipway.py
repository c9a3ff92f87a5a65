"""slipway's own routes, under `/_slipway/`: whether it lives, how it is, credentials for models; and what a browser is told."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

from slipway import __version__
from slipway.core.routing import Key
from slipway.http.messages import Request, Response
from slipway.names import replica_principal
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.store import keys, resources
from slipway.store.db import Connection

PREFIX = b"/_slipway/"
GREETING = """\
This is slipway: Amazon SageMaker inference on your own machines.
It speaks AWS's API to AWS's clients, and has no pages for a browser. In a shell:

    eval "$(slipway env)"
    aws sagemaker list-endpoints
    slipway status
    slipway logs ENDPOINT
"""
_LOGS_LINK = b"/cloudwatch/home?region="
"""What a ModelError's text refers to; AWS has a page of its console there."""
SCOPE = "slipway"
"""Service in the credential scope of signed requests to these routes."""
SESSION_SECONDS = 3600
KEPT_SECONDS = SESSION_SECONDS / 2
"""Credentials that are good for longer than this are given again; SDKs ask 15 minutes before the end."""
DATA_SERVICES = ("s3", "sagemaker-runtime", "logs")
"""What a model may call with the credentials it gets; never the control plane."""


class Auth(Enum):
    """How a route decides who may call. There is no default."""

    SIGNATURE = "signature"
    TOKEN = "token"  # noqa: S105 - the name of a way, not a secret
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class OwnRoute:
    method: str
    path: re.Pattern[bytes]
    auth: Auth
    answer: Callable[[World, Request, Caller | None, re.Match[bytes]], Awaitable[Response]]


def json_response(status: int, value: object) -> Response:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Response(status, headers, msgspec.json.encode(value))


async def health(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """That control answers, and nothing else."""
    return json_response(200, {"status": "ok"})


async def greeting(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """For a person who typed the address that `slipway up` printed into a browser. Tells nothing about this slipway."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    return Response(200, headers, GREETING.encode())


def is_browser(request: Request) -> bool:
    """A page is asked for: AWS's clients sign, and none of them wants HTML."""
    if request.method != "GET" or request.header(b"authorization") is not None:
        return False
    ours = request.target == b"/" or request.target.startswith(_LOGS_LINK)
    return ours and b"text/html" in (request.header(b"accept") or b"")


async def status(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """What `slipway status` shows: the caller's endpoints in all regions."""
    if caller is None:
        return json_response(403, {"message": "not signed"})
    every = await world.db.read(lambda c: resources.every(c, "endpoint"))
    rows = [
        {
            "name": row.name,
            "region": row.region,
            "status": row.status,
            "reason": row.reason,
            "created": row.created,
            "modified": row.modified,
        }
        for row in every
        if row.account == caller.account
    ]
    return json_response(200, {"version": __version__, "account": caller.account, "endpoints": rows})


async def credentials(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """Expiring credentials of a replica (SDKs ask at AWS_CONTAINER_CREDENTIALS_FULL_URI, and again before they expire).

    The replica's row holds the token that its environment was given; with the row go the credentials. Who asks often is
    given the same ones: a model must not be able to fill the store and the gateways with keys.
    """
    id, sent = match["id"].decode(), request.header(b"authorization") or b""
    now = world.now()

    def look(connection: Connection) -> tuple[Mapping[str, Any] | None, Key | None]:
        row = resources.replica(connection, id)
        spec = row.spec if row is not None else {}
        expected = str(spec.get("platform", {}).get("AWS_CONTAINER_AUTHORIZATION_TOKEN", ""))
        if not hmac.compare_digest(expected.encode(), sent) or not expected:
            return None, None
        held = keys.held_by(connection, replica_principal(spec["region"], spec["account"], id), now + KEPT_SECONDS)
        return spec, next((key for key in held if key.services == DATA_SERVICES), None)

    def write(connection: Connection) -> Key | None:
        spec, key = look(connection)
        if spec is not None and key is None:
            principal = replica_principal(spec["region"], spec["account"], id)
            key = keys.mint_session(spec["account"], principal, now + SESSION_SECONDS, DATA_SERVICES)
            keys.add(connection, key, now)
        return key

    spec, key = await world.db.read(look)
    if spec is not None and key is None:
        key = await world.db.write(write)
        await world.keys_changed()
    if key is None or key.expires is None:
        return json_response(403, {"code": "AccessDenied", "message": "no such replica, or not its token"})
    expires = datetime.fromtimestamp(int(key.expires), UTC)
    return json_response(
        200,
        {
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "Token": key.token,
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "AccountId": key.account,
        },
    )


ROUTES = (
    OwnRoute("GET", re.compile(rb"/|/cloudwatch/home"), Auth.OPEN, greeting),
    OwnRoute("GET", re.compile(rb"/_slipway/health"), Auth.OPEN, health),
    OwnRoute("GET", re.compile(rb"/_slipway/status"), Auth.SIGNATURE, status),
    OwnRoute("GET", re.compile(rb"/_slipway/credentials/(?P<id>[A-Za-z0-9.-]{1,64})"), Auth.TOKEN, credentials),
)
