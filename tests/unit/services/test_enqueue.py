"""InvokeEndpointAsync in the gateway: what callers may send, how control hears of it, what callers hear."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from slipway.core.asynchronous import AcceptAnswer, AcceptRequest, AsyncOptions
from slipway.core.routing import Endpoint, Key, RouteTable, Variant, endpoint_key
from slipway.data.lanes import DataLimits
from slipway.data.slots import Slots
from slipway.http.messages import Request, Response
from slipway.link import channel
from slipway.link.channel import Channel
from slipway.link.claims import ACCEPT
from slipway.link.client import Link
from slipway.services.runtime import callers
from slipway.services.runtime.enqueue import Enqueue
from slipway.services.runtime.invoke import Runtime, RuntimeLimits
from tests.unit.data.workers import ACCOUNT, REGION
from tests.unit.http.serving import Peer, Served, serving, until
from tests.unit.services.test_invoke import KEY, call, error_of, signed_head

Accept = Callable[[tuple[AcceptRequest, ...]], Awaitable[tuple[AcceptAnswer, ...]]]
ASYNC = "async-invocations"
WHERE = {"X-Amzn-SageMaker-InputLocation": "s3://in/k"}


async def accepted(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
    return tuple(AcceptAnswer(each.inference_id or "made", "s3://out/a", "s3://failed/a") for each in batch)


class Stack:
    def __init__(self, served: Served, slots: Slots, enqueue: Enqueue, path: str) -> None:
        self.enqueue = enqueue
        self.served = served
        self.slots = slots
        self.path = path
        self.batches: list[tuple[AcceptRequest, ...]] = []
        self.accept: Accept = accepted
        self.server: channel.Server | None = None

    async def open(self) -> None:
        async def take(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
            self.batches.append(batch)
            return await self.accept(batch)

        def attach(each: Channel) -> None:
            each.on(ACCEPT, take, tuple[AcceptRequest, ...])

        self.server = await channel.serve(self.path, attach)

    async def close(self) -> None:
        if self.server is not None:
            await self.server.close()
            self.server = None

    async def peer(self) -> Peer:
        return await self.served.peer()

    @property
    def requests(self) -> list[AcceptRequest]:
        return [request for batch in self.batches for request in batch]


@contextlib.asynccontextmanager
async def stack(tmp_path: Path, *, signed: bool = False) -> AsyncIterator[Stack]:
    slots = Slots(DataLimits())
    slots.start()
    authenticate = callers.signed(slots.key) if signed else callers.unsigned(ACCOUNT, REGION)
    link = Link(str(tmp_path / "link.sock"))
    enqueue = Enqueue(link)
    runtime = Runtime(slots, RuntimeLimits(1000), authenticate, "http://here:1", lambda: 0.5, enqueue)

    async def control(request: Request) -> Response:
        return Response(418, [], b"control")

    both = (Endpoint(ACCOUNT, REGION, "demo", (Variant("a", 1.0, ()),), AsyncOptions("s3://out")),)
    live = Endpoint(ACCOUNT, REGION, "live", (Variant("a", 1.0, ()),))
    endpoints = {endpoint_key(ACCOUNT, REGION, each.name): each for each in (*both, live)}
    slots.apply(RouteTable(1, endpoints, {KEY.id: KEY}))
    async with serving(control, fast=runtime) as served:
        found = Stack(served, slots, enqueue, str(tmp_path / "link.sock"))
        await found.open()
        link.start()
        enqueue.start()
        try:
            yield found
        finally:
            await enqueue.close()
            await link.close()
            await found.close()
            slots.close()


async def test_members_and_answer(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        peer = await found.peer()
        headers = {
            **WHERE,
            "X-Amzn-SageMaker-Content-Type": "a/b",
            "X-Amzn-SageMaker-Accept": "c/d",
            "X-Amzn-SageMaker-Custom-Attributes": "e=f",
            "X-Amzn-SageMaker-Inference-Id": "mine",
            "X-Amzn-SageMaker-RequestTTLSeconds": "60",
            "X-Amzn-SageMaker-InvocationTimeoutSeconds": "3600",
            "X-Amzn-SageMaker-S3OutputPathExtension": "today",
            "X-Amzn-SageMaker-Filename": "f.json",
            "X-Slipway-Idempotency-Token": "token",
        }
        status, told, body = await call(peer, b"", ASYNC, **headers)
        assert (status, json.loads(body)) == (202, {"InferenceId": "mine"})
        assert told["x-amzn-sagemaker-outputlocation"] == "s3://out/a"
        assert told["x-amzn-sagemaker-failurelocation"] == "s3://failed/a"
        assert len(told["x-amzn-requestid"]) == 36
        assert (await call(peer, b"\x00inline", ASYNC))[0] == 202
        first, second = found.requests
        assert first == AcceptRequest(
            ACCOUNT,
            REGION,
            "demo",
            "s3://in/k",
            None,
            "a/b",
            "c/d",
            "e=f",
            "mine",
            60,
            3600,
            "f.json",
            "today",
            "token",
        )
        assert second == AcceptRequest(ACCOUNT, REGION, "demo", body=b"\x00inline")


async def test_boto3(tmp_path: Path) -> None:
    async with stack(tmp_path, signed=True) as found:
        client = boto3.client(
            "sagemaker-runtime",
            REGION,
            endpoint_url=f"http://127.0.0.1:{found.served.port}",
            aws_access_key_id=KEY.id,
            aws_secret_access_key=KEY.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

        def use() -> list[Any]:
            told = client.invoke_endpoint_async(EndpointName="demo", InputLocation="s3://in/k")
            inline = client.invoke_endpoint_async(EndpointName="demo", Body=b"b" * 128_000)
            errors = []
            for operation, arguments in (
                (client.invoke_endpoint, {"EndpointName": "demo", "Body": b"x"}),
                (client.invoke_endpoint_with_response_stream, {"EndpointName": "demo", "Body": b"x"}),
                (client.invoke_endpoint_async, {"EndpointName": "live", "InputLocation": "s3://in/k"}),
                (client.invoke_endpoint_async, {"EndpointName": "none", "InputLocation": "s3://in/k"}),
                (client.invoke_endpoint_async, {"EndpointName": "demo", "Body": b"b" * 128_001}),
            ):
                with pytest.raises(botocore.exceptions.ClientError) as caught:
                    operation(**arguments)
                assert caught.value.response["Error"]["Code"] == "ValidationError"
                assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
                errors.append(caught.value.response["Error"]["Message"])
            client.close()
            return [told["ResponseMetadata"]["HTTPStatusCode"], told["OutputLocation"], inline["InferenceId"], *errors]

        assert await asyncio.to_thread(use) == [
            202,
            "s3://out/a",
            "made",
            f"Endpoint demo of account {ACCOUNT} is an asynchronous endpoint: its configuration has an AsyncInferenceConfig. "
            "Call InvokeEndpointAsync instead.",
            f"Endpoint demo of account {ACCOUNT} is an asynchronous endpoint: its configuration has an AsyncInferenceConfig. "
            "Call InvokeEndpointAsync instead.",
            f"Endpoint live of account {ACCOUNT} is not an asynchronous endpoint: its configuration has no "
            "AsyncInferenceConfig. Call InvokeEndpoint instead.",
            f"Endpoint none of account {ACCOUNT} not found.",
            "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than or "
            "equal to 128000",
        ]


@pytest.mark.parametrize(
    ("header", "value", "member", "constraint"),
    [
        ("InvocationTimeoutSeconds", "soon", "invocationTimeoutSeconds", "an integer"),
        ("RequestTTLSeconds", "1" * 30, "requestTTLSeconds", "an integer"),
        ("Inference-Id", "", "inferenceId", "greater than or equal to 1"),
        ("Accept", "\xff", "accept", "pattern"),
    ],
)
async def test_members_that_cannot_be(tmp_path: Path, header: str, value: str, member: str, constraint: str) -> None:
    async with stack(tmp_path) as found:
        answer = await call(await found.peer(), b"", ASYNC, **{**WHERE, f"X-Amzn-SageMaker-{header}": value})
        status, code, text = error_of(answer)
        assert (status, code) == (400, "ValidationError")
        assert text.startswith("1 validation error detected: ")
        assert f"'{member}'" in text
        assert constraint in text
        assert found.batches == []


async def test_what_control_refuses(tmp_path: Path) -> None:
    async def refuse(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        return tuple(AcceptAnswer(code="ServiceUnavailable", message="full", status=503) for _ in batch)

    async with stack(tmp_path) as found:
        found.accept = refuse
        answer = await call(await found.peer(), b"", ASYNC, **WHERE)
        assert error_of(answer) == (503, "ServiceUnavailable", "full")


async def test_what_comes_meanwhile_is_the_next_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.services.runtime.enqueue.ON_THEIR_WAY", 1)
    go = asyncio.Event()

    async def slow(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        await go.wait()
        return await accepted(batch)

    async with stack(tmp_path) as found:
        found.accept = slow
        peers = [await found.peer() for _ in range(20)]
        first = asyncio.create_task(call(peers[0], b"", ASYNC, **WHERE))
        await until(lambda: len(found.batches) == 1)
        others = [asyncio.create_task(call(peer, b"%d" % n, ASYNC)) for n, peer in enumerate(peers[1:])]
        await until(lambda: len(found.enqueue._waiting) == 19)
        go.set()
        assert {answer[0] for answer in await asyncio.gather(first, *others)} == {202}
        assert [len(batch) for batch in found.batches] == [1, 19]


async def test_too_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.services.runtime.enqueue.WAITING", 2)
    monkeypatch.setattr("slipway.services.runtime.enqueue.ON_THEIR_WAY", 1)
    go = asyncio.Event()

    async def slow(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        await go.wait()
        return await accepted(batch)

    async with stack(tmp_path) as found:
        found.accept = slow
        peers = [await found.peer() for _ in range(4)]
        calls = [asyncio.create_task(call(peers[0], b"", ASYNC, **WHERE))]
        await until(lambda: len(found.batches) == 1)
        calls += [asyncio.create_task(call(peer, b"", ASYNC, **WHERE)) for peer in peers[1:3]]
        await until(lambda: len(found.enqueue._waiting) == 2)
        status, code, _ = error_of(await call(peers[3], b"", ASYNC, **WHERE))
        assert (status, code) == (503, "ServiceUnavailable")
        go.set()
        assert {answer[0] for answer in await asyncio.gather(*calls)} == {202}


async def test_control_is_away_for_a_moment(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:
        await found.close()
        asking = asyncio.create_task(call(await found.peer(), b"", ASYNC, **WHERE))
        await asyncio.sleep(0.05)
        await found.open()
        assert (await asking)[0] == 202


async def test_control_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.services.runtime.enqueue.LINK_SECONDS", 0.05)
    async with stack(tmp_path) as found:
        await found.close()
        peer = await found.peer()
        status, code, text = error_of(await call(peer, b"", ASYNC, **WHERE))
        assert (status, code) == (503, "ServiceUnavailable")
        assert "does not answer" in text
        monkeypatch.undo()
        await found.open()
        assert (await call(peer, b"", ASYNC, **WHERE))[0] == 202


async def test_control_dies_after_it_has_the_batch(tmp_path: Path) -> None:
    async with stack(tmp_path) as found:

        async def die(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
            asyncio.get_running_loop().create_task(found.close())
            await asyncio.sleep(10)
            return ()

        found.accept = die
        peer = await found.peer()
        status, code, text = error_of(await call(peer, b"", ASYNC, **WHERE))
        assert (status, code) == (503, "ServiceUnavailable")
        assert "perhaps after" in text
        await until(lambda: found.server is None)
        found.accept = accepted
        await found.open()
        assert (await call(peer, b"", ASYNC, **WHERE))[0] == 202


async def test_a_client_that_is_gone(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow(batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        await go.wait()
        return await accepted(batch)

    async with stack(tmp_path) as found:
        found.accept = slow
        peer = await found.peer()
        asking = asyncio.create_task(call(peer, b"", ASYNC, **WHERE))
        await until(lambda: len(found.batches) == 1)
        asking.cancel()
        peer.writer.close()
        go.set()
        assert (await call(await found.peer(), b"", ASYNC, **WHERE))[0] == 202


async def test_an_unproven_caller_learns_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path, signed=True) as found:
        limited = Key("AKIDS3", "secret", ACCOUNT, "role-of-the-model", services=("s3",))
        found.slots.apply(replace(found.slots.table, keys={one.id: one for one in (KEY, limited)}))
        peer = await found.peer()

        async def ask(secret: str, name: str, body: bytes = b"x", key: str = KEY.id) -> tuple[int, str, str]:
            await peer.send(signed_head(ASYNC, secret, name, body, key) + body)
            return error_of(await peer.answer())

        for name in ("none", "live", "demo"):
            status, code, text = await ask("wrong", name)
            assert (status, code) == (403, "InvalidSignatureException")
            assert ACCOUNT not in text
            assert (await ask("secret", name, key="AKIDS3"))[:2] == (403, "AccessDeniedException")
        assert found.batches == []
        assert (await ask("secret", "none"))[2] == f"Endpoint none of account {ACCOUNT} not found."
