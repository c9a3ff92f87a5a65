"""Endpoints whose instances have several containers: expanded, ready and failed as one, replaced, adopted, stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.core.replicas import Failure, container_id
from slipway.core.routing import Endpoint
from slipway.store import resources
from tests.unit.control.world import ACCOUNT, HANGS, REGION, Control

BAD = Failure("import-error", "inference.py: No module named 'nope'", mend="Add it")
WORSE = Failure("exited", "Its process ended with status 3.")
NAMES = ("front", "middle", "back")


async def deploy(control: Control, *, mode: str = "Serial", count: int = 1) -> None:
    await control.configure("c", containers=NAMES, mode=mode, count=count)
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.drive()


def entry(control: Control) -> Endpoint:
    return control.feed.tables[-1].endpoints[f"{ACCOUNT}/{REGION}/E"]


async def instances(control: Control) -> list[str]:
    arn = (await control.describe())["EndpointArn"]
    return [row.id for row in await control.db.read(lambda c: resources.replicas_of(c, arn))]


async def test_an_instance_is_one_row_and_a_replica_for_each_container(control: Control) -> None:
    await deploy(control, mode="Direct", count=2)
    assert await control.status() == "InService"
    rows = await instances(control)
    assert len(rows) == 2
    assert control.keeper.running() == {container_id(row, n) for row in rows for n in (1, 2, 3)}
    specs = [control.keeper.specs[container_id(rows[0], n)] for n in (1, 2, 3)]
    assert [(spec.container, spec.position, spec.instance) for spec in specs] == [
        (name, number, rows[0]) for number, name in enumerate(NAMES, 1)
    ]
    assert [spec.log_stream for spec in specs] == [f"A/{rows[0]}/{name}" for name in NAMES]
    urls = {spec.platform["AWS_CONTAINER_CREDENTIALS_FULL_URI"] for spec in specs}
    assert urls == {f"http://127.0.0.1:4566/_slipway/credentials/{rows[0]}"}
    (variant,) = entry(control).variants
    assert (variant.mode, [stage.name for stage in variant.stages]) == ("Direct", list(NAMES))
    assert [replica.id for replica in variant.replicas] == sorted(rows)
    assert [part.workers for part in variant.replicas[0].containers] == [
        (f"unix:/run/{rows[0]}.{n}/w0.sock",) for n in (1, 2, 3)
    ]
    images = (await control.describe())["ProductionVariants"][0]["DeployedImages"]
    assert [image["ResolvedImage"] for image in images] == ["sk", "sk", "sk"]


async def test_ready_only_when_all_containers_are(control: Control) -> None:
    control.keeper.script["middle"] = HANGS
    await deploy(control)
    assert await control.status() == "Creating"
    (row,) = await instances(control)
    control.keeper.ready(container_id(row, 2))
    await control.drive()
    assert await control.status() == "InService"


async def test_the_reason_lists_every_container_that_failed(control: Control) -> None:
    control.keeper.script |= {"front": BAD, "back": HANGS}
    await deploy(control)
    assert await control.status() == "Creating", "another container may still fail"
    (row,) = await instances(control)
    control.keeper.die(container_id(row, 3), WORSE)
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "Failed"
    reason = described["FailureReason"]
    assert "The front container for production variant A did not pass the ping health check." in reason
    assert "The back container for production variant A did not pass" in reason
    assert "No module named 'nope'. Add it." in reason
    assert control.keeper.running() == set()
    assert control.keeper.states == {}, "the keeper was told to forget all of them"


async def test_a_container_that_hangs_does_not_hold_up_the_failure_of_another(control: Control) -> None:
    control.keeper.script |= {"front": BAD, "back": HANGS}
    await deploy(control)
    await control.later(11.0)
    assert await control.status() == "Failed"
    assert "front container" in (await control.describe())["FailureReason"]
    assert control.keeper.running() == set()


async def test_model_data_that_went_fails_before_anything_starts(control: Control) -> None:
    await control.configure("c", containers=NAMES)
    control.objects.there.clear()
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.drive()
    assert await control.status() == "Failed"
    assert control.keeper.specs == {}


@pytest.mark.parametrize("position", [1, 2, 3])
async def test_an_instance_with_a_dead_container_is_replaced_whole(control: Control, position: int) -> None:
    await deploy(control, count=2)
    rows = await instances(control)
    control.keeper.die(container_id(rows[0], position))
    await control.drive()
    new = await instances(control)
    assert rows[0] not in new
    assert len(new) == 2
    assert control.routed() == {"A": set(new)}
    assert control.keeper.running() == {container_id(row, n) for row in new for n in (1, 2, 3)}
    assert await control.status() == "InService"


async def test_a_new_control_adopts_what_runs(control: Control, tmp_path: Path) -> None:
    await deploy(control)
    (row,) = await instances(control)
    asked = dict(control.keeper.specs)
    later = Control(control.db, tmp_path, control.keeper)
    later.now = control.now
    await later.up()
    assert later.routed() == {"A": {row}}
    assert control.keeper.specs == asked
    assert control.keeper.stops == []


async def test_containers_that_the_keeper_was_not_asked_for_yet_are(control: Control, tmp_path: Path) -> None:
    """Control died between the asking for one container and the next."""
    await deploy(control)
    (row,) = await instances(control)
    del control.keeper.states[container_id(row, 3)], control.keeper.specs[container_id(row, 3)]
    later = Control(control.db, tmp_path, control.keeper)
    later.now = control.now
    await later.up()
    assert container_id(row, 3) in control.keeper.specs
    assert later.routed() == {"A": {row}}


async def test_containers_that_no_row_knows_are_stopped(control: Control, tmp_path: Path) -> None:
    await deploy(control)
    (row,) = await instances(control)
    await control.db.write(lambda c: resources.remove_replicas(c, [row]))
    later = Control(control.db, tmp_path, control.keeper)
    later.now = control.now
    await later.up()
    await later.later(5.0)
    assert not {container_id(row, n) for n in (1, 2, 3)} & control.keeper.running()
    assert len(control.keeper.running()) == 3


async def test_deleting_stops_all_containers(control: Control) -> None:
    await deploy(control)
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    assert control.keeper.states == {}
    assert control.routed() is None


async def test_from_one_container_to_several_and_back(control: Control) -> None:
    await control.deploy(config="one")
    await control.drive()
    for turn, config in enumerate(("several", "again")):
        await control.configure(config, containers=() if turn else NAMES)
        await control.call("update_endpoint", EndpointName="E", EndpointConfigName=config)
        await control.drive()
        assert await control.status() == "InService"
        assert [stage.name for stage in entry(control).variants[0].stages] == ([] if turn else list(NAMES))
        assert len(control.keeper.running()) == (1 if turn else 3)
