"""One run: a site with everything on it, what happens to it, and what must have held."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import slipway.data.asynchronous_calls
import slipway.data.asynchronous_exchange
import slipway.data.frames_link
import slipway.data.lanes
import slipway.data.slots
import slipway.link.client
import slipway.roles.control_async
from slipway.core.asynchronous import AcceptRequest
from slipway.core.replicas import ReplicaState
from slipway.link.channel import LinkClosed, LinkError
from slipway.services import application_autoscaling
from slipway.store import jobs_queries
from tests.simulation import template
from tests.simulation.control import ACCOUNT, NAME, REGION, SimControl, settings_of
from tests.simulation.dispatcher import SimClient, SimDispatcher
from tests.simulation.invariants import Checker, Wish
from tests.simulation.loops import Process, Victim
from tests.simulation.objects import BUCKET, Shelf
from tests.simulation.replicas import KINDS, Keeper, Worker, input_of
from tests.simulation.site import BEGIN, Disagreement, Kill, Site
from tests.simulation.store import Disk

KILLING = 10.0
"""Seconds after the last of what is planned in which a step may still kill."""
LONGEST = 300.0
"""Seconds after the last disturbance by which everything has ended."""
LINGER = 90.0
"""After that, until nothing may be left in a dispatcher's memory."""


@dataclass
class Plan:
    """Of a run: how it is set up, and what happens when (seconds from its begin)."""

    seed: int
    external: bool = False
    instances: int = 1
    tracking: bool = True
    on_arrival: bool = True
    scale: float = 6.0
    minimum: int = 0
    maximum: int = 5
    range_at: float = 0.5
    """When the range becomes `minimum` to `maximum`."""
    workers: int = 1
    dispatchers: int = 1
    trouble: float = 0.0
    wishes: list[tuple[float, list[Wish]]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    kills: frozenset[Kill] = frozenset()
    at: dict[int, float] = field(default_factory=dict)


class Library:
    """The disk of this Python process, and images of it."""

    def __init__(self) -> None:
        self.disk = Disk()
        self._images: dict[tuple[int, bool], bytes] = {}

    def image(self, instances: int, tracking: bool) -> bytes:
        key = (instances, tracking)
        if key not in self._images:
            self._images[key] = template.made(self.disk, instances=instances, tracking=tracking)
        return self._images[key]


class Simulation:
    """`run()`, once; Disagreement where something does not hold."""

    def __init__(self, library: Library, plan: Plan, trace: list[str] | None = None) -> None:
        image = library.image(plan.instances, plan.tracking)
        library.disk.load(image)
        self.plan = plan
        self.chance = Random(plan.seed * 2 + 1)
        self.site = Site(self.chance, library.disk, plan.external, plan.scale, plan.kills, plan.at, trace, plan.trouble)
        self.shelf = Shelf(self.site)
        self.checker = Checker(self.site, self.shelf)
        self.checker.on_arrival = plan.on_arrival
        self.checker.desired = plan.instances
        self.checker.wanted = lambda what: any(d.wants(what) for d in self.dispatchers if not d.process.dead)
        self.checker.holding = lambda pid: {id for d in self.dispatchers if d.process.pid == pid for id in d.ids()}
        self.site.fallen = self._fallen
        self.keeper = Keeper(self.site, self.checker, plan.workers)
        self.keeper.report = self._report
        self.settings = settings_of(self.site, on_arrival=plan.on_arrival)
        self.control: SimControl | None = None
        self.dispatchers: list[SimDispatcher] = []
        self.client = SimClient(self.site.process("client"))
        self.away = 0.0
        """Seconds that control is away the next time that it dies; 0: a restart's."""
        self.asking = 0
        """Acceptances that are not answered yet, or to come."""

    # ---- processes

    def _start_control(self) -> None:
        process = self.site.process("control")
        plan = self.plan
        self.control = control = SimControl(
            self.site,
            process,
            self.keeper,
            self.shelf,
            self.settings,
            self.checker.committed,
            self.checker.published,
            self.checker.heard,
            plan.dispatchers,
        )
        _watch_backlogs(control, self.checker)
        self.checker.control_up = True
        self.checker.control_since = self.site.now
        control.spawn(control.begin())

    def _start_dispatcher(self) -> None:
        made = SimDispatcher(self.site, self.site.process("dispatcher"), self.keeper, self.shelf)
        self.dispatchers = [d for d in self.dispatchers if not d.process.dead] + [made]
        self._spawn(made.process, made.begin())

    def _spawn(self, process: Process, work: Any) -> None:
        process.loop.call_soon(process.loop.create_task, work)

    def _report(self, state: ReplicaState) -> None:
        if self.control is not None:
            self.control.reported(state)

    def _fallen(self, victim: Victim) -> None:
        """Before it is gone: what its death does to others."""
        loop = self.site.world.loop
        if isinstance(victim, Worker):
            had = [ask.inference_id for ask in victim.asks]
            self.checker.interrupted(had)
            self.checker.hit([] if victim.overdue else had)
            self.keeper.fell(victim)
        elif victim.role == "control":
            self.checker.control_up = False
            loop.call_later(self.away or 0.2 + self.chance.random() * 3.0, self._start_control)
            self.away = 0.0
        elif victim.role == "dispatcher":
            dispatcher = next(d for d in self.dispatchers if d.process is victim)
            self.checker.hit(dispatcher.holds())
            self.checker.interrupted(dispatcher.holds())
            loop.call_later(0.2 + self.chance.random() * 2.0, self._start_dispatcher)
            loop.call_later(0.5 + self.chance.random() * 20.0, self.shelf.sweep)

    # ---- what happens

    def _ask(self, wishes: list[Wish], tries: int = 0) -> None:
        for wish in wishes:
            self.checker.wishes.setdefault(wish.inference_id, wish)
            if wish.kind != "missing":
                self.shelf.inputs[f"in/{wish.inference_id}"] = wish.body
        self._spawn(self.client.process, self._accept(wishes, tries))

    async def _accept(self, wishes: list[Wish], tries: int) -> None:
        try:
            answers = await self.client.accept(tuple(_request(wish) for wish in wishes))
        except (LinkClosed, LinkError, TimeoutError) as error:
            self.site.say(f"no answer to an acceptance: {error!r}")
            again = [wish for wish in wishes if wish.token is not None]
            if again and tries < 100:
                self.site.world.loop.call_later(0.5, self._ask, again, tries + 1)
            else:
                self.asking -= 1
            return
        self.asking -= 1
        for wish, answer in zip(wishes, answers, strict=True):
            if answer.code is None:
                self.checker.promised(wish, answer.inference_id, answer.output_location)
                continue
            wish.refused = True
            if answer.code not in ("ServiceUnavailable", "ValidationError"):
                self.checker.fail(f"{wish.inference_id}: {answer}")

    def _happen(self, what: str) -> None:
        self.site.say(f"--- {what}")
        living = [d.process for d in self.dispatchers if not d.process.dead]
        if what == "kill control" and self.control is not None:
            self.site.kill(self.control.process, what)
        elif what == "kill dispatcher" and living:
            self.site.kill(self.chance.choice(living), what)
        elif what == "cut link" and living:
            self.site.network.cut(self.chance.choice([*living, self.client.process]))
        elif what == "part" and living:
            self._part(self.chance.choice(living))
        elif what.startswith("control away") and self.control is not None:
            self.away = float(what.rpartition(" ")[2])
            self.site.kill(self.control.process, what)
        elif what == "kill worker":
            busy = [w for r in self.keeper.replicas.values() for w in r.workers if not w.dead]
            if busy:
                self.site.kill(self.chance.choice(busy), what)
        elif what == "kill replica":
            ready = [r for r in self.keeper.replicas.values() if r.state.phase == "ready"]
            if ready:
                self.keeper.crash(self.chance.choice(ready))
        elif self.control is not None and not self.control.process.dead:
            self._order(self.control, what)

    def _part(self, process: Process) -> None:
        """A dispatcher that lives and cannot be reached for longer than its leases hold: others may have what it had."""
        dispatcher = next(d for d in self.dispatchers if d.process is process)
        self.site.network.cut(process, 16.0 + self.chance.random() * 8.0)
        self.checker.hit(dispatcher.holds())

    def _order(self, control: SimControl, what: str) -> None:
        """What a user asks of control."""
        if what == "cancel":
            rows = [row for row in self.checker.rows.values() if row.state in ("queued", "running")]
            if rows:
                row = self.chance.choice(rows)
                self.checker.wishes[row.inference_id].cancelled = True
                control.spawn(control.cancel([row.id]))
        elif what == "delete":
            self.checker.deleting = True
            control.spawn(control.call("delete_endpoint", EndpointName=NAME))
        elif what == "range":
            control.spawn(self._set_range(control))
        elif what == "bad start":
            self.keeper.failing += 1

    async def _set_range(self, control: SimControl) -> None:
        request = {"MinCapacity": self.plan.minimum, "MaxCapacity": self.plan.maximum}
        self.checker.change_range(min(self.plan.minimum, 0), max(self.plan.maximum, 5))
        await application_autoscaling.register_scalable_target(control.ctx, template.TARGET | request)
        self.checker.change_range(self.plan.minimum, self.plan.maximum)

    # ---- the run

    def run(self) -> Checker:
        with _virtual(self.site, self.chance, self.keeper):
            gc.disable()
            try:
                self._run()
            finally:
                for process in list(self.site.processes.values()):
                    process.kill()
                gc.enable()
        return self.checker

    def _run(self) -> None:
        site, plan = self.site, self.plan
        self._start_control()
        for _ in range(plan.dispatchers):
            self._start_dispatcher()
        self._spawn(self.client.process, self.client.begin())
        if (plan.minimum, plan.maximum) != (0, 5):
            site.world.loop.call_later(plan.range_at, self._happen, "range")
        self.asking = len(plan.wishes)
        for at, wishes in plan.wishes:
            site.world.loop.call_at(BEGIN + at, self._ask, wishes)
        for at, what in plan.events:
            site.world.loop.call_at(BEGIN + at, self._happen, what)
        last = max([at for at, _ in plan.wishes] + [at for at, _ in plan.events], default=0.0)
        self._until(last, lambda: False)
        self._until(last + KILLING, self._all_ended)
        site.plan, site.at, site.trouble = frozenset(), {}, 0.0
        self._until(last + LONGEST, self._all_ended)
        if not self.checker.done():
            waiting = [row for row in self.checker.rows.values() if row.finished is None]
            self.checker.fail(f"not ended {LONGEST} s after the last disturbance: {waiting}")
        self._until(site.now - BEGIN + LINGER, lambda: not self._leftovers())
        self.checker.finally_()
        if left := self._leftovers():
            self.checker.fail(f"left behind: {left}")

    def _all_ended(self) -> bool:
        return self.checker.done() and self.checker.control_up and not self.asking

    def _until(self, seconds: float, done: Callable[[], bool]) -> None:
        site = self.site
        while site.now < BEGIN + seconds and not done():
            site.agenda.run(min(BEGIN + seconds, site.now + 1.0), lambda: False)
            if site.agenda.problems:
                raise Disagreement(f"nobody caught: {site.agenda.problems}")
            self.checker.tick()

    def _leftovers(self) -> list[str]:
        found = [text for d in self.dispatchers if not d.process.dead for text in d.leftovers()]
        if not self.site.external:
            named = {blob for blobs in self.shelf.named().values() for blob in blobs}
            found += [name for name, (writer, _) in self.shelf.blobs.items() if not writer.dead and name not in named]
        return found


def _request(wish: Wish) -> AcceptRequest:
    return AcceptRequest(
        ACCOUNT,
        REGION,
        NAME,
        input_location=f"s3://{BUCKET}/in/{wish.inference_id}" if wish.token is None else None,
        body=None if wish.token is None else wish.body,
        inference_id=wish.inference_id,
        ttl=wish.ttl,
        timeout=wish.timeout,
        token=wish.token,
    )


def _watch_backlogs(control: SimControl, checker: Checker) -> None:
    """Remember the truth at the moment when the backlogs are read for publication."""
    read = control.db.read

    async def watched(fn: Callable[[Any], Any]) -> Any:
        if fn is not jobs_queries.backlogs:
            return await read(fn)

        def with_truth(connection: Any) -> Any:
            checker.truth = float(checker.backlog())
            return fn(connection)

        return await read(with_truth)

    control.db.read = watched  # type: ignore[method-assign]


class _Chance:
    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def SystemRandom(self) -> Random:
        return self._chance


@contextlib.contextmanager
def _virtual(site: Site, chance: Random, keeper: Keeper) -> Iterator[None]:
    """Where the code asks for time, chance or a connection by itself, it asks the run."""
    clock = lambda: site.agenda.now - BEGIN  # noqa: E731
    data = slipway.data
    places: list[tuple[Any, str, Any]] = [
        (module, "perf_counter", clock)
        for module in (data.asynchronous_calls, data.asynchronous_exchange, data.frames_link, data.lanes, data.slots)
    ]
    places.append((slipway.data.lanes, "abandon", keeper.abandon))
    places.append((slipway.link.client, "connect", site.network.connect))
    places.append((slipway.roles.control_async, "random", _Chance(chance)))
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


# Plans by chance


def plan_of(seed: int) -> Plan:
    """Everything of a run, from its seed."""
    chance = Random(seed)
    plan = Plan(seed)
    plan.external = chance.random() < 0.3
    plan.instances = chance.choice((0, 1))
    plan.tracking = chance.random() < 0.6
    plan.on_arrival = chance.random() < 0.9
    plan.scale = chance.choice((6.0, 12.0, 20.0))
    plan.workers = chance.choice((1, 1, 2))
    plan.dispatchers = chance.choice((1, 1, 1, 2))
    plan.trouble = chance.choice((0.0, 0.0, 0.1))
    if chance.random() < 0.3:
        plan.minimum = chance.choice((0, 1))
        plan.maximum = chance.choice((1, 2, 3))
    length = chance.choice((4.0, 8.0, 16.0))
    number = 0
    for _ in range(chance.choice((1, 2, 3, 4))):
        burst = []
        for _ in range(chance.choice((1, 2, 4))):
            number += 1
            burst.append(_wish(chance, number))
        plan.wishes.append((chance.random() * length, burst))
    if not plan.on_arrival:  # at zero instances a small backlog waits until it expires
        plan.wishes = [(at, [replace(wish, ttl=60) for wish in burst]) for at, burst in plan.wishes]
    again = [wish for _, burst in plan.wishes for wish in burst if wish.token is not None]
    if again and chance.random() < 0.5:
        plan.wishes.append((chance.random() * length, [replace(chance.choice(again))]))
    for _ in range(chance.choice((0, 1, 2, 4))):
        what = chance.choice(EVENTS)
        away = f" {10.0 + chance.random() * 15.0:.1f}" if what == "control away" else ""
        plan.events.append((chance.random() * length, what + away))
    if chance.random() < 0.05:
        plan.events.append((length + 2.0, "delete"))
    for _ in range(chance.choice((0, 1, 2, 3))):
        plan.at[int(20 + chance.random() * 600)] = chance.random()
    return plan


EVENTS = (
    "part",
    "control away",
    "kill control",
    "kill control",
    "kill dispatcher",
    "kill dispatcher",
    "kill worker",
    "kill replica",
    "cut link",
    "cut link",
    "cancel",
    "cancel",
    "bad start",
)


def _wish(chance: Random, number: int) -> Wish:
    kind = chance.choice(KINDS) if chance.random() < 0.95 else "missing"
    slow = 2.0 + chance.random() * 4.0 if chance.random() < 0.85 else 15.0 + chance.random() * 10.0
    seconds = slow if kind == "slow" else 0.02 + chance.random() ** 3 * 2.0
    timeout = chance.choice((2, 5)) if chance.random() < 0.85 else 70
    if kind != "hang":
        timeout = chance.choice((30, 60))
    token = f"token-{number}" if kind != "missing" and chance.random() < 0.25 else None
    ttl = 60 if chance.random() < 0.3 else 3600
    return Wish(f"r{number}", kind, input_of(kind, number, seconds), ttl, timeout, seconds, token)
