"""Notifications over HTTP: one POST to a checked address, with aiohttp. Import it late: aiohttp takes a quarter of a second.

No redirect is followed, no proxy asked, no cookie kept; a name is resolved once, every address of it checked, and the
connection made to those very addresses. What an endpoint answers is read up to a bound and thrown away.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from slipway.backing.notices_addresses import Guard, Refused

SECONDS = 15.0
"""For one delivery, from the name's look-up to the answer's end: AWS's."""
ANSWER_BYTES = 65_536
_LOOKUPS = 16
"""Names that are looked up at a time: a slow name server has its own threads to hold up."""


class Undelivered(Exception):
    """The endpoint did not take the message; `permanent`: trying again is no use. The message is a sentence for people."""

    def __init__(self, cause: str, *, permanent: bool = False) -> None:
        super().__init__(cause)
        self.permanent = permanent


class HttpSender:
    """Used in one event loop; `close` it."""

    def __init__(self, guard: Guard, seconds: float = SECONDS) -> None:
        self._guard = guard
        self._resolver = _Resolver(guard)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, limit=0, keepalive_timeout=20.0),
            timeout=aiohttp.ClientTimeout(total=seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of a 2xx answer; Undelivered for everything else."""
        try:
            self._guard.check_url(url)  # aiohttp asks no resolver about an address that stands in the URL
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                await response.content.read(ANSWER_BYTES)
                status = response.status
        except Refused as error:
            raise Undelivered(str(error), permanent=True) from None
        except TimeoutError:
            raise Undelivered("The endpoint did not answer in time.") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Undelivered(f"The endpoint's certificate is not trusted ({error.certificate_error}).") from None
        except aiohttp.ClientConnectorError as error:
            refused = _refusal(error)
            if refused is not None:
                raise Undelivered(refused, permanent=True) from None
            raise Undelivered(f"The endpoint could not be reached ({_reason(error.os_error)}).") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Undelivered(f"The endpoint did not answer with HTTP ({type(error).__name__}).") from None
        if 200 <= status < 300:
            return status
        raise Undelivered(f"The endpoint answered {status}.", permanent=300 <= status < 500 and status not in (408, 429))

    async def close(self) -> None:
        await self._session.close()
        await self._resolver.close()


def _refusal(error: BaseException) -> str | None:
    """What the guard said, where it is behind the error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _RefusedAddress):
            return str(seen.refused)
        seen = seen.__cause__ or seen.__context__
    return None


def _reason(error: BaseException | None) -> str:
    return (getattr(error, "strerror", None) or type(error).__name__) if error is not None else "unknown"


class _RefusedAddress(OSError):
    """A resolver may raise OSError alone."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class _Resolver(AbstractResolver):
    """The system's, in threads of its own; a name of which any address is refused is refused."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="notice-lookup")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        return pinned(self._guard, host, port, [str(entry[4][0]) for entry in found])

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def pinned(guard: Guard, host: str, port: int, addresses: list[str]) -> list[ResolveResult]:
    """The addresses as aiohttp connects to them; OSError when one of them is refused, or there is none."""
    if not addresses:
        raise OSError(None, "no address")
    try:
        for address in addresses:
            guard.check(host.rstrip(".").lower(), address.partition("%")[0])
    except Refused as error:
        raise _RefusedAddress(error) from None
    return [
        {
            "hostname": host,
            "host": address,
            "port": port,
            "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
            "proto": 0,
            "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        }
        for address in dict.fromkeys(addresses)
    ]
