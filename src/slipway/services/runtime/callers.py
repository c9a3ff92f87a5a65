"""Who calls the runtime: signatures verified by the gateway itself, with the keys of the route table."""

from __future__ import annotations

import time
from collections.abc import Callable

from slipway.core.routing import endpoint_key
from slipway.http.exchange import Exchange
from slipway.services.strangers import refuse_strangers
from slipway.wire.auth_errors import auth_error, not_authorized
from slipway.wire.claims import STREAMING, Claim, Lookup, SignatureError
from slipway.wire.errors import AwsError
from slipway.wire.signatures import scope_of, verify

SERVICE = "sagemaker-runtime"
"""Its name in a key's list of services; the credential scope says `sagemaker`."""
_SCOPES = frozenset(("sagemaker",))

_WELCOME = 64


class Caller:
    __slots__ = ("account", "claim", "prefix", "region")

    def __init__(self, account: str, region: str, claim: Claim | None) -> None:
        self.account = account
        self.region = region
        self.prefix = endpoint_key(account, region, "")
        """Of the keys of this caller's endpoints."""
        self.claim = claim
        """To be checked against the body's hash before anything is dispatched, if it says so; None without signatures."""

    def learns(self, error: AwsError) -> AwsError | Unproven:
        """What to raise for an error that tells about the account: itself, or Unproven while the caller is."""
        return error if self.claim is None or self.claim.verified else Unproven(self.claim, error)


class Unproven(Exception):
    """An error for the caller to learn once the body has proven who that is."""

    def __init__(self, claim: Claim, error: AwsError) -> None:
        super().__init__(str(error))
        self.claim = claim
        self.error = error


Authenticate = Callable[[Exchange], Caller]
"""Looks at the head alone; raises AwsError (403), or Unproven."""


def signature_refused(error: SignatureError) -> AwsError:
    return auth_error(error, "rest-json")


def signed(lookup: Lookup, now: Callable[[], float] = time.time) -> Authenticate:
    """Callers must sign (SigV4, header or query form) with a key that may call the runtime."""

    def authenticate(exchange: Exchange) -> Caller:
        try:
            claim = verify(exchange.method, exchange.target, exchange.headers, lookup, now(), services=_SCOPES)
        except SignatureError as error:
            raise signature_refused(error) from None
        caller = Caller(claim.account, claim.region, claim)
        if claim.services and SERVICE not in claim.services:
            raise caller.learns(not_authorized(claim.principal, "sagemaker:InvokeEndpoint", "rest-json"))
        if claim.payload_hash in STREAMING:
            raise AwsError("InvalidSignatureException", "The runtime takes no bodies signed in chunks.", status=403)
        return caller

    return authenticate


def unsigned(account: str, region: str, host: str = "127.0.0.1") -> Authenticate:
    """`--auth none`: everybody is `account`; the region is the one that a credential scope names, else `region`.

    But for web pages: without signatures they must not reach a model through the user's browser (`host`: the bound address).
    """
    nobody = Caller(account, region, None)
    welcome: set[bytes] = set()

    def authenticate(exchange: Exchange) -> Caller:
        values, plain = exchange.values, exchange.ordinary
        if not plain:  # `origin` and `sec-fetch-site` are what `refuse_strangers` looks at beside the host
            plain = b"origin" not in values and b"sec-fetch-site" not in values and exchange.repeated is None
        if not plain or values.get(b"host") not in welcome:
            try:
                refuse_strangers(exchange.headers, host)
            except SignatureError as error:
                raise signature_refused(error) from None
            if plain and len(welcome) < _WELCOME:
                welcome.add(values[b"host"])  # the next such request needs no second look
        if b"X-Amz-Credential" not in exchange.target and (exchange.ordinary or b"authorization" not in values):
            return nobody
        scope = scope_of(exchange.headers, exchange.target)
        return nobody if scope is None or scope[0] == region else Caller(account, scope[0], None)

    return authenticate
