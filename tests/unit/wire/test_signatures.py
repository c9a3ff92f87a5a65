"""The oracle is botocore's own signers: what they sign verifies, and one changed thing does not."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import (
    HmacV1QueryAuth,
    S3SigV4Auth,
    S3SigV4QueryAuth,
    SigV4Auth,
    SigV4QueryAuth,
)
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from slipway.core.routing import Key
from slipway.wire.signatures import Claim, SignatureError, claimed_key, presign, scope_of, v2_headers, verify

NOW = 1_780_000_000.0
KEY = Key("AKIAEXAMPLE", "wJalr/secret+key", "123456789012", "arn:aws:iam::123456789012:root")
SESSION = Key(
    "ASIAEXAMPLE",
    "session-secret",
    "123456789012",
    "arn:aws:sts::123456789012:assumed-role/r/s",
    "tok/en+==",
    NOW + 3600,
    ("s3",),
)
KEYS = {key.id: key for key in (KEY, SESSION)}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore signs at NOW; ours takes the time as an argument."""

    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: moment)
    monkeypatch.setattr("botocore.auth.time.time", lambda: NOW)


def signed(
    method: str = "POST",
    url: str = "http://localhost:4566/endpoints/e/invocations",
    body: bytes = b'{"x": 1}',
    headers: dict[str, str] | None = None,
    service: str = "sagemaker",
    key: Key = KEY,
    signer: Any = None,
    **more: Any,
) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """Method, target, headers and body as botocore would send them."""
    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers or {}))
    if service == "s3":
        request.context["payload_signing_enabled"] = True
    credentials = Credentials(key.id, key.secret, key.token)
    if signer is None:
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
    if signer is HmacV1QueryAuth:
        signer(credentials, **more).add_auth(request)
    else:
        signer(credentials, service, "eu-central-1", **more).add_auth(request)
    parts = urlsplit(request.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    pairs = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    if not any(name == b"host" for name, _ in pairs):
        pairs.append((b"host", parts.netloc.encode()))
    if signer is HmacV1QueryAuth:
        pairs = [(name, value) for name, value in pairs if name == b"host"]
    return method, target.encode(), pairs, body


def check(request: tuple[str, bytes, list[tuple[bytes, bytes]], bytes], now: float = NOW, **options: Any) -> Claim:
    method, target, headers, body = request
    claim = verify(method, target, headers, KEYS.get, now, **options)
    if claim.needs_body_hash:
        claim.check_body(hashlib.sha256(body).hexdigest())
    assert claim.verified
    return claim


def refused(request: tuple[str, bytes, list[tuple[bytes, bytes]], bytes], now: float = NOW, **options: Any) -> str:
    with pytest.raises(SignatureError) as error:
        check(request, now, **options)
    return error.value.kind


def changed(
    request: tuple[str, bytes, list[tuple[bytes, bytes]], bytes], name: bytes, value: bytes | None
) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    method, target, headers, body = request
    rest = [(n, v) for n, v in headers if n != name]
    return method, target, rest if value is None else [*rest, (name, value)], body


def test_header_form_gives_the_caller() -> None:
    claim = check(signed())
    assert (claim.key_id, claim.account, claim.service, claim.region) == (KEY.id, KEY.account, "sagemaker", "eu-central-1")
    assert claim.form == "header"
    assert b"host" in claim.signed_headers


def test_without_a_stated_hash_nothing_is_verified_before_the_body() -> None:
    method, target, headers, body = signed()
    claim = verify(method, target, headers, KEYS.get, NOW)
    assert not claim.verified
    assert claim.payload_hash is None
    with pytest.raises(SignatureError) as error:
        claim.check_body(hashlib.sha256(body + b" ").hexdigest())
    assert error.value.kind == "mismatch"
    assert not claim.verified


PATHS = [
    *("/", "/b/k", "/b/a%2Fb", "/b//k", "/b/../k", "/b/./k/", "/b/a%20b", "/b/%C3%A4"),
    *("/b/a%2Bb", "/b/~x", "/b/a%28b%29", "/b/%25", "/b/a%3Db", "/b/..", "/b/k/"),
]
QUERIES = [
    "",
    "?list-type=2&prefix=a%2Fb&encoding-type=url",
    "?uploads",
    "?b=2&a=1",
    "?a=2&a=1",
    "?prefix=%20%7E",
    "?x=",
    "?versionId=a%2Bb",
]


@pytest.mark.parametrize("service", ["sagemaker", "s3", "execute"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_paths_and_queries_as_botocore_signs_them(service: str, path: str, query: str) -> None:
    check(signed("GET", f"http://localhost:4566{path}{query}", b"", service=service))


@pytest.mark.parametrize(("signer", "service"), [(S3SigV4QueryAuth, "s3"), (SigV4QueryAuth, "sts")])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?prefix=a%20b"])
def test_presigned_version_4(signer: Any, service: str, path: str, query: str) -> None:
    request = signed("GET", f"http://localhost:4566{path}{query}", b"", service=service, signer=signer, expires=60)
    assert check(request).form == "query4"
    assert check(request, NOW + 60).region == "eu-central-1"
    assert refused(request, NOW + 61) == "expired-url"
    assert refused(request, NOW - 901) == "skew"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?uploadId=a%20b&partNumber=1", "?tagging", "?prefix=x&list-type=2"])
@pytest.mark.parametrize("key", [KEY, SESSION])
def test_presigned_version_2(path: str, query: str, key: Key) -> None:
    request = signed(
        "GET", f"http://localhost:4566{path}{query}", b"", key=key, service="s3", signer=HmacV1QueryAuth, expires=60
    )
    claim = check(request)
    assert (claim.form, claim.service, claim.region, claim.account) == ("query2", "s3", "", key.account)
    assert refused(request, NOW + 62) == "expired-url"
    method, target, headers, body = request
    more = b"&" if b"?" in target else b"?"
    for extra in (b"acl", b"attributes", b"uploads=", b"x-amz-meta-a=b", b"new-operation"):
        assert refused((method, target + more + extra, headers, body)) == "mismatch"
    assert refused((method, target.replace(b"Signature=", b"Signature=A"), headers, body)) == "mismatch"
    assert refused(request, services=("sagemaker",)) == "incomplete"


def test_version_2_counts_headers_moved_into_the_query() -> None:
    headers = {"Content-Type": "text/plain", "x-amz-meta-a": "b c"}
    request = signed("PUT", "http://localhost/b/k", b"", headers, "s3", signer=HmacV1QueryAuth)
    assert check(request).verified
    assert sorted(v2_headers(request[1])) == [(b"content-type", b"text/plain"), (b"x-amz-meta-a", b"b c")]
    assert check(changed(request, b"content-type", b"text/plain")).verified
    assert refused(changed(request, b"content-type", b"text/html")) == "mismatch"
    assert refused(changed(request, b"x-amz-meta-z", b"1")) == "mismatch"


def test_session_token_must_match_and_be_in_time() -> None:
    for service, signer in (("s3", None), ("sagemaker", None), ("s3", S3SigV4QueryAuth)):
        request = signed(key=SESSION, service=service, signer=signer)
        assert check(request).services == ("s3",)
        assert (
            refused(signed(key=Key(SESSION.id, SESSION.secret, "", "", "other"), service=service, signer=signer))
            == "invalid-token"
        )
        assert refused(signed(key=Key(SESSION.id, SESSION.secret, "", ""), service=service, signer=signer)) == "invalid-token"
        assert refused(signed(key=Key(KEY.id, KEY.secret, "", "", "any"), service=service, signer=signer)) == "invalid-token"
        late = Key(SESSION.id, SESSION.secret, "", "", SESSION.token, NOW)
        with pytest.raises(SignatureError) as error:
            verify(*request[:3], {late.id: late}.get, NOW)
        assert error.value.kind == "expired-token"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        (b"authorization", None, "missing"),
        (b"authorization", b"Basic eDp5", "missing"),
        (b"authorization", b"AWS AKIAEXAMPLE:c2ln", "incomplete"),
        (b"authorization", b"AWS4-ECDSA-P256-SHA256 Credential=a/b, SignedHeaders=host, Signature=00", "incomplete"),
        (b"authorization", b"AWS4-HMAC-SHA256 Signature=00", "incomplete"),
        (b"authorization", b"AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=00", "incomplete"),
        (b"authorization", b"AWS4-HMAC-SHA256 " + b"x" * 5000, "incomplete"),
        (b"host", b"evil.example", "mismatch"),
        (b"host", None, "mismatch"),
        (b"x-amz-date", None, "incomplete"),
        (b"x-amz-date", b"20260528T202641Z", "mismatch"),
        (b"x-amz-date", b"20260229T000000Z", "incomplete"),
        (b"x-amz-date", b"yesterday", "incomplete"),
        (b"x-amz-target", b"SageMaker.DeleteModel", "denied"),
        (b"x-amz-security-token", b"t", "invalid-token"),
        (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD", "incomplete"),
    ],
)
def test_heads_that_are_refused(name: bytes, value: bytes | None, kind: str) -> None:
    assert refused(changed(signed(), name, value)) == kind


def test_repeated_headers_are_refused() -> None:
    method, target, headers, body = signed()
    for name, value in headers:
        assert refused((method, target, [*headers, (name, value)], body)) in ("incomplete", "mismatch")


def test_two_forms_at_once_are_refused() -> None:
    method, _, headers, body = signed("GET", "http://localhost:4566/b/k", b"", service="s3")
    _, presigned, *_ = signed("GET", "http://localhost:4566/b/k", b"", service="s3", signer=S3SigV4QueryAuth)
    _, old, *_ = signed("GET", "http://localhost:4566/b/k", b"", service="s3", signer=HmacV1QueryAuth)
    host = [pair for pair in headers if pair[0] == b"host"]
    assert refused((method, presigned, headers, body)) == "incomplete"
    assert refused((method, old, headers, body)) == "incomplete"
    assert refused((method, presigned + b"&" + old.partition(b"?")[2], host, body)) == "incomplete"
    assert refused((method, presigned + b"&X-Amz-Date=20260528T202640Z", host, body)) == "incomplete"


@pytest.mark.parametrize("offset", [-901.0, 901.0])
def test_clock_skew(offset: float) -> None:
    assert refused(signed(), NOW + offset) == "skew"
    assert check(signed(), NOW + offset / 901 * 900).verified


def test_scope_must_fit_the_service() -> None:
    assert check(signed(), services=("sagemaker",)).verified
    assert refused(signed(), services=("s3",)) == "mismatch"


def test_unknown_key_and_wrong_secret() -> None:
    assert refused(signed(key=Key("AKIAOTHER", "x", "", ""))) == "unknown-key"
    assert refused(signed(key=Key(KEY.id, "x", "", ""))) == "mismatch"


@pytest.mark.parametrize("expires", ["604801", "-1", "1e3", ""])
def test_presigned_lifetime_is_at_most_a_week(expires: str) -> None:
    request = signed("GET", "http://localhost/b/k", b"", service="s3", signer=S3SigV4QueryAuth, expires=expires)
    assert refused(request) == "incomplete"


def test_stated_hash_is_compared_with_the_body() -> None:
    method, target, headers, _ = signed("PUT", "http://localhost/b/k", b"data", service="s3")
    claim = verify(method, target, headers, KEYS.get, NOW)
    assert claim.verified
    with pytest.raises(SignatureError) as error:
        claim.check_body(hashlib.sha256(b"Data").hexdigest())
    assert error.value.kind == "bad-hash"


def test_white_space_in_signed_headers_is_folded_as_botocore_folds_it() -> None:
    check(signed(headers={"X-Amzn-SageMaker-Custom-Attributes": "a   b\tc "}))


def test_date_header_in_place_of_x_amz_date() -> None:
    check(signed(headers={"Date": "Thu, 28 May 2026 20:26:40 GMT"}))


def test_our_own_presigned_urls_are_those_of_botocore() -> None:
    for path in ("/b/k", "/b/a b/ä+(1)~"):
        for key in (KEY, SESSION):
            target = presign("GET", path, key.id, key, "eu-central-1", "localhost", 60, NOW).encode()
            assert check(("GET", target, [(b"host", b"localhost")], b"")).key_id == key.id
            assert refused(("PUT", target, [(b"host", b"localhost")], b"")) == "mismatch"
            assert refused(("GET", target, [(b"host", b"localhost:1")], b"")) == "mismatch"


def test_scope_is_readable_without_keys() -> None:
    _, target, headers, _ = signed()
    assert scope_of(headers, target) == ("eu-central-1", "sagemaker")
    _, target, *_ = signed("GET", "http://localhost/b/k", b"", service="s3", signer=S3SigV4QueryAuth)
    assert scope_of([], target) == ("eu-central-1", "s3")
    for header in (b"Bearer x", b"AWS4-HMAC-SHA256 Credential=, SignedHeaders=host, Signature=0"):
        assert scope_of([(b"authorization", header)], b"/") is None
    assert scope_of([], b"/?X-Amz-Credential=a&X-Amz-Credential=b") is None
    assert scope_of([], b"/") is None


def test_the_key_named_is_readable_in_all_forms() -> None:
    for service, signer in (("sagemaker", None), ("s3", S3SigV4QueryAuth), ("s3", HmacV1QueryAuth)):
        _, target, headers, _ = signed("GET", "http://localhost/b/k", b"", service=service, signer=signer)
        assert claimed_key(headers, target) == KEY.id
    assert scope_of(headers, target) == ("", "s3")
    assert claimed_key([], b"/") is None
    assert claimed_key([], b"/?Expires=1&Expires=2&Signature=") is None
    assert claimed_key([(b"authorization", b"x")], b"/") is None
