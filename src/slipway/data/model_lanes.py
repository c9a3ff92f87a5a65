"""Lanes to one model of a replica of many: its process in our host, or its place in a container that is not ours.

A lane of many differs from a worker's in how it ends: a model that is unloaded says so, gives back what it was sent, and is
never connected to again. `data.models` then asks for it anew.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from slipway.data.abandoning import abandon
from slipway.data.lanes import DataLimits, ForeignLane, WorkerLane
from slipway_host import frames

if TYPE_CHECKING:
    from slipway.core.routing import Replica
    from slipway.data.invoke import Call
    from slipway.data.models import TargetSlots
    from slipway.http.client import ClientResponse

_GONE = frames.GONE_HEADER.lower().encode()


class ModelLane(WorkerLane):
    """To one model's process in our host. It does not connect again: what is gone is asked for anew."""

    __slots__ = ("hash", "hello", "leaving", "owner_target", "path", "used")

    def __init__(self, owner: TargetSlots, replica: Replica, address: str, limits: DataLimits, hash: str) -> None:
        super().__init__(owner, replica, address, limits)
        self.hash = hash
        self.hello = frames.hello(model=hash)
        self.path = b"/models/%b/invoke" % hash.encode()
        self.leaving = False
        """It said good-bye: what it was sent is answered or given back, nothing more is sent."""
        self.used = 0.0
        self.owner_target = owner

    def parted(self) -> None:
        if not self.leaving:
            self.leaving = True
            self.ready = False
            self.owner_target.lane_gone(self)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self.leaving and self._link is not None and not self._link.pending:
            self._link.close()

    def refused(self, call: Call | None) -> None:
        if call is None:
            return
        self.busy -= 1
        if not self.leaving:
            self.parted()
        if not call.done:
            self.owner.put_back(call)
        self._end_if_idle()

    def freed(self, count: int) -> None:
        super().freed(count)
        if self.leaving:
            self._end_if_idle()

    def lost(self, calls: list[Call], begun: int) -> None:
        if self.leaving:
            self._link = None
            self.freed(len(calls))
            for call in reversed(calls):
                if not call.done:
                    self.owner.put_back(call)
            self.close()
            return
        self.leaving = True
        super().lost(calls, begun)
        self.owner_target.lane_gone(self)

    def _retry(self) -> None:
        """There is nobody to connect to."""
        self.leaving = True
        self.owner_target.lane_gone(self)
        self.close()

    def gone_away(self, response: ClientResponse) -> bool:
        return response.status in (404, 503) and response.header(_GONE) is not None

    def dismissed(self) -> None:
        self.parted()

    def abandon(self, call: Call, name: int = 0) -> None:
        named = name or (None if self._link is None else self._link.ident(call))
        if named:
            self._spawn(abandon(self.address, named, self.hash))


class ForeignModelLane(ForeignLane):
    """To one model in a container that is not ours, over HTTP."""

    __slots__ = ("hash", "owner_target", "path", "used")

    def __init__(self, owner: TargetSlots, replica: Replica, address: str, limits: DataLimits, hash: str) -> None:
        super().__init__(owner, replica, address, limits)
        self.hash = hash
        self.path = b"/models/%b/invoke" % hash.encode()
        self.used = perf_counter()
        self.owner_target = owner

    def take(self, call: Call) -> None:
        self.used = perf_counter()
        super().take(call)

    def gone_away(self, response: ClientResponse) -> bool:
        """The contract's word for a model that is not loaded."""
        return response.status == 404

    def dismissed(self) -> None:
        self.owner_target.lane_gone(self)


AnyLane = ModelLane | ForeignModelLane
