"""One look at a scalable target by the autoscaler: what it follows ends, what was postponed waits, what is wanted is decided.

Pure, like `core.endpoints.plan`: everything remembered is in `State`, which the store keeps, so that a restart at any moment
goes on where it was. Seconds are real but for alarms' minutes and cooldowns, which the time scale divides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from slipway.core.endpoints import IN_SERVICE
from slipway.core.scaling import UNSCALABLE, Decision, Firing, Tracking, View, Window, completed, decide

REPEAT_SECONDS = 60.0
"""While an alarm stays in ALARM its policy is asked again so often (nominal seconds; hosting.md 6.4)."""
FOLLOW_SECONDS = 1.0
"""How often an endpoint under way is looked at, should nobody tell of its change."""
RETRY_SECONDS, RETRY_MOST = 1.0, 60.0
"""After a change that failed: doubled each time."""

SUCCESSFUL, FAILED, OVERRIDDEN = "Successful", "Failed", "Overridden"


@dataclass(frozen=True, slots=True)
class Following:
    """A change that was asked for and is not complete."""

    activity: str
    decision: Decision
    generation: int
    """Of the endpoint, with the change."""


@dataclass(frozen=True, slots=True)
class State:
    """What the autoscaler remembers of a target."""

    following: Following | None = None
    out: Mapping[str, Window] = field(default_factory=dict)
    scale_in: Window | None = None
    acted: Mapping[str, float] = field(default_factory=dict)
    """By alarm: when it was last acted on."""
    burst: bool = False
    failures: int = 0
    retry_at: float = 0.0
    raised: float = 0.0
    """When a scale-out was last complete."""


@dataclass(frozen=True, slots=True)
class Alarming:
    firing: Firing
    since: float
    """When the alarm went into ALARM."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is seen of a target and its endpoint."""

    now: float
    scale: float
    status: str
    generation: int
    desired: int
    minimum: int
    maximum: int
    failure: str = ""
    """Why the endpoint gave up its last change."""
    asynchronous: bool = False
    suspended_in: bool = False
    suspended_out: bool = False
    tracking: tuple[Tracking, ...] = ()
    alarming: tuple[Alarming, ...] = ()
    backlog: int = 0
    steady_backlog: float = 0.0
    on_arrival: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an activity."""

    activity: str
    status: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    state: State
    decision: Decision
    """To be carried out if it scales; else worth a note if it has a cause."""
    finished: Finished | None = None
    wait: float | None = None
    """Seconds until the next look; None: when woken."""


def limits(facts: Facts) -> tuple[int, int]:
    """The range that holds: a real-time variant has at least one instance (hosting.md 2.11), whatever was registered."""
    least = 0 if facts.asynchronous else 1
    return max(facts.minimum, least), max(facts.maximum, least)


def view_of(state: State, facts: Facts, *, all_alarms: bool = False) -> View:
    """What is to be judged. Alarms count when one of them is due: a new one, or one last acted on a minute ago."""
    due = all_alarms or any(_due(state, alarming, facts) <= facts.now for alarming in facts.alarming)
    minimum, maximum = limits(facts)
    return View(
        facts.desired,
        minimum,
        maximum,
        facts.now,
        facts.scale,
        facts.tracking,
        tuple(alarming.firing for alarming in facts.alarming) if due else (),
        state.out,
        state.scale_in,
        facts.suspended_in,
        facts.suspended_out,
        facts.backlog if facts.asynchronous else 0,
        facts.steady_backlog,
        facts.on_arrival,
        state.burst,
        state.raised,
    )


def _due(state: State, alarming: Alarming, facts: Facts) -> float:
    acted = state.acted.get(alarming.firing.alarm)
    return alarming.since if acted is None or acted < alarming.since else acted + REPEAT_SECONDS / facts.scale


def advance(state: State, facts: Facts) -> Turn:
    """The next step of one target."""
    finished = None
    if state.following is not None:
        if facts.status in ("Creating", "Updating"):
            nothing = Decision(facts.now, facts.desired, facts.desired, "", f"the endpoint is {facts.status}: waiting for it")
            return Turn(state, nothing, wait=FOLLOW_SECONDS)
        state, finished = _ended(state, state.following, facts)
    if facts.now < state.retry_at:
        told = f"the last change failed ({state.failures} in a row): the next attempt comes later"
        nothing = Decision(facts.now, facts.desired, facts.desired, "", told, cooldown_until=state.retry_at)
        return Turn(state, nothing, finished, state.retry_at - facts.now)
    view = view_of(state, facts)
    decision = decide(view)
    if facts.status != IN_SERVICE:
        return _postponed(state, facts, decision, finished)
    acted = {
        alarming.firing.alarm: state.acted[alarming.firing.alarm]
        for alarming in facts.alarming
        if alarming.firing.alarm in state.acted
    }
    if view.firing:
        acted = {firing.alarm: facts.now for firing in view.firing}
    state = replace(state, acted=acted, burst=False)
    return Turn(state, decision, finished, _wait(state, facts))


def _postponed(state: State, facts: Facts, decision: Decision, finished: Finished | None) -> Turn:
    """AWS does not scale an endpoint that is being updated (hosting.md 2.7); what is wanted then is wanted later."""
    if decision.scales:
        told = f"{decision.why}; postponed, the endpoint is {facts.status}"
        decision = replace(decision, desired=decision.capacity, code=UNSCALABLE, why=told)
    waits = FOLLOW_SECONDS if facts.status in ("Creating", "Updating") else None
    return Turn(state, decision, finished, waits)


def _wait(state: State, facts: Facts) -> float | None:
    moments = [_due(state, alarming, facts) - facts.now for alarming in facts.alarming]
    if not facts.desired and facts.asynchronous and not facts.on_arrival:
        moments.append(REPEAT_SECONDS / facts.scale)
    return max(0.0, min(moments)) if moments else None


def _ended(state: State, following: Following, facts: Facts) -> tuple[State, Finished]:
    """What became of the change; its cooldown begins now."""
    decision, wanted = following.decision, following.decision.desired
    state = replace(state, following=None)
    if facts.status == IN_SERVICE and facts.desired == wanted:
        message = f"Successfully set desired instance count to {wanted}. Change successfully fulfilled by sagemaker."
        return _succeeded(state, decision, facts), Finished(following.activity, SUCCESSFUL, message)
    if facts.status == IN_SERVICE and facts.generation != following.generation:
        message = f"The instance count was set to {facts.desired} by another change of the endpoint."
        return state, Finished(following.activity, OVERRIDDEN, message)
    reason = facts.failure or f"The endpoint is {facts.status}."
    message = f"Failed to set desired instance count to {wanted}. Reason: {reason}"
    return failed(state, facts.now), Finished(following.activity, FAILED, message)


def _succeeded(state: State, decision: Decision, facts: Facts) -> State:
    out = completed(state.out, decision, facts.now, facts.scale)
    scale_in = state.scale_in
    if decision.out:
        scale_in = None  # "a scale-out alarm cancels it"
    elif decision.policy is not None and decision.cooldown > 0:
        scale_in = Window(facts.now, decision.cooldown)
    burst = decision.capacity == 0 and decision.alarm is None and facts.asynchronous
    raised = facts.now if decision.out else state.raised
    return replace(state, out=out, scale_in=scale_in, burst=burst, failures=0, retry_at=0.0, raised=raised)


def failed(state: State, now: float) -> State:
    """After a change that was refused or given up."""
    failures = state.failures + 1
    delay = min(RETRY_SECONDS * 2.0 ** min(failures - 1, 10), RETRY_MOST)
    return replace(state, following=None, failures=failures, retry_at=now + delay)


def started(state: State, activity: str, decision: Decision, generation: int) -> State:
    """After a change was asked for. A change outwards ends the scale-in cooldown at once."""
    scale_in = None if decision.out else state.scale_in
    return replace(state, following=Following(activity, decision, generation), scale_in=scale_in)
