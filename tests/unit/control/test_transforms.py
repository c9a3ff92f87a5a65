"""Jobs' controller on virtual time: instances that never come back, and capture that is written once, whatever dies."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from slipway.backing.objects_errors import ObjectsError
from slipway.control import transforms as control
from slipway.control import transforms_inputs
from slipway.control.changes import Changes
from slipway.control.transforms import LOOK_SECONDS, WITHOUT_SECONDS, Transforms, TransformWorld
from slipway.core.deployments import Deployment, Wanted
from slipway.core.endpoints import DELETING
from slipway.core.transform_jobs import KIND, Planned, Progress, fleet_of_job
from slipway.core.transforms import IN_PROGRESS, STOPPING, ObjectOutcome, TransformOptions
from slipway.store import resources, transforms
from slipway.store.db import Connection, Db
from slipway.store.resources import Resource
from slipway.store.transforms import Listed
from tests.unit.control.world import ACCOUNT, REGION

ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{KIND}/j"


class DiedError(Exception):
    """Control ends here."""


class Stage:
    """A job of five objects whose listing is over, and the surroundings of its controller."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.now = 1_661_820_555.0
        self.replicas = [1]
        self.said: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.puts = 0
        self.dies_at = 0
        """The put that control does not survive."""
        self.refuses: ObjectsError | None = None
        self.woken = 0
        self.controller = self.again()

    def again(self) -> Transforms:
        """A new control."""
        link = SimpleNamespace(reap=self._nothing, cancel=lambda ids: None, under_way={}, wake_dispatchers=self._wake)
        routes = SimpleNamespace(entry=lambda arn: SimpleNamespace(variants=[SimpleNamespace(replicas=self.replicas)]))
        log = SimpleNamespace(say=lambda account, region, stream, lines: self.said.extend(lines))
        world = TransformWorld(
            self.db,
            cast("Any", SimpleNamespace(put=self._put, page=self._page)),
            None,
            cast("Any", routes),
            cast("Any", link),
            cast("Any", log),
            Changes(),
            lambda kind, key: None,
            lambda: self.now,
        )
        self.controller = Transforms(world)
        return self.controller

    async def _nothing(self) -> None: ...

    def _wake(self, arn: str) -> None:
        self.woken += 1

    async def _page(self, bucket: str, prefix: str, *, after: str, limit: int, account: str) -> Any:
        """Three pages of two objects."""
        first = int(after[3:] or "0") if after else 0
        found = [SimpleNamespace(key=f"in/{number}", size=1) for number in range(first + 1, first + 3)]
        return SimpleNamespace(objects=found, last=found[-1].key, truncated=first + 2 < 6)

    async def _put(self, bucket: str, key: str, body: bytes, **more: Any) -> None:
        self.puts += 1
        if self.puts == self.dies_at:
            raise DiedError
        if self.refuses is not None:
            raise self.refuses
        self.kept[f"{bucket}/{key}"] = body

    async def begin_unlisted(self, instances: int) -> None:
        deployment = Deployment(1, "j", (), (), self.now, transform=TransformOptions(ARN, "out"))
        planned = msgspec.to_builtins(Planned(deployment, instances, "in", "in/", False, "o"))
        job = Resource(ACCOUNT, REGION, KIND, "j", ARN, {}, self.now, self.now, IN_PROGRESS, desired=planned)
        await self.db.write(lambda c: resources.add(c, job))

    async def fleet(self) -> Resource | None:
        return await self.db.read(lambda c: resources.get_by_arn(c, fleet_of_job(ARN)))

    async def begin(self, capture: str = "") -> None:
        deployment = Deployment(1, "j", (), (), self.now, transform=TransformOptions(ARN, "out"))
        planned = Planned(deployment, 1, "in", "in/", False, "o")
        desired = {**msgspec.to_builtins(planned), "capture_bucket": capture, "capture_path": "to"}
        observed = msgspec.to_builtins(Progress("in/4", True, 5))
        now, status = self.now, IN_PROGRESS
        job = Resource(ACCOUNT, REGION, KIND, "j", ARN, {}, now, now, status, desired=desired, observed=observed)

        def write(connection: Connection) -> None:
            resources.add(connection, job)
            transforms.add(connection, ARN, ACCOUNT, [Listed("in", f"in/{n}", 1, f"o/{n}.out") for n in range(5)])

        await self.db.write(write)

    async def finish(self, count: int) -> None:
        """So many objects are done."""

        def write(connection: Connection) -> None:
            for each in transforms.claim(connection, ARN, "a", self.now + 100, count):
                transforms.end(connection, [(ObjectOutcome(each.id, each.lease, "done"), "done")])

        await self.db.write(write)

    async def job(self) -> Resource:
        found = await self.db.read(lambda c: resources.get_by_arn(c, ARN))
        assert found is not None
        return found

    async def stop(self) -> None:
        row = await self.job()
        await self.db.write(lambda c: resources.save(c, row, replace(row, status=STOPPING)))


@pytest.fixture
async def stage(db: Db) -> Stage:
    return Stage(db)


async def test_a_job_whose_instances_never_come_back_fails(stage: Stage) -> None:
    await stage.begin()
    assert await stage.controller.reconcile(ARN) == LOOK_SECONDS, "its fleet is there now"
    stage.replicas = []
    for _ in range(2):
        await stage.controller.reconcile(ARN)
        stage.now += WITHOUT_SECONDS - 1
        assert await stage.controller.reconcile(ARN) == LOOK_SECONDS
        stage.replicas = [1]
        await stage.controller.reconcile(ARN)
        stage.replicas = []
    await stage.controller.reconcile(ARN)
    stage.now += WITHOUT_SECONDS + 1
    assert await stage.controller.reconcile(ARN) is None
    row = await stage.job()
    assert (row.status, row.reason) == (
        "Failed",
        "AlgorithmError: The job's instances ended, and could not be started again.",
    )
    fleet = await stage.db.read(lambda c: resources.get_by_arn(c, fleet_of_job(ARN)))
    assert fleet is not None
    assert fleet.status == DELETING
    assert (await stage.db.read(lambda c: transforms.counts(c, ARN))).stopped == 5


async def test_instances_come_up_while_the_rest_is_listed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms_inputs, "PAGES", 1)
    await stage.begin_unlisted(3)
    await stage.controller.reconcile(ARN)
    assert await stage.fleet() is None, "two objects may be all that there are: two instances would do"
    await stage.controller.reconcile(ARN)
    fleet = await stage.fleet()
    assert fleet is not None
    assert msgspec.convert(fleet.desired, Wanted).goals[0].count == 3
    await stage.finish(4)
    assert stage.woken == 2, "who has found nothing to claim looks again"
    await stage.controller.reconcile(ARN)
    assert (await stage.job()).status == IN_PROGRESS, "what is listed is done, but not all is listed"
    await stage.controller.reconcile(ARN)
    assert (await stage.job()).status == IN_PROGRESS
    await stage.finish(2)
    await stage.controller.reconcile(ARN)
    assert (await stage.job()).status == "Completed"


async def through(stage: Stage) -> None:
    while await stage.controller.reconcile(ARN) is not None:
        pass


def names(stage: Stage) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, text in stage.kept.items():
        head, *rest = json.loads(text)
        found[key.rsplit("/", 1)[0]] = found.get(key.rsplit("/", 1)[0], []) + [head["prefix"] + each for each in rest]
    return found


async def test_captured_objects_are_listed_once_whoever_dies(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_ENTRIES", 2)
    await stage.begin("kept")
    await stage.finish(5)
    stage.dies_at = 4
    with pytest.raises(DiedError):
        await through(stage)
    assert (await stage.job()).status == IN_PROGRESS
    stage.now += 7200
    stage.again()
    await through(stage)
    assert (await stage.job()).status == "Completed"
    assert len(stage.kept) == 6, "three manifests of each side, under the same names"
    assert names(stage) == {
        "kept/to/input/2022/08/30/00": [f"s3://in/in/{n}" for n in range(5)],
        "kept/to/output/2022/08/30/00": [f"s3://out/o/{n}.out" for n in range(5)],
    }


async def test_a_stopped_job_has_captured_what_was_done(stage: Stage) -> None:
    await stage.begin("kept")
    await stage.finish(2)
    await stage.stop()
    assert await stage.controller.reconcile(ARN) == 0.0
    await stage.finish(3)
    await through(stage)
    assert (await stage.job()).status == "Stopped"
    assert names(stage)["kept/to/input/2022/08/30/00"] == ["s3://in/in/0", "s3://in/in/1"]


async def test_capture_that_cannot_be_written_is_no_failure_of_the_job(stage: Stage) -> None:
    await stage.begin("kept")
    await stage.finish(5)
    stage.refuses = ObjectsError("SlowDown", "later", status=503)
    assert await stage.controller.reconcile(ARN) == 0.0
    with pytest.raises(ObjectsError):
        await stage.controller.reconcile(ARN)
    stage.now += control.CAPTURE_SECONDS
    assert await stage.controller.reconcile(ARN) is None
    assert (await stage.job()).status == "Completed"
    assert any("(DataCaptureConfig.DestinationS3Uri) failed. SlowDown: later" in line for line in stage.said)
