"""What a scalable target's capacity should be now, and why: a pure decision that explains itself (hosting.md 6.4 to 6.7).

Level-triggered: `decide` looks at the alarms that are in ALARM, at the backlog, the cooldowns and the limits, and may be asked
again at any time. Cooldowns are nominal seconds, divided by the time scale. A decision that changes nothing says what keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from slipway.core.scaling_steps import EXACT, PERCENT, Step, adjusted, step_for, tracked

DEFAULT_COOLDOWN = 300.0
"""Seconds; AWS's default for SageMaker variants."""

FLAPPING = "AutoScalingAnticipatedFlapping"
UNSCALABLE = "TargetServicePutResourceAsUnscalable"
AT_MAXIMUM = "AlreadyAtMaxCapacity"
AT_MINIMUM = "AlreadyAtMinCapacity"
AT_DESIRED = "AlreadyAtDesiredCapacity"


@dataclass(frozen=True, slots=True)
class Tracking:
    """A target tracking policy."""

    name: str
    target: float
    out_cooldown: float = DEFAULT_COOLDOWN
    in_cooldown: float = DEFAULT_COOLDOWN
    disable_in: bool = False
    backlog: bool = False
    """It tracks the endpoint's own ApproximateBacklogSizePerInstance."""


@dataclass(frozen=True, slots=True)
class Stepping:
    """A step scaling policy."""

    name: str
    adjustment: str
    steps: tuple[Step, ...]
    cooldown: float = DEFAULT_COOLDOWN
    least: int = 0
    """MinAdjustmentMagnitude."""


Side = Literal["high", "low", "step"]


@dataclass(frozen=True, slots=True)
class Firing:
    """An alarm in state ALARM that names a policy among its actions."""

    policy: Tracking | Stepping
    side: Side
    """Which of a tracking policy's two alarms; `step` for a user's own."""
    alarm: str
    metric: str
    threshold: float
    value: float | None
    """The newest datapoint; None: there is none."""
    until: float = math.inf
    """When the datapoint's period ended."""


@dataclass(frozen=True, slots=True)
class Window:
    """A cooldown that began when a scaling activity was complete."""

    began: float
    seconds: float
    """Nominal."""
    added: int = 0
    """By how much the activity (and those before it in its window) scaled out."""

    def until(self, scale: float) -> float:
        return self.began + self.seconds / scale


@dataclass(frozen=True, slots=True)
class View:
    """One scalable target as it is now."""

    capacity: int
    """The desired count; reached, while the endpoint is InService."""
    minimum: int
    maximum: int
    now: float
    scale: float = 1.0
    tracking: tuple[Tracking, ...] = ()
    """All target tracking policies of the target, firing or not."""
    firing: tuple[Firing, ...] = ()
    out: Mapping[str, Window] = field(default_factory=dict)
    """By policy name."""
    scale_in: Window | None = None
    """Of the target: whichever policy scaled in last."""
    suspended_in: bool = False
    suspended_out: bool = False
    backlog: int = 0
    """Requests that wait or run now; of an asynchronous endpoint."""
    steady_backlog: float = 0.0
    """The least backlog that CloudWatch had in each of the last three periods; where only alarms may begin at zero."""
    on_arrival: bool = True
    """From zero as soon as there is a request; False: when AWS's alarms would."""
    burst: bool = False
    """The start from zero was just completed: what has arrived meanwhile counts at once."""
    raised: float = 0.0
    """When a scale-out was last complete: datapoints from before are of fewer instances."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result, and everything that led to it."""

    at: float
    capacity: int
    desired: int
    cause: str
    """As the activity's Cause; empty: there was nothing to decide."""
    why: str
    """One sentence for a person."""
    policy: str | None = None
    alarm: str | None = None
    metric: str | None = None
    value: float | None = None
    threshold: float | None = None
    computed: int | None = None
    """Before limits and cooldowns."""
    clipped: str = ""
    """`MinCapacity` or `MaxCapacity`, where one of them changed the result."""
    cooldown: float = 0.0
    """Nominal seconds of the cooldown that the change starts."""
    cooldown_until: float | None = None
    """What blocks it, or a part of it, ends then (epoch seconds)."""
    code: str = ""
    """NotScaledReasons' code, where AWS has one."""

    @property
    def scales(self) -> bool:
        return self.desired != self.capacity

    @property
    def out(self) -> bool:
        return self.desired > self.capacity


def decide(view: View) -> Decision:
    """The range first, then the start from zero, then the policies: out if any asks, in if none objects, the largest wins."""
    for judged in (_range(view), _from_zero(view)):
        if judged is not None:
            return judged
    outs: list[Decision] = []
    others: list[Decision] = []
    for firing in view.firing:
        decision = _judge(view, firing)
        (outs if decision.out else others).append(decision)
    if outs:
        return max(outs, key=lambda decision: decision.desired)
    ins = [decision for decision in others if decision.scales]
    if ins:
        return _most_careful(view, ins, others)
    if others:
        return others[0]
    return Decision(view.now, view.capacity, view.capacity, "", "no alarm asks for a change")


def _most_careful(view: View, ins: Sequence[Decision], others: Sequence[Decision]) -> Decision:
    """The largest of several smaller capacities; none, if a tracking policy that may scale in does not ask for it.

    A step policy scales in without asking tracking ones (AWS: "the scale-in activity will not be blocked").
    """
    stepping = [d for d in ins if d.policy not in {t.name for t in view.tracking}]
    asking = {f.policy.name for f in view.firing if f.side == "low"}
    objecting = [t.name for t in view.tracking if not t.disable_in and t.name not in asking]
    objecting += [d.policy for d in others if d.policy and not d.scales and d.code == FLAPPING]
    if objecting and not stepping:
        told = f"{ins[0].policy} asks for {ins[0].desired}, but {objecting[0]} does not ask to scale in, and all have to"
        return replace(ins[0], desired=view.capacity, clipped="", why=told)
    return max(stepping if objecting else ins, key=lambda decision: decision.desired)


def _range(view: View) -> Decision | None:
    """A capacity outside the range is moved into it, whatever is suspended."""
    if view.capacity < view.minimum:
        told = f"minimum capacity was set to {view.minimum}"
        return Decision(view.now, view.capacity, view.minimum, told, f"{view.capacity} is below MinCapacity {view.minimum}")
    if view.capacity > view.maximum:
        told = f"maximum capacity was set to {view.maximum}"
        return Decision(view.now, view.capacity, view.maximum, told, f"{view.capacity} is above MaxCapacity {view.maximum}")
    return None


def _from_zero(view: View) -> Decision | None:
    """At zero instances nothing divides (hosting.md 6.6): requests that wait are themselves the reason to begin.

    Where a policy tracks the backlog per instance, the first step is as large as its target asks; else it is one instance.
    """
    tracking = min((t for t in view.tracking if t.backlog), key=lambda t: t.target, default=None)
    if view.capacity and not (view.burst and tracking):
        return None
    size: float = view.backlog
    if not view.capacity and not view.on_arrival:
        size = view.steady_backlog if tracking and view.steady_backlog > tracking.target else 0
    if size <= 0:
        return None
    computed = max(1, math.ceil(size / tracking.target - 1e-9)) if tracking else 1
    if view.capacity and computed <= view.capacity:
        return None
    began = "at zero instances" if not view.capacity else "while the first instances started"
    counted = f"{size:g} request{'' if size == 1 else 's'}"
    made = Decision(
        view.now,
        view.capacity,
        computed,
        f"backlog of {counted} {began}",
        f"{counted} and {_instances(view.capacity)}"
        + (f": {size:g} ÷ {tracking.target:g} = {computed}" if tracking else ": one instance to begin with"),
        policy=tracking.name if tracking else None,
        metric="ApproximateBacklogSize",
        value=size,
        threshold=tracking.target if tracking else None,
        computed=computed,
    )
    return _limited(view, made)


def _judge(view: View, firing: Firing) -> Decision:
    """What one alarm brings about."""
    policy = firing.policy
    cause = f"monitor alarm {firing.alarm} in state ALARM triggered policy {policy.name}"
    base = Decision(
        view.now,
        view.capacity,
        view.capacity,
        cause,
        "",
        policy=policy.name,
        alarm=firing.alarm,
        metric=firing.metric,
        value=firing.value,
        threshold=firing.threshold,
    )
    if firing.value is None and firing.side != "high":
        return replace(base, why=f"{firing.metric} has no datapoint to go by")
    if isinstance(policy, Tracking):
        if firing.value is not None and firing.until <= view.raised:
            told = f"{_reading(firing)}, but that was before the last scale-out was complete: the next datapoint decides"
            return replace(base, why=told)
        made = _track_out(view, policy, firing, base) if firing.side == "high" else _track_in(view, policy, firing, base)
    else:
        made = _step(view, policy, firing, base)
    return made if not made.scales else _limited(view, made)


def _track_out(view: View, policy: Tracking, firing: Firing, base: Decision) -> Decision:
    """At least one more; within the cooldown only what goes beyond the increase that began it."""
    value = policy.target if firing.value is None else firing.value
    computed = max(view.capacity + 1, tracked(view.capacity, value, policy.target))
    told = f"{_reading(firing)} against a target of {policy.target:g}: {_product(view.capacity, value, policy.target)}"
    made = replace(base, computed=computed, cooldown=policy.out_cooldown, why=f"{told} asks for {computed}")
    window = _open(view, policy.name)
    if window is None:
        return replace(made, desired=computed)
    return _in_window(view, made, window, computed - window.added)


def _track_in(view: View, policy: Tracking, firing: Firing, base: Decision) -> Decision:
    """At least one fewer; not where the metric would then be above its target again."""
    if policy.disable_in:
        return replace(base, why=f"{_reading(firing)}, but the policy has DisableScaleIn")
    value = firing.value or 0.0
    computed = tracked(view.capacity, value, policy.target)
    told = f"{_reading(firing)} against a target of {policy.target:g}: {_product(view.capacity, value, policy.target)}"
    made = replace(base, computed=computed, cooldown=policy.in_cooldown, why=f"{told} asks for {computed}")
    if view.capacity <= view.minimum:
        return _at_minimum(view, made)
    if computed >= view.capacity:
        fewer = view.capacity - 1
        told = f"{told}: with {_instances(fewer)} it would be above its target again"
        return replace(made, code=FLAPPING, why=told)
    return replace(made, desired=computed)


def _step(view: View, policy: Stepping, firing: Firing, base: Decision) -> Decision:
    value = firing.value or 0.0
    step = step_for(policy.steps, value, firing.threshold)
    told = f"{_reading(firing)}, {value - firing.threshold:+g} from the threshold {firing.threshold:g}"
    if step is None:
        return replace(base, why=f"{told}: no step adjustment covers that")
    computed = adjusted(view.capacity, policy.adjustment, step.adjustment, policy.least)
    shown = f"{step.adjustment:d}" if policy.adjustment == EXACT else f"{step.adjustment:+d}"
    unit = " %" if policy.adjustment == PERCENT else ""
    made = replace(
        base, computed=computed, cooldown=policy.cooldown, why=f"{told}: {policy.adjustment} {shown}{unit} asks for {computed}"
    )
    if computed == view.capacity:
        return replace(made, code=AT_DESIRED)
    if computed < view.capacity:
        return replace(made, desired=computed) if view.capacity > view.minimum else _at_minimum(view, made)
    window = _open(view, policy.name)
    if window is None:
        return replace(made, desired=computed)
    before = max(0, view.capacity - window.added)
    return _in_window(view, made, window, adjusted(before, policy.adjustment, step.adjustment, policy.least))


def _open(view: View, policy: str) -> Window | None:
    """The policy's scale-out cooldown, while it lasts."""
    window = view.out.get(policy)
    return window if window is not None and view.now < window.until(view.scale) else None


def _in_window(view: View, made: Decision, window: Window, reduced: int) -> Decision:
    """Within a scale-out cooldown what was added counts as a part of what is asked for now."""
    until = window.until(view.scale)
    counted = f"the {window.added} added at the beginning of the scale-out cooldown count"
    if reduced <= view.capacity:
        return replace(made, cooldown_until=until, why=f"{made.why}; {counted}, so nothing is added before it ends")
    return replace(made, desired=reduced, cooldown_until=until, why=f"{made.why}; {counted}, so it becomes {reduced}")


def _limited(view: View, made: Decision) -> Decision:
    """Suspended directions, limits and the scale-in cooldown, in that order."""
    if made.out:
        if view.suspended_out:
            return replace(made, desired=view.capacity, why=f"{made.why}, but DynamicScalingOutSuspended is set")
        if made.desired > view.maximum:
            made = replace(
                made, desired=view.maximum, clipped="MaxCapacity", why=f"{made.why}, MaxCapacity allows {view.maximum}"
            )
        return made if made.scales else replace(made, code=AT_MAXIMUM)
    if view.suspended_in:
        return replace(made, desired=view.capacity, why=f"{made.why}, but DynamicScalingInSuspended is set")
    if view.scale_in is not None and view.now < (until := view.scale_in.until(view.scale)):
        told = f"{made.why}, but the scale-in cooldown has not ended"
        return replace(made, desired=view.capacity, cooldown_until=until, why=told)
    if made.desired < view.minimum:
        made = replace(made, desired=view.minimum, clipped="MinCapacity", why=f"{made.why}, MinCapacity allows {view.minimum}")
    return made if made.scales else replace(made, code=AT_MINIMUM)


def _at_minimum(view: View, made: Decision) -> Decision:
    return replace(made, code=AT_MINIMUM, why=f"{made.why}, MinCapacity is {view.minimum}")


def _reading(firing: Firing) -> str:
    return f"{firing.metric} has no datapoint" if firing.value is None else f"{firing.metric} is {firing.value:g}"


def _product(capacity: int, value: float, target: float) -> str:
    return f"{capacity} × {value:g} ÷ {target:g}"


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"


def completed(view_out: Mapping[str, Window], decision: Decision, now: float, scale: float) -> dict[str, Window]:
    """The scale-out cooldowns after this decision was carried out: its policy's begins (again), ended ones are dropped."""
    kept = {name: window for name, window in view_out.items() if now < window.until(scale)}
    if decision.policy is not None and decision.cooldown > 0 and decision.out:
        before = kept[decision.policy].added if decision.policy in kept else 0
        kept[decision.policy] = Window(now, decision.cooldown, before + decision.desired - decision.capacity)
    return kept


def next_change(view: View) -> float | None:
    """The next moment at which a cooldown ends (epoch seconds)."""
    windows: Iterable[Window] = (*view.out.values(), *((view.scale_in,) if view.scale_in else ()))
    return min((until for window in windows if (until := window.until(view.scale)) > view.now), default=None)
