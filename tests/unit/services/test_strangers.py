"""Which hosts and origins may call without a signature."""

from __future__ import annotations

import pytest

from slipway.services.strangers import refuse_strangers
from slipway.wire.claims import SignatureError


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        (b"localhost", "127.0.0.1"),
        (b"LocalHost:4566", "127.0.0.1"),
        (b"bucket.s3.localhost:4566", "127.0.0.1"),
        (b"127.0.0.1:1", "127.0.0.1"),
        (b"127.1.2.3", "127.0.0.1"),
        (b"[::1]:4566", "::1"),
        (b"[fd00::5]:4566", "fd00::5"),
        (b"10.1.2.3:4566", "10.1.2.3"),
    ],
)
def test_own_names(host: bytes, bound: str) -> None:
    refuse_strangers([(b"host", host)], bound)
    refuse_strangers([(b"host", host), (b"origin", b"http://" + host)], bound)
    refuse_strangers([(b"host", host), (b"sec-fetch-site", b"none")], bound)


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b"evil.example", b"localhost.evil.example", b"evillocalhost", b"localhost@evil.example"),
        *(b"127.0.0.1.evil.example", b"[::1", b"a:b", b"localhost:", b"localhost:123456", b"10.0.0.1", b"0.0.0.0"),
        b"localhost\t.evil",
    ],
)
def test_foreign_names(host: bytes) -> None:
    with pytest.raises(SignatureError, match="not one of slipway's"):
        refuse_strangers([(b"host", host)], "127.0.0.1")


def test_the_host_is_named_once() -> None:
    for headers in ([], [(b"host", b"localhost"), (b"host", b"evil.example")], [(b"host", b"localhost")] * 2):
        with pytest.raises(SignatureError):
            refuse_strangers(headers, "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"origin", b"http://evil.example"),
        (b"origin", b"null"),
        (b"origin", b""),
        (b"origin", b"http://localhost:1"),
        (b"origin", b"http://localhost.evil.example"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
    ],
)
def test_other_origins(name: bytes, value: bytes) -> None:
    with pytest.raises(SignatureError, match=r"other (origins|sites)"):
        refuse_strangers([(b"host", b"localhost:4566"), (name, value)], "127.0.0.1")
