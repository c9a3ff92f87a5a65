"""Clients that submit asynchronous requests through whatever happens, and remember what was promised to them."""

from __future__ import annotations

import collections
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.deadlines import PATIENCE
from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import BUCKET
from tests.faults import async_model

TOKEN = "X-Slipway-Idempotency-Token"
KIND = "application/octet-stream"


@dataclass(slots=True)
class Request:
    """One InvokeEndpointAsync with an id of its own, or several with one idempotency token."""

    id: str
    body: bytes
    accepted: bool = False
    """A 202 came; else nobody knows whether it was accepted."""
    output: str = ""
    failure: str = ""


class Clients:
    """Threads that submit `count` requests, evenly over `seconds`, each until it is accepted."""

    def __init__(self, found: Asynchronous, *, threads: int = 6, name: str = "c", seed: int = 0) -> None:
        self.found = found
        self.tries: dict[str, Request] = {}
        """Whatever may have been accepted."""
        self.surprises: list[str] = []
        """Answers that no kill explains."""
        self.troubles: collections.Counter[str] = collections.Counter()
        self.work = 0.06
        """Seconds of a request on the average."""
        self.ill: dict[int, str] = {}
        """What is wrong with the inputs of these serial numbers."""
        self.timeout = {"hangs": 2}
        """InvocationTimeoutSeconds of the inputs with this illness."""
        self.over = False
        """The endpoint goes: from now on a refusal is no surprise, and ends the trying."""
        self._threads, self._name, self._seed = threads, name, seed
        self._serials = itertools.count(1)
        self._own = threading.local()
        config: dict[str, Any] = {"read_timeout": PATIENCE, "connect_timeout": PATIENCE}
        once = {"total_max_attempts": 1}  # another try has another id
        self._runtime = found.server.client("sagemaker-runtime", retries=once, **config)
        self._s3 = found.server.client("s3", **config)
        self._runtime.meta.events.register("before-call.sagemaker-runtime.InvokeEndpointAsync", self._add_token)

    @property
    def accepted(self) -> set[str]:
        return {each.id for each in list(self.tries.values()) if each.accepted}

    def inputs(self) -> dict[str, str]:
        """What the inputs call themselves, by inference id."""
        return {name: json.loads(each.body)["id"] for name, each in list(self.tries.items())}

    def submit(self, count: int, seconds: float) -> None:
        """Returns when all are accepted."""
        began = time.monotonic()
        left = iter(range(count))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    place = next(left, None)
                    serial = next(self._serials)
                if place is None:
                    return
                time.sleep(max(0.0, began + place * seconds / count - time.monotonic()))
                self._until_accepted(serial)

        threads = [threading.Thread(target=work) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _until_accepted(self, serial: int) -> None:
        chance = random.Random(f"{self._seed}/{serial}")
        size = chance.choice((20, 1000, 30_000, 150_000)) + chance.randrange(1000)
        work = chance.uniform(0.2, 1.8) * self.work
        more: dict[str, Any] = {"pad": "x" * 200_000} if chance.random() < 0.05 else {}
        if serial in self.ill:
            more["ill"] = self.ill[serial]
        timeout = self.timeout.get(self.ill.get(serial, ""), 60)
        uploaded = bool(more) or chance.random() < 0.2
        tokened = chance.random() < 0.25
        for attempt in itertools.count(1):
            name = f"{self._name}{serial}" if tokened else f"{self._name}{serial}.{attempt}"
            request = self.tries.setdefault(name, Request(name, async_model.asked(name, size, work, **more)))
            try:
                self._submit(request, uploaded, timeout, name if tokened else None)
            except (BotoCoreError, ClientError) as error:
                if self._trouble(name, error) and self.over:
                    return
                time.sleep(0.1)
            else:
                return

    def _submit(self, request: Request, uploaded: bool, timeout: int, token: str | None) -> None:
        where: dict[str, Any] = {"Body": request.body}
        if uploaded:
            key = f"{self.found.name}/in/{request.id}"
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=request.body)
            where = {"InputLocation": f"s3://{BUCKET}/{key}"}
        self._own.token = token
        told = self._runtime.invoke_endpoint_async(
            EndpointName=self.found.name, InferenceId=request.id, ContentType=KIND, InvocationTimeoutSeconds=timeout, **where
        )
        request.output, request.failure = told["OutputLocation"], told["FailureLocation"]
        request.accepted = True

    def _add_token(self, params: dict[str, Any], **_: Any) -> None:
        if self._own.token is not None:
            params["headers"][TOKEN] = self._own.token

    def _trouble(self, name: str, error: Exception) -> bool:
        """Whether it was refused."""
        refused = False
        kind = type(error).__name__
        if isinstance(error, ClientError):
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            kind = f"{status} {error.response['Error']['Code']}"
            refused = status < 500
            if refused and not self.over:
                self.surprises.append(f"{name}: {error}")
        self.troubles[kind] += 1
        return refused
