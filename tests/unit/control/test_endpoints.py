"""The endpoint controller against a real store: the life of an endpoint, its failures, and control dying at any step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest

from slipway.core.replicas import Failure, ReplicaState
from slipway.names import replica_principal
from slipway.store import keys, resources
from slipway.store.db import Connection, Db, StoreUnavailable
from slipway.wire.errors import AwsError
from tests.unit.control.world import ACCOUNT, HANGS, REGION, Control

T = TypeVar("T")
BAD = Failure("import-error", "inference.py: No module named 'nope'", ("Traceback", "ModuleNotFoundError"), mend="Add it")


async def test_create_to_in_service(control: Control) -> None:
    await control.deploy(variants=("A", "B"), count=2)
    assert await control.status() == "Creating"
    assert "ProductionVariants" not in await control.describe()
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "InService"
    assert [(v["VariantName"], v["CurrentInstanceCount"], v["CurrentWeight"]) for v in described["ProductionVariants"]] == [
        ("A", 2, 1.0),
        ("B", 2, 1.0),
    ]
    assert described["ProductionVariants"][0]["DeployedImages"][0]["ResolvedImage"] == "sk"
    routed = control.routed()
    assert routed is not None
    assert {name: len(ids) for name, ids in routed.items()} == {"A": 2, "B": 2}
    assert routed["A"] | routed["B"] == control.keeper.running()


async def test_the_spec_holds_what_a_keeper_needs(control: Control) -> None:
    control.objects.there.add("s3://bucket/code.tar.gz")
    await control.configure("c", environment={"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/code.tar.gz", "X": "1"})
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.drive()
    (spec,) = control.keeper.specs.values()
    assert [(a.target, a.source, a.url, a.etag) for a in spec.artifacts] == [
        ("/opt/ml/model", "s3://bucket/model.tar.gz", "/bucket/model.tar.gz?signed", "etag"),
        ("/opt/ml/code", "s3://bucket/code.tar.gz", "/bucket/code.tar.gz?signed", "etag"),
    ]
    assert spec.environment["X"] == "1"
    assert spec.platform["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert spec.platform["AWS_CONTAINER_CREDENTIALS_FULL_URI"].endswith(f"/_slipway/credentials/{spec.id}")
    assert spec.platform["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == "token"
    assert (spec.log_group, spec.log_stream) == ("/aws/sagemaker/Endpoints/E", f"A/{spec.id}")
    assert (spec.cpus, spec.memory_bytes) == (2, 4 * 1024**3)


async def test_an_isolated_replica_gets_no_credentials(control: Control) -> None:
    container = {"Image": "x", "ModelDataUrl": "s3://bucket/model.tar.gz"}
    await control.call("create_model", ModelName="m", PrimaryContainer=container, EnableNetworkIsolation=True)
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    await control.call("create_endpoint_config", EndpointConfigName="c", ProductionVariants=[variant])
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.drive()
    (spec,) = control.keeper.specs.values()
    assert spec.isolated
    assert set(spec.platform) == {"AWS_REGION", "AWS_DEFAULT_REGION"}


async def test_in_service_waits_for_the_gateways(control: Control) -> None:
    control.feed.acknowledge.clear()
    await control.deploy()
    await control.drive()
    assert control.routed() is not None
    assert await control.status() == "Creating"
    control.feed.acknowledge.set()
    await control.drive()
    assert await control.status() == "InService"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (BAD, ["did not pass the ping health check", "No module named 'nope'", "Add it", "ModuleNotFoundError"]),
        (Failure("out-of-memory", "It was killed at 4.0 GiB of 4.0 GiB"), ["4.0 GiB"]),
        (Failure("exited", "It ended with exit code 3", exit_code=3), ["exit code 3"]),
        (Failure("not-an-archive", "It begins with PK"), ["Failed to extract model data archive", "s3://bucket/model.tar.gz"]),
        (Failure("hostile-archive", "It has a link to /etc/passwd"), ["Failed to extract", "/etc/passwd"]),
        (Failure("archive-too-large", "over 64 GiB"), ["The model data archive is too large."]),
        (Failure("fetch-failed", "503"), ["Failed to download model data"]),
        (Failure("start-timeout", "No good ping within 480 s"), ["ping health check", "480 s"]),
        (Failure("unknown-image", "Nobody knows it", mend="Run slipway images"), ["could not be started", "slipway images"]),
        (Failure("requirements", "pip said no"), ["Pip said no"]),
        (Failure("internal", "a bad moment"), ["could not be started", "A bad moment"]),
    ],
)
async def test_a_failed_creation_says_why_and_leaves_nothing(control: Control, failure: Failure, words: list[str]) -> None:
    control.keeper.script["A"] = failure
    await control.deploy()
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "Failed"
    assert len(described["FailureReason"]) <= 1024
    for word in words:
        assert word in described["FailureReason"]
    assert control.keeper.states == {}
    with pytest.raises(AwsError, match="Failed status"):
        await control.call("update_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    with pytest.raises(AwsError, match="Could not find endpoint"):
        await control.describe()


async def test_model_data_that_has_gone_fails_without_a_keeper(control: Control) -> None:
    await control.configure("c")
    control.objects.there.clear()
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"].startswith(
        'Failed to download model data for container "container_1" from URL: "s3://bucket/'
    )
    assert control.keeper.specs == {}


@pytest.mark.parametrize(("failures", "status"), [(1, "InService"), (2, "Failed")])
async def test_an_object_store_that_is_away_does_not_leave_an_endpoint_in_creating(
    control: Control, failures: int, status: str
) -> None:
    await control.deploy()
    control.objects.failing = failures
    await control.drive()
    await control.later(5.0)
    described = await control.describe()
    assert described["EndpointStatus"] == status
    assert ("external S3 is away" in described.get("FailureReason", "")) == (failures > 1)


async def test_a_transient_failure_is_tried_twice(control: Control) -> None:
    control.keeper.script["A"] = Failure("internal", "a bad moment")
    await control.deploy()
    await control.drive()
    assert len(control.keeper.specs) == 2


async def test_a_crash_is_replaced_under_a_new_id_with_backoff(control: Control) -> None:
    await control.deploy()
    await control.drive()
    for crash, wait in enumerate((0.0, 1.0, 2.0, 4.0), 1):
        (id,) = control.keeper.running()
        control.keeper.die(id, Failure("exited", "killed"))
        await control.drive()
        assert await control.status() == "InService"
        if wait:
            assert control.routed() == {"A": set()}
            await control.later(wait - 0.01)
            assert control.keeper.running() == set()
            await control.later(0.02)
        assert len(control.keeper.specs) == crash + 1
        assert control.routed() == {"A": control.keeper.running()}


async def test_missed_pings_replace_a_replica(control: Control) -> None:
    await control.deploy()
    await control.drive()
    (id,) = control.keeper.running()
    worker = control.keeper.states[id].workers
    control.keeper.say(ReplicaState(id, "", "unready", protocol="frames", workers=worker, missed_pings=3))
    await control.drive()
    assert id in control.keeper.stops
    assert control.routed() == {"A": control.keeper.running()}
    assert id not in control.keeper.running()


async def update(control: Control, **more: object) -> None:
    await control.configure("new")
    await control.call("update_endpoint", EndpointName="E", EndpointConfigName="new", **more)


async def test_update_keeps_the_old_fleet_until_it_is_drained(control: Control) -> None:
    await control.deploy()
    await control.drive()
    old = control.keeper.running()
    control.feed.drain.clear()
    control.keeper.script["A"] = HANGS
    await update(control)
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "Updating"
    assert described["EndpointConfigName"] == "c"
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == "new"
    assert described["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Updating"
    assert control.routed() == {"A": old}
    (new,) = control.keeper.running() - old
    control.keeper.ready(new)
    await control.drive()
    described = await control.describe()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "new")
    assert "PendingDeploymentSummary" not in described
    assert control.routed() == {"A": {new}}
    assert control.keeper.running() == old | {new}
    control.feed.drain.set()
    await control.drive()
    assert control.keeper.running() == {new}


async def test_a_failed_update_goes_back(control: Control) -> None:
    await control.deploy()
    await control.drive()
    old = control.keeper.running()
    control.keeper.script["A"] = BAD
    await update(control)
    await control.drive()
    described = await control.describe()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "c")
    assert "No module named 'nope'" in described["FailureReason"]
    assert 'endpoint configuration "c"' in described["FailureReason"]
    assert control.keeper.running() == old
    assert control.routed() == {"A": old}
    control.keeper.script.clear()
    await control.call("update_endpoint", EndpointName="E", EndpointConfigName="new")
    await control.drive()
    described = await control.describe()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "new")
    assert "FailureReason" not in described


async def test_weights_and_capacities(control: Control) -> None:
    await control.deploy(variants=("A", "B"))
    await control.drive()
    change = [
        {"VariantName": "A", "DesiredWeight": 3.0, "DesiredInstanceCount": 2},
        {"VariantName": "B", "DesiredWeight": 0.0},
    ]
    control.keeper.script["A"] = HANGS
    before = control.routed()
    await control.call("update_endpoint_weights_and_capacities", EndpointName="E", DesiredWeightsAndCapacities=change)
    await control.drive()
    variants = (await control.describe())["ProductionVariants"]
    assert (variants[0]["CurrentInstanceCount"], variants[0]["DesiredInstanceCount"]) == (1, 2)
    assert (variants[1]["CurrentWeight"], variants[1]["DesiredWeight"]) == (1.0, 0.0)
    assert control.routed() == before
    for id in control.keeper.running():
        control.keeper.ready(id)
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "InService"
    assert [v["CurrentWeight"] for v in described["ProductionVariants"]] == [3.0, 0.0]
    entry = control.feed.tables[-1].endpoints[f"{ACCOUNT}/{REGION}/E"]
    assert [(v.weight, len(v.replicas)) for v in entry.variants] == [(3.0, 2), (0.0, 1)]
    change = [{"VariantName": "A", "DesiredInstanceCount": 1}]
    await control.call("update_endpoint_weights_and_capacities", EndpointName="E", DesiredWeightsAndCapacities=change)
    await control.drive()
    assert len(control.keeper.running()) == 2


async def test_a_failed_scale_out_goes_back(control: Control) -> None:
    await control.deploy()
    await control.drive()
    old = control.keeper.running()
    control.keeper.script["A"] = BAD
    change = [{"VariantName": "A", "DesiredInstanceCount": 3}]
    await control.call("update_endpoint_weights_and_capacities", EndpointName="E", DesiredWeightsAndCapacities=change)
    await control.drive()
    described = await control.describe()
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["DesiredInstanceCount"] == 1
    assert "nope" in described["FailureReason"]
    assert control.keeper.running() == old


@pytest.mark.parametrize("state", ["Creating", "InService", "Updating", "Failed"])
async def test_delete_in_every_state(control: Control, state: str) -> None:
    if state == "Creating":
        control.keeper.script["A"] = HANGS
    if state == "Failed":
        control.keeper.script["A"] = BAD
    await control.deploy()
    await control.drive()
    if state == "Updating":
        control.keeper.script["A"] = HANGS
        await update(control)
        await control.drive()
    assert await control.status() == state
    await control.call("delete_endpoint", EndpointName="E")
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    with pytest.raises(AwsError, match="Could not find endpoint"):
        await control.describe()
    assert control.routed() is None
    assert control.keeper.running() == set()
    await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")


async def test_delete_does_not_wait_for_a_slow_container(control: Control) -> None:
    control.keeper.slow_to_stop = True
    control.feed.acknowledge.clear()
    await control.deploy()
    await control.drive()
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    assert await control.status() == "Deleting"
    await control.later(1.0)
    assert control.keeper.running() == set()
    await control.later(3.0)
    with pytest.raises(AwsError, match="Could not find endpoint"):
        await control.describe()
    for id in list(control.keeper.states):
        control.keeper.die(id)
    await control.drive()
    assert control.keeper.states == {}


async def test_a_keeper_that_does_not_answer_is_asked_again(control: Control) -> None:
    control.keeper.broken = True
    await control.deploy()
    with pytest.raises(ConnectionError):
        await control.drive()
    control.keeper.broken = False
    control.wake("endpoint", f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/e")
    await control.drive()
    assert await control.status() == "InService"
    assert len(control.keeper.specs) == 1


async def test_control_restarts_and_adopts_what_runs(control: Control, db: Db, tmp_path: Path) -> None:
    await control.deploy(count=2)
    await control.drive()
    running = control.keeper.running()
    again = Control(db, tmp_path, control.keeper)
    await again.up()
    assert again.keeper.running() == running
    assert len(again.keeper.specs) == 2
    assert again.routed() == {"A": running}
    assert len(again.feed.tables) == 1, "the first table is complete"
    await again.routes.stop()


async def test_a_replica_that_died_meanwhile_is_replaced(control: Control, db: Db, tmp_path: Path) -> None:
    await control.deploy()
    await control.drive()
    (id,) = control.keeper.running()
    control.keeper.states[id] = ReplicaState(id, "", "exited", failure=BAD)
    again = Control(db, tmp_path, control.keeper)
    await again.up()
    assert await again.status() == "InService"
    assert len(again.keeper.running()) == 1
    assert id not in again.keeper.states
    await again.routes.stop()


async def test_after_a_new_start_of_everything_endpoints_come_back(control: Control, db: Db, tmp_path: Path) -> None:
    await control.deploy(count=2)
    await control.drive()
    again = Control(db, tmp_path)
    again.made = 100
    await again.up()
    assert await again.status() == "InService"
    assert again.routed() == {"A": again.keeper.running()}
    assert len(again.keeper.running()) == 2
    await again.routes.stop()


async def test_a_replica_that_nobody_knows_is_stopped(control: Control) -> None:
    control.keeper.specs["i-x"] = None  # type: ignore[assignment]
    control.keeper.say(ReplicaState("i-x", "arn:of:nobody", "ready"))
    await control.drive()
    assert control.keeper.states == {}


async def test_killed_at_any_step_nothing_stays_in_creating_or_deleting(db: Db, tmp_path: Path) -> None:
    """Control loses its memory after every single reconcile; the keeper and the store go on."""
    control = Control(db, tmp_path)
    await control.up()
    await control.deploy("E")
    await control.deploy("F", config="d")
    await control.call("delete_endpoint", EndpointName="F")
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/"
    for _ in range(12):
        await control.routes.stop()
        made = control.made
        control = Control(db, tmp_path, control.keeper)
        control.made = made
        await control.endpoints.adopt()
        for name in ("e", "f"):
            await control.endpoints.reconcile(arn + name)
        control.routes.open()
        await control.drive(steps=4) if _ > 8 else None
    await control.drive()
    assert await control.status("E") == "InService"
    with pytest.raises(AwsError, match="Could not find"):
        await control.status("F")
    assert await db.read(lambda c: len(resources.every_replica(c))) == 1
    assert len(control.keeper.running()) == 1
    await control.routes.stop()


async def test_the_credentials_of_a_replica_go_with_it(control: Control) -> None:
    await control.deploy(count=2)
    await control.drive()
    one, two = sorted(control.keeper.running())
    kept = keys.mint(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    sessions = [keys.mint_session(ACCOUNT, replica_principal(REGION, ACCOUNT, id), 2e9, ("s3",)) for id in (one, two)]
    for key in (kept, *sessions):
        await control.db.write(lambda c, k=key: keys.add(c, k, 1.0))  # type: ignore[misc]
    control.keeper.die(one)
    await control.drive()
    assert await control.db.read(lambda c: keys.live(c, 1.0)) == [kept, sessions[1]]
    assert control.keys_gone == 1
    control.keeper.slow_to_stop = True
    await control.call("delete_endpoint", EndpointName="E")
    await control.drive()
    await control.later(4.0)
    assert await control.db.read(lambda c: keys.live(c, 1.0)) == [kept]
    assert control.keys_gone == 2


class Between:
    """A store whose next reading, or writing, is followed by something before its caller hears of it."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self.after_read: Callable[[], Awaitable[None]] | None = None
        self.after_write: Callable[[], Awaitable[None]] | None = None

    async def read(self, fn: Callable[[Connection], T]) -> T:
        found = await self._db.read(fn)
        act, self.after_read = self.after_read, None
        if act is not None:
            await act()
        return found

    async def write(self, fn: Callable[[Connection], T]) -> T:
        found = await self._db.write(fn)
        if self.after_write is not None:
            await self.after_write()
        return found


async def test_what_starts_while_control_connects_again_is_no_stray(db: Db, tmp_path: Path) -> None:
    between = Between(db)
    control = Control(cast("Db", between), tmp_path)
    await control.up()
    await control.configure("c")

    async def meanwhile() -> None:
        await control.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
        await control.drive()

    between.after_read = meanwhile
    await control.endpoints.adopt()
    (id,) = control.keeper.running()
    control.endpoints.state_changed(replace(control.keeper.states[id], notes=("again",)))
    await control.drive()
    assert control.keeper.stops == []
    assert await control.status() == "InService"
    await control.routes.stop()


async def test_a_commit_that_nobody_heard_of_leaves_no_stray(db: Db, tmp_path: Path) -> None:
    between = Between(db)
    control = Control(cast("Db", between), tmp_path)
    await control.up()
    await control.deploy()

    async def cut() -> None:
        if await db.read(resources.every_replica):
            raise StoreUnavailable("the connection broke during COMMIT")

    between.after_write = cut
    with pytest.raises(StoreUnavailable):
        await control.drive()
    between.after_write = None
    control.wake("endpoint", f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/e")
    await control.drive()
    assert await control.status() == "InService"
    assert control.keeper.stops == []
    assert control.made == 1
    await control.routes.stop()
