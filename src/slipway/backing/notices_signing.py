"""The key that signs SNS messages, and its certificate: made by ourselves, kept in the data directory (0600).

AWS signs with a certificate of Amazon's; here receivers get ours from SigningCertURL, a route of this slipway. `cryptography`
is loaded when the first message is signed.
"""

from __future__ import annotations

import base64
import os
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

CERTIFICATE_PATH = "/_slipway/sns/SimpleNotificationService.pem"
_FILE = "sns-signing.pem"
_BITS = 2048
_YEARS = 20
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class Signer:
    """A `core.sns_messages.Seal`, usable from any thread."""

    def __init__(self, folder: str, url: str) -> None:
        """`folder`: the data directory. `url`: of this slipway as its clients reach it."""
        self.url = url
        """What confirmation and unsubscription links begin with."""
        self.certificate_url = url + CERTIFICATE_PATH
        self._path = os.path.join(folder, _FILE)
        self._lock = threading.Lock()
        self._key: RSAPrivateKey | None = None
        self._certificate = b""

    def certificate(self) -> bytes:
        """PEM. OSError when the data directory cannot be written or read."""
        self._load()
        return self._certificate

    def sign(self, text: bytes, version: str) -> str:
        """Base64 of RSASSA-PKCS1-v1_5 over `text`, with SHA-1 for version "1" and SHA-256 for "2". OSError as above."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - 30 ms that control does not need to start
        from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

        digest = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303 - what version 1 is
        return base64.b64encode(self._load().sign(text, padding.PKCS1v15(), digest)).decode()

    def _load(self) -> RSAPrivateKey:
        with self._lock:
            if self._key is None:
                self._key, self._certificate = _read(self._path) if os.path.exists(self._path) else _make(self._path)
            return self._key


def _read(path: str) -> tuple[RSAPrivateKey, bytes]:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    with open(path, "rb") as file:
        content = file.read()
    key = load_pem_private_key(content, None)
    if not isinstance(key, RSAPrivateKey):
        raise OSError(f"{path} holds no RSA key: remove it, and a new one is made")
    return key, content[content.index(_CERTIFICATE) :]


def _make(path: str) -> tuple[RSAPrivateKey, bytes]:
    """A fresh key, on disk before it signs anything: key and certificate are one file, so that they belong together."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway notifications")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    return key, certificate


def _write(path: str, content: bytes) -> None:
    """Whole or not at all, readable by this user alone."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".sns-")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
