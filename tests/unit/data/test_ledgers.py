"""A dispatcher's leases: told by heartbeats, lost when control says so, unless their end is on its way there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from slipway.core.transforms import ObjectOutcome, Point
from slipway.data import transforms_ledger
from slipway.data.transforms_ledger import TransformLedger
from slipway.link import transforms
from slipway.link.channel import Channel, LinkClosed
from slipway.link.transforms import Heartbeat, Held
from tests.unit.http.serving import until


class Control:
    """A link, and who answers at its other end; `away` while there is none."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[tuple[str, Any]] = []
        self.lost: tuple[int, ...] = ()
        self.settle = asyncio.Event()

    @property
    def channel(self) -> Channel | None:
        return None if self.away else cast("Channel", self)

    async def ready(self, timeout: float | None = None) -> Channel:
        return cast("Channel", self)

    async def request(self, kind: str, payload: Any, type: Any = Any, *, timeout: float) -> Any:
        self.asked.append((kind, payload))
        if kind == transforms.HEARTBEAT:
            return self.lost
        if kind == transforms.SETTLE:
            await self.settle.wait()
            return (True,) * len(payload)
        if kind == transforms.POINT:
            raise LinkClosed("cut")
        return ()


def held(*ids: int) -> list[Held]:
    return [Held(id, 1, "job", 5, 50) for id in ids]


async def test_heartbeats_say_what_is_held_and_lost_leases_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms_ledger, "BEAT_SECONDS", 0.005)
    control, working = Control(), held()
    lost: list[int] = []

    def on_lost(ids: Sequence[int]) -> None:
        lost.extend(ids)
        control.lost = ()

    ledger = TransformLedger("1.a", lambda: working, on_lost)
    ledger.start(control)
    await asyncio.sleep(0.03)
    assert control.asked == [], "nothing is held"
    working += held(1, 2, 3)
    settling = asyncio.create_task(ledger.settle(ObjectOutcome(2, 1, "done")))
    await until(lambda: any(kind == transforms.SETTLE for kind, _ in control.asked))
    control.lost = (1, 2, 9)
    await until(lambda: bool(lost))
    assert lost == [1], "2 may have ended by its settlement, 9 is not held"
    beats = [payload for kind, payload in control.asked if kind == transforms.HEARTBEAT]
    assert beats[-1] == Heartbeat("1.a", tuple(working))
    control.settle.set()
    assert (await settling).good
    control.lost = (2,)
    await until(lambda: lost == [1, 2])
    await ledger.close()


async def test_a_new_control_hears_who_this_is() -> None:
    """Also of one that holds nothing."""
    control = Control()
    ledger = TransformLedger("1.a", list, lambda ids: None)
    ledger.start(control)
    await ledger.connected(cast("Channel", control))
    assert control.asked == [(transforms.HEARTBEAT, Heartbeat("1.a", ()))]
    await ledger.close()


async def test_questions_fail_at_once_while_control_is_away() -> None:
    control = Control()
    ledger = TransformLedger("1.a", list, lambda ids: None)
    assert ledger.channel is None, "not started"
    ledger.start(control)
    control.away = True
    with pytest.raises(LinkClosed):
        await ledger.claim("job", 1)
    point = Point("etag", 1, 1, (), (), 0, "")
    assert await ledger.point(1, 1, point) is None, "nobody can say"
    control.away = False
    assert await ledger.claim("job", 1) == ()
    assert await ledger.point(1, 1, point) is None, "it may have been committed"
    await ledger.close()
