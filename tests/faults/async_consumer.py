"""A consumer of notifications: takes them from an SQS queue, and looks at once whether what each announces is there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.deadlines import PATIENCE
from tests.e2e.asynchronous import Asynchronous
from tests.faults import async_model
from tests.faults.async_clients import Request

VISIBILITY = 10
"""Seconds after which a message is there again whose receipt was lost with a process that was killed."""


@dataclass(frozen=True, slots=True)
class Notice:
    message: str
    """SQS's id: received again it is the same, sent twice it is another."""
    publication: str
    """SNS's."""
    good: bool
    where: str
    reason: str


class Consumer:
    """Threads that take messages from now on until `close`."""

    def __init__(self, found: Asynchronous, requests: Mapping[str, Request], *, threads: int = 2) -> None:
        self.of: dict[str, set[Notice]] = {}
        """By inference id."""
        self.wrong: list[str] = []
        """What was announced and is not so."""
        self._found, self._requests = found, requests
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        config = {"read_timeout": PATIENCE, "connect_timeout": PATIENCE}
        self._sqs = found.server.client("sqs", **config)
        self._s3 = found.server.client("s3", **config)
        found.sqs.set_queue_attributes(QueueUrl=found.queue, Attributes={"VisibilityTimeout": str(VISIBILITY)})
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def left(self) -> tuple[int, int]:
        """Messages in the queue, visible and not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self._sqs.get_queue_attributes(QueueUrl=self._found.queue, AttributeNames=names)["Attributes"]
        return int(told[names[0]]), int(told[names[1]])

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                told = self._sqs.receive_message(QueueUrl=self._found.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                messages = told.get("Messages", [])
                for message in messages:
                    self._take(message)
                if messages:
                    entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
                    self._sqs.delete_message_batch(QueueUrl=self._found.queue, Entries=entries)
            except (BotoCoreError, ClientError):
                time.sleep(0.1)  # what was received and not deleted comes again
            except Exception as error:  # noqa: BLE001 - the test tells of it
                self.wrong.append(f"the consumer broke: {error!r}")
                return

    def _take(self, message: dict[str, Any]) -> None:
        envelope = json.loads(message["Body"])
        told = json.loads(envelope["Message"])
        if told["eventName"] == "TestNotification":
            return
        good = told["invocationStatus"] == "Completed"
        name = told["inferenceId"]
        where = told["responseParameters"]["outputLocation"]
        notice = Notice(message["MessageId"], envelope["MessageId"], good, where, told.get("failureReason", ""))
        with self._lock:
            known = self.of.setdefault(name, set())
            if notice in known:
                return
        if envelope["TopicArn"] != (self._found.success if good else self._found.error):
            self.wrong.append(f"{name}: {told['invocationStatus']} came from {envelope['TopicArn']}")
        request = self._requests.get(name)
        if request is None:
            self.wrong.append(f"{name}: nobody has submitted it")
        else:
            self._look(request, where, good)
        with self._lock:
            known.add(notice)  # only now: what broke off above is looked at again

    def _look(self, request: Request, where: str, good: bool) -> None:
        data = self._read(where)
        if data is None:
            self.wrong.append(f"{request.id}: {where} was announced and is not there")
        elif good and data != async_model.answer(request.body):
            self.wrong.append(f"{request.id}: another answer ({len(data)} bytes) than the model's")
        elif not good and not data:
            self.wrong.append(f"{request.id}: its failure object is empty")
        if not good and request.output and self._read(request.output) is not None:
            self.wrong.append(f"{request.id} failed, and has an output object")

    def _read(self, location: str) -> bytes | None:
        """None: there is no such object. Raises what a kill brings."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            data: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return data


def patiently(work: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Its result, through kills."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
