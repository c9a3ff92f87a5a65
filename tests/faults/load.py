"""A load of real requests, and the processes that tests kill under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from tests.deadlines import PATIENCE
from tests.e2e.deployments import Deployments, until


class Load:
    """Clients that call one endpoint without pause; what each call came to."""

    def __init__(self, server: Deployments, name: str, clients: int = 4) -> None:
        self.server, self.name = server, name
        self.good = 0
        self.errors: list[Exception] = []
        self.last_good = time.monotonic()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.server.invoke(self.name, b"payload")
                self.good += 1
                self.last_good = time.monotonic()
            except (ClientError, ConnectionClosedError, EndpointConnectionError) as error:
                self.errors.append(error)

    def more(self, count: int = 20, seconds: float = PATIENCE) -> None:
        """Wait for `count` further good answers."""
        goal = self.good + count
        until(lambda: self.good >= goal, seconds, f"{count} more good answers (errors: {self.errors[-3:]})")


@contextmanager
def load(server: Deployments, name: str = "identity", clients: int = 4) -> Iterator[Load]:
    running = Load(server, name, clients)
    for thread in running.threads:
        thread.start()
    try:
        running.more()
        yield running
    finally:
        running.stopped.set()
        for thread in running.threads:
            thread.join(PATIENCE)


def role(server: Deployments, name: str) -> psutil.Process:
    """The role's process; waits for the one that takes a killed one's place."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found.extend(server.processes(f"slipway.roles.{name}"))
        return bool(found)

    until(there, what=f"a running {name}")
    return found[0]


def hosts(server: Deployments) -> list[psutil.Process]:
    return [p for p in server.processes("slipway_host") if "bwrap" not in p.name()]
