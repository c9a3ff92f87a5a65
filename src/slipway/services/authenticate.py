"""Who calls control: the key behind a signature, what it may call, and which unsigned requests are refused at the door."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from slipway.core.routing import Key
from slipway.http.messages import Headers, Request
from slipway.settings import Settings
from slipway.store import keys
from slipway.store.db import Db
from slipway.wire.claims import Claim, SignatureError
from slipway.wire.signatures import claimed_key, scope_of, verify

KEPT_SECONDS = 1.0
"""How long a key that was read is believed without asking the store again, should nobody call `Keys.forget`."""
KEPT = 1024


class Keys:
    """Access keys by id, read from the store when they are first needed. Unknown ones are not remembered."""

    def __init__(self, db: Db, now: Callable[[], float]) -> None:
        self._db = db
        self._now = now
        self._kept: dict[str, tuple[Key, float]] = {}

    async def find(self, key_id: str) -> Key | None:
        """Also one that has expired, while the store still has it: its callers shall learn that it has."""
        now = self._now()
        found = self._kept.get(key_id)
        if found is not None and found[1] > now:
            return found[0]
        key = await self._db.read(lambda c: keys.get(c, key_id, 0.0))
        self._kept.pop(key_id, None)
        if key is not None:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key_id] = (key, now + KEPT_SECONDS)
        return key

    def forget(self) -> None:
        """Keys were added or revoked."""
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `claim` is None with `--auth none`."""

    account: str
    region: str
    principal: str
    access_key: str = ""
    services: tuple[str, ...] = ()
    claim: Claim | None = None

    def may_call(self, service: str) -> bool:
        """Whether the key is good for the service (boto3's name)."""
        return not self.services or service in self.services


class Authenticator:
    """Turns a request's head into a Caller, or SignatureError."""

    def __init__(self, settings: Settings, keys: Keys, now: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        self._now = now

    async def caller(self, request: Request, services: Collection[str] | None) -> Caller:
        """`services`: names that the credential scope may have. The caller's claim may still wait for the body's hash."""
        settings = self._settings
        if settings.auth == "none":
            self._refuse_strangers(request)
            scope = scope_of(request.headers, request.target)
            region = (scope[0] if scope else "") or settings.region
            return Caller(settings.account, region, f"arn:aws:iam::{settings.account}:root")
        key_id = claimed_key(request.headers, request.target)
        key = await self._keys.find(key_id) if key_id else None
        claim = verify(
            request.method,
            request.target,
            request.headers,
            lambda wanted: key if wanted == key_id else None,
            self._now(),
            services=services,
        )
        region = claim.region or settings.region
        return Caller(claim.account, region, claim.principal, claim.key_id, claim.services, claim)

    def _refuse_strangers(self, request: Request) -> None:
        """Without signatures a web page in the user's browser must not be able to call: no foreign Host, no other origin."""
        refuse_foreign_host(request.headers, self._settings.host)
        refuse_cross_origin(request)


_LOOPBACK = re.compile(rb"(?:[a-z0-9.-]+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")


def refuse_foreign_host(headers: Headers, bound: str) -> None:
    """Against DNS rebinding: only loopback names (buckets below `localhost` included) and the bound address itself."""
    hosts = [value.lower() for name, value in headers if name == b"host"]
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    ours = f"[{bound}]" if ":" in bound else bound
    if match is None or not (_LOOPBACK.fullmatch(match[1]) or match[1] == ours.lower().encode()):
        raise SignatureError("denied", "This host name is not one of slipway's: unsigned requests are taken at localhost only")


def refuse_cross_origin(request: Request) -> None:
    """Against cross-site requests: a browser names the page's origin, which must be our own."""
    origin = request.header(b"origin")
    host = request.header(b"host") or b""
    if origin is not None and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
        raise SignatureError("denied", "Requests of other origins are refused")
    if request.header(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        raise SignatureError("denied", "Requests of other sites are refused")
