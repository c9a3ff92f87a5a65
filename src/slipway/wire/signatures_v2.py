"""S3's Signature Version 2 in a URL's query, which boto3's generate_presigned_url still makes for a custom endpoint."""

from __future__ import annotations

import binascii
import hmac
import re
from urllib.parse import unquote_to_bytes

from slipway.wire.canonical import stated_hash
from slipway.wire.claims import SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, Attempt, Claim, SignatureError, incomplete, mismatch

_SUBRESOURCES = frozenset(
    (
        b"accelerate acl analytics cors defaultObjectAcl delete inventory lifecycle location logging metrics notification "
        b"object-lock partNumber policy replication requestPayment response-cache-control response-content-disposition "
        b"response-content-encoding response-content-language response-content-type response-expires restore select "
        b"select-type storageClass tagging torrent uploadId uploads versionId versioning versions website"
    ).split()
)
_UNSIGNED = frozenset(
    (
        b"AWSAccessKeyId Signature Expires x-id prefix delimiter marker max-keys encoding-type list-type continuation-token "
        b"start-after fetch-owner key-marker version-id-marker upload-id-marker max-uploads max-parts part-number-marker"
    ).split()
)


def verify_query2(attempt: Attempt) -> Claim:
    """`AWSAccessKeyId`, `Signature`, `Expires`: HMAC-SHA1 over the Version 2 string.

    Version 2 signs no list parameters (prefix, marker …): whoever holds such a URL of a bucket may change them, as on AWS.
    A sub-resource that it does not sign is refused here, since it would make another operation of the request.
    """
    params = attempt.params
    if attempt.services is not None and "s3" not in attempt.services:
        raise incomplete("Signature Version 2 is accepted only by S3. Please use AWS4-HMAC-SHA256.")
    if params.keys() != {b"AWSAccessKeyId", b"Signature", b"Expires"}:
        raise incomplete("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, no others")
    expires = params[b"Expires"]
    if not re.fullmatch(rb"[0-9]{1,12}", expires):
        raise incomplete("Invalid date (should be seconds since epoch) in Expires")
    if attempt.now > int(expires):
        raise SignatureError("expired-url", "Request has expired")
    subresources, amz, plain = _signed_parts(attempt)
    key_id = params[b"AWSAccessKeyId"].decode("latin-1")
    key = attempt.find(key_id, amz.get(b"x-amz-security-token"))
    to_sign = b"\n".join(
        (
            attempt.method.encode(),
            plain.get(b"content-md5", b""),
            plain.get(b"content-type", b""),
            expires,
            *(name + b":" + amz[name] for name in sorted(amz)),
            attempt.path + (b"?" + b"&".join(subresources) if subresources else b""),
        )
    )
    # Compared as text: base64 has several spellings of the same bytes.
    expected = binascii.b2a_base64(hmac.digest(key.secret.encode(), to_sign, "sha1"), newline=False)
    if not hmac.compare_digest(expected, params[b"Signature"]):
        raise mismatch()
    claim = Claim(key_id, key, "query2")
    claim.verified = True
    stated = amz.get(b"x-amz-content-sha256")
    if stated is not None:
        claim.payload_hash = stated_hash(stated, "s3")
        if claim.payload_hash in (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER):
            raise incomplete("Signed chunks need Signature Version 4.")
    return claim


def v2_headers(target: bytes) -> list[tuple[bytes, bytes]]:
    """Headers that a Version 2 URL carries in its query and that count as sent (`x-amz-meta-…`, content-type, content-md5)."""
    _, sent = _split_query(target.partition(b"?")[2])
    return [(name, value) for name, value in sent.items() if name != b"x-amz-security-token"]


def _signed_parts(attempt: Attempt) -> tuple[list[bytes], dict[bytes, bytes], dict[bytes, bytes]]:
    """Sub-resources, x-amz headers, and content-md5 and content-type: those sent and those moved into the query."""
    subresources, sent = _split_query(attempt.query)
    amz = {name: value for name, value in attempt.values.items() if name.startswith(b"x-amz-")}
    plain = {bytes(name): attempt.values[name] for name in (b"content-md5", b"content-type") if name in attempt.values}
    for name, value in sent.items():
        chosen = amz if name.startswith(b"x-amz-") else plain
        if chosen.setdefault(name, value) != value:
            raise mismatch()
    return subresources, amz, plain


def _split_query(query: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Signed sub-resources in order, and the headers that the signer moved into the query."""
    subresources: list[tuple[bytes, bytes]] = []
    sent: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, mark, value = pair.partition(b"=")
        if name in _SUBRESOURCES:
            subresources.append((name, name + mark + unquote_to_bytes(value)))
        elif name.startswith(b"x-amz-") or name in (b"content-type", b"content-md5"):
            if name in sent:
                raise incomplete(f"The query parameter {name[:60].decode('latin-1')} is given twice.")
            sent[name] = unquote_to_bytes(value)
        elif pair and name not in _UNSIGNED:
            raise mismatch()
    subresources.sort(key=lambda item: item[0])
    return [text for _, text in subresources], sent
