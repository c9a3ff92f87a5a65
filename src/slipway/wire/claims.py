"""The values of signature checking: what a request offers, what it proves (`Claim`), why it is refused (`SignatureError`)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING = frozenset({SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER})

EMPTY_HASH = hashlib.sha256(b"").hexdigest()

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
    "signing method. Consult the service documentation for details."
)


class Secret(Protocol):
    """An access key or session credential as `lookup` finds it (core.routing.Key fits)."""

    @property
    def secret(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def principal(self) -> str: ...
    @property
    def token(self) -> str | None: ...
    @property
    def expires(self) -> float | None: ...
    @property
    def services(self) -> tuple[str, ...]: ...


Lookup = Callable[[str], Secret | None]


class SignatureError(Exception):
    """Why a request is refused. `kind` is one of

    missing, incomplete, unknown-key, mismatch, skew, expired-token, invalid-token, expired-url, denied, bad-hash.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def incomplete(message: str) -> SignatureError:
    return SignatureError("incomplete", message)


def mismatch() -> SignatureError:
    return SignatureError("mismatch", MISMATCH)


class SigningKey(NamedTuple):
    """A derived key as HMAC's two padded blocks: two plain hashes take half the time of `hmac.digest`."""

    inner: bytes
    outer: bytes

    @classmethod
    def of(cls, key: bytes) -> SigningKey:
        """`key` is at most one block (64 bytes) long; derived keys have 32."""
        block = key.ljust(64, b"\0")
        return cls(bytes([octet ^ 0x36 for octet in block]), bytes([octet ^ 0x5C for octet in block]))

    def sign(self, text: bytes) -> bytes:
        """HMAC-SHA256 of `text`, in hex."""
        return hashlib.sha256(self.outer + hashlib.sha256(self.inner + text).digest()).hexdigest().encode()


class Attempt(NamedTuple):
    """A request's head on its way through the checks."""

    method: str
    path: bytes
    query: bytes
    values: Mapping[bytes, bytes]
    """Headers by lower-case name; values of a repeated one joined by commas."""
    params: Mapping[bytes, bytes]
    """Query parameters that carry a signature, unescaped; empty for the header form."""
    lookup: Lookup
    now: float
    services: Collection[str] | None

    def find(self, key_id: str, token: bytes | None) -> Secret:
        """The key, whose session token must be the one sent and must not have run out."""
        key = self.lookup(key_id)
        if key is None:
            raise SignatureError("unknown-key", "The security token included in the request is invalid.")
        if key.token is None:
            if token is not None:
                raise SignatureError("invalid-token", "The security token included in the request is invalid.")
        elif token is None or not hmac.compare_digest(key.token.encode(), token):
            raise SignatureError("invalid-token", "The security token included in the request is invalid.")
        if key.expires is not None and key.expires <= self.now:
            raise SignatureError("expired-token", "The security token included in the request is expired")
        return key


class Claim:
    """A caller, proven as far as `verified` says."""

    __slots__ = (
        "_head",
        "_to_sign",
        "account",
        "form",
        "key_id",
        "payload_hash",
        "principal",
        "region",
        "scope",
        "service",
        "services",
        "signature",
        "signed_headers",
        "signing_key",
        "timestamp",
        "verified",
    )

    def __init__(self, key_id: str, key: Secret, form: str) -> None:
        self.key_id = key_id
        self.account = key.account
        self.principal = key.principal
        self.services = key.services
        """Names of the services this key may call; empty: all."""
        self.form = form
        """`header`, `query4` or `query2`."""
        self.service = "s3"
        """As in the credential scope (`sagemaker` for the runtime too)."""
        self.region = ""
        """As in the credential scope; "" for `query2`, which names none."""
        self.payload_hash: str | None = UNSIGNED
        """Hex SHA-256 that the body must have, UNSIGNED, one of STREAMING, or None: covered by the signature, not stated."""
        self.signed_headers: tuple[bytes, ...] = ()
        self.verified = False
        self.signature = b""
        """Seed of chunk signatures, hex; with `signing_key`, `timestamp` and `scope` it is what `wire.chunked` needs."""
        self.signing_key: SigningKey | None = None
        self.timestamp = b""
        self.scope = b""
        self._head = b""
        self._to_sign = b""

    @property
    def needs_body_hash(self) -> bool:
        """Whether `check_body` wants the body's hash; else the body is unsigned or signed in chunks."""
        return self.payload_hash is None or len(self.payload_hash) == 64

    def expect(self, head: bytes, to_sign: bytes) -> None:
        """The canonical request up to the payload hash, and the string to sign up to the request's hash.

        Compares at once when the payload hash is stated, else `check_body` will.
        """
        self._head = head
        self._to_sign = to_sign
        if self.payload_hash is not None:
            self._compare(self.payload_hash)

    def check_body(self, sha256_hex: str) -> None:
        """To be called with the whole body's hash before anything is done; SignatureError `mismatch` or `bad-hash`."""
        if self.payload_hash is None:
            self._compare(sha256_hex)
            self.payload_hash = sha256_hex
        elif len(self.payload_hash) == 64 and not hmac.compare_digest(self.payload_hash, sha256_hex):
            raise SignatureError("bad-hash", "The provided 'x-amz-content-sha256' header does not match what was computed.")

    def _compare(self, payload_hash: str) -> None:
        digest = hashlib.sha256(self._head + payload_hash.encode()).hexdigest()
        if self.signing_key is None or not hmac.compare_digest(
            self.signing_key.sign(self._to_sign + digest.encode()), self.signature
        ):
            raise mismatch()
        self.verified = True
