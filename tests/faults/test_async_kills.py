"""kill -9 of every role and of replicas while asynchronous requests run: each that was accepted ends well, once, and whole."""

from __future__ import annotations

import collections
import hashlib
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import BUCKET, Deployments, script
from tests.faults.load import hosts, role

pytestmark = [pytest.mark.xdist_group("faults-async-kills"), pytest.mark.timeout(240)]

KIND = "application/octet-stream"

WORK = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(0.02)
    return data * 2, content_type or "application/octet-stream"
"""


def clients(found: Asynchronous, count: int, seconds: float, done: threading.Event) -> dict[str, tuple[str, bytes]]:
    """Requests for as long as the kills take; by inference id where the answer goes and what it must be."""
    accepted: dict[str, tuple[str, bytes]] = {}
    s3, runtime = found.server.s3, found.server.client("sagemaker-runtime", retries={"max_attempts": 5, "mode": "standard"})

    def one(number: int) -> None:
        chance = random.Random(number)
        serial = 0
        while not done.is_set():
            serial += 1
            body = chance.randbytes(chance.choice((10, 1000, 60_000, 300_000)))
            ident = f"{number}-{serial}"
            try:
                if len(body) < 1000:
                    where: dict[str, Any] = {"Body": body}
                else:
                    s3.put_object(Bucket=BUCKET, Key=ident, Body=body)
                    where = {"InputLocation": f"s3://{BUCKET}/{ident}"}
                told = runtime.invoke_endpoint_async(EndpointName=found.name, InferenceId=ident, ContentType=KIND, **where)
            except (ClientError, BotoCoreError):
                continue  # not accepted, as far as anybody knows
            accepted[ident] = (told["OutputLocation"], body * 2)
            time.sleep(0.02)

    with ThreadPoolExecutor(count) as pool:
        for number in range(count):
            pool.submit(one, number)
        done.wait(seconds)
        done.set()
    return accepted


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(10)
    except psutil.Error:
        return


def told_of(found: Asynchronous, wanted: set[str], seconds: float) -> collections.Counter[str]:
    """Success notifications by inference id, until each of `wanted` has one."""
    counted: collections.Counter[str] = collections.Counter()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not wanted <= counted.keys():
        messages = found.sqs.receive_message(QueueUrl=found.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get(
            "Messages", []
        )
        for message in messages:
            envelope = json.loads(message["Body"])
            notice = json.loads(envelope["Message"])
            assert envelope["TopicArn"] == found.success, notice["failureReason"]
            counted[notice["inferenceId"]] += 1
        if messages:
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            found.sqs.delete_message_batch(QueueUrl=found.queue, Entries=entries)
    return counted


def test_every_accepted_request_ends_once_and_whole(server: Deployments) -> None:
    found = Asynchronous(server, "kills", script(WORK))
    done = threading.Event()
    kills: collections.Counter[str] = collections.Counter()

    def murder() -> None:
        chance = random.Random(1)
        for victim in ("dispatcher", "replica", "control", "dispatcher", "gateway", "replica", "dispatcher", "control"):
            time.sleep(chance.uniform(0.8, 1.6))
            if victim == "replica":
                workers = [p for p in hosts(server) if p.ppid() != 1 and not p.children()] or hosts(server)
                kill(chance.choice(workers))
            else:
                kill(role(server, victim))
            kills[victim] += 1
        time.sleep(1.0)
        done.set()

    killer = threading.Thread(target=murder)
    killer.start()
    accepted = clients(found, 4, 60.0, done)
    killer.join()
    assert sum(kills.values()) == 8
    assert len(accepted) > 50
    counted = told_of(found, set(accepted), 60.0)
    missing = set(accepted) - counted.keys()
    assert not missing, f"{len(missing)} of {len(accepted)} have not ended"
    # An id may stand for two requests: one whose 202 was lost on its way, and the client's next try.
    for ident, (location, body) in accepted.items():
        data = found.read(location)
        assert hashlib.sha256(data).digest() == hashlib.sha256(body).digest(), ident
    print(f"{len(accepted)} requests, kills {dict(kills)}")
