"""Ports for a container among several: the one it is to listen on, and a range for inner servers (containers.md 1.2, 1.9).

Ours take neither, but the models inside may. Containers that share the machine's network get different ports, while no more
of them run than there are ranges; where a container has a network of its own they cannot meet anyway.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
SAFE_PORT_RANGE = "SAGEMAKER_SAFE_PORT_RANGE"
FIRST, END, WIDTH = 10_000, 32_000, 500
"""Below what Linux gives to outgoing connections."""


@dataclass(frozen=True, slots=True)
class Ports:
    bind: int
    low: int
    high: int

    def variables(self) -> dict[str, str]:
        return {BIND_TO_PORT: str(self.bind), SAFE_PORT_RANGE: f"{self.low}-{self.high}"}


@dataclass(slots=True)
class PortRanges:
    """Hands out ranges in turn; one whose first port is taken by somebody is passed over."""

    _next: int = field(default=0)

    def take(self) -> Ports:
        """The first port to listen on, the others for what is inside."""
        slots = (END - FIRST) // WIDTH
        start = FIRST
        for _ in range(slots):
            start = FIRST + self._next % slots * WIDTH
            self._next += 1
            if _free(start):
                break
        return Ports(start, start + 1, start + WIDTH - 1)


def _free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("", port))
        except OSError:
            return False
        return True
