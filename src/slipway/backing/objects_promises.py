"""What a sender promised of its content (length, Content-MD5, checksums, trailers), held against what arrived."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from slipway.backing.objects import Write
from slipway.backing.objects_digests import SIZES, Digests, decode_checksum
from slipway.backing.objects_errors import s3_error

_TRAILER = "x-amz-checksum-"


def from_trailers(trailers: Mapping[str, str]) -> dict[str, str]:
    """The checksums among aws-chunked trailers."""
    known = {name.lower(): name for name in SIZES}
    named = {name[len(_TRAILER) :]: value for name, value in trailers.items() if name.startswith(_TRAILER)}
    return {known[name]: value for name, value in named.items() if name in known}


def missing(digests: Digests, write: Write, trailers: Mapping[str, str]) -> list[str]:
    """Algorithms that were promised and not computed: a trailer that nothing announced."""
    return [name for name in {**write.checksums, **from_trailers(trailers)} if name not in digests.checksums]


def check_promises(
    size: int, digests: Digests, write: Write, trailers: Mapping[str, str], late: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The checksums of the content; `late` are those that were computed afterwards.

    IncompleteBody, BadDigest, InvalidRequest (a malformed checksum, or one that nothing announced and nobody computed).
    """
    if write.length is not None and size != write.length:
        raise s3_error("IncompleteBody", NumberBytesExpected=write.length, NumberBytesProvided=size)
    if write.md5 is not None and not hmac.compare_digest(write.md5, digests.md5):
        raise s3_error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    checksums = {**digests.checksums, **(late or {})}
    for algorithm, value in {**write.checksums, **from_trailers(trailers)}.items():
        if algorithm not in checksums:
            raise s3_error("InvalidRequest", f"The trailer {_TRAILER}{algorithm.lower()} was not announced.")
        if not hmac.compare_digest(decode_checksum(algorithm, value), decode_checksum(algorithm, checksums[algorithm])):
            raise s3_error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return checksums
