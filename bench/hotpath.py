"""The gateway's own share of an InvokeEndpoint, in one process without sockets: CPU-microseconds of Python per request.

What the kernel, the event loop and the worker cost is left out; it is the part that a change of our code can change.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any, cast

import uvloop

from slipway.core.routing import Endpoint, Replica, RouteTable, Variant, endpoint_key
from slipway.data.frames_link import FramesLink
from slipway.data.lanes import DataLimits, WorkerLane
from slipway.data.slots import Slots
from slipway.http.connection import Connection
from slipway.http.limits import Budget, HttpLimits
from slipway.http.messages import Request, Response
from slipway.http.server import Server
from slipway.link.client import Link
from slipway.services.runtime import callers
from slipway.services.runtime.enqueue import Enqueue
from slipway.services.runtime.invoke import Runtime, RuntimeLimits
from slipway_host import frames

ACCOUNT, REGION, NAME = "123456789012", "us-east-1", "identity"
BODY = b"x" * 1024
REQUEST = (
    b"POST /endpoints/identity/invocations HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
CONNECTIONS, TURNS = 16, 2000


class Sink:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...


async def _control(request: Request) -> Response:
    raise AssertionError("an invocation went to control")


def _gateway() -> tuple[list[Connection], FramesLink, WorkerLane]:
    """A server's connections, and the link to the one worker."""
    slots = Slots(DataLimits())
    slots.start()
    variant = Variant("AllTraffic", 1.0, (Replica("i-1", "i-1", "frames", ("unix:/nowhere",)),))
    key = endpoint_key(ACCOUNT, REGION, NAME)
    slots.apply(RouteTable(1, {key: Endpoint(ACCOUNT, REGION, NAME, (variant,))}))
    only = slots.endpoints[key].only
    assert only is not None
    lane = cast("WorkerLane", next(iter(only._all.values())))
    link = FramesLink(lane)
    link.connection_made(cast("Any", Sink()))
    lane._link = link
    lane.greeted(frames.VERSION)
    enqueue = Enqueue(Link("/nowhere"))
    runtime = Runtime(slots, RuntimeLimits(1 << 20), callers.unsigned(ACCOUNT, REGION), "http://here", random.random, enqueue)
    server = Server(_control, fast=runtime, limits=HttpLimits(), budget=Budget(1 << 30))
    connections = [Connection(server, "http") for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.connection_made(cast("Any", Sink()))
    return connections, link, lane


async def _measure() -> tuple[float, float]:
    """Microseconds per request: from the request's bytes to the frame, from the worker's frame to the answer."""
    connections, link, lane = _gateway()
    head = frames.pack_head([(b"content-type", b"application/json")])
    inward = outward = 0.0
    for _ in range(TURNS):
        lane.depth = CONNECTIONS
        begun = time.perf_counter()
        for connection in connections:
            connection.data_received(REQUEST)
        inward += time.perf_counter() - begun
        answers = b"".join(frames.pack(frames.RESPONSE, ident, 200, 0, head, BODY) for ident in link.pending)
        link._flush()
        begun = time.perf_counter()
        link.data_received(answers)
        outward += time.perf_counter() - begun
    count = TURNS * CONNECTIONS / 1e6
    return inward / count, outward / count


def run(arguments: argparse.Namespace) -> None:
    rows = [uvloop.run(_measure()) for _ in range(arguments.rounds)]
    inward, outward = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"  {inward:.2f} us from the request's bytes to the worker's frame, {outward:.2f} us from its answer to the caller's")
