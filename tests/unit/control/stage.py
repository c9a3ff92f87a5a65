"""An endpoint, its alarms and its autoscaler on a clock that the test moves; metrics as such endpoints publish them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.backing.metrics import Metrics
from slipway.control import alarms as alarms_module
from slipway.control import autoscaler
from slipway.control.alarms import Alarms
from slipway.control.autoscaler import Autoscaler
from slipway.control.endpoints import KIND
from slipway.control.instances import STRAY
from slipway.core.asynchronous import AsyncOptions
from slipway.services import Context, application_autoscaling, cloudwatch
from slipway.store import jobs, resources
from slipway.store.db import Connection, Db
from tests.unit.control.world import ACCOUNT, REGION, Control

ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/e"
VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    "ResourceId": "endpoint/E/variant/A",
}
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}


class Stage(Control):
    """`await minutes(n, backlog=…)` is what happens; `count` and `activities` what came of it."""

    def __init__(self, db: Db, path: Path, *, scale: float = 1.0, on_arrival: bool = True) -> None:
        super().__init__(db, path)
        self.scale = scale
        self.on_arrival = on_arrival
        self.backlog = 0
        self.metrics = Metrics(db, lambda: self.now, scale)
        mode = "arrival" if on_arrival else "alarm"
        settings = replace(self.world.settings, time_scale=scale, scale_from_zero=mode)
        self.world = replace(self.world, metrics=self.metrics, settings=settings)
        self.ctx = Context(self.world, ACCOUNT, REGION, "request", f"arn:aws:iam::{ACCOUNT}:root")
        self.changes.listen(lambda kind, key: self.wake(autoscaler.KIND, key) if kind == KIND else None)
        self.restart()
        self.wake(alarms_module.KIND, "")

    def restart(self) -> None:
        """Control is another process from here on: what it had in memory is gone."""
        ids = itertools.count(int(self.now * 1000))
        self.autoscaler = Autoscaler(
            autoscaler.Surroundings(
                self.db, self.metrics, self.wake, lambda: self.now, lambda: f"{next(ids):020}", self.on_arrival
            )
        )
        self.alarms = Alarms(self.db, self.metrics, lambda: self.now, self.wake)

    async def drive(self, steps: int = 500) -> None:
        kinds: dict[str, Callable[[str], Awaitable[float | None]]] = {
            KIND: self.endpoints.reconcile,
            autoscaler.KIND: self.autoscaler.reconcile,
            alarms_module.KIND: self.alarms.reconcile,
        }
        for _ in range(steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ready = [key for key, at in self.due.items() if at <= self.now]
            if not ready:
                return
            for kind, key in ready:
                if self.due.pop((kind, key), None) is None:
                    continue
                if kind == STRAY:
                    await self.instances.stop_stray(key)
                    continue
                wait = await kinds[kind](key)
                if wait is not None:
                    self.due.setdefault((kind, key), self.now + max(wait, 0.001))
        raise AssertionError(f"never at rest: {self.due}")

    async def until(self, moment: float) -> None:
        """Everything that is due until then, each at its time."""
        await self.drive()
        while self.due and (soonest := min(self.due.values())) <= moment:
            self.now = max(self.now, soonest)
            await self.drive()
        self.now = moment

    async def minutes(self, count: int, backlog: int | None = None) -> None:
        """So many nominal minutes, with the metrics that the endpoint would publish in each."""
        width = 60 / self.scale
        if backlog is not None:
            await self.arrive(backlog)
        for _ in range(count):
            start = self.metrics.floor(self.now, 60)
            await self.publish(start + width / 2)
            await self.until(start + width + 0.9 * min(width, 1.0))

    async def publish(self, at: float) -> None:
        instances = await self.count()
        values = {"ApproximateBacklogSize": float(self.backlog)}
        values["HasBacklogWithoutCapacity"] = float(self.backlog > 0 and not instances)
        if instances:
            values["ApproximateBacklogSizePerInstance"] = self.backlog / instances
        for name, value in values.items():
            self.metrics.add(ACCOUNT, REGION, "AWS/SageMaker", name, {"EndpointName": "E"}, value, "Count", at=at)

    async def arrive(self, backlog: int) -> None:
        """From now on so many requests wait; control wakes the autoscaler as it accepts them."""

        def write(connection: Connection) -> None:
            row = resources.get_by_arn(connection, ARN)
            assert row is not None
            queue = jobs.open_queue(connection, jobs.Place(ACCOUNT, REGION, "E", ARN, row.created), AsyncOptions("s3://b/o"))
            jobs.count(connection, {queue.id: {"queued": backlog - queue.queued}})

        await self.db.write(write)
        self.backlog = backlog
        self.wake(autoscaler.KIND, ARN)
        await self.drive()

    async def count(self) -> int:
        return int((await self.describe())["ProductionVariants"][0]["DesiredInstanceCount"])

    async def scaling(self, operation: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await getattr(application_autoscaling, operation)(self.ctx, VARIANT | request)
        return answer

    async def alarm(self, **request: Any) -> None:
        """PutMetricAlarm."""
        await cloudwatch.put_metric_alarm(self.ctx, request)

    async def activities(self, **more: Any) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = (await self.scaling("describe_scaling_activities", **more))["ScalingActivities"]
        return found

    async def track(self, target: float = 5.0, **more: Any) -> str:
        """The announcement's policy."""
        metric = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": "E"}],
            "Statistic": "Average",
        }
        config = {
            "TargetValue": target,
            "CustomizedMetricSpecification": metric,
            "ScaleInCooldown": 120,
            "ScaleOutCooldown": 120,
        }
        answer = await self.scaling(
            "put_scaling_policy",
            PolicyName="track",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=config | more,
        )
        await self.drive()
        return str(answer["PolicyARN"])

    async def register(self, low: int, high: int, **more: Any) -> None:
        await self.scaling("register_scalable_target", MinCapacity=low, MaxCapacity=high, **more)
        await self.drive()
