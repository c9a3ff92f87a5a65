"""The part of control that is asynchronous inference, wired: link handlers, upkeep, backlog metrics."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import cast

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.objects import Attributes, Objects
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_external import ExternalObjects
from slipway.backing.objects_staging import ExternalStaging
from slipway.control.asynchronous import Asynchronous, Surroundings
from slipway.control.asynchronous_ends import Ends
from slipway.control.asynchronous_keeping import Keeping
from slipway.control.asynchronous_metrics import BacklogMetrics, Served
from slipway.core.asynchronous import AcceptAnswer, AcceptRequest, Staged
from slipway.core.filter_policies import TooMuchWork
from slipway.core.routing import Endpoint
from slipway.core.s3_events import Origin
from slipway.core.sns_messages import Notice, Seal
from slipway.link.routes import process_alive
from slipway.names import parse_s3_uri
from slipway.settings import Settings
from slipway.store import topics
from slipway.store.db import Connection, Db
from slipway.store.jobs import Place
from slipway.store.jobs_settle import FAILURE_TYPE, Announce, Rules
from slipway.wire.errors import AwsError

logger = logging.getLogger(__name__)

VARIANT = "AllTraffic"
"""What the SDK calls an endpoint's variant: for metrics of one that is not known any more."""
_NEVER = frozenset({"NoSuchBucket", "AccessDenied", "NoSuchKey", "InvalidBucketName", "KeyTooLongError"})
"""Errors of an object store that another try does not mend."""

Accept = Callable[[Sequence[AcceptRequest]], Awaitable[tuple[AcceptAnswer, ...]]]


class AsyncParts:
    """`start` and `close` once each; `link.attach` for the link server, `keeping.reconcile` for the reconciler."""

    def __init__(
        self,
        settings: Settings,
        db: Db,
        objects: Objects,
        logs: Logs,
        metrics: Metrics,
        *,
        rules: Rules,
        accept: Accept,
        routed: Callable[[], Mapping[str, Endpoint]],
        wake: Callable[[str, str], None],
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        alive: Callable[[int], bool] = process_alive,
    ) -> None:
        """`routed`: the endpoints in service, by ARN. `steady`: a clock that nobody sets; None: `now` is one."""
        self._objects = objects
        self._routed = routed
        world = Surroundings(
            db=db,
            rules=rules,
            accept=accept,
            ends=Ends(metrics, logs, self._variant_of),
            shelves=objects if isinstance(objects, EmbeddedObjects) else None,
            instances=self._instances,
            wake=wake,
            now=now,
            roll=random.SystemRandom().random,
            alive=alive,
            steady=steady or now,
        )
        self.link = Asynchronous(world)
        self.keeping = Keeping(
            world,
            self.link,
            kept_seconds=settings.limits.async_kept_seconds,
            put_failure=self._put_failure if rules.external else None,
            publish=self._publish if rules.external else None,
        )
        self.metrics = BacklogMetrics(db, metrics, self._served, now, settings.time_scale)
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._publishing = asyncio.get_running_loop().create_task(self.metrics.run())

    async def close(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
        await self.link.close()

    def _instances(self, arn: str) -> int:
        found = self._routed().get(arn)
        return sum(len(variant.replicas) for variant in found.variants) if found is not None else 0

    def _variant_of(self, place: Place) -> str:
        found = self._routed().get(place.arn)
        return found.variants[0].name if found is not None and found.variants else VARIANT

    def _served(self) -> Iterator[Served]:
        for arn, found in self._routed().items():
            if found.asynchronous is not None and found.variants:
                variant = found.variants[0].name
                yield Served(found.account, found.region, found.name, arn, variant, self._instances(arn))

    async def _put_failure(self, account: str, location: str, content: str) -> bool:
        """Into an external store; True also for what another try does not mend."""
        where = parse_s3_uri(location)
        if where is None:
            return True
        attributes = Attributes({"ContentType": FAILURE_TYPE})
        try:
            await self._objects.put(where.bucket, where.key, content.encode(), attributes=attributes, account=account)
        except AwsError as error:
            logger.warning("failure-object-not-written", extra={"bucket": where.bucket, "error": error.code})
            return error.code in _NEVER
        return True

    async def _publish(self, staged: Staged) -> bool:
        """In an external store: copied to its key, which is safe to repeat; then the attempt goes."""
        try:
            await ExternalStaging(cast("ExternalObjects", self._objects), str).publish(staged)
        except AwsError as error:
            logger.warning("answer-not-published", extra={"bucket": staged.bucket, "error": error.code})
            return False
        return True


def rules(settings: Settings, objects: Objects, seal: Seal | None) -> Rules:
    """How asynchronous requests end here."""
    external = not isinstance(objects, EmbeddedObjects)
    return Rules(announcing(seal), settings.limits.async_attempts, external, Origin(seal=seal))


def announcing(seal: Seal | None) -> Announce:
    """How settlements tell a topic, in their transaction: `seal` signs."""

    def announce(connection: Connection, topic: str, messages: Sequence[str], now: float) -> list[str | None]:
        notices = [Notice(message) for message in messages]
        published = topics.publish_all(connection, topic, notices, now, seal=seal)
        if published is None:
            return [None] * len(messages)
        if any(isinstance(each, TooMuchWork) for each in published):  # another try would not be any easier
            logger.warning("notification-too-much-work", extra={"topic": topic})
        return [None if isinstance(each, TooMuchWork) else each.message_id for each in published]

    return announce
