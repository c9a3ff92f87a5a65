"""The keeper's end of its link: what is reported, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.link import channel
from slipway.link.keeper import KeeperServer
from tests.unit.http.serving import until


class Keeping:
    def __init__(self) -> None:
        self.callbacks: list[Callable[[ReplicaState], None]] = []

    async def start(self, spec: ReplicaSpec) -> None:
        """Nothing is started here."""

    async def stop(self, id: str, grace: float) -> None:
        """Nothing runs."""

    def list(self) -> list[ReplicaState]:
        return []

    async def usage(self) -> tuple[Usage, ...]:
        return ()

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


async def test_changes_are_reported_in_order_and_a_hung_peer_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.link.keeper.MAX_WAITING", 3)
    keeping = Keeping()
    server = KeeperServer(str(tmp_path / "k.sock"), keeping)
    await server.start()
    heard: list[str] = []

    def setup(one: channel.Channel) -> None:
        one.on("replica", lambda state: heard.append(state.id), ReplicaState)

    peer = await channel.connect(str(tmp_path / "k.sock"), setup)
    await until(lambda: len(keeping.callbacks) == 1)
    for name in ("a", "b", "c"):
        keeping.callbacks[0](ReplicaState(name, "owner", "ready"))
    await until(lambda: heard == ["a", "b", "c"])
    (callback,) = keeping.callbacks
    for name in ("d", "e", "f", "g"):  # nobody takes them while this loop does not turn, as when control hangs
        callback(ReplicaState(name, "owner", "ready"))
    await until(lambda: peer.closed and not keeping.callbacks)
    await server.close()
