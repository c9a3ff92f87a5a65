"""Evaluates alarms soon after each of their periods has ended, and does what their new states ask for.

Kind `alarms` of the reconciler: the key "" is the clock, an alarm's ARN says that it was made, changed, set or deleted. A new
state, its line of history and what it tells topics are one transaction; a scaling policy is woken after it, and again with each
evaluation while the alarm lasts. Thousands of alarms are one reading and one writing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from slipway.backing import metrics_queries
from slipway.backing.metrics import Metrics
from slipway.backing.metrics_queries import Ask, BadQuery
from slipway.core.alarm_messages import message, subject
from slipway.core.alarms import ALARM, Alarm, Condition, Datum, Verdict, cadence, evaluate
from slipway.core.metric_math import MathError
from slipway.core.sns_messages import Notice, Seal
from slipway.store import alarms, topics
from slipway.store.alarms import ACTION, Entry
from slipway.store.db import Connection, Db

logger = logging.getLogger(__name__)

KIND = "alarms"
SCALING = "scaling"
"""The kind that is woken with a scaling policy's ARN."""
DELAY_SECONDS = 0.5
"""After a period's end, until what was counted in it is here (gateways report each second, at its end)."""
SHORTEST_SECONDS = 0.2
"""Between two evaluations, whatever the time scale."""
COMPARE_SECONDS = 30.0
"""How often the alarms known here are compared with the store's, should nobody have told of a change."""
CHUNK = 200
HISTORY_SECONDS = 30 * 86_400.0


@dataclass(slots=True)
class _Watched:
    alarm: Alarm
    condition: Condition
    asks: tuple[Ask, ...]
    wanted: str
    """Id of the query whose series is compared."""
    due: float

    @property
    def only(self) -> Ask | None:
        """The one metric that it is of; None: metric math."""
        return self.asks[0] if len(self.asks) == 1 and self.asks[0].metric is not None else None


@dataclass(frozen=True, slots=True)
class _Change:
    alarm: Alarm
    verdict: Verdict


class Alarms:
    """`reconcile` for whatever is woken."""

    def __init__(
        self, db: Db, metrics: Metrics, now: Callable[[], float], wake: Callable[[str, str], None], seal: Seal | None = None
    ) -> None:
        """`seal` signs messages to topics."""
        self._db = db
        self._metrics = metrics
        self._now = now
        self._wake = wake
        self._seal = seal
        self._watched: dict[str, _Watched] = {}
        self._compared = 0.0

    async def reconcile(self, key: str) -> float | None:
        """Seconds until the next alarm is due (for the clock alone)."""
        if key:
            await self._look_at(key)
            return None
        now = self._now()
        if now - self._compared >= COMPARE_SECONDS:
            await self._compare(now)
        due = [watched for watched in self._watched.values() if self._is_due(watched, now)]
        for start in range(0, len(due), CHUNK):
            await self._evaluate(due[start : start + CHUNK], now)
        now = self._now()
        soonest = min((watched.due for watched in self._watched.values()), default=now + COMPARE_SECONDS)
        return min(max(soonest - now, 0.01), COMPARE_SECONDS)

    async def keep_house(self) -> None:
        """Drop history that AWS would not show any more."""
        before = self._now() - HISTORY_SECONDS
        while await self._db.write(lambda c: alarms.expire(c, before)):
            pass

    # What is known

    async def _compare(self, now: float) -> None:
        there = await self._db.read(alarms.versions)
        self._compared = now
        for arn in self._watched.keys() - there.keys():
            del self._watched[arn]
        others = []
        for arn, (updated, transitioned, acted) in there.items():
            known = self._watched.get(arn)
            if (
                known is None
                or (known.alarm.updated, known.alarm.transitioned) != (updated, transitioned)
                or acted < transitioned
            ):
                others.append(arn)
        for alarm in await self._db.read(lambda c: alarms.by_arns(c, others)) if others else ():
            await self._take(alarm)

    async def _look_at(self, arn: str) -> None:
        """Take an alarm over as it is in the store."""
        alarm = await self._db.read(lambda c: alarms.by_arn(c, arn))
        if alarm is None:
            self._watched.pop(arn, None)
        elif await self._take(alarm):
            self._wake(KIND, "")

    async def _take(self, alarm: Alarm) -> bool:
        """Take it over, and do what a transition that somebody wrote there still asks for; whether it is to be evaluated."""
        known = self._watched.get(alarm.arn)
        fresh = known is None or known.alarm.updated != alarm.updated
        if known is None or fresh:
            watched = _watch(alarm, self._now())
            if watched is None:
                return False
            self._watched[alarm.arn] = watched
        else:
            known.alarm = alarm
        if alarm.acted < alarm.transitioned:
            await self._db.write(lambda c: self._act_on(c, alarm.arn))
            self._wake_policies(alarm)
        return fresh

    # Evaluation

    async def _evaluate(self, due: Sequence[_Watched], now: float) -> None:
        await self._metrics.flush()
        changes = await self._db.read(lambda c: self._verdicts(c, due, now))
        # Each under its own savepoint, all in one commit.
        writing = [self._db.write(partial(self._write, change=change, now=now)) for change in changes]
        written: list[Alarm | BaseException | None] = await asyncio.gather(*writing, return_exceptions=True)
        for change, alarm in zip(changes, written, strict=True):
            known = self._watched.get(change.alarm.arn)
            if isinstance(alarm, BaseException):
                logger.warning("alarm-not-written", extra={"alarm": change.alarm.arn, "error": repr(alarm)})
            elif alarm is None:  # changed meanwhile, or gone
                self._wake(KIND, change.alarm.arn)
            elif known is not None:
                known.alarm = alarm
                if alarm.state != ALARM:
                    self._wake_policies(alarm)
                logger.info("alarm-changed", extra={"alarm": alarm.arn, "from": change.alarm.state, "to": alarm.state})
        for watched in due:
            if watched.alarm.state == ALARM:
                self._wake_policies(watched.alarm)
            watched.due = self._next(watched.condition, self._now())

    def _is_due(self, watched: _Watched, now: float) -> bool:
        """Also where the clock was set back, and what is due lies further ahead than it can."""
        width = cadence(watched.condition.period) / self._metrics.time_scale
        return watched.due <= now or watched.due > now + width + 2 * DELAY_SECONDS

    def _next(self, condition: Condition, now: float) -> float:
        every = cadence(condition.period)
        end = self._metrics.floor(now - DELAY_SECONDS, every) + every / self._metrics.time_scale + DELAY_SECONDS
        return max(end, now + SHORTEST_SECONDS)

    def _verdicts(self, connection: Connection, due: Sequence[_Watched], now: float) -> list[_Change]:
        """Only those that say another state."""
        found: list[_Change] = []
        alike: dict[tuple[int, int], list[_Watched]] = {}
        for watched in due:
            if watched.only is not None:
                alike.setdefault((watched.condition.period, watched.condition.range), []).append(watched)
            else:
                found += self._judged(watched, now, self._of_math(connection, watched, now))
        for (period, _), group in alike.items():
            start, end = self._span(group[0].condition, now)
            width = period / self._metrics.time_scale
            asks = [watched.only for watched in group if watched.only is not None]
            for watched, points in zip(
                group, metrics_queries.sampled(connection, self._metrics, asks, start, end), strict=True
            ):
                window: list[Datum | None] = [None] * watched.condition.range
                for at, value, samples in points:
                    window[min(round((at - start) / width), watched.condition.range - 1)] = Datum(at, value, samples)
                found += self._judged(watched, now, window)
        return found

    def _span(self, condition: Condition, now: float) -> tuple[float, float]:
        """The evaluation range: up to the last period that has ended."""
        end = self._metrics.floor(now - DELAY_SECONDS / 2, cadence(condition.period))
        return end - condition.range * condition.period / self._metrics.time_scale, end

    def _of_math(self, connection: Connection, watched: _Watched, now: float) -> list[Datum | None] | None:
        """None: it cannot be evaluated."""
        condition = watched.condition
        start, end = self._span(condition, now)
        width = condition.period / self._metrics.time_scale
        spans = {ask.period: (start, end) for ask in watched.asks}
        try:
            found = metrics_queries.evaluate(connection, self._metrics, watched.asks, [watched.wanted], spans)[watched.wanted]
        except MathError as error:
            logger.info("alarm-not-evaluated", extra={"alarm": watched.alarm.arn, "error": str(error)})
            return None
        window: list[Datum | None] = [None] * condition.range
        if len(found) == 1:
            for at, value in found[0].points.items():
                window[min(max(int((at - start) / width + 1e-4), 0), condition.range - 1)] = Datum(at, value)
        return window

    def _judged(self, watched: _Watched, now: float, window: list[Datum | None] | None) -> list[_Change]:
        """The change, if there is one."""
        if window is None:
            return []
        verdict = evaluate(watched.condition, window, watched.alarm.state, now)
        return [_Change(watched.alarm, verdict)] if verdict is not None and verdict.state != watched.alarm.state else []

    # Acting

    def _write(self, connection: Connection, change: _Change, now: float) -> Alarm | None:
        data = msgspec.json.encode(change.verdict.data).decode()
        alarm = alarms.set_state(connection, change.alarm, now, change.verdict.state, change.verdict.reason[:1023], data)
        if alarm is not None:
            self._act(connection, alarm, change.alarm.state)
        return alarm

    def _act_on(self, connection: Connection, arn: str) -> None:
        alarm = alarms.by_arn(connection, arn)
        if alarm is not None and alarm.acted < alarm.transitioned:
            self._act(connection, alarm, alarms.state_before(connection, alarm))

    def _act(self, connection: Connection, alarm: Alarm, old_state: str) -> None:
        """Tell topics, write down that it was done. Scaling policies are woken by the caller."""
        alarms.acted(connection, alarm)
        for action in dict.fromkeys(alarm.actions(alarm.state)):
            problem = self._tell(connection, alarm, action, old_state)
            outcome = "Succeeded" if problem is None else "Failed"
            words = f"Successfully executed action {action}" if problem is None else f"Failed to execute action {action}"
            data = {
                "version": "1.0",
                "actionState": outcome,
                "stateUpdateTimestamp": int(alarm.transitioned * 1000),
                "notificationResource": action,
                **({"error": problem} if problem is not None else {}),
            }
            when = self._now()
            alarms.record(connection, [Entry(alarm.account, alarm.region, alarm.name, when, ACTION, words, data)])

    def _tell(self, connection: Connection, alarm: Alarm, action: str, old_state: str) -> str | None:
        """What is wrong, if anything."""
        service, account = action.split(":")[2], action.split(":")[4]
        if account != alarm.account:
            return "The action is of another account"
        if service == "autoscaling":
            return None
        if service != "sns":
            return "slipway's alarms act on SNS topics and scaling policies"
        notice = Notice(message(alarm, old_state), subject(alarm))
        published = topics.publish(connection, action, notice, self._now(), seal=self._seal)
        return None if published is not None else "Topic does not exist"

    def _wake_policies(self, alarm: Alarm) -> None:
        for action in alarm.actions(alarm.state):
            if action.split(":")[2] == "autoscaling":
                self._wake(SCALING, action)


def _watch(alarm: Alarm, now: float) -> _Watched | None:
    spec = alarm.spec
    queries = spec.get("Metrics")
    if queries is None:
        statistic = spec.get("Statistic") or spec.get("ExtendedStatistic")
        measured = {
            "Namespace": spec["Namespace"],
            "MetricName": spec["MetricName"],
            "Dimensions": spec.get("Dimensions") or (),
        }
        stat = {"Metric": measured, "Period": spec["Period"], "Stat": statistic}
        queries = [{"Id": "m", "MetricStat": {**stat, "Unit": spec["Unit"]} if spec.get("Unit") else stat}]
    try:
        asks = metrics_queries.checked(alarm.account, alarm.region, queries)
    except BadQuery as error:
        logger.warning("alarm-unreadable", extra={"alarm": alarm.arn, "error": str(error)})
        return None
    wanted = next((ask.id for ask in asks if ask.returned), asks[0].id)
    return _Watched(alarm, alarm.condition, tuple(asks), wanted, now)
