"""Ports of containers that stand beside one another: distinct, outside what the system hands out, passed over when taken."""

from __future__ import annotations

import socket

import pytest

from slipway.replicas import ports
from slipway.replicas.ports import PortRanges


def test_ranges_do_not_meet() -> None:
    ranges = PortRanges()
    found = [ranges.take() for _ in range(15)]
    taken: set[int] = set()
    for each in found:
        mine = {each.bind, *range(each.low, each.high + 1)}
        assert not mine & taken
        assert min(mine) >= ports.FIRST
        assert max(mine) < ports.END
        taken |= mine
    first = found[0]
    assert first.variables() == {
        "SAGEMAKER_BIND_TO_PORT": str(first.bind),
        "SAGEMAKER_SAFE_PORT_RANGE": f"{first.low}-{first.high}",
    }


def test_a_port_that_somebody_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("", 0))
        taken = sock.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", taken)
        monkeypatch.setattr(ports, "END", taken + 3 * ports.WIDTH)
        ranges = PortRanges()
        assert ranges.take().bind == taken + ports.WIDTH
