"""Scalable targets, policies, scheduled actions and activities; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from slipway.store import resources, scaling, scaling_activities
from slipway.store.db import Db
from slipway.store.resources import BadToken
from slipway.store.scaling import Action, Listing, Place, Policy, Target
from slipway.store.scaling_activities import NOT_SCALED, NOTE, SCALED, Activity

PLACE = Place("1", "us-east-1", "endpoint/E/variant/A", "sagemaker:variant:DesiredInstanceCount")
TARGET = Target(
    *PLACE,
    arn="arn:target",
    endpoint="arn:endpoint",
    incarnation=5.5,
    variant="A",
    minimum=0,
    maximum=5,
    role="arn:role",
    suspended={"DynamicScalingInSuspended": False},
    created=10.0,
    state={"burst": True},
)
POLICY = Policy(*PLACE, name="p", arn="arn:p", kind="StepScaling", config={"Cooldown": 1}, alarms=[], created=11.0)
ACTION = Action(
    *PLACE,
    name="a",
    arn="arn:a",
    schedule="rate(1 hour)",
    timezone="UTC",
    start=None,
    end=None,
    minimum=1,
    maximum=None,
    created=12.0,
    due=3612.0,
)
ACTIVITY = Activity(
    "id-0",
    *PLACE,
    kind=SCALED,
    started=100.0,
    ended=None,
    status="InProgress",
    description="d",
    cause="c",
    decision={"why": "w"},
)


async def test_what_is_put_is_read_back_and_put_again(db: Db) -> None:
    def write(connection: Connection) -> None:
        scaling.put_target(connection, TARGET)
        scaling.put_policy(connection, POLICY)
        scaling.put_action(connection, ACTION)

    await db.write(write)
    assert await db.read(lambda c: scaling.target(c, PLACE)) == TARGET
    assert await db.read(lambda c: scaling.target_by_arn(c, "arn:target")) == TARGET
    assert await db.read(lambda c: scaling.targets_of(c, "arn:endpoint")) == [TARGET]
    assert await db.read(scaling.scaled_endpoints) == ["arn:endpoint"]
    assert await db.read(lambda c: scaling.policy(c, PLACE, "p")) == POLICY
    assert await db.read(lambda c: scaling.policy_by_arn(c, "arn:p")) == POLICY
    assert await db.read(lambda c: scaling.action(c, PLACE, "a")) == ACTION
    assert await db.read(lambda c: scaling.target(c, PLACE._replace(resource_id="endpoint/e/variant/A"))) is None
    changed = replace(TARGET, maximum=9, state={})
    await db.write(lambda c: scaling.put_target(c, changed))
    assert await db.read(lambda c: scaling.target(c, PLACE)) == changed
    await db.write(lambda c: scaling.put_policy(c, replace(POLICY, kind="TargetTrackingScaling")))
    assert await db.read(lambda c: [p.kind for p in scaling.policies_of(c, PLACE)]) == ["TargetTrackingScaling"]


async def test_the_autoscalers_own_writes_leave_the_rest_alone(db: Db) -> None:
    await db.write(lambda c: scaling.put_target(c, TARGET))
    await db.write(lambda c: scaling.put_action(c, ACTION))
    await db.write(lambda c: scaling.save_state(c, "arn:target", {"failures": 2}))
    await db.write(lambda c: scaling.set_range(c, "arn:target", 1, 2))
    await db.write(lambda c: scaling.set_due(c, "arn:a", None))
    expected = replace(TARGET, minimum=1, maximum=2, state={"failures": 2})
    assert await db.read(lambda c: scaling.target(c, PLACE)) == expected
    assert await db.read(lambda c: scaling.actions_of(c, PLACE)) == [replace(ACTION, due=None)]


async def test_a_target_goes_with_everything_of_it_and_nothing_else(db: Db) -> None:
    other = PLACE._replace(resource_id="endpoint/E/variant/B")

    def write(connection: Connection) -> None:
        for place, arn in ((PLACE, "1"), (other, "2")):
            at = place._asdict()
            scaling.put_target(connection, replace(TARGET, **at, arn=f"arn:t{arn}"))
            scaling.put_policy(connection, replace(POLICY, **at, arn=f"arn:p{arn}"))
            scaling.put_action(connection, replace(ACTION, **at, arn=f"arn:a{arn}"))
            resources.set_tags(connection, f"arn:t{arn}", {"k": "v"})
        scaling.remove_target(connection, replace(TARGET, arn="arn:t1"))

    await db.write(write)
    assert await db.read(lambda c: scaling.target(c, PLACE)) is None
    assert await db.read(lambda c: scaling.policies_of(c, PLACE)) == []
    assert await db.read(lambda c: scaling.actions_of(c, PLACE)) == []
    assert await db.read(lambda c: resources.tags_of(c, "arn:t1")) == {}
    assert await db.read(lambda c: len(scaling.policies_of(c, other))) == 1
    assert await db.read(lambda c: resources.tags_of(c, "arn:t2")) == {"k": "v"}
    assert await db.read(lambda c: scaling.count_targets(c, "1", "us-east-1")) == 1


async def test_pages(db: Db) -> None:
    def write(connection: Connection) -> None:
        for number in range(7):
            scaling.put_policy(connection, replace(POLICY, name=f"p{number}", arn=f"arn:{number}", created=number // 2))

    await db.write(write)
    names, token = [], None
    while True:
        listing = Listing("1", "us-east-1", limit=3, token=token)
        rows, token = await db.read(lambda c, listing=listing: scaling.find_policies(c, listing))  # type: ignore[misc]
        names += [row.name for row in rows]
        if token is None:
            break
    assert names == [f"p{number}" for number in range(7)]
    some = Listing("1", "us-east-1", names=("p2", "nope"), resource_ids=(PLACE.resource_id,), dimension=PLACE.dimension)
    assert [row.name for row in (await db.read(lambda c: scaling.find_policies(c, some)))[0]] == ["p2"]
    assert (await db.read(lambda c: scaling.find_targets(c, Listing("2", "us-east-1"))))[0] == []
    for token in ("x", "é", scaling.write_token("scalable_targets", 1.0, "a")):
        with pytest.raises(BadToken):
            await db.read(lambda c, t=token: scaling.find_policies(c, Listing("1", "us-east-1", token=t)))  # type: ignore[misc]


async def found(db: Db, *kinds: str) -> list[Activity]:
    listing = scaling_activities.Listing("1", "us-east-1", kinds=kinds or (SCALED, NOT_SCALED, NOTE), limit=10_000)
    return (await db.read(lambda c: scaling_activities.find(c, listing)))[0]


async def test_an_activity_ends_once(db: Db) -> None:
    await db.write(lambda c: scaling_activities.add(c, ACTIVITY))
    assert await db.read(lambda c: scaling_activities.get(c, "id-0")) == ACTIVITY
    await db.write(lambda c: scaling_activities.finish(c, "id-0", "Successful", "done", 110.0))
    await db.write(lambda c: scaling_activities.finish(c, "id-0", "Failed", "late", 120.0))
    assert await found(db) == [replace(ACTIVITY, status="Successful", message="done", ended=110.0)]
    await db.write(lambda c: scaling_activities.purge(c, 100.5))
    assert await found(db) == []


async def test_a_note_that_repeats_is_counted(db: Db) -> None:
    note = replace(ACTIVITY, kind=NOTE, ended=100.0)
    for number in range(3):
        again = replace(note, id=f"n{number}", started=100.0 + number, ended=100.0 + number, message=f"m{number}")
        await db.write(lambda c, a=again: scaling_activities.note(c, a))  # type: ignore[misc]
    (row,) = await found(db)
    assert (row.id, row.started, row.ended, row.repeated, row.message) == ("n0", 100.0, 102.0, 3, "m2")
    coded = replace(note, id="n9", kind=NOT_SCALED, started=103.0, reasons=[{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 1}])
    await db.write(lambda c: scaling_activities.note(c, coded))
    await db.write(lambda c: scaling_activities.note(c, replace(note, id="n10", started=104.0)))
    assert [row.id for row in await found(db)] == ["n10", "n9", "n0"]
    assert [row.id for row in await found(db, NOT_SCALED)] == ["n9"]


async def test_activities_are_bounded_and_one_in_progress_stays(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_activities, "KEPT", 5)

    def write(connection: Connection) -> None:
        scaling_activities.add(connection, replace(ACTIVITY, id="open", started=1.0))
        for number in range(20):
            row = replace(ACTIVITY, id=f"{number:02}", started=10.0 + number, ended=11.0 + number)
            scaling_activities.add(connection, row)

    await db.write(write)
    assert [row.id for row in await found(db)] == ["19", "18", "17", "16", "15", "open"]


async def test_pages_of_activities_are_newest_first(db: Db) -> None:
    for number in range(5):
        await db.write(lambda c, n=number: scaling_activities.add(c, replace(ACTIVITY, id=f"{n}", started=float(n // 2))))  # type: ignore[misc]
    listing = scaling_activities.Listing("1", "us-east-1", PLACE.resource_id, PLACE.dimension, limit=2)
    ids: list[str] = []
    while True:
        rows, token = await db.read(lambda c, at=listing: scaling_activities.find(c, at))  # type: ignore[misc]
        ids += [row.id for row in rows]
        if token is None:
            break
        listing = replace(listing, token=token)
    assert ids == ["4", "3", "2", "1", "0"]
    recent = replace(listing, token=None, since=2.0)
    assert [row.id for row in (await db.read(lambda c: scaling_activities.find(c, recent)))[0]] == ["4"]
