"""One request for a variant: the value that waits, travels and is answered exactly once; and its way over HTTP.

Small requests go as frames and need no task (`data.frames_link`); large ones, those of foreign containers and streams go
over pooled HTTP/1.1 with the same accounting of slots.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from time import perf_counter
from typing import TYPE_CHECKING

from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer
from slipway.http.messages import BodyTooLarge, ClientGone
from slipway.http.render import BadHeader
from slipway_host.frames import TIMEOUT_HEADER, pack_head, unpack_head

if TYPE_CHECKING:
    from slipway.data.frames_link import FramesLink
    from slipway.data.lanes import Lane
    from slipway.data.slots import VariantSlots

logger = logging.getLogger(__name__)

TIMEOUT = "timeout"
"""The model did not answer in time."""
DIED = "died"
"""The connection to the model broke: its process went away, or closed."""
BROKEN = "broken"
"""The model's handler failed in the middle of its answer."""
TOO_LARGE = "response-too-large"
NO_CAPACITY = "no-capacity"
"""No replica became ready in time."""
OVERLOADED = "overloaded"
"""Too many requests wait for the variant already."""
GONE = "gone"
"""The variant left the route table while the request waited: choose again."""


class Oversize(str):
    """A reason of `Call.failed`: a container's answer is larger than what the next one may be sent."""

    container: str
    following: str
    size: int
    limit: int

    def __new__(cls, container: str, following: str, size: int, limit: int) -> Oversize:
        made = super().__new__(cls, "oversize")
        made.container, made.following, made.size, made.limit = container, following, size, limit
        return made


_TIMEOUT_NAME = TIMEOUT_HEADER.lower().encode()
_HOP = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"date", b"server"))


class Call:
    """One request. Subclasses say what becomes of it in `replied` and `failed`: one of them is called, once, never both."""

    __slots__ = ("body", "bucket", "done", "framed", "head", "retried", "sent", "slots", "task", "timeout_ms")

    flags = 0
    """Of its frame: frames.ALONE where no batch may take it in."""
    reads = False
    """It only wants a place, to speak with the container itself."""
    step = False
    """One of several that its caller waits for, one after another."""

    def __init__(self, head: bytes, body: bytes = b"", framed: bool = True) -> None:
        self.head = head
        """Headers for the model, packed as in frames."""
        self.body = body
        self.framed = framed
        """It may travel as a frame; else it is always carried over HTTP."""
        self.bucket: set[Call] | None = None
        """Of the wheel that times it out."""
        self.done = self.retried = False
        """`done`: answered, failed or cancelled, whatever comes later is dropped."""
        self.sent: float
        """perf_counter when it was handed to a worker."""
        self.timeout_ms: int
        self.slots: VariantSlots | None = None
        """Where it waits, or whose lane it has."""
        self.task: asyncio.Task[None] | None = None

    def left_ms(self, most: int) -> int:
        """Milliseconds that a container may take for it, if others have `most`."""
        return most

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        """The model's answer; `head` as in frames, `now` as of perf_counter."""
        raise NotImplementedError

    def failed(self, why: str) -> None:
        """No answer; `why` is one of this module's constants. After GONE the call may be submitted again."""
        raise NotImplementedError

    def part(self, status: int, head: bytes, body: bytes, link: FramesLink) -> bool:
        """A piece of a long answer; True: the call keeps it itself (`replied` gets the last one), and may pause `link`."""
        return False

    def carry(self, lane: Lane) -> None:
        """Go over HTTP."""
        self.task = task = asyncio.get_running_loop().create_task(_carry(lane, self))
        task.add_done_callback(functools.partial(self._carried, lane))

    def _carried(self, lane: Lane, task: asyncio.Task[None]) -> None:
        """The exchange has ended, or was cut (perhaps before it began)."""
        if self.task is task:
            self.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("invocation-broke", exc_info=error, extra={"lane": lane.address})
            _fail(self, DIED)
        lane.finished(self, not task.cancelled())

    def settle(self) -> bool:
        """Mark as done; False if it was already."""
        if self.done:
            return False
        self.done = True
        self.untimed()
        return True

    def untimed(self) -> None:
        """Take it off the wheel."""
        if self.bucket is not None:
            self.bucket.discard(self)

    def cancel(self) -> None:
        """Nobody wants the answer any more. The worker's slot stays taken until the worker is free."""
        if self.settle():
            self.detach()

    def expire(self) -> None:
        """Called by the wheel."""
        if self.settle():
            self.detach()
            self.failed(TIMEOUT)

    def detach(self) -> None:
        if self.slots is not None:
            self.slots.forget(self)
        self.body = b""
        if self.task is not None:
            self.task.cancel()


async def _carry(lane: Lane, call: Call) -> None:
    """The whole answer over HTTP, bounded by the response limit."""
    try:
        response = await post(lane, call)
        if response.status >= 400 and not call.retried and lane.gone_away(response):
            await response.close()
            lane.dismissed()
            _again(call)
            return
        data = await response.read(lane.limits.response_bytes)
        if call.settle():
            kept = [pair for pair in response.headers if pair[0] not in _HOP]
            call.replied(response.status, pack_head(kept), data, perf_counter())
    except ConnectFailed:
        _again(call)
    except BodyTooLarge:
        _fail(call, TOO_LARGE)
    except (NoAnswer, ClientGone, BadHeader):
        _fail(call, DIED)


async def post(lane: Lane, call: Call) -> ClientResponse:
    """Send the call to the lane's container; raises as `Pool.request`."""
    headers = [(name.lower(), value) for name, value in unpack_head(call.head)]
    if lane.ours:
        headers.append((_TIMEOUT_NAME, b"%d" % call.timeout_ms))
    return await lane.pool.request("POST", lane.path, headers, call.body)


def _again(call: Call) -> None:
    """Nothing was sent: another worker may have it, once."""
    if call.done or call.slots is None:
        return
    if call.retried:
        _fail(call, DIED)
    else:
        call.retried = True
        call.slots.put_back(call)


def _fail(call: Call, why: str) -> None:
    if call.settle():
        call.failed(why)


class Ticket(Call):
    """A place on a lane for a coroutine that speaks HTTP with the container itself (streams): `await ticket.lane`."""

    __slots__ = ("lane", "place")

    reads = True

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__(head, body, framed=False)
        self.place: Lane | None = None
        self.lane: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()

    def carry(self, lane: Lane) -> None:
        self.untimed()
        self.place = lane
        if self.lane.done():
            self.release(clean=True)
        else:
            self.lane.set_result(lane)

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        """A container before the last one of a pipeline answered outside 2xx."""
        if not self.lane.done():
            self.lane.set_exception(Refused(status, body))

    def failed(self, why: str) -> None:
        if not self.lane.done():
            self.lane.set_exception(NoPlace(why))

    def release(self, *, clean: bool) -> None:
        """Give the place back; `clean`: the answer was read to its end (else the worker may still be busy)."""
        lane, self.place = self.place, None
        if lane is None:
            self.cancel()
        else:
            self.done = True
            lane.finished(self, clean)


class NoPlace(Exception):
    """`why` as in `Call.failed`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Refused(Exception):
    """A container on the way answered outside 2xx."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
