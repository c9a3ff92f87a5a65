"""Where notifications may go: addresses that a server must not be talked into calling are refused.

Whoever may subscribe an endpoint has this server send requests for him. Link-local, metadata, private, shared, reserved and
multicast addresses are refused unless the allow-list names them; loopback too, unless slipway itself listens on loopback
alone (then everybody who can call it is on this machine). What is checked is the address that is then connected to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LENGTH = 2048
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>(?:{_NAME}\.)*{_NAME}\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?:/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*)?(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*)?",
    re.ASCII,
)
"""Narrower than the standard: no user, no fragment, nothing that two parsers might read differently."""
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_HOST_LENGTH = 253
_HOST_NAME = re.compile(rf"(?:{_NAME}\.)*{_NAME}", re.ASCII)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.IPv6Network, ("2002::/16", "2001::/32", "64:ff9b:1::/48")))
"""6to4, Teredo, local NAT64: they carry IPv4 addresses to who knows where."""
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")))
"""Of IANA's registries of special addresses, those that not every version of Python knows."""
_UNICAST = ipaddress.IPv6Network("2000::/3")
_METADATA = tuple(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200")))
"""Of clouds; Azure's is a public address."""


class Refused(Exception):
    """The endpoint is none that slipway calls; the message says why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names."""

    host: str
    """Lower-case, an IPv6 address without its brackets."""
    port: int
    tls: bool


def parse_allowed(entries: Iterable[str]) -> tuple[tuple[Network, ...], frozenset[str]]:
    """Networks (`10.0.0.0/8`, `192.168.1.7`) and host names of an allow-list; ValueError names what is neither."""
    networks: list[Network] = []
    names = set()
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            if not _HOST_NAME.fullmatch(entry) or entry.rpartition(".")[2].isdigit():
                raise ValueError(f"{entry!r} is no host name, address or network") from None
            names.add(entry.lower())
    return tuple(networks), frozenset(names)


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides. Made by `guard`."""

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = field(default_factory=frozenset)
    loopback: bool = False

    def check_url(self, url: str) -> Target:
        """The URL's host and port; Refused when it is malformed or names an address that is not to be called."""
        match = _URL.fullmatch(url) if len(url) <= URL_LENGTH else None
        if match is None:
            raise Refused("The URL is not one that slipway calls: http(s)://host[:port][/path][?query], nothing else in it.")
        host = match["host"].lower().strip("[]").rstrip(".")
        port = int(match["port"] or (443 if match["scheme"] == "https" else 80))
        if len(host) > _HOST_LENGTH or not 0 < port < 65_536:
            raise Refused("The URL's host or port is not valid.")
        if (literal := _address(host)) is not None:
            self.check(host, literal)
        elif "[" in match["host"]:
            raise Refused("The URL's host is not an IPv6 address.")
        elif _NUMBER.fullmatch(host.rpartition(".")[2]):  # `127.1`, `2130706433`, `0x7f.1`: some read them as addresses
            raise Refused("The URL's host is a number that is no address, which slipway does not call.")
        return Target(host, port, match["scheme"] == "https")

    def check(self, host: str, address: str | Address) -> None:
        """Refused unless `address`, which `host` stands for, may be connected to."""
        found = _address(address) if isinstance(address, str) else address
        if found is None:
            raise Refused(f"{address!r} is no address.")
        found = _plain(found)
        if any(found.version == network.version and found in network for network in self.networks):
            return
        kind = _kind(found)
        if kind == "":
            return
        if kind == "loopback" and self.loopback:
            return
        if host in self.names and kind in ("loopback", "private"):
            return
        raise Refused(f"{host} is {kind} ({found}), which slipway does not call: --notify-allow allows it.")


def guard(allowed: Iterable[str], *, loopback: bool) -> Guard:
    """`allowed`: networks, addresses, host names. `loopback`: slipway listens there alone. ValueError as `parse_allowed`."""
    return Guard(*parse_allowed(allowed), loopback=loopback)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """The IPv4 address in one that only wraps it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _kind(address: Address) -> str:
    """Why the address is not to be called, "" when it may be."""
    if address in _METADATA:
        return "a metadata service"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    if isinstance(address, IPv6Address):
        if any(address in network for network in _TUNNELS):
            return "a tunnel"
        if address not in _UNICAST and not address.is_private:
            return "reserved"
    if address.is_reserved:
        return "reserved"
    special = any(address.version == network.version and address in network for network in _SPECIAL)
    return "" if address.is_global and not special else "private"
