"""Every kind of refusal has a code in every protocol."""

from __future__ import annotations

import re

import pytest

from slipway.wire.auth_errors import auth_error, not_authorized
from slipway.wire.claims import SignatureError

KINDS = re.findall(r"[a-z]+(?:-[a-z]+)*", (SignatureError.__doc__ or "").partition("one of")[2])
EXPECTED = {
    ("unknown-key", "json"): ("UnrecognizedClientException", 400),
    ("unknown-key", "query"): ("InvalidClientTokenId", 403),
    ("unknown-key", "rest-xml"): ("InvalidAccessKeyId", 403),
    ("mismatch", "rest-json"): ("InvalidSignatureException", 403),
    ("mismatch", "rest-xml"): ("SignatureDoesNotMatch", 403),
    ("skew", "rest-xml"): ("RequestTimeTooSkewed", 403),
    ("skew", "query"): ("SignatureDoesNotMatch", 403),
    ("expired-token", "json"): ("ExpiredTokenException", 400),
    ("incomplete", "query"): ("IncompleteSignature", 400),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["json", "rest-json", "smithy-rpc-v2-cbor", "query", "rest-xml"])
def test_each_kind_has_a_code(kind: str, protocol: str) -> None:
    error = auth_error(SignatureError(kind, "why"), protocol)
    assert error.status in (400, 403)
    assert error.message
    if (kind, protocol) in EXPECTED:
        assert (error.code, error.status) == EXPECTED[kind, protocol]


def test_all_kinds_were_found() -> None:
    assert len(KINDS) == 10


def test_a_key_that_may_not_is_named() -> None:
    assert (
        not_authorized("arn:x", "s3:PutObject", "rest-xml").message == "User: arn:x is not authorized to perform: s3:PutObject"
    )
