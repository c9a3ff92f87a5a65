"""What a refused signature is called in each protocol: code, status and AWS's wording."""

from __future__ import annotations

from slipway.wire.claims import SignatureError
from slipway.wire.errors import AwsError

# kind: (json code, query code); statuses are 400 with json, 403 (400 where the request is malformed) elsewhere.
_CODES = {
    "missing": ("MissingAuthenticationTokenException", "MissingAuthenticationToken"),
    "incomplete": ("IncompleteSignatureException", "IncompleteSignature"),
    "unknown-key": ("UnrecognizedClientException", "InvalidClientTokenId"),
    "invalid-token": ("UnrecognizedClientException", "InvalidClientTokenId"),
    "mismatch": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "skew": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "expired-url": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "expired-token": ("ExpiredTokenException", "ExpiredToken"),
    "denied": ("AccessDeniedException", "AccessDenied"),
    "bad-hash": ("InvalidSignatureException", "SignatureDoesNotMatch"),
}

# kind: (code, status, text or None for the error's own).
_S3 = {
    "missing": ("AccessDenied", 403, "Access Denied"),
    "incomplete": ("AuthorizationHeaderMalformed", 400, None),
    "unknown-key": ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
    "invalid-token": ("InvalidToken", 400, "The provided token is malformed or otherwise invalid."),
    "mismatch": (
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    ),
    "skew": ("RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large."),
    "expired-url": ("AccessDenied", 403, "Request has expired"),
    "expired-token": ("ExpiredToken", 400, "The provided token has expired."),
    "denied": ("AccessDenied", 403, None),
    "bad-hash": ("XAmzContentSHA256Mismatch", 400, None),
}


def auth_error(error: SignatureError, protocol: str) -> AwsError:
    """`protocol` is botocore's word for the caller's: json, rest-json, smithy-rpc-v2-cbor, query, rest-xml."""
    if protocol == "rest-xml":
        code, status, text = _S3[error.kind]
        return AwsError(code, text or error.message, status=status)
    modern, old = _CODES[error.kind]
    if protocol == "query":
        return AwsError(old, error.message, status=400 if error.kind == "incomplete" else 403)
    return AwsError(modern, error.message, status=400 if protocol == "json" else 403)


def not_authorized(principal: str, action: str, protocol: str) -> AwsError:
    """The key is good, but not for this: `action` is `sagemaker:CreateModel`."""
    message = f"User: {principal} is not authorized to perform: {action}"
    return auth_error(SignatureError("denied", message), protocol)
