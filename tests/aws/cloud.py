"""Control in this process behind a real HTTP server: what boto3 talks to in tests/aws."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from slipway.backing.logs import Logs
from slipway.backing.metrics import Metrics
from slipway.backing.notices_signing import Signer
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.core.routing import Key
from slipway.http.messages import Handler
from slipway.http.server import Server
from slipway.services import World
from slipway.services.authenticate import Keys
from slipway.services.dispatch import Dispatcher
from slipway.services.served import MODULES, SERVICES
from slipway.settings import Settings
from slipway.store import keys
from slipway.store.db import Db
from slipway.wire.models import ServiceModels
from slipway.wire.route import Router
from tests.deadlines import PATIENCE

T = TypeVar("T")


class ServerThread:
    """Control's parts and an HTTP server on a port of its own, in an event loop of its own thread."""

    def __init__(self, folder: Path, auth: str = "sigv4") -> None:
        self.settings = Settings(data_dir=str(folder), run_dir=str(folder / "run"), cache_dir=str(folder / "cache"), auth=auth)
        self.wakes: list[tuple[str, str]] = []
        self.skew = 0.0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="control", daemon=True)
        self._thread.start()
        self.url = self.run(self._start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in control's loop, from the test's thread."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(PATIENCE)

    def now(self) -> float:
        """Real time and the test's `skew`."""
        return time.time() + self.skew

    async def _start(self) -> str:
        settings = self.settings
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        seal = Signer(settings.data_dir, f"http://127.0.0.1:{port}")
        self.db = await Db.open(f"{settings.data_dir}/slipway.db")
        self.objects = EmbeddedObjects(self.db, f"{settings.data_dir}/objects", now=self.now)
        self.objects.start()
        self.keys = Keys(self.db, self.now)
        self.metrics = Metrics(self.db, self.now)
        self.metrics.start()
        self.world = World(
            settings=settings,
            db=self.db,
            objects=self.objects,
            logs=Logs(settings.logs_dir, now=self.now),
            metrics=self.metrics,
            now=self.now,
            wake=lambda kind, arn: self.wakes.append((kind, arn)),
            changed=self._changed,
            keys_changed=self._keys_changed,
            seal=seal,
        )
        self.router = Router(ServiceModels(SERVICES))
        self.dispatcher = Dispatcher(self.world, self.router, MODULES, self.keys)
        self.server = Server(self._handler())
        await self.server.start(sock=sock)
        return f"http://127.0.0.1:{port}"

    def _handler(self) -> Handler:
        return self.dispatcher

    async def _keys_changed(self) -> None:
        self.keys.forget()

    async def _changed(self, kind: str, arn: str, seconds: float) -> None:
        """Nothing reconciles here: a Describe answers with what is."""

    async def _stop(self) -> None:
        await self.server.stop(1.0)
        await self.metrics.stop()
        await self.objects.close()
        await self.db.close()

    def close(self) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Cloud:
    """One account of its own on a shared control, and boto3 clients for it."""

    def __init__(self, server: ServerThread, session: boto3.Session, key: Key, region: str = "eu-central-1") -> None:
        self.server = server
        self.world = server.world
        self.url = server.url
        self.session = session
        self.key = key
        self.account = key.account
        self.region = region
        self._clients: list[Any] = []

    def client(self, service: str, *, key: Key | None = None, region: str | None = None, **config: Any) -> Any:
        """A client without retries; `key` another caller's, `config` goes into botocore's Config."""
        key = key or self.key
        made = self.session.client(
            service,
            region_name=region or self.region,
            endpoint_url=self.url,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            aws_session_token=key.token,
            config=Config(**{"retries": {"max_attempts": 1, "mode": "standard"}, "proxies": {}, **config}),
        )
        self._clients.append(made)
        return made

    @property
    def wakes(self) -> list[tuple[str, str]]:
        """What was asked for on behalf of this account: kind and ARN."""
        return [(kind, arn) for kind, arn in self.server.wakes if f":{self.account}:" in arn]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.server.run(work)

    def other_account(self) -> Key:
        """A key of yet another account."""
        return new_key(self.server)

    @contextmanager
    def time_passed(self, seconds: float) -> Iterator[None]:
        """Control's clock is ahead by so much."""
        self.server.skew += seconds
        try:
            yield
        finally:
            self.server.skew -= seconds

    def close(self) -> None:
        for client in self._clients:
            client.close()


_accounts = itertools.count(100_000_000_001)


def new_key(
    server: ServerThread, account: str | None = None, services: tuple[str, ...] = (), seconds: float | None = None
) -> Key:
    """A stored key; of an account that no test has used yet unless one is given. With `seconds`: expiring, with a token."""
    account = account or str(next(_accounts))
    principal = f"arn:aws:iam::{account}:root"
    minted = keys.mint(account, principal)
    if seconds is not None:
        minted = keys.mint_session(account, principal, server.now() + seconds)
    key = replace(minted, services=services)

    async def store() -> None:
        await server.db.write(lambda c: keys.add(c, key, server.now()))

    server.run(store())
    return key


__all__ = ["MODULES", "SERVICES", "Cloud", "ServerThread", "new_key"]
