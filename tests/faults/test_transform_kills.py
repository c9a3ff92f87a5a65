"""kill -9 of everybody at random moments of a transform job: the output tree is that of an undisturbed one.

Short here; `-m heavy` has the 1,000 objects and 50 kills of the issue. SLIPWAY_KILLS=N: so many.
"""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.deadlines import PATIENCE
from tests.e2e.deployments import Deployments, script
from tests.faults.async_killer import Killer

MODEL = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    data = data if isinstance(data, bytes) else data.encode()
    print("EXECUTED", data[:20].split(b",")[0].decode(), flush=True)
    time.sleep(PAUSE)
    return data.upper(), accept
"""
LARGE_LINES = 60_000
IN_FLIGHT = {"worker": 1, "host": 2, "dispatcher": 8}
"""What a death may have done again: what was at work. A worker has one request (a second one in its socket has not begun, and
is not begun for a dispatcher that is gone), an instance two workers, a dispatcher both instances, and as many answers that are
on their way to be committed. Nothing begins while control is away: its death costs nothing."""


def body(number: int) -> bytes:
    return b"k%d,%s\n" % (number, b"x" * (number % 50)) * (1 + number % 3)


def disturbed(server: Deployments, name: str, objects: int, kills: int, pause: float, apart: float) -> None:
    server.model(name, script(MODEL.replace("PAUSE", str(pause))))
    server.s3.create_bucket(Bucket=name)
    for number in range(objects):
        server.s3.put_object(Bucket=name, Key=f"in/{number % 7}/{number}", Body=body(number))
    server.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{name}/in/"}}},
        TransformOutput={"S3OutputPath": f"s3://{name}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )
    killer = Killer(server, seed=objects)
    thread = threading.Thread(target=killer.kill, args=(kills, apart))
    thread.start()
    told = _settled(server, name, 60.0 + kills * 5)
    thread.join()
    assert told["TransformJobStatus"] == "Completed", told.get("FailureReason")
    found = {}
    for page in server.s3.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix="out/"):
        for each in page.get("Contents", []):
            found[each["Key"]] = server.s3.get_object(Bucket=name, Key=each["Key"])["Body"].read()
    assert found == {f"out/{number % 7}/{number}.out": body(number).upper() for number in range(objects)}
    runs = sum(message.startswith("EXECUTED") for message in _messages(server))
    # What a dying worker printed last may be lost, so that there is no lower bound.
    again = sum(IN_FLIGHT.get(whom, 0) * times for whom, times in killer.count.items())
    assert runs <= objects + again, (runs, again, killer.count)


def _settled(server: Deployments, name: str, seconds: float) -> dict[str, str]:
    deadline = time.monotonic() + seconds
    told: dict[str, str] = {}
    while time.monotonic() < deadline:
        try:
            told = server.sagemaker.describe_transform_job(TransformJobName=name)
        except Exception:  # noqa: BLE001 - control and gateway are among those that die
            time.sleep(0.1)
            continue
        if told["TransformJobStatus"] != "InProgress":
            break
    return told


def _messages(server: Deployments) -> list[str]:
    found: list[str] = []
    try:
        for page in server.logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/sagemaker/TransformJobs"):
            found += [event["message"] for event in page["events"]]
    except server.logs.exceptions.ResourceNotFoundException:
        return []
    return found


def test_kills_leave_the_output_tree_of_an_undisturbed_job(server: Deployments) -> None:
    disturbed(server, "short", objects=60, kills=4, pause=0.05, apart=0.7)


@pytest.mark.heavy
def test_fifty_kills_of_a_thousand_objects(server: Deployments) -> None:
    disturbed(server, "long", objects=1000, kills=int(os.environ.get("SLIPWAY_KILLS", "50")), pause=0.05, apart=0.7)


@pytest.mark.heavy
def test_an_object_goes_on_from_its_last_durable_point(server: Deployments) -> None:
    """The dispatcher dies in the middle of one large object: what was durable is not done again."""
    server.model("resumes", script(MODEL.replace("PAUSE", "0.25")))
    server.s3.create_bucket(Bucket="resumes")
    data = b"".join(b"line-%07d,%s\n" % (number, b"y" * 1000) for number in range(LARGE_LINES))
    server.s3.put_object(Bucket="resumes", Key="in", Body=data)
    server.sagemaker.create_transform_job(
        TransformJobName="resumes",
        ModelName="resumes",
        MaxPayloadInMB=1,
        MaxConcurrentTransforms=1,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://resumes/in"}},
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": "s3://resumes/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    killer = Killer(server, seed=1)
    deadline = time.monotonic() + PATIENCE
    while sum(message.startswith("EXECUTED line-") for message in _messages(server)) < 35:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    killer.slay("dispatcher", killer.groups()["dispatcher"][0])
    told = _settled(server, "resumes", 90.0)
    assert told["TransformJobStatus"] == "Completed", told.get("FailureReason")
    assert server.s3.get_object(Bucket="resumes", Key="out/in.out")["Body"].read() == data.upper()
    runs = [message for message in _messages(server) if message.startswith("EXECUTED line-")]
    assert len(runs) > len(set(runs)), "something was done again"
    assert len(runs) - len(set(runs)) <= 32, "no more than what came after the last point"
