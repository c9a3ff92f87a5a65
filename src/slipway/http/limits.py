"""What one client may cost: bounds on heads, connections, times and bodies held in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one server. Bytes and seconds."""

    head_bytes: int = 64 * 1024
    """Request line and headers; more is 431."""
    headers: int = 200
    target_bytes: int = 16 * 1024
    """Path and query; more is 414."""
    connections: int = 10_000
    pipelined: int = 32
    """Requests that may arrive in one read before the first of them is answered."""
    head_seconds: float = 30.0
    """From the first byte of a request to the end of its head."""
    body_seconds: float = 60.0
    """Between two pieces of a request's body."""
    idle_seconds: float = 90.0
    """A kept connection without a request."""
    write_seconds: float = 60.0
    """A peer that does not read its answer."""
    drain_bytes: int = 64 * 1024
    """A refused request whose remaining body is at most this keeps its connection."""
    buffer_bytes: int = 256 * 1024
    """Body bytes held for a handler that has not read them yet, before reading from the socket pauses."""


class Budget:
    """Bytes of bodies held in memory, over all connections of a process."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """False (and nothing taken) when the budget would be exceeded."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count
