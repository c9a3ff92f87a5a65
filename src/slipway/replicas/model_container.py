"""A multi-model container as its platform sees it: the contract's calls over HTTP (containers.md 5.2), to our host or another.

Answers are the container's own word: bounded in size, and never trusted to be in form.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from slipway.http.client import ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import BodyTooLarge, ClientGone

_MAX_ANSWER = 8 * 1024 * 1024
_MAX_WORDS = 4000
_PAGES = 1000
_ASK_SECONDS = 10.0
_UNLOAD_SECONDS = 90.0
"""A request of the model may have to end first."""
BROKEN = 0
"""Status of a container that gave no answer."""


class _Row(msgspec.Struct):
    model_name: str = msgspec.field(name="modelName", default="")
    bytes: int = 0
    uses: int = 0
    used: float = 0.0
    busy: bool = False


class _Page(msgspec.Struct):
    models: list[_Row] = []
    next_page_token: str | None = msgspec.field(name="nextPageToken", default=None)


class _Words(msgspec.Struct):
    message: str = ""
    bytes: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    message: str = ""
    """The body, or what of it is for people."""
    bytes: int = 0
    """Memory of the loaded model, where the container measures it."""
    alone: bool = False
    """Of a 507 of our own host: the model is too large by itself, nobody who went would help it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What our own host knows of a loaded model."""

    bytes: int
    uses: int
    used: float
    """Monotonic clock."""
    busy: bool


class ModelContainer:
    """`address`: where it answers; `ours`: slipway_host, which measures and counts for itself."""

    def __init__(self, address: str, *, ours: bool) -> None:
        self.ours = ours
        self._pool = Pool(address, PoolLimits(connections=64, idle=4))

    async def load(self, hash: str, url: str) -> Reply:
        """POST /models; as long as it takes."""
        return await self._ask("POST", "/models", None, {"model_name": hash, "url": url})

    async def unload(self, hash: str) -> Reply:
        return await self._ask("DELETE", f"/models/{hash}", _UNLOAD_SECONDS)

    async def has(self, hash: str) -> bool:
        return (await self._ask("GET", f"/models/{hash}", _ASK_SECONDS)).status == 200

    async def listed(self) -> dict[str, Counted] | None:
        """GET /models, all pages; None: it does not answer so."""
        found: dict[str, Counted] = {}
        token = ""
        for _ in range(_PAGES):
            query = ("limit=100000" if self.ours else "") + (f"&next_page_token={quote(token, safe='')}" if token else "")
            status, body = await self._request("GET", f"/models?{query}".rstrip("?"), _ASK_SECONDS, b"")
            if status != 200:
                return None
            try:
                page = msgspec.json.decode(body, type=_Page)
            except msgspec.DecodeError:
                return None
            for row in page.models:
                found[row.model_name] = Counted(row.bytes, row.uses, row.used, row.busy)
            if not page.next_page_token:
                return found
            token = page.next_page_token
        return found

    def close(self) -> None:
        self._pool.close()

    async def _ask(self, method: str, target: str, seconds: float | None, content: object = None) -> Reply:
        body = msgspec.json.encode(content) if content is not None else b""
        status, answer = await self._request(method, target, seconds, body)
        try:
            words = msgspec.json.decode(answer, type=_Words)
        except msgspec.DecodeError:
            words = _Words()
        text = words.message if self.ours and words.message else answer[: 4 * _MAX_WORDS].decode("utf-8", "replace")
        return Reply(status, text[:_MAX_WORDS], words.bytes, self.ours and words.alone)

    async def _request(self, method: str, target: str, seconds: float | None, body: bytes) -> tuple[int, bytes]:
        headers = [(b"host", b"localhost")]
        if body:
            headers.append((b"content-type", b"application/json"))
        try:
            async with asyncio.timeout(seconds):
                answer = await self._pool.request(method, target.encode(), headers, body)
                return answer.status, await answer.read(_MAX_ANSWER)
        except (ConnectFailed, NoAnswer, ClientGone, BodyTooLarge, TimeoutError) as error:
            return BROKEN, f"the container gave no answer to {method} {target.partition('?')[0]}: {error}".encode()
