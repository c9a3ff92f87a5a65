"""Why a scaling policy does nothing, or never can: sentences for `slipway scaling explain`. Pure: facts in, sentences out.

A policy that can never act as it stands is named first (`blocked`), what merely holds now is told after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slipway.core.alarms import ALARM, INSUFFICIENT, Alarm
from slipway.core.scaling import Stepping, Tracking
from slipway.core.scaling_metrics import BACKLOG_PER_INSTANCE, doubt, used, watched
from slipway.core.scaling_turn import Facts, limits


@dataclass(frozen=True, slots=True)
class Readings:
    """The last evaluation range of an alarm."""

    values: tuple[float | None, ...]
    """Oldest first; None: missing. Empty where the alarm is on an expression."""
    ever: bool
    """The metric has had a datapoint in the last two weeks, under exactly these dimensions."""

    @property
    def missing(self) -> int:
        return sum(value is None for value in self.values)


def of_policy(
    rule: Tracking | Stepping,
    arn: str,
    alarms: Sequence[Alarm],
    made: Sequence[str],
    readings: Mapping[str, Readings],
    facts: Facts,
    endpoint: str,
    variants: Sequence[str],
) -> list[str]:
    """`made`: names of the alarms that the policy made; `alarms`: those that name it among their actions."""
    found: list[str] = []
    names = {alarm.name for alarm in alarms}
    found += [f"its alarm {name} was deleted or changed: put the policy again" for name in made if name not in names]
    if isinstance(rule, Stepping) and not alarms:
        found.append(f"no alarm names it: give {arn} to an alarm as AlarmActions (step policies make none)")
    for alarm in alarms:
        found += of_alarm(alarm, arn, readings.get(alarm.name), facts, endpoint, variants)
    if isinstance(rule, Tracking) and rule.disable_in:
        found.append("DisableScaleIn is set: it never scales in")
    return list(dict.fromkeys(found))


def of_alarm(
    alarm: Alarm, arn: str, reading: Readings | None, facts: Facts, endpoint: str, variants: Sequence[str]
) -> list[str]:
    found = []
    if arn not in alarm.actions(ALARM):
        found.append(f"the actions of its alarm {alarm.name} are disabled, or not for ALARM")
    wrong = [told for seen in used(alarm.spec) if (told := doubt(seen, endpoint, variants, facts.asynchronous))]
    found += [f"its metric can never have data: {told}" for told in wrong]
    name = watched(alarm.spec).shown
    if not wrong and alarm.state == INSUFFICIENT:
        if name == BACKLOG_PER_INSTANCE and not facts.desired:
            found.append(f"at zero instances there is no {name}: the start from zero is {_starter(facts)}")
        elif reading is not None and not reading.ever:
            found.append(f"{name} was never published under its dimensions: alarms stay at INSUFFICIENT_DATA")
        elif reading is not None and reading.missing:
            needed = alarm.condition.evaluation_periods
            found.append(f"{name} lacks {reading.missing} of the last {needed} datapoints")
    return found


def _starter(facts: Facts) -> str:
    if facts.on_arrival:
        return "the first request's"
    return "an alarm's (scale-from-zero is `alarm`): on HasBacklogWithoutCapacity, or a backlog above the target"


def of_target(facts: Facts, policies: int, scheduled_suspended: bool, actions: int) -> list[str]:
    """What keeps all policies of a target."""
    found = []
    minimum, maximum = limits(facts)
    if not policies:
        found.append("it has no scaling policy: only its limits, and scheduled actions, change the capacity")
    if minimum == maximum:
        found.append(f"MinCapacity and MaxCapacity are both {minimum}: no policy can change anything")
    if facts.minimum < minimum:
        found.append("a real-time variant keeps at least one instance, whatever MinCapacity says")
    if facts.suspended_out:
        found.append("DynamicScalingOutSuspended is set: no policy scales out")
    if facts.suspended_in:
        found.append("DynamicScalingInSuspended is set: no policy scales in")
    if scheduled_suspended and actions:
        found.append("ScheduledScalingSuspended is set: its scheduled actions do nothing")
    if facts.status == "Failed":
        found.append("the endpoint is Failed: nothing scales it")
    return found
