"""Addresses that a server must not be talked into calling."""

from __future__ import annotations

import pytest

from slipway.backing.notices_addresses import Refused, guard, parse_allowed

REFUSED = [
    ("127.0.0.1", "loopback"),
    ("127.255.0.9", "loopback"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "loopback"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("0.0.0.0", "unspecified"),
    ("::", "unspecified"),
    ("0.1.2.3", "private"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("::ffff:192.168.1.1", "private"),
    ("64:ff9b::10.0.0.1", "private"),
    ("100.64.0.1", "private"),
    ("100.100.100.200", "a metadata service"),
    ("169.254.169.254", "a metadata service"),
    ("::ffff:169.254.169.254", "a metadata service"),
    ("168.63.129.16", "a metadata service"),
    ("fd00:ec2::254", "a metadata service"),
    ("169.254.0.1", "link-local"),
    ("169.254.170.2", "link-local"),
    ("fe80::1", "link-local"),
    ("fd12:3456::1", "private"),
    ("fc00::1", "private"),
    ("fec0::1", "reserved"),
    ("192.0.0.192", "private"),
    ("192.0.2.1", "private"),
    ("198.18.0.1", "private"),
    ("203.0.113.7", "private"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("ff02::1", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::127.0.0.1", "reserved"),
    ("2002:7f00:1::", "a tunnel"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "a tunnel"),
    ("64:ff9b:1::a00:1", "a tunnel"),
    ("2001:db8::1", "private"),
    ("192.88.99.1", "private"),
    ("3fff::1", "private"),
    ("4000::1", "reserved"),
]


@pytest.mark.parametrize(("address", "kind"), REFUSED)
def test_refused(address: str, kind: str) -> None:
    with pytest.raises(Refused, match=f"host is {kind} "):
        guard((), loopback=False).check("host", address)
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(Refused):
        guard((), loopback=False).check_url(f"http://{literal}/")


@pytest.mark.parametrize("address", ["1.1.1.1", "52.94.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_called(address: str) -> None:
    guard((), loopback=False).check("host", address)


def test_loopback_where_everybody_is_local() -> None:
    here = guard((), loopback=True)
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        here.check("host", address)
    for address in ("0.0.0.0", "10.0.0.1", "169.254.169.254"):
        with pytest.raises(Refused):
            here.check("host", address)


def test_the_allow_list() -> None:
    allowing = guard(("10.1.0.0/16", "192.168.7.9", "fd00::/8", "Receiver.internal"), loopback=False)
    allowing.check("host", "10.1.2.3")
    allowing.check("host", "::ffff:10.1.2.3")
    allowing.check("host", "192.168.7.9")
    allowing.check("host", "fd00:ec2::254")
    allowing.check("receiver.internal", "10.9.9.9")
    allowing.check("receiver.internal", "127.0.0.1")
    for host, address in (
        ("host", "10.2.0.1"),
        ("host", "192.168.7.8"),
        ("receiver.internal", "169.254.169.254"),
        ("receiver.internal", "169.254.1.1"),
        ("other.receiver.internal", "10.9.9.9"),
    ):
        with pytest.raises(Refused, match="--notify-allow"):
            allowing.check(host, address)
    for entry in ("10.0.0.0/99", "a b", "", "1.2.3", "http://x", "*"):
        with pytest.raises(ValueError, match="no host name, address or network"):
            parse_allowed((entry,))


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://example.com", "example.com", 80, False),
        ("https://EXAMPLE.com./a/b?c=d&e=%20", "example.com", 443, True),
        ("http://example.com:8080/", "example.com", 8080, False),
        ("https://[2606:4700::1111]:8443/x", "2606:4700::1111", 8443, True),
        ("http://under_score.example/", "under_score.example", 80, False),
    ],
)
def test_urls(url: str, host: str, port: int, tls: bool) -> None:
    target = guard((), loopback=False).check_url(url)
    assert (target.host, target.port, target.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com:80@127.0.0.1/",
        "http://example.com#@127.0.0.1/",
        "http://example.com/#fragment",
        "http://example.com\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "http://ex\u00e4mple.com/",
        "http://\u2460\u2461\u2466.0.0.1/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[example.com]/",
        "http://[1.2.3.4]x/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0x1/",
        "http://1.2.3.4.5/",
        "http://0/",
        "http://" + "a" * 300 + "/",
        "http://example.com/" + "a" * 2048,
    ],
)
def test_urls_that_are_not_called(url: str) -> None:
    with pytest.raises(Refused):
        guard(("0.0.0.0/0", "::/0"), loopback=True).check_url(url)
