"""Pins of a node: they outlive the keeper, and go with their endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path

from slipway.replicas.pins import Pins

ONE, TWO = "arn:aws:sagemaker:us-east-1:1:endpoint/one", "arn:aws:sagemaker:us-east-1:1:endpoint/one-more"


async def test_they_are_kept_and_go_with_their_endpoint(tmp_path: Path) -> None:
    path = str(tmp_path / "models" / "pins.json")
    pins = Pins(path)
    for owner, target in ((ONE, "a"), (ONE, "b/c"), (TWO, "a")):
        assert await pins.set(owner, "v", target, True)
    assert not await pins.set(ONE, "v", "a", True)
    assert not await pins.set(ONE, "v", "never", False)
    await pins.set(ONE, "w", "a", True)
    assert Pins(path).of(ONE, "v") == ("a", "b/c")
    await pins.drop(ONE)
    for each in (pins, Pins(path)):
        assert (each.of(ONE, "v"), each.of(ONE, "w"), each.of(TWO, "v")) == ((), (), ("a",))


async def test_what_a_keeper_that_was_away_did_not_hear(tmp_path: Path) -> None:
    path = str(tmp_path / "pins.json")
    pins = Pins(path)
    await pins.set(ONE, "v", "a", True)
    await pins.set(TWO, "v", "a", True)
    await pins.keep(frozenset((TWO, "arn:of:another/endpoint")))
    assert (Pins(path).of(ONE, "v"), Pins(path).of(TWO, "v")) == ((), ("a",))


async def test_a_file_that_is_none_is_no_pins(tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text("[")
    assert Pins(str(tmp_path / "pins.json")).of(ONE, "v") == ()
    assert Pins(None).of(ONE, "v") == ()


async def test_what_is_said_last_holds_at_once_and_in_the_file(tmp_path: Path) -> None:
    """Many at a time, written one after the other."""
    path = str(tmp_path / "pins.json")
    pins = Pins(path)
    said = [asyncio.create_task(pins.set(ONE, "v", "a", number % 2 == 0)) for number in range(9)]
    await asyncio.sleep(0)
    assert pins.of(ONE, "v") == ("a",)
    assert all(await asyncio.gather(*said))
    assert Pins(path).of(ONE, "v") == ("a",)


async def test_a_disk_that_takes_nothing_costs_only_what_comes_after(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pins = Pins(str(tmp_path / "file" / "pins.json"))
    assert await pins.set(ONE, "v", "a", True)
    assert pins.of(ONE, "v") == ("a",)
