"""Control's alarms on a clock of the test's: evaluated each period, acting once per transition, through restarts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slipway.backing.metrics import Metrics
from slipway.control.alarms import DELAY_SECONDS, Alarms
from slipway.core.alarms import ALARM, INSUFFICIENT, OK, Alarm
from slipway.store import alarms, queue_messages, queues, topics
from slipway.store.db import Connection, Db
from slipway.store.queues import QueueRow
from slipway.store.topics import Subscription, Topic

T0 = 1_700_000_040.0
ACCOUNT, REGION = "1", "us-east-1"
POLICY = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:x:resource/sagemaker/endpoint/e/variant/v:policyName/p"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"


class World:
    """Alarms, metrics and a clock; whoever is woken is written down, and alarms are looked at."""

    def __init__(self, db: Db, scale: float = 1.0) -> None:
        self.db = db
        self.now = T0
        self.scale = scale
        self.woken: list[tuple[str, str]] = []
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics(self.db, lambda: self.now, self.scale)
        self.alarms = Alarms(self.db, self.metrics, lambda: self.now, lambda kind, key: self.woken.append((kind, key)))

    async def put(self, name: str = "a", **changed: Any) -> Alarm:
        spec = {
            "Namespace": "n",
            "MetricName": "m",
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 2,
            "Threshold": 5.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **changed,
        }
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"
        alarm = Alarm(ACCOUNT, REGION, name, arn, spec, self.now)
        await self.db.write(lambda c: alarms.put(c, alarm))
        await self.alarms.reconcile(arn)
        return alarm

    async def of(self, name: str = "a") -> Alarm:
        found = await self.db.read(lambda c: alarms.get(c, ACCOUNT, REGION, name))
        assert found is not None
        return found

    async def period(self, value: float | None) -> str:
        """A period with this value, and the evaluation after it; the state then."""
        if value is not None:
            self.metrics.add(ACCOUNT, REGION, "n", "m", {}, value, at=self.now + 1 / self.scale)
        self.now = self.metrics.floor(self.now, 60) + 60 / self.scale
        await self.tick()
        return (await self.of()).state

    async def tick(self) -> None:
        self.now += DELAY_SECONDS + 0.01
        await self.alarms.reconcile("")
        self.now -= DELAY_SECONDS + 0.01

    async def history(self, kind: str) -> list[alarms.Entry]:
        return await self.db.read(
            lambda c: alarms.past(
                c, ACCOUNT, REGION, "a", kind=kind, start=None, end=None, ascending=True, after=None, limit=100
            )
        )


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    db = await Db.open(database_url)
    yield World(db)
    await db.close()


async def test_states_follow_the_periods(world: World) -> None:
    await world.put()
    assert [await world.period(value) for value in (1.0, 9.0, 9.0, 9.0, 1.0, None, 1.0)] == [
        OK,
        OK,
        ALARM,
        ALARM,
        OK,
        OK,
        OK,
    ]
    for _ in range(5):
        state = await world.period(None)
    assert state == INSUFFICIENT
    summaries = [entry.summary for entry in await world.history("StateUpdate")]
    assert summaries == [
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from OK to ALARM",
        "Alarm updated from ALARM to OK",
        "Alarm updated from OK to INSUFFICIENT_DATA",
    ]
    alarm = await world.of()
    assert alarm.reason == "Insufficient Data: 2 datapoints were unknown."


async def test_each_period_is_evaluated_once_and_soon(world: World) -> None:
    await world.put()
    looked: list[float] = []
    verdicts = world.alarms._verdicts

    def look(connection: Connection, due: Any, now: float) -> Any:
        looked.append(now)
        return verdicts(connection, due, now)

    world.alarms._verdicts = look  # type: ignore[method-assign]
    world.now = T0 + 10
    while world.now < T0 + 200:
        wait = await world.alarms.reconcile("")
        assert wait is not None
        assert 0 < wait <= 30
        world.now += wait
    # A new alarm is looked at at once, then half a second after each minute.
    assert looked == pytest.approx([T0 + 10, *(T0 + 60 * n + DELAY_SECONDS for n in (1, 2, 3))], abs=0.02)


@pytest.mark.parametrize("scale", [10.0, 60.0])
async def test_periods_are_scaled(database_url: str, scale: float) -> None:
    db = await Db.open(database_url)
    world = World(db, scale)
    await world.put(Statistic="Sum")
    states = [await world.period(value) for value in (1.0, 9.0, 9.0)]
    assert states == [OK, OK, ALARM]
    assert world.now - T0 == pytest.approx(180 / scale)
    await db.close()


async def test_long_periods_slide_by_the_minute(world: World) -> None:
    await world.put(Period=300, EvaluationPeriods=1, Statistic="Sum")
    assert [await world.period(2.0) for _ in range(4)] == [OK, OK, ALARM, ALARM]


async def test_metric_math(world: World) -> None:
    metric = {"Namespace": "n", "MetricName": "m"}
    queries = [
        {"Id": "e", "Expression": "FILL(m1, 0) * 10"},
        {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}, "ReturnData": False},
    ]
    spec = dict.fromkeys(("Namespace", "MetricName", "Statistic", "Period"))
    await world.put()
    alarm = await world.of()
    spec_ = {member: value for member, value in alarm.spec.items() if member not in spec}
    math = Alarm(ACCOUNT, REGION, "a", alarm.arn, {**spec_, "Metrics": queries}, world.now + 1)
    await world.db.write(lambda c: alarms.put(c, math))
    await world.alarms.reconcile(alarm.arn)
    assert [await world.period(value) for value in (1.0, 1.0, None)] == [OK, ALARM, OK]


async def subscribed(world: World) -> QueueRow:
    """A queue behind the topic."""
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"

    def write(c: Connection) -> QueueRow:
        topics.create(c, Topic(TOPIC, ACCOUNT, REGION, "alarms"))
        queues.create(c, QueueRow(queue, 0, ACCOUNT, REGION, "q"))
        raw = {"RawMessageDelivery": "true"}
        topics.subscribe(c, Subscription(f"{TOPIC}:1", TOPIC, ACCOUNT, "sqs", queue, raw, "confirmed"))
        made = queues.get(c, queue)
        assert made is not None
        return made

    return await world.db.write(write)


async def test_an_alarm_wakes_scaling_policies_as_long_as_it_lasts(world: World) -> None:
    await world.put(AlarmActions=[POLICY])
    for value, woken in ((1.0, 0), (9.0, 0), (9.0, 1), (9.0, 1), (9.0, 1), (1.0, 0), (1.0, 0)):
        world.woken.clear()
        await world.period(value)
        assert [key for kind, key in world.woken if kind == "scaling"] == [POLICY] * woken
    assert [entry.summary for entry in await world.history("Action")] == [f"Successfully executed action {POLICY}"]


async def test_actions_that_are_disabled_do_not_act(world: World) -> None:
    await world.put(AlarmActions=[POLICY], ActionsEnabled=False)
    assert [await world.period(9.0) for _ in range(3)][-1] == ALARM
    assert [key for kind, key in world.woken if kind == "scaling"] == []
    assert await world.history("Action") == []


async def test_actions_of_another_account_fail_and_say_so(world: World) -> None:
    foreign = [TOPIC.replace(f":{ACCOUNT}:", ":2:"), TOPIC.replace("alarms", "gone")]
    await world.put(AlarmActions=foreign)
    for _ in range(3):
        await world.period(9.0)
    entries = await world.history("Action")
    assert [entry.summary for entry in entries] == [f"Failed to execute action {arn}" for arn in foreign]
    assert [entry.data["error"] for entry in entries] == ["The action is of another account", "Topic does not exist"]


async def test_a_state_that_was_set_acts_once_and_reverts(world: World) -> None:
    alarm = await world.put(AlarmActions=[POLICY])
    assert await world.period(1.0) == OK
    before = await world.of()
    await world.db.write(lambda c: alarms.set_state(c, before, world.now, ALARM, "test", None))
    world.restart()  # whoever set it died before it woke anybody
    world.woken.clear()
    await world.tick()
    await world.tick()
    assert [key for kind, key in world.woken if kind == "scaling"].count(POLICY) >= 1
    assert len(await world.history("Action")) == 1
    assert await world.period(1.0) == OK
    assert (await world.of()).arn == alarm.arn


async def test_evaluation_goes_on_after_a_restart(world: World) -> None:
    await world.put()
    await world.period(1.0)
    await world.period(9.0)
    world.restart()
    assert await world.period(9.0) == ALARM
    world.restart()
    assert await world.period(9.0) == ALARM
    assert [entry.summary for entry in await world.history("StateUpdate")][-1] == "Alarm updated from OK to ALARM"


async def test_alarms_made_or_deleted_by_others_are_noticed(world: World) -> None:
    await world.put("first")
    await world.tick()
    alarm = await world.of("first")
    other = Alarm(ACCOUNT, REGION, "a", alarm.arn.replace("first", "a"), alarm.spec, world.now)
    await world.db.write(lambda c: alarms.put(c, other))
    await world.db.write(lambda c: alarms.delete(c, ACCOUNT, REGION, "first", world.now))
    assert [await world.period(9.0) for _ in range(3)][-1] == ALARM


async def test_an_alarm_that_is_changed_while_it_is_evaluated_is_left_alone(world: World) -> None:
    await world.put()
    await world.period(9.0)
    alarm = await world.of()
    changed = Alarm(ACCOUNT, REGION, "a", alarm.arn, {**alarm.spec, "Threshold": 100.0}, world.now + 5)
    await world.db.write(lambda c: alarms.put(c, changed))
    assert await world.period(9.0) in (INSUFFICIENT, OK)
    await world.alarms.reconcile(alarm.arn)
    assert await world.period(9.0) == OK


async def test_thousands_of_alarms_are_one_reading(world: World) -> None:
    def write(c: Connection) -> None:
        for n in range(2000):
            spec = {
                "Namespace": "n",
                "MetricName": f"m{n}",
                "Statistic": "Sum",
                "Period": 60,
                "EvaluationPeriods": 1,
                "Threshold": 5.0,
                "ComparisonOperator": "GreaterThanThreshold",
            }
            arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{n}"
            alarms.put(c, Alarm(ACCOUNT, REGION, str(n), arn, spec, world.now))

    await world.db.write(write)
    for n in range(2000):
        world.metrics.add(ACCOUNT, REGION, "n", f"m{n}", {}, float(n % 10), at=world.now + 1)
    world.now += 60
    await world.tick()
    found = await world.db.read(lambda c: alarms.listed(c, ACCOUNT, REGION, limit=3000))
    assert {state: sum(alarm.state == state for alarm in found) for state in (OK, ALARM)} == {OK: 1200, ALARM: 800}


async def test_history_ends_after_thirty_days(world: World) -> None:
    await world.put()
    world.now += 31 * 86_400
    await world.put(Threshold=6.0)
    await world.alarms.keep_house()
    assert [entry.summary for entry in await world.history("ConfigurationUpdate")] == ['Alarm "a" updated']


async def test_a_topic_is_told_in_the_words_of_cloudwatch(world: World) -> None:
    queue = await subscribed(world)
    await world.put(AlarmActions=[TOPIC], AlarmDescription="too much", Dimensions=[{"Name": "d", "Value": "v"}])
    for value in (1.0, 9.0, 9.0, 9.0):
        world.metrics.add(ACCOUNT, REGION, "n", "m", {"d": "v"}, value, at=world.now + 1)
        await world.period(None)
    messages = await world.db.write(lambda c: queue_messages.receive(c, queue, 10, 30.0, world.now))
    (body,) = [json.loads(message.body) for message in messages]
    assert body["AlarmName"] == "a"
    assert (body["OldStateValue"], body["NewStateValue"]) == ("OK", "ALARM")
    assert body["Region"] == "US East (N. Virginia)"
    assert body["StateChangeTime"].endswith("+0000")
    assert body["NewStateReason"].startswith("Threshold Crossed: 2 out of the last 2 datapoints [9.0 (")
    assert body["Trigger"] == {
        "MetricName": "m",
        "Namespace": "n",
        "StatisticType": "Statistic",
        "Statistic": "AVERAGE",
        "Unit": None,
        "Dimensions": [{"value": "v", "name": "d"}],
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 5.0,
        "TreatMissingData": "missing",
        "EvaluateLowSampleCountPercentile": "",
    }
