"""InvokeEndpoint and its stream through server, runtime, slots and a worker: what callers and containers see."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest
from botocore.config import Config

from slipway.core.routing import DIRECT, SERIAL, Container, Key, Replica, RouteTable, Stage, Variant
from slipway.data.lanes import DataLimits
from slipway.data.several import GatewaySlots
from slipway.data.slots import Slots
from slipway.http.limits import Budget
from slipway.http.messages import Request, Response
from slipway.link.client import Link
from slipway.services.runtime import callers
from slipway.services.runtime.enqueue import Enqueue
from slipway.services.runtime.invoke import Runtime, RuntimeLimits
from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.data.workers import ACCOUNT, REGION, Asked, Told, Worker, echo, replica, table, variant
from tests.unit.http.serving import Peer, Served, serving, until

KEY = Key("AKIDEXAMPLE", "secret", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")


class Stack:
    """A gateway's parts in this process."""

    def __init__(self, served: Served, slots: Slots, runtime: Runtime, path: Path) -> None:
        self.served = served
        self.slots = slots
        self.runtime = runtime
        self.path = path
        self.found: list[Worker] = []

    async def worker(self, answer: Callable[[Asked], Any] = echo, name: str = "") -> Worker:
        worker = await Worker(self.path / f"{name or len(self.found)}.sock", answer).start()
        self.found.append(worker)
        return worker

    def serve(self, *variants: Variant, version: int = 1) -> None:
        self.slots.apply(replace(table(version, *variants), keys={KEY.id: KEY}))

    async def peer(self) -> Peer:
        return await self.served.peer()

    def counters(self, name: str = "AllTraffic") -> dict[str, Any]:
        return self.runtime.counters()[f"{ACCOUNT}/{REGION}/demo/{name}"]


@contextlib.asynccontextmanager
async def stack(
    tmp_path: Path, *, signed: bool = False, body_bytes: int = 1000, memory: int = 1 << 30, **limits: float
) -> AsyncIterator[Stack]:
    slots = GatewaySlots(DataLimits(**limits))  # type: ignore[arg-type]
    slots.start()
    authenticate = callers.signed(slots.key) if signed else callers.unsigned(ACCOUNT, REGION)
    runtime = Runtime(slots, RuntimeLimits(body_bytes), authenticate, "http://here:1", lambda: 0.5, Enqueue(Link("/none")))

    async def control(request: Request) -> Response:
        return Response(418, [], b"control")

    async with serving(control, fast=runtime, budget=Budget(memory)) as served:
        found = Stack(served, slots, runtime, tmp_path)
        try:
            yield found
        finally:
            slots.close()
            for worker in found.found:
                await worker.kill()


async def call(
    peer: Peer, body: bytes = b"x", operation: str = "invocations", name: str = "demo", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    head = f"POST /endpoints/{name}/{operation} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    await peer.send(head.encode("latin-1") + body)
    return await peer.answer()


def error_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, str]:
    status, headers, body = answer
    assert headers["content-type"] == "application/json"
    return status, headers["x-amzn-errortype"], json.loads(body)["Message"]


async def test_headers_in_and_out(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> Told:
        head = [
            (b"Content-Type", b"text/csv"),
            (b"X-Amzn-SageMaker-Custom-Attributes", b"trace"),
            (b"Set-Cookie", b"no"),
            (b"X-Amzn-SageMaker-New-Session-Id", b"evil\r\nInjected: yes"),
        ]
        return Told(200, head, asked.body)

    async with stack(tmp_path) as found:
        worker = await found.worker(answer)
        found.serve(variant(replica("r1", worker)))
        status, headers, body = await call(
            await found.peer(),
            b"hello",
            Content_Type="application/json",
            Accept="text/csv",
            X_Amzn_SageMaker_Custom_Attributes="a b~",
            X_Amzn_SageMaker_Inference_Id="id-1",
            Cookie="secret",
            Authorization="AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/sagemaker/aws4_request, x",
            X_Forwarded_For="1.2.3.4",
        )
        assert (status, body) == (200, b"hello")
        assert headers.pop("date")
        assert len(headers.pop("x-amzn-requestid")) == 36
        assert headers == {
            "content-type": "text/csv",
            "x-amzn-sagemaker-custom-attributes": "trace",
            "x-amzn-invoked-production-variant": "AllTraffic",
            "content-length": "5",
        }
        assert sorted((name.lower(), value) for name, value in worker.asked[0].head) == [
            (b"accept", b"text/csv"),
            (b"content-type", b"application/json"),
            (b"x-amzn-sagemaker-custom-attributes", b"a b~"),
            (b"x-amzn-sagemaker-inference-id", b"id-1"),
        ]


async def test_request_ids_differ_and_204_becomes_an_empty_200(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(204, [])

    async with stack(tmp_path) as found:
        found.serve(variant(replica("r1", await found.worker(answer))))
        peer = await found.peer()
        answers = [await call(peer) for _ in range(3)]
        assert {(status, body) for status, _, body in answers} == {(200, b"")}
        assert len({headers["x-amzn-requestid"] for _, headers, _ in answers}) == 3


async def test_what_is_not_an_invocation_goes_to_control(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        peer = await found.peer()
        for target in ("/endpoints/demo/other", "/", "/endpoints/a/b/invocations"):
            await peer.send(f"POST {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode())
            assert (await peer.answer())[0] == 418
        await peer.send(b"GET /endpoints/demo/invocations HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[0] == 418
        scope = "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        assert (await call(peer, Authorization=scope))[0] == 418


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"X_Amzn_SageMaker_Target_Model": "a.tar.gz"},
            "Endpoint demo is not a multi-model endpoint and does not support target model header.",
        ),
        ({"X_Amzn_SageMaker_Target_Container_Hostname": "c"}, "does not support the target container hostname header"),
        ({"X_Amzn_SageMaker_Inference_Component": "c"}, "InferenceComponentName cannot be used"),
        ({"X_Amzn_SageMaker_Session_Id": "NEW_SESSION"}, "SessionId cannot be used"),
        ({"X_Amzn_SageMaker_Enable_Explanations": "`true`"}, "EnableExplanations cannot be used"),
        ({"X_Amzn_SageMaker_Prefix_Aware_Id": "p"}, "PrefixAwareId cannot be used"),
        ({"X_Amzn_SageMaker_Target_Variant": "other"}, "Variant other of endpoint demo not found."),
        ({"X_Amzn_SageMaker_Custom_Attributes": "a" * 1025}, "at 'customAttributes' failed to satisfy constraint"),
        ({"X_Amzn_SageMaker_Custom_Attributes": "caf\xe9"}, "at 'customAttributes' failed to satisfy constraint"),
        ({"X_Amzn_SageMaker_Inference_Id": "a" * 65}, "at 'inferenceId' failed to satisfy constraint"),
        ({"Accept": "a" * 1025}, "at 'accept' failed to satisfy constraint"),
        ({"Content_Type": "a" * 1025}, "at 'contentType' failed to satisfy constraint"),
    ],
)
async def test_refused_headers(tmp_path: Path, headers: dict[str, Any], message: str) -> None:
    async with stack(tmp_path) as found:
        worker = await found.worker()
        found.serve(variant(replica("r1", worker)))
        status, code, text = error_of(await call(await found.peer(), b"x", **headers))
        assert (status, code) == (400, "ValidationError")
        assert message in text
        assert worker.asked == []


async def test_repeated_headers_stay_small(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        worker = await found.worker()
        found.serve(variant(replica("r1", worker)))
        peer = await found.peer()
        lines = b"".join(b"Accept: %b\r\n" % (b"%d" % number * 200) for number in range(100))
        await peer.send(
            b"POST /endpoints/demo/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n" + lines + b"\r\nx"
        )
        assert (await peer.answer())[0] == 200
        assert worker.asked[0].head == [(b"accept", b"99" * 200)]


async def test_unknown_endpoint_and_asynchronous_call(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        found.serve(variant(replica("r1", await found.worker())))
        peer = await found.peer()
        for name in ("none", "Demo", "%61%20b"):
            shown = {"%61%20b": "a b"}.get(name, name)
            expected = f"Endpoint {shown} of account {ACCOUNT} not found."
            assert error_of(await call(peer, name=name)) == (400, "ValidationError", expected)
        status, code, text = error_of(await call(peer, operation="async-invocations"))
        assert (status, code) == (400, "ValidationError")
        assert "is not an asynchronous endpoint" in text


async def test_the_scopes_region_decides_without_signatures(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        found.serve(variant(replica("r1", await found.worker())))
        scope = "AWS4-HMAC-SHA256 Credential=A/20260101/eu-west-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0"
        status, code, _ = error_of(await call(await found.peer(), Authorization=scope))
        assert (status, code) == (400, "ValidationError")


async def test_oversize_bodies(tmp_path: Path) -> None:
    async with stack(tmp_path, body_bytes=1000) as found:
        found.serve(variant(replica("r1", await found.worker())))
        peer = await found.peer()
        assert (await call(peer, b"x" * 1000))[0] == 200
        status, headers, body = await call(peer, b"x" * 1001)
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
        assert json.loads(body)["Message"] == f"Request {headers['x-amzn-requestid']} has oversize body."
        await peer.send(b"POST /endpoints/demo/invocations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert "has oversize body" in error_of(await peer.answer())[2]


async def test_bodies_in_memory_are_bounded(tmp_path: Path) -> None:
    async with stack(tmp_path, memory=100) as found:
        found.serve(variant(replica("r1", await found.worker())))
        peer = await found.peer()
        assert (await call(peer, b"x" * 100))[0] == 200
        assert error_of(await call(peer, b"x" * 101))[:2] == (503, "ServiceUnavailable")
        assert found.served.server.budget.used == 0


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "client", "CLIENT_ERROR_FROM_MODEL"),
        (404, "client", "CLIENT_ERROR_FROM_MODEL"),
        (500, "server", "SERVER_ERROR_FROM_MODEL"),
        (302, "server", "SERVER_ERROR_FROM_MODEL"),
    ],
)
async def test_model_errors(tmp_path: Path, status: int, kind: str, code: str) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(status, [], b'bad "input"\n' + b"y" * 5000)

    async with stack(tmp_path) as found:
        found.serve(variant(replica("r1", await found.worker(answer))))
        got, headers, body = await call(await found.peer())
        members = json.loads(body)
        assert (got, headers["x-amzn-errortype"]) == (424, "ModelError")
        assert (members["ErrorCode"], members["OriginalStatusCode"]) == (code, status)
        group = "/aws/sagemaker/Endpoints/demo"
        assert members["LogStreamArn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
        assert members["OriginalMessage"].startswith('bad "input"\ny')
        assert len(members["OriginalMessage"]) == 2048
        assert len(members["Message"]) <= 2048
        assert members["Message"].startswith(f'Received {kind} error ({status}) from primary with message "bad "input"')
        assert f"#logEventViewer:group={group} in account {ACCOUNT} for more information." in members["Message"]


async def test_timeout_and_death(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def never(asked: Asked) -> Told:
        started.set()
        await asyncio.sleep(60)
        return Told()

    async with stack(tmp_path, invoke_seconds=0.2) as found:
        worker = await found.worker(never)
        found.serve(variant(replica("r1", worker)))
        status, _, body = await call(await found.peer())
        members = json.loads(body)
        assert (status, members["ErrorCode"], members["OriginalStatusCode"]) == (424, "INTERNAL_FAILURE_FROM_MODEL", 0)
        assert members["Message"].startswith(
            'Received server error (0) from primary with message "Your invocation timed out while waiting for a response '
            "from container primary. Review the latency metrics"
        )
        assert found.counters()["model_errors"] == 1
    async with stack(tmp_path) as found:
        worker = await found.worker(never, "second")
        found.serve(variant(replica("r1", worker)))
        started.clear()
        asking = asyncio.create_task(call(await found.peer()))
        await asyncio.wait_for(started.wait(), PATIENCE)
        await worker.kill()
        status, _, body = await asking
        assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 0)
        assert "the model process exited" in json.loads(body)["Message"]


async def test_no_capacity_and_too_many_waiting(tmp_path: Path) -> None:
    async with stack(tmp_path, capacity_seconds=0.1, waiting=1) as found:
        found.serve(variant())
        first = asyncio.create_task(call(await found.peer()))
        await until(lambda: found.counters()["waiting"] == 1 or found.counters()["refused"] == 1)  # or its time is over
        assert error_of(await call(await found.peer()))[:2] == (503, "ServiceUnavailable")
        assert error_of(await first)[:2] == (503, "ServiceUnavailable")
        assert found.counters()["refused"] == 2


async def test_variants_by_weight_and_by_name(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        a, b = await found.worker(), await found.worker()
        both = variant(replica("ra", a), name="A", weight=0.4), variant(replica("rb", b), name="B", weight=0.6)
        found.serve(*both)
        peer = await found.peer()
        assert (await call(peer))[1]["x-amzn-invoked-production-variant"] == "B"
        named = await call(peer, X_Amzn_SageMaker_Target_Variant="A")
        assert named[1]["x-amzn-invoked-production-variant"] == "A"
        found.serve(*(replace(one, weight=0.0) for one in both), version=2)
        assert "has a weight above 0" in error_of(await call(peer))[2]
        assert (await call(peer, X_Amzn_SageMaker_Target_Variant="B"))[0] == 200


async def test_a_new_table_moves_who_waits_and_a_deleted_endpoint_ends_them(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        found.serve(variant(name="Old"))
        waiting = asyncio.create_task(call(await found.peer()))
        await until(lambda: found.counters("Old")["waiting"] == 1)
        found.serve(variant(replica("r1", await found.worker()), name="New"), version=2)
        assert (await waiting)[1]["x-amzn-invoked-production-variant"] == "New"
        found.serve(variant(name="Old"), version=3)
        waiting = asyncio.create_task(call(await found.peer()))
        await until(lambda: found.counters("Old")["waiting"] == 1)
        found.slots.apply(RouteTable(4))
        assert error_of(await waiting)[2] == f"Endpoint demo of account {ACCOUNT} not found."


async def test_client_gone_frees_its_place_in_the_line(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        found.serve(variant())
        peer = await found.peer()
        asking = asyncio.create_task(call(peer))
        await until(lambda: found.counters()["waiting"] == 1)
        asking.cancel()
        peer.writer.close()
        await until(lambda: found.counters()["waiting"] == 0)


async def test_counters(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(int(asked.body), [])

    async with stack(tmp_path) as found:
        found.serve(variant(replica("r1", await found.worker(answer))))
        peer = await found.peer()
        for status in (200, 200, 404, 500):
            await call(peer, b"%d" % status)
        counters = found.counters()
        assert [counters[name] for name in ("invocations", "errors_4xx", "errors_5xx", "model_errors")] == [4, 1, 1, 2]
        assert sum(counters["model"]["buckets"].values()) == 4


@contextlib.contextmanager
def runtime_client(port: int, **settings: Any) -> Iterator[Any]:
    options = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret, "region_name": REGION, **settings}
    config = Config(retries={"max_attempts": 0})
    client = boto3.client("sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{port}", config=config, **options)
    with contextlib.closing(client):
        yield client


async def test_boto3_signed(tmp_path: Path) -> None:
    async with stack(tmp_path, signed=True, body_bytes=4 << 20) as found:
        found.serve(variant(replica("r1", await found.worker())))

        def use() -> list[Any]:
            with runtime_client(found.served.port) as client:
                small = client.invoke_endpoint(EndpointName="demo", Body=b"small", ContentType="text/plain")
                out = [small["Body"].read(), small["InvokedProductionVariant"]]
                out.append(len(client.invoke_endpoint(EndpointName="demo", Body=b"L" * (3 << 20))["Body"].read()))
            refused = []
            for wrong in (
                {"aws_secret_access_key": "wrong"},
                {"aws_access_key_id": "AKIDUNKNOWN"},
                {"aws_session_token": "unasked"},
            ):
                with (
                    runtime_client(found.served.port, **wrong) as client,
                    pytest.raises(botocore.exceptions.ClientError) as caught,
                ):
                    client.invoke_endpoint(EndpointName="demo", Body=b"x")
                refused.append(caught.value.response["Error"]["Code"])
            return [*out, refused]

        assert await asyncio.to_thread(use) == [
            b"small",
            "AllTraffic",
            3 << 20,
            ["InvalidSignatureException", "UnrecognizedClientException", "UnrecognizedClientException"],
        ]
        assert error_of(await call(await found.peer()))[:2] == (403, "MissingAuthenticationTokenException")
        worker = found.found[0]
        assert {hashlib.sha256(asked.body).hexdigest() for asked in worker.asked} == {
            hashlib.sha256(b"small").hexdigest(),
            hashlib.sha256(b"L" * (3 << 20)).hexdigest(),
        }


async def test_a_changed_body_and_a_key_for_other_services_are_refused(tmp_path: Path) -> None:
    async with stack(tmp_path, signed=True) as found:
        worker = await found.worker()
        found.serve(variant(replica("r1", worker)))
        session = Key("AKIDS3", "secret", ACCOUNT, "role", token="t", expires=time.time() + 60, services=("s3",))
        old = replace(session, id="AKIDOLD", services=(), expires=time.time() - 60)
        found.slots.apply(replace(found.slots.table, keys={one.id: one for one in (KEY, session, old)}))

        def use() -> list[str]:
            codes = []
            for key in (session, old):
                with (
                    runtime_client(found.served.port, aws_access_key_id=key.id, aws_session_token=key.token) as client,
                    pytest.raises(botocore.exceptions.ClientError) as caught,
                ):
                    client.invoke_endpoint(EndpointName="demo", Body=b"x")
                codes.append(caught.value.response["Error"]["Code"])

            def tamper(request: Any, **_: Any) -> None:
                request.body = b"tampered"

            with runtime_client(found.served.port) as tampering:
                tampering.meta.events.register("before-send.sagemaker-runtime.*", tamper)
                with pytest.raises(botocore.exceptions.ClientError) as caught:
                    tampering.invoke_endpoint(EndpointName="demo", Body=b"original")
            return [*codes, caught.value.response["Error"]["Code"]]

        expected = ["AccessDeniedException", "ExpiredTokenException", "InvalidSignatureException"]
        assert await asyncio.to_thread(use) == expected
        assert worker.asked == []


def signed_head(operation: str, secret: str, name: str, body: bytes, key: str = KEY.id, **headers: str) -> bytes:
    """A request's head as boto3 signs it: the body's hash is covered and not stated."""
    credentials = botocore.credentials.Credentials(key, secret)
    path = f"/endpoints/{name}/{operation}"
    request = botocore.awsrequest.AWSRequest("POST", f"http://localhost{path}", {"Host": "localhost", **headers}, body)
    botocore.auth.SigV4Auth(credentials, "sagemaker", REGION).add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()


@pytest.mark.parametrize("operation", ["invocations", "invocations-response-stream"])
async def test_an_unproven_caller_learns_nothing_of_endpoints(tmp_path: Path, operation: str) -> None:
    async with stack(tmp_path, signed=True, body_bytes=3 << 20) as found:
        found.serve(variant(replica("r1", await found.worker())))
        limited = Key("AKIDS3", "secret", ACCOUNT, "role-of-the-model", services=("s3",))
        found.slots.apply(replace(found.slots.table, keys={one.id: one for one in (KEY, limited)}))
        peer = await found.peer()

        async def ask(secret: str, name: str, body: bytes = b"x", key: str = KEY.id, **headers: str) -> tuple[int, str, str]:
            await peer.send(signed_head(operation, secret, name, body, key, **headers) + body)
            return error_of(await peer.answer())

        other = {"X-Amzn-SageMaker-Target-Variant": "other"}
        for body in (b"x", b"L" * (2 << 20)):
            for name in ("none", "demo"):
                for headers in ({}, other):
                    status, code, text = await ask("wrong", name, body, **headers)
                    assert (status, code) == (403, "InvalidSignatureException")
                    assert ACCOUNT not in text
            assert (await ask("secret", "none", body))[2] == f"Endpoint none of account {ACCOUNT} not found."
            assert (await ask("secret", "demo", body, **other))[2] == "Variant other of endpoint demo not found."
        told = await ask("wrong", "none", b"x", limited.id)
        assert told[:2] == (403, "InvalidSignatureException")
        assert "role-of-the-model" not in told[2]
        assert (await ask("secret", "none", b"x", limited.id))[1] == "AccessDeniedException"


@pytest.mark.parametrize("name", ["none", "demo"])
async def test_too_large_a_body_is_refused_the_same_whatever_endpoint(tmp_path: Path, name: str) -> None:
    async with stack(tmp_path, signed=True, body_bytes=1000) as found:
        found.serve(variant(replica("r1", await found.worker())))
        peer = await found.peer()
        await peer.send(signed_head("invocations", "wrong", name, b"x" * 1001))
        assert "has oversize body" in error_of(await peer.answer())[2]


async def test_streams_chunk_by_chunk(tmp_path: Path) -> None:
    async def parts(asked: Asked) -> Told:
        if asked.body == b"refuse":
            return Told(400, [], b"no")
        broken = frames.BROKEN if asked.body == b"break" else 0
        return Told(200, [(b"content-type", b"text/plain")], parts=(b"one", b"two"), flags=broken)

    async with stack(tmp_path, signed=True) as found:
        worker = await found.worker(parts)
        found.serve(variant(replica("r1", worker)))

        def use() -> list[Any]:
            with runtime_client(found.served.port) as client:
                invoke = client.invoke_endpoint_with_response_stream
                whole = invoke(EndpointName="demo", Body=b"ok", Accept="text/plain")
                out: list[Any] = [whole["ContentType"], whole["InvokedProductionVariant"]]
                with contextlib.closing(whole["Body"]) as events:
                    out.append([event["PayloadPart"]["Bytes"] for event in events])
                with (
                    contextlib.closing(invoke(EndpointName="demo", Body=b"break")["Body"]) as events,
                    pytest.raises(botocore.exceptions.EventStreamError) as caught,
                ):
                    list(events)
                out.append(caught.value.response["Error"]["Code"])
                with pytest.raises(botocore.exceptions.ClientError) as refused:
                    invoke(EndpointName="demo", Body=b"refuse")
            return [*out, refused.value.response["Error"]["Code"], refused.value.response["OriginalStatusCode"]]

        expected = ["text/plain", "AllTraffic", [b"one", b"two"], "ModelStreamError", "ModelError", 400]
        assert await asyncio.to_thread(use) == expected
        assert (b"accept", b"text/plain") in worker.asked[0].head
        assert {asked.over for asked in worker.asked} == {"http"}
        await until(lambda: found.counters()["in_flight"] == 0)


async def test_a_stream_that_is_too_slow_ends_with_its_exception(tmp_path: Path) -> None:
    async def slow(asked: Asked) -> Told:
        return Told(200, [], parts=tuple(b"part%d" % number for number in range(1000)))

    async with stack(tmp_path, stream_seconds=1.0) as found:
        found.serve(variant(replica("r1", await found.worker(slow))))
        status, headers, body = await call(await found.peer(), operation="invocations-response-stream")
        assert (status, headers["content-type"]) == (200, "application/vnd.amazon.eventstream")
        assert b"part0" in body
        assert b"ModelStreamError" in body
        assert b"ModelInvocationTimeExceeded" in body
        assert b"Your model primary did not complete sending the inference response in the allotted time." in body


async def test_a_stream_before_its_first_byte(tmp_path: Path) -> None:
    async def never(asked: Asked) -> Told:
        await asyncio.sleep(60)
        return Told()

    async with stack(tmp_path, stream_seconds=0.15, capacity_seconds=0.1) as found:
        found.serve(variant())
        peer = await found.peer()
        assert error_of(await call(peer, operation="invocations-response-stream"))[:2] == (503, "ServiceUnavailable")
        found.serve(variant(replica("r1", await found.worker(never))), version=2)
        status, headers, body = await call(peer, operation="invocations-response-stream")
        assert (status, headers["x-amzn-errortype"]) == (424, "ModelError")
        assert json.loads(body)["ErrorCode"] == "INTERNAL_FAILURE_FROM_MODEL"


async def test_pipelines_and_containers_called_by_name(tmp_path: Path) -> None:
    async def refuses(asked: Asked) -> Told:
        return Told(400, body=b"not this") if asked.body == b"bad" else Told(body=asked.body)

    async with stack(tmp_path) as found:
        parts = [await found.worker(), await found.worker(refuses)]
        containers = tuple(Container("frames", (worker.address,)) for worker in parts)
        one = (Replica("i-1", "i-1", "", (), containers),)
        stages = (Stage("front"), Stage("back"))
        found.serve(Variant("S", 1.0, one, mode=SERIAL, stages=stages))
        peer = await found.peer()
        assert (await call(peer, b"x"))[::2] == (200, b"x")
        status, code, text = error_of(await call(peer, b"bad"))
        assert (status, code) == (424, "ModelError")
        assert 'Received client error (400) from back with message "not this"' in text
        status, headers, _ = await call(peer, b"x", "invocations-response-stream")
        assert (status, headers["content-type"]) == (200, "application/vnd.amazon.eventstream")
        status, code, _ = error_of(await call(peer, b"bad", "invocations-response-stream"))
        assert (status, code) == (424, "ModelError")
        (slots,) = (each.by_name["S"] for each in found.slots.endpoints.values())
        counted = {name: (each.invocations, each.errors_4xx) for name, each in slots.containers_counters().items()}
        assert counted == {"front": (4, 0), "back": (4, 2)}
        assert found.counters("S")["invocations"] == 4
        refusal = error_of(await call(peer, b"x", X_Amzn_SageMaker_Target_Container_Hostname="front"))
        assert refusal[:2] == (400, "ValidationError")
        found.serve(Variant("S", 1.0, one, mode=DIRECT, stages=stages), version=2)
        assert "front, back" in error_of(await call(peer, b"x"))[2]
        for name, worker in zip(("front", "back"), parts, strict=True):
            before = len(worker.asked)
            assert (await call(peer, b"x", X_Amzn_SageMaker_Target_Container_Hostname=name))[::2] == (200, b"x")
            assert len(worker.asked) == before + 1
        assert (
            "no container with hostname"
            in error_of(await call(peer, b"x", X_Amzn_SageMaker_Target_Container_Hostname="nobody"))[2]
        )
        status, _, _ = await call(peer, b"x", "invocations-response-stream", X_Amzn_SageMaker_Target_Container_Hostname="back")
        assert status == 200
