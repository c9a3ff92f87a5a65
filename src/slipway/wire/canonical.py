"""Canonical forms of AWS Signature Version 4: scope, path, query, signing key, dates. Pure functions of bytes.

What counts as canonical is what botocore signs; escapes that a client left out are put in, escapes it made are kept as they
are, so no two requests that a parser would read differently share a canonical form. Caches are bounded and hold pure results.
"""

from __future__ import annotations

import datetime
import hmac
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from slipway.wire.claims import STREAMING, UNSIGNED, SignatureError, SigningKey, incomplete, mismatch

ALGORITHM = b"AWS4-HMAC-SHA256"
MAX_SKEW = 900.0
MAX_CREDENTIALS = 4096
"""Bytes of an Authorization header: SDKs send some 200 to 400."""


class Scope(NamedTuple):
    """A parsed `Credential=` with its signed headers."""

    key_id: str
    date: str
    region: str
    service: str
    text: bytes
    """`date/region/service/aws4_request`."""
    names: tuple[bytes, ...]
    template: bytes
    """Canonical headers and the list of their names, to be filled (`%`) with the values that `pick` takes from the headers."""
    pick: Callable[[Mapping[bytes, bytes]], Any]
    amz_count: int
    """How many of `names` are x-amz-…"""


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> SigningKey:
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return SigningKey.of(key)


def parse_authorization(value: bytes) -> tuple[Scope, bytes]:
    """Scope and signature of an Authorization header; what stands before the signature is the same for many requests."""
    if len(value) > MAX_CREDENTIALS:
        raise incomplete(f"The Authorization header is longer than {MAX_CREDENTIALS} bytes.")
    head, mark, signature = value.rpartition(b"Signature=")
    if mark:
        return _parse_credentials(head), signature
    algorithm = value.partition(b" ")[0]
    if algorithm == b"AWS":
        raise incomplete("Signature Version 2 is accepted only in the query of an S3 URL. Please use AWS4-HMAC-SHA256.")
    check_algorithm(algorithm)
    raise incomplete("Authorization header requires 'Signature' parameter.")


@lru_cache(maxsize=1024)
def _parse_credentials(head: bytes) -> Scope:
    algorithm, _, rest = head.partition(b" ")
    check_algorithm(algorithm)
    parts: dict[bytes, bytes] = {}
    for item in rest.split(b","):
        name, mark, value = item.strip().partition(b"=")
        if not name:
            continue
        if not mark or name in parts or name not in (b"Credential", b"SignedHeaders"):
            raise incomplete(f"Authorization header has an unknown or repeated parameter: {name[:40].decode('latin-1')}")
        parts[name] = value
    for name in (b"Credential", b"SignedHeaders"):
        if not parts.get(name):
            raise incomplete(f"Authorization header requires '{name.decode()}' parameter.")
    return parse_scope(parts[b"Credential"], parts[b"SignedHeaders"])


_CREDENTIAL = re.compile(rb"([A-Za-z0-9_-]{1,128})/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request")
_SIGNED_HEADERS = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")


def parse_scope(credential: bytes, names: bytes) -> Scope:
    match = _CREDENTIAL.fullmatch(credential)
    if match is None:
        raise incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request")
    listed = tuple(names.split(b";"))
    if not _SIGNED_HEADERS.fullmatch(names) or list(listed) != sorted(set(listed)):
        raise incomplete("SignedHeaders must be lower-case header names in order, each once, separated by semicolons.")
    if b"host" not in listed:
        raise incomplete("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    key_id, date, region, service = (part.decode() for part in match.groups())
    text = f"{date}/{region}/{service}/aws4_request".encode()
    lines = [name.replace(b"%", b"%%") + b":%b\n" for name in listed]
    template = b"".join(lines) + b"\n" + names.replace(b"%", b"%%") + b"\n"
    amz_count = sum(name.startswith(b"x-amz-") for name in listed)
    return Scope(key_id, date, region, service, text, listed, template, itemgetter(*listed), amz_count)


def check_algorithm(algorithm: bytes) -> None:
    if algorithm == ALGORITHM:
        return
    if algorithm == b"AWS4-ECDSA-P256-SHA256":
        raise incomplete("Signature Version 4A (AWS4-ECDSA-P256-SHA256) is not supported. Please use AWS4-HMAC-SHA256.")
    if algorithm.startswith(b"AWS4-"):
        raise incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:40].decode('latin-1')}'. Please use AWS4-HMAC-SHA256.")
    raise SignatureError("missing", "Missing Authentication Token")


def check_date(stamp: bytes, scope: Scope) -> float:
    """Epoch seconds of `stamp`, which must lie on the scope's day."""
    seconds = _epoch(stamp)
    if stamp[:8].decode() != scope.date:
        message = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"
        raise SignatureError("mismatch", f"{message}: '{scope.date}' != '{stamp[:8].decode()}'.")
    return seconds


def check_skew(stamp: bytes, seconds: float, now: float) -> None:
    """At most 15 minutes either way."""
    if abs(now - seconds) <= MAX_SKEW:
        return
    sent = stamp.decode()
    if seconds < now:
        message = f"Signature expired: {sent} is now earlier than {written(now - MAX_SKEW)} ({written(now)} - 15 min.)"
    else:
        message = f"Signature not yet current: {sent} is still later than {written(now + MAX_SKEW)} ({written(now)} + 15 min.)"
    raise SignatureError("skew", message)


def written(seconds: float) -> str:
    """Epoch seconds as X-Amz-Date writes them."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=256)
def _epoch(stamp: bytes) -> float:
    if re.fullmatch(rb"[0-9]{8}T[0-9]{6}Z", stamp):
        try:
            return datetime.datetime.strptime(stamp.decode() + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        except ValueError:
            pass
    raise incomplete("Date must be in ISO-8601 'basic format': X-Amz-Date like 20260131T235959Z")


def from_http_date(value: bytes | None) -> bytes:
    """`Date` in place of X-Amz-Date, which Version 4 allows."""
    if value is not None and value.endswith((b" GMT", b" -0000", b" +0000")):
        try:
            moment = datetime.datetime.strptime(value.rpartition(b" ")[0].decode() + " +0000", "%a, %d %b %Y %H:%M:%S %z")
            return moment.strftime("%Y%m%dT%H%M%SZ").encode()
        except ValueError:
            pass
    raise incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")


_HASH = re.compile("[0-9a-f]{64}")


def stated_hash(stated: bytes, service: str) -> str:
    """What x-amz-content-sha256 says; all but a hash is S3's alone."""
    text = stated.decode("latin-1")
    if _HASH.fullmatch(text) or (service == "s3" and (text == UNSIGNED or text in STREAMING)):
        return text
    if "ECDSA" in text:
        raise incomplete(f"x-amz-content-sha256 {text[:60]}: Signature Version 4A is not supported.")
    raise incomplete("x-amz-content-sha256 must be a valid sha256 value, or for S3 UNSIGNED-PAYLOAD or a STREAMING mode.")


_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+/?|/")
_NOT_PATH = re.compile(rb"[^A-Za-z0-9/_.~-]")
_ESCAPE_OR_NOT_PATH = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9/_.~-]")
_ESCAPE_OR_NOT_QUERY = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9_.~-]")


def _escaped(match: re.Match[bytes]) -> bytes:
    text = match[0]
    return text.upper() if len(text) == 3 else b"%%%02X" % text[0]


def _escaped_query(match: re.Match[bytes]) -> bytes:
    return b"%20" if match[0] == b"+" else _escaped(match)


def path_for(service: str, path: bytes) -> bytes:
    """S3: as sent, nothing normalised. Others: dot segments and repeated slashes removed, then escaped once more."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    if service == "s3":
        return _ESCAPE_OR_NOT_PATH.sub(_escaped, path) or b"/"
    kept: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    tail = b"/" if kept and path.endswith(b"/") else b""
    return _NOT_PATH.sub(_escaped, b"/" + b"/".join(kept) + tail)


def sorted_query(query: bytes) -> bytes:
    """Parameters by name and value; `+` is a space, as our parsers read it."""
    pairs = []
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            pairs.append((_ESCAPE_OR_NOT_QUERY.sub(_escaped_query, name), _ESCAPE_OR_NOT_QUERY.sub(_escaped_query, value)))
    pairs.sort()
    return b"&".join([name + b"=" + value for name, value in pairs])


def signed_headers(scope: Scope, values: Mapping[bytes, bytes]) -> bytes:
    """Canonical headers and their names; every x-amz- header must be among them, and all of them must be there."""
    try:
        picked = scope.pick(values)
    except KeyError:
        raise mismatch() from None
    if b"\n".join(values).count(b"x-amz-") != scope.amz_count:  # as fast as it gets; the exact look follows
        for name in values:
            if name.startswith(b"x-amz-") and name not in scope.names:
                raise SignatureError("denied", "There were headers present in the request which were not signed")
    text: bytes = scope.template % picked
    if b"  " in text or b"\t" in text:
        text = scope.template % tuple(b" ".join(values[name].split()) for name in scope.names)
    return text
