"""Pins of a node: they outlive the keeper, and go with their endpoint."""

from __future__ import annotations

from pathlib import Path

from slipway.replicas.pins import Pins

ONE, TWO = "arn:aws:sagemaker:us-east-1:1:endpoint/one", "arn:aws:sagemaker:us-east-1:1:endpoint/one-more"


async def test_they_are_kept_and_go_with_their_endpoint(tmp_path: Path) -> None:
    path = str(tmp_path / "models" / "pins.json")
    pins = Pins(path)
    for owner, target in ((ONE, "a"), (ONE, "b/c"), (TWO, "a")):
        await pins.set(owner, "v", target, True)
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
