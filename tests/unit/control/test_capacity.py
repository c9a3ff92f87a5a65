"""Endpoints between no instance and several: counts set from inside control, drains, failures, and what the table says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slipway.control.capacity import Capacity, capacity, set_counts
from slipway.control.endpoints import KIND
from slipway.core.asynchronous import AsyncOptions
from slipway.core.limits import Quotas
from slipway.core.replicas import Failure
from slipway.names import sagemaker_arn
from slipway.store.db import Db
from tests.unit.control.world import ACCOUNT, HANGS, REGION, Control

ARN = sagemaker_arn(REGION, ACCOUNT, "endpoint", "E")
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://bucket/out/"}, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2}}
OPTIONS = AsyncOptions("s3://bucket/out", max_concurrent=2)
BAD = Failure("import-error", "inference.py: No module named 'nope'")


async def scale(control: Control, counts: Mapping[str, int]) -> str | None:
    """As the autoscaler does it."""
    refused = await control.db.write(lambda c: set_counts(c, ARN, counts, control.now))
    control.wake(KIND, ARN)
    return refused


async def look(control: Control) -> Capacity:
    found = await control.db.read(lambda c: capacity(c, ARN))
    assert found is not None
    return found


async def up(control: Control, count: int = 1) -> None:
    await control.deploy(asynchronous=ASYNC, count=count)
    await control.drive()


async def test_to_zero_and_back(control: Control) -> None:
    await up(control, 2)
    image = (await control.describe())["ProductionVariants"][0]["DeployedImages"]
    assert await scale(control, {"A": 0}) is None
    assert (await look(control)).status == "Updating"
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "InService"
    (variant,) = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (0, 0)
    assert variant["DeployedImages"] == image
    assert control.keeper.running() == set()
    assert control.routed() == {"A": set()}
    assert control.feed.tables[-1].endpoints[f"{ACCOUNT}/{REGION}/E"].asynchronous == OPTIONS
    assert await scale(control, {"A": 5}) is None
    await control.drive()
    assert len(control.keeper.running()) == 5
    assert control.routed() == {"A": control.keeper.running()}
    assert await look(control) == Capacity("InService", 3, {"A": 5}, {"A": 5}, asynchronous=True)


async def test_five_start_at_once_and_the_first_serves_before_the_others_are_ready(control: Control) -> None:
    await up(control)
    await scale(control, {"A": 0})
    await control.drive()
    control.keeper.script["A"] = HANGS
    await scale(control, {"A": 5})
    await control.drive()
    running = control.keeper.running()
    assert len(running) == 5
    first = min(running)
    control.keeper.ready(first)
    await control.drive()
    assert control.routed() == {"A": {first}}
    assert (await look(control)).status == "Updating"
    for id in running:
        control.keeper.ready(id)
    await control.drive()
    assert control.routed() == {"A": running}
    assert (await look(control)).status == "InService"


async def test_scaling_in_leaves_running_requests_alone(control: Control) -> None:
    await up(control, 2)
    busy = control.keeper.running()
    control.feed.drain.clear()
    await scale(control, {"A": 0})
    await control.drive()
    assert (await look(control)).status == "InService"
    assert control.routed() == {"A": set()}
    await control.later(3600)
    assert control.keeper.running() == busy
    control.feed.drain.set()
    await control.drive()
    assert control.keeper.running() == set()


async def test_a_failed_scale_out_keeps_the_count_and_says_why(control: Control) -> None:
    await up(control)
    await scale(control, {"A": 0})
    await control.drive()
    control.keeper.script["A"] = BAD
    await scale(control, {"A": 3})
    await control.drive()
    found = await look(control)
    assert (found.status, found.current, found.desired) == ("InService", {"A": 0}, {"A": 0})
    assert "No module named 'nope'" in found.failure
    assert "The variant keeps its 0 instances." in found.failure
    assert (await control.describe())["FailureReason"] == found.failure
    assert control.routed() == {"A": set()}
    control.keeper.script.clear()
    await scale(control, {"A": 1})
    await control.drive()
    assert (await look(control)).failure == ""
    assert "FailureReason" not in await control.describe()


async def test_an_update_at_zero(control: Control) -> None:
    await up(control)
    await scale(control, {"A": 0})
    await control.drive()
    await control.configure("new", count=2, asynchronous={"OutputConfig": {"S3OutputPath": "s3://bucket/elsewhere"}})
    await control.call("update_endpoint", EndpointName="E", EndpointConfigName="new", RetainAllVariantProperties=True)
    await control.drive()
    assert (await look(control)).current == {"A": 0}
    entry = control.feed.tables[-1].endpoints[f"{ACCOUNT}/{REGION}/E"]
    assert entry.asynchronous == AsyncOptions("s3://bucket/elsewhere")
    await control.call("update_endpoint", EndpointName="E", EndpointConfigName="new")
    await control.drive()
    assert (await look(control)).current == {"A": 2}
    assert len(control.keeper.running()) == 2


async def test_what_is_refused_changes_nothing(control: Control) -> None:
    missing = await scale(control, {"A": 1})
    assert missing is not None
    assert missing.startswith(f'Could not find endpoint "{ARN}". (Service: AmazonSageMaker; Status Code: 400;')
    await control.deploy(asynchronous=ASYNC)
    busy = await scale(control, {"A": 2})
    assert busy is not None
    assert busy.startswith("Cannot update in-progress endpoint")
    await control.drive()
    before = await look(control)
    unknown = await scale(control, {"B": 2})
    assert unknown is not None
    assert 'variant name(s) "B" is/are not present' in unknown
    negative = await scale(control, {"A": -1})
    assert negative is not None
    many = await scale(control, {"A": Quotas().instances_per_type + 1})
    assert many is not None
    assert many.startswith("The account-level service limit 'ml.m5.large for endpoint usage' is 100 Instances")
    assert many.endswith("Error Code: ResourceLimitExceeded)")
    assert await scale(control, {"A": 1}) is None
    assert await look(control) == before


async def test_a_real_time_endpoint_keeps_an_instance(control: Control) -> None:
    await control.deploy()
    await control.drive()
    refused = await scale(control, {"A": 0})
    assert refused is not None
    assert "1 is the least" in refused
    assert not (await look(control)).asynchronous
    assert control.feed.tables[-1].endpoints[f"{ACCOUNT}/{REGION}/E"].asynchronous is None


async def test_deleted_at_zero(control: Control) -> None:
    await up(control)
    await scale(control, {"A": 0})
    await control.drive()
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    assert await control.db.read(lambda c: capacity(c, ARN)) is None
    assert control.routed() is None


async def test_a_restarted_control_finds_an_endpoint_at_zero(control: Control, db: Db, tmp_path: Path) -> None:
    await up(control)
    await scale(control, {"A": 0})
    await control.drive()
    again = Control(db, tmp_path, control.keeper)
    await again.up()
    assert again.routed() == {"A": set()}
    assert (await look(again)).status == "InService"
    await again.routes.stop()
