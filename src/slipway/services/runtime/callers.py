"""Who calls the runtime: signatures verified by the gateway itself, with the keys of the route table."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from slipway.http.messages import Headers
from slipway.wire.claims import STREAMING, Claim, Lookup, SignatureError
from slipway.wire.errors import AwsError
from slipway.wire.signatures import scope_of, verify

SERVICE = "sagemaker-runtime"
"""Its name in a key's list of services; the credential scope says `sagemaker`."""
_SCOPES = frozenset(("sagemaker",))

_CODES = {
    "missing": "MissingAuthenticationTokenException",
    "incomplete": "IncompleteSignatureException",
    "unknown-key": "UnrecognizedClientException",
    "invalid-token": "UnrecognizedClientException",
    "expired-token": "ExpiredTokenException",
    "denied": "AccessDeniedException",
}
"""By kind of SignatureError; all others are InvalidSignatureException."""


class Caller(NamedTuple):
    account: str
    region: str
    claim: Claim | None
    """To be checked against the body's hash before anything is dispatched, if it says so; None without signatures."""


Authenticate = Callable[[str, bytes, Headers], Caller]
"""method, target, headers → Caller; raises AwsError (403)."""


def signature_refused(error: SignatureError) -> AwsError:
    return AwsError(_CODES.get(error.kind, "InvalidSignatureException"), error.message, status=403)


def signed(lookup: Lookup, now: Callable[[], float] = time.time) -> Authenticate:
    """Callers must sign (SigV4, header or query form) with a key that may call the runtime."""

    def authenticate(method: str, target: bytes, headers: Headers) -> Caller:
        try:
            claim = verify(method, target, headers, lookup, now(), services=_SCOPES)
        except SignatureError as error:
            raise signature_refused(error) from None
        if claim.services and SERVICE not in claim.services:
            raise AwsError(
                "AccessDeniedException",
                f"User: {claim.principal} is not authorized to perform: sagemaker:InvokeEndpoint",
                status=403,
            )
        if claim.payload_hash in STREAMING:
            raise AwsError("InvalidSignatureException", "The runtime takes no bodies signed in chunks.", status=403)
        return Caller(claim.account, claim.region, claim)

    return authenticate


def unsigned(account: str, region: str) -> Authenticate:
    """`--auth none`: everybody is `account`; the region is the one that a credential scope names, else `region`."""
    nobody = Caller(account, region, None)

    def authenticate(method: str, target: bytes, headers: Headers) -> Caller:
        for name, _ in headers:
            if name == b"authorization":
                break
        else:
            if b"X-Amz-Credential" not in target:
                return nobody
        scope = scope_of(headers, target)
        return nobody if scope is None or scope[0] == region else Caller(account, scope[0], None)

    return authenticate
