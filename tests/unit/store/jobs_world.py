"""An endpoint with a queue, in a store without threads: what the tests of asynchronous requests share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, func, select

from slipway.core.asynchronous import AsyncOptions, Claimed, Outcome, Staged
from slipway.core.deployments import Deployment, Reached
from slipway.names import parse_s3_uri
from slipway.store import jobs, jobs_claims, jobs_settle, migrate, objects, resources
from slipway.store.engines import database_url as parse_url
from slipway.store.engines import writing_engine
from slipway.store.jobs import NewRequest, Place
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Result, Rules

T = TypeVar("T")

ACCOUNT, REGION, ENDPOINT, ARN = "1", "eu-central-1", "Echo", "arn:aws:sagemaker:eu-central-1:1:endpoint/echo"
OPTIONS = AsyncOptions("s3://bucket/out", "s3://bucket/failed", "arn:topic:good", "arn:topic:bad")
LEASE = 15.0


@dataclass
class Store:
    """`now` moves by hand; `told` is what topics heard, by InferenceId."""

    engine: Engine
    now: float = 1_700_000_000.0
    external: bool = False
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    missing_topics: set[str] = field(default_factory=set)
    options: AsyncOptions = OPTIONS
    created: float = 1_600_000_000.0
    _count: int = 0

    def __post_init__(self) -> None:
        self._connection = self.engine.connect()

    def close(self) -> None:
        self._connection.close()
        self.engine.dispose()

    @classmethod
    def open(cls, url: str) -> Store:
        store = cls(writing_engine(parse_url(url)))
        store.write(migrate.prepare)
        store.clear()
        return store

    def clear(self) -> None:
        """As new."""

        def empty(connection: Connection) -> None:
            for table in (jobs.requests, jobs.queues, objects.objects, objects.buckets, resources.resources):
                connection.execute(table.delete())
            objects.insert_bucket(connection, objects.BucketRow("bucket", ACCOUNT, REGION, self.now))
            objects.insert_bucket(connection, objects.BucketRow("foreign", "2", REGION, self.now))

        self.write(empty)
        self.serve()

    def write(self, fn: Callable[[Connection], T]) -> T:
        with self._connection.begin():
            return fn(self._connection)

    # The endpoint

    @property
    def place(self) -> Place:
        return Place(ACCOUNT, REGION, ENDPOINT, ARN, self.created)

    def serve(self, status: str = "InService", reason: str = "") -> None:
        """The endpoint is there."""
        deployment = Deployment(1, "config", (), (), self.now, asynchronous=self.options)
        row = resources.Resource(
            ACCOUNT,
            REGION,
            "endpoint",
            ENDPOINT,
            ARN,
            {},
            self.created,
            self.now,
            status=status,
            reason=reason,
            observed=msgspec.to_builtins(Reached(deployment)),
        )
        self.write(lambda c: resources.add(c, row))

    def delete(self) -> None:
        """The endpoint is gone; the next one is another incarnation."""
        self.write(lambda c: resources.remove(c, ARN))
        self.created += 1000.0

    # Requests

    @property
    def rules(self) -> Rules:
        return Rules(self._announce, attempts=3, external=self.external)

    def _announce(self, connection: Connection, topic: str, messages: Sequence[str], now: float) -> list[str | None]:
        if topic in self.missing_topics:
            return [None] * len(messages)
        self.told += [(topic, json.loads(message)) for message in messages]
        return [f"message-{len(self.told) - left}" for left in reversed(range(len(messages)))]

    def request(self, **changes: Any) -> NewRequest:
        self._count += 1
        name = f"r{self._count}"
        given: dict[str, Any] = {
            "received": self.now,
            "expires": self.now + 3600,
            "timeout": 60,
            "inference_id": f"id-{name}",
            "output_location": f"s3://bucket/out/{name}.out",
            "failure_location": f"s3://bucket/failed/{name}-error.out",
            "input_location": "s3://bucket/in/x",
        }
        return NewRequest(**{**given, **changes})

    def accept(self, *rows: NewRequest, bound: int = 1000) -> list[jobs.Accepted | jobs.Refusal]:
        return self.write(lambda c: jobs.accept(c, self.place, self.options, rows, bound=bound, now=self.now))

    def accepted(self, count: int = 1, **changes: Any) -> list[int]:
        """Ids of fresh requests."""
        answers = self.accept(*(self.request(**changes) for _ in range(count)))
        return [answer.id for answer in answers if isinstance(answer, jobs.Accepted)]

    def claim(self, count: int = 1, holder: str = "1.a") -> list[Claimed]:
        return self.claim_with_result(count, holder)[0]

    def claim_with_result(self, count: int = 1, holder: str = "1.a") -> tuple[list[Claimed], Result]:
        taker = Taker(holder, self.now + LEASE)
        return self.write(lambda c: jobs_claims.claim(c, ACCOUNT, REGION, ENDPOINT, taker, count, self.rules, self.now))

    def settle(self, *outcomes: Outcome) -> list[bool]:
        return self.settle_with_result(*outcomes)[0]

    def settle_with_result(self, *outcomes: Outcome) -> tuple[list[bool], Result]:
        return self.write(lambda c: jobs_settle.settle(c, outcomes, self.rules, self.now))

    def end(self, fn: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """One of the functions of `jobs_claims` that end requests."""
        return self.write(lambda c: fn(c, *arguments, self.rules, self.now, **options))

    # Looking

    def job(self, ident: int) -> jobs.Job:
        found = self.write(lambda c: jobs.get(c, ident))
        assert found is not None
        return found

    def queue(self) -> jobs.Queue:
        found = self.write(lambda c: jobs.queue_of(c, ARN, self.created))
        assert found is not None
        return found

    def object(self, location: str) -> bytes | None:
        where = parse_s3_uri(location)
        assert where is not None
        found = self.write(lambda c: objects.get_object(c, where.bucket, where.key, content=True))
        return found.data if found is not None else None

    def counted(self) -> dict[tuple[int, str], int]:
        """Requests by queue and state, counted one by one."""
        c = jobs.requests.c
        statement = select(c.queue, c.state, func.count()).group_by(c.queue, c.state)
        return self.write(lambda conn: {(row[0], row[1]): row[2] for row in conn.execute(statement)})

    def counters(self) -> dict[tuple[int, str], int]:
        """The same, as the queues' rows have it."""
        found = self.write(jobs.every_queue)
        return {(q.id, state): getattr(q, state) for q in found for state in jobs.COUNTED if getattr(q, state)}


def succeeded(claimed: Claimed, content: bytes = b"answer", **changes: Any) -> Outcome:
    where = parse_s3_uri(claimed.output_location)
    assert where is not None
    given: dict[str, Any] = {
        "content_type": "text/csv",
        "staged": Staged(where.bucket, where.key, len(content), "e", "text/csv", content),
        "variant": "AllTraffic",
        "instance": "i-1",
        "status": 200,
        "answer": content,
    }
    return Outcome(claimed.id, claimed.lease, "succeeded", **{**given, **changes})


def failed(claimed: Claimed, **changes: Any) -> Outcome:
    given: dict[str, Any] = {"cause_kind": "model-error", "cause": "It said no.", "status": 500, "answer": b"no"}
    return Outcome(claimed.id, claimed.lease, "failed", **{**given, **changes})


def lost(claimed: Claimed, cause: str = "the worker was killed") -> Outcome:
    return Outcome(claimed.id, claimed.lease, "lost", cause=cause)


def released(claimed: Claimed) -> Outcome:
    return Outcome(claimed.id, claimed.lease, "released")


@contextmanager
def opened(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()


STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
