"""Against web pages in the user's own browser, where no signature keeps them out: foreign host names and origins.

Pure functions of a request's head; the gateway uses them as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slipway.wire.claims import SignatureError

Headers = Sequence[tuple[bytes, bytes]]

_LOOPBACK = re.compile(rb"(?:[a-z0-9.-]+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")


def refuse_strangers(headers: Headers, bound: str) -> None:
    """Both refusals below; SignatureError `denied`."""
    refuse_foreign_host(headers, bound)
    refuse_cross_origin(headers)


def refuse_foreign_host(headers: Headers, bound: str) -> None:
    """Against DNS rebinding: only loopback names (buckets below `localhost` included) and the bound address itself."""
    hosts = [value.lower() for name, value in headers if name == b"host"]
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    ours = f"[{bound}]" if ":" in bound else bound
    if match is None or not (_LOOPBACK.fullmatch(match[1]) or match[1] == ours.lower().encode()):
        raise SignatureError("denied", "This host name is not one of slipway's: unsigned requests are taken at localhost only")


def refuse_cross_origin(headers: Headers) -> None:
    """Against cross-site requests: a browser names the page's origin, which must be our own."""
    found = dict(headers)
    origin = found.get(b"origin")
    host = found.get(b"host", b"").lower()
    if origin is not None and origin.lower() not in (b"http://" + host, b"https://" + host):
        raise SignatureError("denied", "Requests of other origins are refused")
    if found.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        raise SignatureError("denied", "Requests of other sites are refused")
