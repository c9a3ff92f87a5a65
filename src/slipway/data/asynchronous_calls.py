"""One asynchronous request at a container: as a frame where it fits, over HTTP/1.1 else; its answer may be a stream.

Input and answer pass through in pieces, bounded by pausing whom they come from. The request's own timeout begins when the
container does: a worker of ours says when that is, since other dispatchers send to it too.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, cast

from slipway.backing.objects_errors import ObjectsError
from slipway.data.invoke import DIED, TIMEOUT, Call
from slipway.http.body import IncomingBody
from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer
from slipway.http.messages import ClientGone, Headers
from slipway.http.render import BadHeader
from slipway_host.frames import ALONE, MAX_BODY, NAME_HEADER, TELL, TELL_HEADER, TIMEOUT_HEADER, unpack_head

if TYPE_CHECKING:
    from slipway.data.asynchronous_places import AsyncVariant
    from slipway.data.frames_link import FramesLink
    from slipway.data.lanes import Lane

UNSENT = "unsent"
"""No container has it: another worker, or another time."""
UNBEGUN = "unbegun"
"""The worker that was sent it died before it began: of what somebody else had sent, or of receiving this one."""

UNBEGUN_SECONDS = 3 * 3600.0
"""After which a worker that does not even begin is taken for one that never will: longer than what others may have sent it."""
HELD = 512 * 1024
"""Bytes of an answer that are held before its sender is paused."""
SHORT = 64 * 1024
"""An HTTP answer of up to so many bytes is read whole."""
PROCESSING = 102
"""What a worker answers first to a request with TELL_HEADER."""
_TIMEOUT_NAME = TIMEOUT_HEADER.lower().encode()
_NAME_NAME = NAME_HEADER.lower().encode()
_TELL_NAME = TELL_HEADER.lower().encode()


class Silent(Exception):
    """No answer, or not the whole of it; `why` as in `data.invoke`, UNSENT or UNBEGUN."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Answer(NamedTuple):
    status: int
    headers: Headers
    """Names in lower case."""
    body: bytes | IncomingBody
    """A stream raises Silent where it breaks off."""


class InputBroke(Exception):
    """The input could not be read to its end; the cause is the store's error."""


class Input(NamedTuple):
    """What the container gets: `data`, or else the pieces that `open` gives, `size` bytes in all (None: nobody knows)."""

    size: int | None
    data: bytes | None
    open: Callable[[], AsyncIterator[bytes]] | None = None


class AsyncCall(Call):
    """`await call.answer`: an Answer, or Silent or InputBroke is raised. Then read the body, or `cancel` what is left of it."""

    __slots__ = (
        "_link",
        "_name",
        "_on_begin",
        "_open_input",
        "_size",
        "_stream",
        "_timeout",
        "_timer",
        "answer",
        "began",
        "ended",
        "expired",
        "flags",
        "lane",
    )

    def __init__(
        self, head: bytes, source: Input, timeout: float, on_begin: Callable[[AsyncCall], None], *, alone: bool = False
    ) -> None:
        """`on_begin` is told when a container has the request; `timeout` in seconds from then. `alone`: in no batch."""
        super().__init__(head, source.data or b"", framed=source.data is not None and len(source.data) <= MAX_BODY)
        self.timeout_ms = int(timeout * 1000)
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.began: float | None = None
        """perf_counter when a container had it."""
        self.ended = 0.0
        """When it had begun to answer (a stream), or had answered."""
        self.expired: Callable[[], bool] = _never
        """Whether it is too late to send it to a container (any more)."""
        self.lane: Lane | None = None
        self.flags = TELL | ALONE if alone else TELL
        self._size = source.size
        self._open_input = source.open
        self._timeout = timeout
        self._on_begin = on_begin
        self._timer: asyncio.TimerHandle | None = None
        self._stream: IncomingBody | None = None
        self._link: FramesLink | None = None
        self._name = 0
        """Over HTTP; a frame's is its id."""

    # ---- the places' side

    def given(self, lane: Lane) -> None:
        """To a worker, which may be at what somebody else has sent it."""
        self.lane = lane
        self._timer = asyncio.get_running_loop().call_later(UNBEGUN_SECONDS, self.expire)

    def begin(self) -> None:
        """A container has it now."""
        if self.began is None and not self.done:
            self.untimed()
            self.began = perf_counter()
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self.expire)
            self._on_begin(self)

    def again(self) -> None:
        """The worker did not take it after all."""
        self.began = self.lane = None
        self._name = 0
        self.untimed()

    def untimed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cancel(self) -> None:
        """Nobody wants the answer any more. A worker of ours is free soon, whatever it does; one that is late is so anyway."""
        if not self.done and self.lane is not None:
            self.lane.abandon(self, self._name)
        super().cancel()

    def detach(self) -> None:
        super().detach()
        self._pause_link(False)

    # ---- the answer as a frame, or in parts

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        self.untimed()
        stream = self._stream
        if stream is None:
            self._answered(Answer(status, _lower(unpack_head(head)), body))
            return
        if body:
            stream.feed(body)
        stream.finish()

    def part(self, status: int, head: bytes, body: bytes, link: FramesLink) -> bool:
        if self._stream is None:
            self._link = link
            self._open(status, _lower(unpack_head(head)), self._pause_link)
        assert self._stream is not None
        self._stream.feed(body)
        return True

    def failed(self, why: str) -> None:
        self.untimed()
        if self.began is None and why != TIMEOUT:
            why = UNBEGUN if why == DIED else UNSENT
        error = Silent(why)
        if self._stream is not None:
            self._stream.fail(error)
        elif not self.answer.done():
            self.ended = perf_counter()
            self.answer.set_exception(error)

    def _pause_link(self, on: bool) -> None:
        if self._link is not None:
            self._link.pause(on)

    def _open(self, status: int, headers: Headers, pause: Callable[[bool], None], length: int | None = None) -> None:
        self._stream = IncomingBody(length, HELD, None, pause)
        self._answered(Answer(status, headers, self._stream))

    def _answered(self, answer: Answer) -> None:
        self.ended = perf_counter()
        if not self.answer.done():
            self.answer.set_result(answer)

    # ---- over HTTP

    def carry(self, lane: Lane) -> None:
        if not lane.ours:
            self.begin()
        self._name = secrets.randbits(32) if lane.ours else 0
        self.task = task = asyncio.get_running_loop().create_task(self._exchange(lane))
        task.add_done_callback(functools.partial(self._carried, lane))

    async def _exchange(self, lane: Lane) -> None:
        headers = [(name.lower(), value) for name, value in unpack_head(self.head)]
        if lane.ours:
            headers += ((_TIMEOUT_NAME, b"%d" % self.timeout_ms), (_NAME_NAME, b"%d" % self._name), (_TELL_NAME, b"1"))
        try:
            response = await self._post(lane, headers)
            self.begin()
            await self._read(response)
        except ConnectFailed:
            if not self.done:
                self.again()
                cast("AsyncVariant", self.slots).unreached(self, lane)
        except (NoAnswer, ClientGone, BadHeader):
            self._fail(DIED)
        except (ObjectsError, OSError, ValueError) as error:  # of the input's pieces, or too few or too many of them
            if self.settle() and not self.answer.done():
                broke = InputBroke(str(error))
                broke.__cause__ = error
                self.answer.set_exception(broke)

    async def _post(self, lane: Lane, headers: Headers) -> ClientResponse:
        if self._open_input is None:
            return await lane.pool.request("POST", b"/invocations", headers, self.body, informed=self._told)
        pieces = self._open_input()
        return await lane.pool.request("POST", b"/invocations", headers, pieces, length=self._size, informed=self._told)

    def _told(self, status: int) -> None:
        """Our worker says so when it begins, a foreign container may say what it likes."""
        if status == PROCESSING:
            self.begin()

    async def _read(self, response: ClientResponse) -> None:
        headers = _lower(response.headers)
        if response.length is not None and response.length <= SHORT:
            body = await response.read(SHORT)
            if self.settle():
                self._answered(Answer(response.status, headers, body))
            return
        flow = asyncio.Event()
        flow.set()
        self._open(response.status, headers, lambda on: flow.clear() if on else flow.set(), response.length)
        stream = self._stream
        assert stream is not None
        async for piece in response:
            stream.feed(piece)
            await flow.wait()
        if self.settle():
            stream.finish()

    def _fail(self, why: str) -> None:
        if self.settle():
            self.failed(why)


def _never() -> bool:
    return False


def _lower(pairs: Headers) -> Headers:
    return [(name.lower(), value) for name, value in pairs]
