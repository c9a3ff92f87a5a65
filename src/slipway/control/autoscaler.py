"""The autoscaler: looks at an endpoint's scalable targets, has `core.scaling_turn` decide, and writes what follows from it.

Kind `scaling` of the reconciler. Its key is the endpoint's ARN; the ARN of a scalable target or of a scaling policy (an alarm's
action) stands for its endpoint's. One look, the decisions, the endpoint's new counts, the activities and what is remembered are
one transaction: whatever moment control dies at, the next look goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

import msgspec

from slipway.backing.metrics import Metrics
from slipway.backing.scaling import Looking, Sight, TargetSight, forget, look, zone_of
from slipway.control.capacity import set_counts
from slipway.core.scaling import Decision
from slipway.core.scaling_turn import FAILED, Turn, advance, failed, started
from slipway.core.schedules import next_due, parse
from slipway.store import resources, scaling, scaling_activities
from slipway.store.db import Connection, Db
from slipway.store.scaling import Action, Target
from slipway.store.scaling_activities import KEPT_SECONDS, NOT_SCALED, NOTE, SCALED, Activity

logger = logging.getLogger(__name__)

KIND = "scaling"
ENDPOINT = "endpoint"
NOTE_SECONDS = 60.0
"""What stays the same is noted again so often (real seconds: an idle endpoint must not keep the disk busy)."""
ATTEMPT = "Attempting to scale due to alarm triggered"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the autoscaler works with."""

    db: Db
    metrics: Metrics
    wake: Callable[[str, str], None]
    now: Callable[[], float]
    new_id: Callable[[], str]
    """Of an activity; unique for ever."""
    on_arrival: bool = True
    """Scale from zero as soon as a request is there (design.md 4); False: when AWS's alarms would."""
    enforce_quotas: bool = True


@dataclass(slots=True)
class _Move:
    """One target's turn, on its way into the store."""

    sight: TargetSight
    turn: Turn
    due: list[Action]
    """Scheduled actions that act now."""
    refused: str = ""


@dataclass(slots=True)
class _Plan:
    sight: Sight
    moves: list[_Move] = field(default_factory=list)
    busy: bool = False
    """There is something to write."""


class Autoscaler:
    """`reconcile` for whatever is woken; `all` names what there is to look at."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self._looking = Looking(world.metrics, world.on_arrival)
        self._noted: dict[str, tuple[tuple[str, str], float]] = {}
        """By target: what was noted last, and when. Only saves writes: the store counts repetitions itself."""
        self._acted: dict[str, Mapping[str, float]] = {}
        """By target: when its alarms were last acted on. Newer than the store's: to act once more does no harm."""

    async def all(self) -> list[tuple[str, str]]:
        """For the reconciler's resync."""
        return [(KIND, arn) for arn in await self._world.db.read(scaling.scaled_endpoints)]

    async def keep_house(self) -> None:
        """Drop activities that AWS would not show any more, and what is in memory of targets that may be gone."""
        self._noted.clear()
        self._acted.clear()
        before = self._world.now() - KEPT_SECONDS
        await self._world.db.write(lambda c: scaling_activities.purge(c, before))

    async def reconcile(self, key: str) -> float | None:
        """One look and one step; the seconds until the next."""
        arn = await self._world.db.read(lambda c: _endpoint_of(c, key))
        if arn != key:
            if arn is not None:
                self._world.wake(KIND, arn)
            return None
        if not await self._world.db.read(lambda c: scaling.targets_of(c, arn)):
            return None
        await self._world.metrics.flush()
        plan = await self._world.db.read(lambda c: self._plan(c, arn))
        if plan.busy:
            plan = await self._world.db.write(lambda c: self._write(c, arn))
            self._told(plan)
        for move in plan.moves:
            self._acted[move.sight.target.arn] = move.turn.state.acted
        return None if plan.sight.endpoint is None else self._wait(plan)

    def _plan(self, connection: Connection, arn: str) -> _Plan:
        """What would be written now."""
        now = self._world.now()
        plan = _Plan(look(connection, self._looking, arn, now))
        plan.busy = bool(plan.sight.orphans)
        for sight in plan.sight.targets:
            due = [action for action in sight.actions if action.due is not None and action.due <= now]
            state = replace(sight.state, acted=self._acted.get(sight.target.arn, sight.state.acted))
            move = _Move(_ranged(sight, due), advance(state, _ranged(sight, due).facts), due)
            plan.moves.append(move)
            plan.busy |= bool(due) or _changed(move) or move.turn.decision.scales
            plan.busy |= move.turn.finished is not None or self._worth_noting(move)
        return plan

    def _worth_noting(self, move: _Move) -> bool:
        decision = move.turn.decision
        if decision.scales or not decision.cause:
            return False
        last = self._noted.get(move.sight.target.arn)
        return last is None or last[0] != (decision.cause, decision.code) or decision.at >= last[1] + NOTE_SECONDS

    # Writing, in one transaction

    def _write(self, connection: Connection, arn: str) -> _Plan:
        now = self._world.now()
        plan = self._plan(connection, arn)
        for target in plan.sight.orphans:
            forget(connection, target, now)
        for move in plan.moves:
            self._schedule(connection, move, now)
            if (ended := move.turn.finished) is not None:
                scaling_activities.finish(connection, ended.activity, ended.status, ended.message, now)
        self._change(connection, arn, [move for move in plan.moves if move.turn.decision.scales], now)
        for move in plan.moves:
            if self._worth_noting(move):
                self._note(connection, move)
            if _changed(move):
                scaling.save_state(connection, move.sight.target.arn, msgspec.to_builtins(move.turn.state))
        return plan

    def _schedule(self, connection: Connection, move: _Move, now: float) -> None:
        """The range that scheduled actions set, and when they act next."""
        target = move.sight.target
        for action in move.due:
            zone = zone_of(action.timezone) or UTC
            begin = max(action.created, action.start or 0.0)
            due = next_due(parse(action.schedule), zone, begin, now, scale=move.sight.facts.scale)
            scaling.set_due(connection, action.arn, due if due is None or action.end is None or due <= action.end else None)
            suspended = target.suspended.get("ScheduledScalingSuspended", False)
            changed = _range_of(target.minimum, target.maximum, action)
            if suspended or changed is None:
                why = "ScheduledScalingSuspended is set" if suspended else "its MinCapacity would be above the MaxCapacity"
                told = Decision(now, move.sight.facts.desired, move.sight.facts.desired, _scheduled(action), f"not done: {why}")
                self._record(connection, target, told, NOTE, FAILED, told.why, now)
                continue
            target = replace(target, minimum=changed[0], maximum=changed[1])
            scaling.set_range(connection, target.arn, *changed)
            logger.info("scaling-scheduled", extra={"target": target.arn, "action": action.name, "range": changed})

    def _change(self, connection: Connection, arn: str, moves: Sequence[_Move], now: float) -> None:
        """All variants' new counts at once: the endpoint takes one change at a time."""
        if not moves:
            return
        counts = {move.sight.target.variant: move.turn.decision.desired for move in moves}
        refused = set_counts(connection, arn, counts, now, enforce_quotas=self._world.enforce_quotas)
        row = resources.get_by_arn(connection, arn)
        for move in moves:
            target, decision = move.sight.target, move.turn.decision
            if refused is not None or row is None:
                move.refused = refused or "The endpoint is gone."
                message = f"Failed to set desired instance count to {decision.desired}. Reason: {move.refused}"
                self._record(connection, target, decision, SCALED, FAILED, message, now)
                move.turn = replace(move.turn, state=failed(move.turn.state, now))
                continue
            id = self._record(connection, target, decision, SCALED, "InProgress", "", None)
            move.turn = replace(move.turn, state=started(move.turn.state, id, decision, row.generation))

    def _note(self, connection: Connection, move: _Move) -> None:
        decision = move.turn.decision
        kind = NOT_SCALED if decision.code else NOTE
        self._record(connection, move.sight.target, decision, kind, FAILED, decision.why, decision.at)

    def _record(
        self,
        connection: Connection,
        target: Target,
        decision: Decision,
        kind: str,
        status: str,
        message: str,
        ended: float | None,
    ) -> str:
        activity = Activity(
            id=self._world.new_id(),
            account=target.account,
            region=target.region,
            resource_id=target.resource_id,
            dimension=target.dimension,
            kind=kind,
            started=decision.at,
            ended=ended,
            status=status,
            description=f"Setting desired instance count to {decision.desired}." if kind == SCALED else ATTEMPT,
            cause=decision.cause,
            message=message,
            reasons=_reasons(target, decision),
            decision=msgspec.to_builtins(decision),
        )
        (scaling_activities.add if kind == SCALED else scaling_activities.note)(connection, activity)
        return activity.id

    # After the commit

    def _told(self, plan: _Plan) -> None:
        changed = False
        for target in plan.sight.orphans:
            self._noted.pop(target.arn, None)
            self._acted.pop(target.arn, None)
            logger.info("scaling-target-gone", extra={"target": target.arn, "endpoint": plan.sight.arn})
        for move in plan.moves:
            decision = move.turn.decision
            if self._worth_noting(move):
                self._noted[move.sight.target.arn] = ((decision.cause, decision.code), decision.at)
            if decision.scales:
                changed |= not move.refused
                self._noted.pop(move.sight.target.arn, None)
                told: dict[str, Any] = {
                    "target": move.sight.target.arn,
                    "from": decision.capacity,
                    "to": decision.desired,
                    "cause": decision.cause,
                    "why": decision.why,
                }
                logger.info("scaling-refused" if move.refused else "scaling", extra={**told, "refused": move.refused})
        if changed:
            self._world.wake(ENDPOINT, plan.sight.arn)

    def _wait(self, plan: _Plan) -> float | None:
        now = self._world.now()
        waits = [move.turn.wait for move in plan.moves if move.turn.wait is not None]
        waits += [move.turn.state.retry_at - now for move in plan.moves if move.turn.state.retry_at > now]
        for move in plan.moves:
            pending = [action.due for action in move.sight.actions if action.due is not None and action not in move.due]
            waits += [due - now for due in pending]
            if move.due:
                waits.append(0.0)  # when it is due again is in the store now
            if move.turn.state.burst:
                waits.append(0.0)
        return max(0.0, min(waits)) if waits else None


def _endpoint_of(connection: Connection, key: str) -> str | None:
    """The endpoint that a key stands for: its own ARN, a target's, or a policy's."""
    if ":scalingPolicy:" in key:
        policy = scaling.policy_by_arn(connection, key)
        target = None if policy is None else scaling.target(connection, policy.place)
    elif ":scalable-target/" in key:
        target = scaling.target_by_arn(connection, key)
    else:
        return key.partition("#")[0]
    return None if target is None else target.endpoint


def _changed(move: _Move) -> bool:
    """Whether the turn changed what has to be remembered."""
    return replace(move.turn.state, acted={}) != replace(move.sight.state, acted={})


def _ranged(sight: TargetSight, due: Sequence[Action]) -> TargetSight:
    """The target as it is once the due actions have acted."""
    if not due or sight.target.suspended.get("ScheduledScalingSuspended", False):
        return sight
    minimum, maximum = sight.target.minimum, sight.target.maximum
    for action in sorted(due, key=lambda action: (action.due or 0.0, action.name)):
        minimum, maximum = _range_of(minimum, maximum, action) or (minimum, maximum)
    return replace(sight, facts=replace(sight.facts, minimum=minimum, maximum=maximum))


def _range_of(minimum: int, maximum: int, action: Action) -> tuple[int, int] | None:
    """The range after an action; None: it would be empty."""
    low = minimum if action.minimum is None else action.minimum
    high = maximum if action.maximum is None else action.maximum
    return (low, high) if low <= high else None


def _scheduled(action: Action) -> str:
    return f"scheduled action name {action.name} was triggered"


def _reasons(target: Target, decision: Decision) -> list[dict[str, Any]]:
    """NotScaledReasons (AWS: the capacity that the code is about is given with it)."""
    if not decision.code or decision.scales:
        return []
    figures = {
        "AlreadyAtMaxCapacity": {"MaxCapacity": target.maximum},
        "AlreadyAtMinCapacity": {"MinCapacity": target.minimum},
        "AlreadyAtDesiredCapacity": {"CurrentCapacity": decision.capacity},
    }
    return [{"Code": decision.code, **figures.get(decision.code, {})}]
