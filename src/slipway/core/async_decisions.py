"""Decisions on asynchronous requests: whether one has waited too long, and what follows when its worker died under it.

Time and chance are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_SECONDS = 60.0
"""The longest wait before another attempt."""
JITTER = 0.1
"""Share of a wait that chance adds, so that what died together does not come back together."""


@dataclass(frozen=True, slots=True)
class Retry:
    ready_at: float
    """Epoch seconds from which the request may be claimed again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It becomes a dead letter."""


def is_expired(expires: float, now: float) -> bool:
    """A request whose time to live has passed while it waited is never sent to a container (hosting.md 4.3)."""
    return now >= expires


def backoff_seconds(attempts: int, roll: float = 0.0) -> float:
    """1, 2, 4 … s after the first, second, third attempt; `roll` (0 ≤ roll < 1) adds up to a tenth."""
    return min(2.0 ** min(max(attempts, 1) - 1, 30), BACKOFF_SECONDS) * (1.0 + JITTER * roll)


def after_loss(attempts: int, limit: int, now: float, roll: float = 0.0) -> Retry | GiveUp:
    """What follows when the worker, or the dispatcher, died during attempt number `attempts`."""
    if attempts >= limit:
        return GiveUp()
    return Retry(now + backoff_seconds(attempts, roll))
