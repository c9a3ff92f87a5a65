"""Who calls control: the key behind a signature, and what it may call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from slipway.core.routing import Key
from slipway.http.messages import Request
from slipway.services.strangers import refuse_strangers
from slipway.settings import Settings
from slipway.store import keys
from slipway.store.db import Db
from slipway.wire.claims import Claim
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
        self._forgotten = 0
        """Counts the calls of `forget`: what was read across one may be out of date."""

    async def find(self, key_id: str) -> Key | None:
        """Also one that has expired, while the store still has it: its callers shall learn that it has."""
        now = self._now()
        found = self._kept.get(key_id)
        if found is not None and found[1] > now:
            return found[0]
        forgotten = self._forgotten
        key = await self._db.read(lambda c: keys.get(c, key_id, 0.0))
        self._kept.pop(key_id, None)
        if key is not None and forgotten == self._forgotten:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key_id] = (key, now + KEPT_SECONDS)
        return key

    def forget(self) -> None:
        """Keys were added or revoked."""
        self._kept.clear()
        self._forgotten += 1


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
            refuse_strangers(request.headers, settings.host)
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
