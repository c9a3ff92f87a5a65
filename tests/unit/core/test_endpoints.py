"""The endpoint plan: a table of situations, and a random world in which nothing may get stuck or be stopped early."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipway.core.endpoints import (
    CREATING,
    DELETE_SECONDS,
    DELETING,
    FAILED,
    IN_SERVICE,
    UPDATING,
    Crashes,
    Desired,
    Fleet,
    Forget,
    Goal,
    Observed,
    Plan,
    Publish,
    Remove,
    RoutedVariant,
    Seen,
    Start,
    Status,
    Stop,
    plan,
)
from slipway.core.replicas import Failure

BAD = Failure("import-error", "No module named 'nope'")
FLAKY = Failure("internal", "the keeper had a bad moment")
ONE = Fleet(1, (Goal("A", 1.0, 1),))
TWO = Fleet(2, (Goal("A", 1.0, 1),))


def ready(id: str, fleet: int = 1, variant: str = "A", since: float = 0.0) -> Seen:
    return Seen(id, fleet, variant, "ready", ready_since=since)


def route(*ids: str, weight: float = 1.0) -> tuple[RoutedVariant, ...]:
    return (RoutedVariant("A", weight, ids),)


def test_creating_starts_what_is_missing() -> None:
    made = plan(Desired(CREATING, Fleet(1, (Goal("A", 1, 2), Goal("B", 0, 1)))), Observed(), 0)
    assert made.actions == (Start(1, "A"), Start(1, "A"), Start(1, "B"))
    assert made.status == CREATING


def test_a_planned_replica_is_asked_for_again() -> None:
    made = plan(Desired(CREATING, ONE), Observed((Seen("i", 1, "A", "planned"),)), 0)
    assert made.actions == (Start(1, "A", "i"),)


def test_ready_is_published_before_it_is_in_service() -> None:
    desired = Desired(CREATING, ONE)
    first = plan(desired, Observed((ready("i"),)), 0)
    assert first.actions == (Publish(route("i")),)
    assert first.status == CREATING
    unconfirmed = plan(desired, Observed((ready("i"),), route("i"), confirmed=False), 0)
    assert unconfirmed.actions == ()
    assert unconfirmed.status == CREATING
    assert plan(desired, Observed((ready("i"),), route("i")), 0).status == IN_SERVICE


def test_a_failure_at_the_start_fails_the_creation_at_once() -> None:
    made = plan(Desired(CREATING, ONE), Observed((Seen("i", 1, "A", "exited", failure=BAD),)), 0)
    assert made.status == FAILED
    assert made.actions == (Forget("i"),)
    assert made.trouble is not None
    assert made.trouble.failure == BAD


def test_a_failed_creation_stops_the_others() -> None:
    seen = (Seen("i", 1, "A", "exited", failure=BAD), Seen("j", 1, "A", "starting"))
    made = plan(Desired(CREATING, Fleet(1, (Goal("A", 1, 2),))), Observed(seen), 0)
    assert made.status == FAILED
    assert made.actions == (Forget("i"), Stop("j"))


def test_a_transient_failure_is_tried_once_more() -> None:
    dead = Observed((Seen("i", 1, "A", "exited", failure=FLAKY),))
    first = plan(Desired(CREATING, ONE), dead, 0)
    assert first.status == CREATING
    assert first.actions == (Start(1, "A"), Forget("i"))
    second = plan(Desired(CREATING, ONE), replace(dead, crashes=first.crashes), 1)
    assert second.status == FAILED


def test_an_overdue_start_is_given_up() -> None:
    made = plan(Desired(CREATING, ONE), Observed((Seen("i", 1, "A", "starting", deadline=10),)), 10)
    assert made.status == FAILED
    assert made.actions == (Stop("i"),)
    assert made.trouble is not None
    assert made.trouble.failure.kind == "start-timeout"
    assert plan(Desired(CREATING, ONE), Observed((Seen("i", 1, "A", "starting", deadline=10),)), 4).requeue_after == 6


def test_a_crash_in_service_is_replaced_with_backoff() -> None:
    desired = Desired(IN_SERVICE, ONE, ONE)
    dead = (Seen("i", 1, "A", "exited", ready_since=0.0),)
    first = plan(desired, Observed(dead, route("i")), 5)
    assert first.actions == (Start(1, "A"), Publish(route()), Forget("i"))
    assert first.status == IN_SERVICE
    assert first.trouble is None
    second = plan(desired, Observed(dead, route(), crashes={(1, "A"): Crashes(3, 5.0)}), 6)
    assert Start(1, "A") not in second.actions
    assert second.requeue_after == pytest.approx(4)
    again = plan(desired, Observed((), route(), crashes=second.crashes), 10)
    assert again.actions == (Start(1, "A"),)


def test_a_stable_replica_clears_the_record() -> None:
    made = plan(Desired(IN_SERVICE, ONE, ONE), Observed((ready("i"),), route("i"), crashes={(1, "A"): Crashes(4, 0)}), 61)
    assert made.crashes == {}


def test_missed_pings_replace_a_replica() -> None:
    sick = Seen("i", 1, "A", "unready", ready_since=0.0, missed_pings=3)
    made = plan(Desired(IN_SERVICE, ONE, ONE), Observed((sick,), route("i")), 9)
    assert made.actions == (Start(1, "A"), Publish(route()), Stop("i"))
    asked = plan(Desired(IN_SERVICE, ONE, ONE), Observed((replace(sick, asked_to_stop=True),), crashes=made.crashes), 9)
    assert asked.crashes[1, "A"].count == 1


def test_an_update_keeps_the_old_fleet_until_the_new_one_is_confirmed_and_it_is_drained() -> None:
    desired = Desired(UPDATING, TWO, ONE)
    assert plan(desired, Observed((ready("old"),), route("old")), 0).actions == (Start(2, "A"),)
    both = (ready("old"), ready("new", 2))
    switch = plan(desired, Observed(both, route("old")), 0)
    assert switch.actions == (Publish(route("new")),)
    assert switch.status == UPDATING
    unconfirmed = plan(desired, Observed(both, route("new"), confirmed=False, held=frozenset({"old"})), 0)
    assert (unconfirmed.actions, unconfirmed.status) == ((), UPDATING)
    assert plan(desired, Observed(both, route("new"), held=frozenset({"old"})), 0).status == IN_SERVICE
    done = Desired(IN_SERVICE, TWO, TWO)
    assert plan(done, Observed(both, route("new"), held=frozenset({"old"})), 0).actions == ()
    assert plan(done, Observed(both, route("new")), 0).actions == (Stop("old"),)


def test_a_failed_update_rolls_back() -> None:
    seen = (ready("old"), Seen("new", 2, "A", "exited", failure=BAD))
    made = plan(Desired(UPDATING, TWO, ONE), Observed(seen, route("old")), 0)
    assert (made.status, made.rolled_back) == (IN_SERVICE, True)
    assert made.actions == (Forget("new"),)
    assert made.trouble is not None


def test_the_old_fleet_is_kept_alive_during_an_update() -> None:
    seen = (Seen("old", 1, "A", "exited", ready_since=0.0), Seen("new", 2, "A", "starting"))
    made = plan(Desired(UPDATING, TWO, ONE), Observed(seen, route("old")), 0)
    assert Start(1, "A") in made.actions
    assert made.status == UPDATING


def test_weights_follow_capacity() -> None:
    wider = Fleet(1, (Goal("A", 3.0, 2),))
    desired = Desired(UPDATING, wider, ONE)
    grown = plan(desired, Observed((ready("i"),), route("i")), 0)
    assert grown.actions == (Start(1, "A"),)
    both = Observed((ready("i"), ready("j")), route("i"))
    assert plan(desired, both, 0).actions == (Publish(route("i", "j", weight=3.0)),)
    assert plan(desired, replace(both, route=route("i", "j", weight=3.0)), 0).status == IN_SERVICE


def test_scaling_in_takes_a_replica_out_of_the_route_first() -> None:
    wide = Fleet(1, (Goal("A", 1.0, 2),))
    desired = Desired(UPDATING, ONE, wide)
    both = (ready("i"), ready("j", since=1.0))
    assert plan(desired, Observed(both, route("i", "j")), 2).actions == (Publish(route("i")),)
    settled = Desired(IN_SERVICE, ONE, ONE)
    assert plan(settled, Observed(both, route("i"), held=frozenset({"j"})), 2).actions == ()
    assert plan(settled, Observed(both, route("i")), 2).actions == (Stop("j"),)


def many(count: int) -> Fleet:
    return Fleet(1, (Goal("A", 1.0, count),))


def test_from_zero_all_start_at_once_and_serve_as_they_come() -> None:
    desired = Desired(UPDATING, many(3), many(0))
    first = plan(desired, Observed((), route()), 0)
    assert first.actions == (Start(1, "A"),) * 3
    assert first.status == UPDATING
    slow = (ready("i"), Seen("j", 1, "A", "starting"), Seen("k", 1, "A", "preparing"))
    assert plan(desired, Observed(slow, route()), 0).actions == (Publish(route("i")),)
    all_ready = (ready("i"), ready("j"), ready("k"))
    assert plan(desired, Observed(all_ready, route("i", "j", "k")), 0).status == IN_SERVICE


def test_to_zero_waits_for_what_still_runs() -> None:
    desired, seen = Desired(UPDATING, many(0), many(2)), (ready("i"), ready("j"))
    assert plan(desired, Observed(seen, route("i", "j")), 0).actions == (Publish(route()),)
    in_service = plan(desired, Observed(seen, route(), held=frozenset({"i", "j"})), 0)
    assert (in_service.actions, in_service.status) == ((), IN_SERVICE)
    done = Desired(IN_SERVICE, many(0), many(0))
    assert plan(done, Observed(seen, route(), held=frozenset({"j"})), 4000).actions == (Stop("i"),)
    assert plan(done, Observed((), route()), 5000).actions == ()


def test_what_still_drains_is_taken_back_before_anything_starts() -> None:
    desired, seen = Desired(UPDATING, many(2), many(0)), (ready("i"),)
    made = plan(desired, Observed(seen, route(), held=frozenset({"i"})), 0)
    assert made.actions == (Start(1, "A"), Publish(route("i")))


def test_a_scale_out_bears_deaths_that_a_new_fleet_does_not() -> None:
    dead = Observed((), route(), crashes={(1, "A"): Crashes(4, 0.0, failure=Failure("exited", "killed", signal=9))})
    borne = plan(Desired(UPDATING, many(5), many(1)), dead, 100)
    assert (borne.status, borne.trouble) == (UPDATING, None)
    enough = replace(dead, crashes={(1, "A"): replace(dead.crashes[1, "A"], count=15)})
    given_up = plan(Desired(UPDATING, many(5), many(1)), enough, 100)
    assert given_up.rolled_back
    assert plan(Desired(UPDATING, replace(many(5), number=2), many(1)), _of_fleet(dead, 2), 100).rolled_back


def _of_fleet(observed: Observed, number: int) -> Observed:
    return replace(observed, crashes={(number, variant): entry for (_, variant), entry in observed.crashes.items()})


@pytest.mark.parametrize("status", [CREATING, IN_SERVICE, UPDATING, FAILED, DELETING])
def test_deleting_goes_in_every_state(status: Status) -> None:
    desired = Desired(status, TWO, None if status == CREATING else ONE, deleting_since=100.0)
    seen = (ready("old"), Seen("new", 2, "A", "starting"))
    assert plan(desired, Observed(seen, route("old")), 100).actions == (Publish(None),)
    waiting = plan(desired, Observed(seen, None, confirmed=False), 100.5)
    assert waiting.actions == ()
    assert waiting.requeue_after == pytest.approx(0.5)
    assert plan(desired, Observed(seen, None), 100.5).actions == (Stop("old"), Stop("new"))
    slow = tuple(replace(s, phase="stopping", asked_to_stop=True) for s in seen)
    assert Remove() not in plan(desired, Observed(slow, None), 101).actions
    assert Remove() in plan(desired, Observed(slow, None), 100 + DELETE_SECONDS).actions
    gone = tuple(replace(s, phase="exited") for s in slow)
    assert plan(desired, Observed(gone, None), 101).actions == (Forget("old"), Forget("new"), Remove())


@dataclass
class World:
    """A keeper, gateways and a store that do as they are told, when the machine lets them."""

    desired: Desired
    replicas: dict[str, Seen] = field(default_factory=dict)
    route: tuple[RoutedVariant, ...] | None = None
    confirmed: bool = True
    held: set[str] = field(default_factory=set)
    crashes: dict[tuple[int, str], Crashes] = field(default_factory=dict)
    now: float = 1000.0
    made: int = 0
    removed: bool = False
    stopped_early: list[str] = field(default_factory=list)

    def look(self) -> Plan:
        observed = Observed(tuple(self.replicas.values()), self.route, self.confirmed, frozenset(self.held), self.crashes)
        made = plan(self.desired, observed, self.now)
        routed = {i for v in self.route or () for i in v.replicas} | self.held
        for action in made.actions:
            if isinstance(action, Start):
                self.made += 1
                id = action.id or f"i-{self.made}"
                self.replicas[id] = Seen(id, action.fleet, action.variant, "starting")
            elif isinstance(action, Stop):
                seen = self.replicas[action.id]
                if action.id in routed and seen.phase == "ready" and self.desired.deleting_since is None:
                    self.stopped_early.append(action.id)
                self.replicas[action.id] = replace(seen, phase="stopping", asked_to_stop=True)
            elif isinstance(action, Forget):
                assert self.replicas.pop(action.id).phase in ("exited", "planned")
            elif isinstance(action, Publish):
                before = {i for v in self.route or () for i in v.replicas}
                self.route, self.confirmed = action.route, False
                after = {i for v in action.route or () for i in v.replicas}
                self.held = (self.held | before) - after
            else:
                self.removed = True
        self.crashes = dict(made.crashes)
        serving = self.desired.target if made.status == IN_SERVICE and not made.rolled_back else self.desired.serving
        target = serving if made.rolled_back and serving else self.desired.target
        self.desired = replace(self.desired, status=made.status, target=target, serving=serving)
        return made

    def advance(self, fail: Failure | None = None) -> None:
        """Everything that is under way comes to its end."""
        for id, seen in list(self.replicas.items()):
            if seen.phase == "starting":
                phase = "exited" if fail else "ready"
                self.replicas[id] = replace(seen, phase=phase, failure=fail, ready_since=None if fail else self.now)
            elif seen.phase == "stopping":
                self.replicas[id] = replace(seen, phase="exited")
            elif seen.phase == "unready":
                self.replicas[id] = replace(seen, missed_pings=seen.missed_pings + 1)
        self.confirmed = True
        self.held = set()


class AnyOrder(RuleBasedStateMachine):
    """Kills, failures, updates and deletions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Desired(CREATING, ONE))

    @property
    def alive(self) -> bool:
        return not self.world.removed

    @rule()
    def look(self) -> None:
        if self.alive:
            self.world.look()

    @rule(seconds=st.floats(0.1, 90))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(phase=st.sampled_from(["ready", "exited", "planned"]), pick=st.integers(0, 9), flaky=st.booleans())
    def a_start_ends(self, phase: str, pick: int, flaky: bool) -> None:
        starting = [s for s in self.world.replicas.values() if s.phase in ("starting", "planned")]
        if starting:
            seen = starting[pick % len(starting)]
            failure = (FLAKY if flaky else BAD) if phase == "exited" else None
            since = self.world.now if phase == "ready" else None
            self.world.replicas[seen.id] = replace(seen, phase=phase, failure=failure, ready_since=since)

    @rule(pick=st.integers(0, 9))
    def a_kill(self, pick: int) -> None:
        running = [s for s in self.world.replicas.values() if s.phase != "exited"]
        if running:
            seen = running[pick % len(running)]
            self.world.replicas[seen.id] = replace(seen, phase="exited")

    @rule(pick=st.integers(0, 9), missed=st.integers(1, 4))
    def pings_are_missed(self, pick: int, missed: int) -> None:
        running = [s for s in self.world.replicas.values() if s.phase == "ready"]
        if running:
            seen = running[pick % len(running)]
            self.world.replicas[seen.id] = replace(seen, phase="unready", missed_pings=missed)

    @rule()
    def gateways_acknowledge(self) -> None:
        self.world.confirmed = True

    @precondition(lambda self: self.world.confirmed)
    @rule()
    def gateways_drain(self) -> None:
        self.world.held = set()

    @precondition(lambda self: self.world.desired.status == IN_SERVICE and self.world.desired.deleting_since is None)
    @rule(counts=st.tuples(st.integers(0, 3), st.integers(0, 2)), weight=st.floats(0, 2), new=st.booleans())
    def update(self, counts: tuple[int, int], weight: float, new: bool) -> None:
        number = self.world.desired.target.number + new
        names = "AB" if new else [g.variant for g in self.world.desired.target.goals]
        goals = tuple(Goal(name, weight, count) for name, count in zip(names, counts, strict=False))
        self.world.crashes = {}
        self.world.desired = replace(self.world.desired, status=UPDATING, target=Fleet(number, goals))

    @rule()
    def control_restarts(self) -> None:
        """What was in memory is gone; the first table that is published holds what the gateways have."""
        self.world.crashes = {}

    @precondition(lambda self: self.world.desired.deleting_since is None)
    @rule()
    def delete(self) -> None:
        self.world.desired = replace(self.world.desired, status=DELETING, deleting_since=self.world.now)

    @invariant()
    def nothing_in_use_was_stopped(self) -> None:
        assert self.world.stopped_early == []

    def teardown(self) -> None:
        """From wherever it is, a world that behaves comes to rest."""
        world = self.world
        for _ in range(40):
            if world.removed:
                return
            made = world.look()
            world.advance()
            world.now += min(made.requeue_after or 0.01, 61)
        assert world.look().actions == ()
        assert world.desired.status in (IN_SERVICE, FAILED)
        assert world.desired.deleting_since is None
        if world.desired.status == FAILED:
            assert world.replicas == {}
            assert world.route is None
        else:
            wanted = {goal.variant: goal.count for goal in world.desired.target.goals}
            assert {v.variant: len(v.replicas) for v in world.route or ()} == wanted
            assert len(world.replicas) == sum(wanted.values())


AnyOrder.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase
