"""Digests of object content: the MD5 behind an ETag, the checksums a caller asks for, and those of multipart objects.

Only what is asked for is computed. CRC32C, CRC64NVME and the XXHASH family come from awscrt (native, some 10 GB/s, releases the
interpreter lock); it is loaded by the first call that needs it, for 8 MB of memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from slipway.backing.objects_errors import s3_error

SIZES = {
    "CRC32": 4,
    "CRC32C": 4,
    "CRC64NVME": 8,
    "SHA1": 20,
    "SHA256": 32,
    "SHA512": 64,
    "MD5": 16,
    "XXHASH64": 8,
    "XXHASH3": 8,
    "XXHASH128": 16,
}
"""Algorithms of `x-amz-checksum-*` and the octets of their values."""

FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"

_COMBINING = ("CRC32", "CRC32C", "CRC64NVME")
"""Linear checksums: that of a whole follows from those of its parts."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> Any: ...


def _crt() -> Any:
    from awscrt import checksums  # noqa: PLC0415 - 8 MB that most servers never need

    return checksums


class _Crc:
    """A running CRC with hashlib's face."""

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _new(algorithm: str) -> _Hash:
    if algorithm == "CRC32":
        return _Crc(zlib.crc32, 4)
    if algorithm == "CRC32C":
        return _Crc(_crt().crc32c, 4)
    if algorithm == "CRC64NVME":
        return _Crc(_crt().crc64nvme, 8)
    if algorithm in ("SHA1", "SHA256", "SHA512", "MD5"):
        return hashlib.new(algorithm, usedforsecurity=False)
    kinds = {"XXHASH64": "new_xxhash64", "XXHASH3": "new_xxhash3_64", "XXHASH128": "new_xxhash3_128"}
    made: _Hash = getattr(_crt().XXHash, kinds[algorithm])()
    return made


class Digests:
    """MD5 and the named checksums of a stream. Feed it from one thread at a time."""

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._others = {name: _new(name) for name in dict.fromkeys(algorithms)}
        self._final: dict[str, str] | None = None

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        for other in self._others.values():
            other.update(data)

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    @property
    def checksums(self) -> dict[str, str]:
        """Base64 by algorithm. Call it after the last `update`."""
        if self._final is None:
            self._final = {name: encode(_finish(other)) for name, other in self._others.items()}
        return self._final


def _finish(state: Any) -> bytes:
    done: bytes = state.digest() if hasattr(state, "digest") else state.finalize()
    return done


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def decode_checksum(algorithm: str, text: str) -> bytes:
    """The octets of a checksum header's value; InvalidRequest when it cannot be one."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != SIZES[algorithm]:
        raise s3_error("InvalidRequest", f"Value for x-amz-checksum-{algorithm.lower()} header is invalid.")
    return value


def decode_md5(text: str) -> bytes:
    """The octets of a Content-MD5; InvalidDigest."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != 16:
        raise s3_error("InvalidDigest")
    return value


def default_type(algorithm: str) -> str:
    """What kind of checksum a multipart upload makes when its creator does not say."""
    return FULL_OBJECT if algorithm == "CRC64NVME" else COMPOSITE


def allowed_types(algorithm: str) -> tuple[str, ...]:
    if algorithm == "CRC64NVME":
        return (FULL_OBJECT,)
    return (FULL_OBJECT, COMPOSITE) if algorithm in _COMBINING else (COMPOSITE,)


def combined(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """The checksum of the whole from the parts' (base64, size in bytes), without reading them again."""
    combine = getattr(_crt(), f"combine_{algorithm.lower()}")
    total = 0
    for text, size in parts:
        total = combine(total, int.from_bytes(base64.b64decode(text), "big"), size)
    return encode(total.to_bytes(SIZES[algorithm], "big"))


def composite(algorithm: str, parts: Sequence[str]) -> str:
    """AWS's checksum of checksums: that of the parts' concatenated values, and their number."""
    digests = Digests((algorithm,))
    digests.update(b"".join(base64.b64decode(text) for text in parts))
    return f"{digests.checksums[algorithm]}-{len(parts)}"


def multipart_etag(etags: Sequence[str]) -> str:
    """`md5-of-md5s-N`."""
    joined = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"
