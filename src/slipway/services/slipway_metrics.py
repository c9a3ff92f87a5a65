"""`GET /metrics` for Prometheus: whoever holds the token of the file `metrics-token` in the data directory may read it.

It tells of all accounts, so that no account's key is right for it, and Prometheus cannot sign as AWS's clients do. The file is
made by the first start, readable by its owner alone; another token is as good as written there. With `--auth none`, which is
for this machine alone, there is no token to ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import re
import secrets

from slipway.core.exposition import CONTENT_TYPE
from slipway.http.messages import Request, Response
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.slipway import Auth, OwnRoute, json_response

PATH = b"/metrics"
_BEARER = b"bearer "


def is_scrape(request: Request) -> bool:
    """A signed request for this path is S3's, for a bucket of that name."""
    if request.method != "GET" or request.target != PATH:
        return False
    authorization = request.header(b"authorization")
    return authorization is None or authorization[: len(_BEARER)].lower() == _BEARER


async def metrics(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """Text in Prometheus' format."""
    if world.settings.auth != "none":
        expected = await asyncio.to_thread(_token, world.settings.metrics_token_file)
        sent = request.header(b"authorization") or b""
        good = sent[: len(_BEARER)].lower() == _BEARER and hmac.compare_digest(sent[len(_BEARER) :].strip(), expected)
        if not good or not expected:
            told = json_response(401, {"code": "AccessDenied", "message": "needs the token of the file metrics-token"})
            return Response(401, [*told.headers, (b"www-authenticate", b"Bearer")], told.body)
    if world.exposition is None:
        return json_response(404, {"code": "NotFound", "message": "slipway has no such route"})
    body = (await world.exposition()).encode()
    return Response(200, [(b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store")], body)


def _token(path: str) -> bytes:
    """Empty: there is none."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(4096).strip()
    return b""


def make_token(path: str) -> None:
    """Write a token where there is none yet; only its owner can read it."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")


ROUTES = (OwnRoute("GET", re.compile(rb"/metrics|/_slipway/metrics"), Auth.TOKEN, metrics),)
