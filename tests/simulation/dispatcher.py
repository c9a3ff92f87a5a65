"""A dispatcher process of real parts, as `roles.dispatcher` wires them; and a client that speaks for a gateway."""

from __future__ import annotations

from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import AcceptAnswer, AcceptRequest
from slipway.data.asynchronous import Dispatch
from slipway.data.asynchronous_ledger import Ledger
from slipway.data.asynchronous_places import AsyncSlots
from slipway.data.lanes import DataLimits
from slipway.link.claims import ACCEPT
from slipway.link.client import Link
from slipway.link.routes import RouteSubscriber
from tests.simulation.loops import Process
from tests.simulation.objects import Shelf, staging
from tests.simulation.replicas import Keeper
from tests.simulation.site import Site


class SimDispatcher:
    def __init__(self, site: Site, process: Process, keeper: Keeper, shelf: Shelf) -> None:
        self.process = process
        process.loop.connect = keeper.connector(process)
        self._staging = staging(shelf, process)
        self.slots = AsyncSlots(
            DataLimits(invoke_seconds=3600.0, response_bytes=1 << 20, free_seconds=3660.0),
            on_drained=lambda: self.subscriber.busy_changed(),
        )
        holder = f"{process.pid}.x"
        self.dispatch = Dispatch(self.slots, lambda lost: Ledger(holder, lost), self._open, lambda: site.now, 1 << 20)
        self.subscriber = RouteSubscriber("link", None, self.dispatch.apply, self.slots.busy_removed)
        self.link = Link("link", setup=self.dispatch.setup, on_connect=self.dispatch.connected)

    async def begin(self) -> None:
        self.subscriber.start()
        self.link.start()
        self.dispatch.start(self.link)

    async def _open(self) -> Staging:
        return self._staging

    def holds(self) -> list[str]:
        """InferenceIds of what it works on."""
        return [job.claimed.inference_id for job in self.dispatch._jobs.values()]

    def ids(self) -> set[int]:
        return {*self.dispatch._jobs, *self.dispatch.ledger._held}

    def wants(self, inference_id: str) -> bool:
        """It waits for a container's answer to it."""
        return any(
            job.claimed.inference_id == inference_id and not job.settling and job.task is not None and not job.task.cancelling()
            for job in self.dispatch._jobs.values()
        )

    def leftovers(self) -> list[str]:
        """What must be nothing once all is done."""
        found = [f"job {id}" for id in self.dispatch._jobs]
        found += [f"held {id}" for id in self.dispatch.ledger._held]
        found += [f"{feed.key} has {feed.active} active" for feed in self.dispatch._feeds.values() if feed.active]
        weight = self.dispatch.ledger.settlements.weight
        found += [f"weight {weight}"] if weight else []
        for endpoint in self.slots.endpoints.values():
            for variant in endpoint.by_name.values():
                found += [f"lane {lane.address} busy {lane.busy}" for lane in variant.lanes if lane.busy]
                found += [f"{variant.waiting} wait"] if variant.waiting else []
        return found


class SimClient:
    """What a gateway does with requests that it has admitted."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.link = Link("link")

    async def begin(self) -> None:
        self.link.start()

    async def accept(self, requests: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        channel = await self.link.ready(5.0)
        answers: tuple[AcceptAnswer, ...] = await channel.request(ACCEPT, requests, tuple[AcceptAnswer, ...], timeout=30.0)
        return answers
