"""Who sent a request: AWS Signature Version 4 in the header and in the query, and S3's Version 2 query form.

`verify` reads the head alone. Where the signature covers the body's hash and the head does not state it (every service but
S3), the claim is not `verified` until `Claim.check_body` has seen the hash: nothing may act on it before. The oracle for what
is canonical is botocore's signer. Standard library only: the gateway runs this for every request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from urllib.parse import quote, unquote_to_bytes

from slipway.wire.canonical import (
    ALGORITHM,
    MAX_SKEW,
    Scope,
    check_algorithm,
    check_date,
    check_skew,
    from_http_date,
    parse_authorization,
    parse_scope,
    path_for,
    signed_headers,
    signing_key,
    sorted_query,
    stated_hash,
    written,
)
from slipway.wire.claims import (
    MISMATCH,
    STREAMING,
    UNSIGNED,
    Attempt,
    Claim,
    Lookup,
    Secret,
    SignatureError,
    incomplete,
)
from slipway.wire.signatures_v2 import v2_headers, verify_query2

__all__ = [
    "MISMATCH",
    "STREAMING",
    "UNSIGNED",
    "Claim",
    "Secret",
    "SignatureError",
    "claimed_key",
    "presign",
    "scope_of",
    "v2_headers",
    "verify",
]

MAX_EXPIRES = 604_800
"""Seconds, a week: AWS's bound for presigned Version 4 URLs."""

Headers = Sequence[tuple[bytes, bytes]]


def verify(
    method: str,
    target: bytes,
    headers: Headers,
    lookup: Lookup,
    now: float,
    *,
    services: Collection[str] | None = None,
) -> Claim:
    """Check the head of a request whose header names are lower-case; raises SignatureError.

    `target` is path and query exactly as sent, `now` epoch seconds, `services` the names that the credential scope may have
    (None: any). Then, before anything is done: `claim.check_body(sha256 of the body)` if `claim.needs_body_hash`.
    """
    values = dict(headers)
    if len(values) != len(headers):
        values = _joined(headers)
    path, _, query = target.partition(b"?")
    params = _auth_params(query) if query else {}
    attempt = Attempt(method, path, query, values, params, lookup, now, services)
    authorization = values.get(b"authorization")
    if authorization is not None:
        if params:
            raise incomplete(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter "
                "or the Authorization header should be specified"
            )
        return _verify_header(attempt, authorization)
    if not params:
        raise SignatureError("missing", "Missing Authentication Token")
    return verify_query2(attempt) if b"AWSAccessKeyId" in params else _verify_query4(attempt)


def scope_of(headers: Headers, target: bytes) -> tuple[str, str] | None:
    """Region and service that the caller names, nothing verified (routing, `--auth none`); None when there is none.

    A Version 2 URL is S3's and names no region ("").
    """
    try:
        for name, value in headers:
            if name == b"authorization":
                scope, _ = parse_authorization(value)
                return scope.region, scope.service
        if b"AWSAccessKeyId=" in target and b"Signature=" in target:
            return "", "s3"
        if b"X-Amz-Credential=" in target:
            scope = parse_scope(_auth_params(target.partition(b"?")[2])[b"X-Amz-Credential"], b"host")
            return scope.region, scope.service
    except (SignatureError, KeyError):
        return None
    return None


def claimed_key(headers: Headers, target: bytes) -> str | None:
    """The access key id that a request names in any of the three forms, nothing verified; None when there is none."""
    try:
        for name, value in headers:
            if name == b"authorization":
                return parse_authorization(value)[0].key_id
        params = _auth_params(target.partition(b"?")[2]) if b"?" in target else {}
        if b"AWSAccessKeyId" in params:
            return params[b"AWSAccessKeyId"].decode("latin-1")
        return parse_scope(params[b"X-Amz-Credential"], b"host").key_id
    except (SignatureError, KeyError):
        return None


def presign(method: str, path: str, key_id: str, key: Secret, region: str, host: str, expires: int, now: float) -> str:
    """Path and query of a presigned S3 URL for the unencoded `path` (`/bucket/key`); `host` is the Host header to come."""
    stamp = written(now)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    params = {
        "X-Amz-Algorithm": ALGORITHM.decode(),
        "X-Amz-Credential": f"{key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    if key.token is not None:
        params["X-Amz-Security-Token"] = key.token
    query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(params.items()))
    encoded = quote(path, safe="/~")
    canonical = f"{method}\n{encoded}\n{query}\nhost:{host}\n\nhost\n{UNSIGNED}"
    to_sign = f"{ALGORITHM.decode()}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = signing_key(key.secret, stamp[:8], region, "s3").sign(to_sign.encode()).decode()
    return f"{encoded}?{query}&X-Amz-Signature={signature}"


def _joined(headers: Headers) -> dict[bytes, bytes]:
    """Values of a repeated name joined by commas, as its canonical form wants."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in values:
            if name == b"authorization":
                raise incomplete("The Authorization header is given twice.")
            values[name] += b"," + value
        else:
            values[name] = value
    return values


def _verify_header(attempt: Attempt, authorization: bytes) -> Claim:
    scope, signature = parse_authorization(authorization)
    values = attempt.values
    stamp = values.get(b"x-amz-date")
    if stamp is None:
        stamp = from_http_date(values.get(b"date"))
    check_skew(stamp, check_date(stamp, scope), attempt.now)
    key = attempt.find(scope.key_id, values.get(b"x-amz-security-token"))
    claim = Claim(scope.key_id, key, "header")
    stated = values.get(b"x-amz-content-sha256")
    if stated is not None:
        claim.payload_hash = stated_hash(stated, scope.service)
    elif scope.service == "s3":
        raise incomplete("Missing required header for this request: x-amz-content-sha256")
    else:
        claim.payload_hash = None
    return _settle(claim, attempt, attempt.query, scope, stamp, signature, key)


_QUERY4 = (b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Signature")


def _verify_query4(attempt: Attempt) -> Claim:
    params, now = attempt.params, attempt.now
    for name in _QUERY4:
        if name not in params:
            raise incomplete(f"Query-string authentication version 4 requires the {name.decode()} parameter.")
    check_algorithm(params[b"X-Amz-Algorithm"])
    scope = parse_scope(params[b"X-Amz-Credential"], params[b"X-Amz-SignedHeaders"])
    stamp, lifetime = params[b"X-Amz-Date"], params[b"X-Amz-Expires"]
    start = check_date(stamp, scope)
    if not re.fullmatch(rb"[0-9]{1,7}", lifetime) or int(lifetime) > MAX_EXPIRES:
        raise incomplete("X-Amz-Expires must be a number of seconds, not negative and at most 604800 (a week)")
    if start - now > MAX_SKEW:
        check_skew(stamp, start, now)
    if now > start + int(lifetime):
        raise SignatureError("expired-url", "Request has expired")
    if b"x-amz-security-token" in attempt.values:
        raise incomplete("The security token of a presigned request stands in its query")
    key = attempt.find(scope.key_id, params.get(b"X-Amz-Security-Token"))
    claim = Claim(scope.key_id, key, "query4")
    stated = attempt.values.get(b"x-amz-content-sha256", params.get(b"X-Amz-Content-Sha256"))
    if stated is not None:
        claim.payload_hash = stated_hash(stated, scope.service)
    elif scope.service != "s3":
        claim.payload_hash = None
    kept = b"&".join([pair for pair in attempt.query.split(b"&") if not pair.startswith(b"X-Amz-Signature=")])
    return _settle(claim, attempt, kept, scope, stamp, params[b"X-Amz-Signature"], key)


def _settle(claim: Claim, attempt: Attempt, query: bytes, scope: Scope, stamp: bytes, signature: bytes, key: Secret) -> Claim:
    """Canonical request and string to sign; compares unless the body's hash is still to come."""
    if attempt.services is not None and scope.service not in attempt.services:
        expected = " or ".join(sorted(attempt.services))
        raise SignatureError("mismatch", f"Credential should be scoped to correct service: '{expected}'.")
    headers = signed_headers(scope, attempt.values)
    claim.service = scope.service
    claim.region = scope.region
    claim.signed_headers = scope.names
    claim.signature = signature
    claim.signing_key = signing_key(key.secret, scope.date, scope.region, scope.service)
    claim.timestamp = stamp
    claim.scope = scope.text
    path = path_for(scope.service, attempt.path)
    canonical = b"%b\n%b\n%b\n%b" % (attempt.method.encode(), path, sorted_query(query) if query else b"", headers)
    claim.expect(canonical, b"AWS4-HMAC-SHA256\n%b\n%b\n" % (stamp, scope.text))
    return claim


_AUTH_PARAMS = frozenset(
    (*_QUERY4, b"X-Amz-Security-Token", b"X-Amz-Content-Sha256", b"AWSAccessKeyId", b"Signature", b"Expires")
)


def _auth_params(query: bytes) -> dict[bytes, bytes]:
    """The parameters that carry a signature, unescaped; {} when the query holds none. Each may stand once."""
    if b"X-Amz-" not in query and b"AWSAccessKeyId" not in query and b"Signature" not in query:
        return {}
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _AUTH_PARAMS:
            if name in found:
                raise incomplete(f"The query parameter {name.decode()} is given twice.")
            found[name] = unquote_to_bytes(value)
    return found
