"""Which models make room for another: strict least-recently-used order, and nothing that is in use or pinned.

Pure decisions; `replicas.residency` carries them out. Times are the caller's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model."""

    hash: str
    bytes: int
    used: float
    """When it was last used, or loaded."""
    busy: bool = False
    pinned: bool = False
    replaced: bool = False
    """A newer version of it is loaded: nobody will ask for this one again."""


def order(residents: Iterable[Resident]) -> list[Resident]:
    """Those that may go, the first to go first: replaced versions, then by last use; ties by name."""
    free = [each for each in residents if not each.busy and (each.replaced or not each.pinned)]
    return sorted(free, key=lambda each: (not each.replaced, each.used, each.hash))


def victims(residents: Sequence[Resident], need: int, budget: int, reserved: int = 0) -> list[Resident]:
    """What has to go so that `need` bytes more fit, beside `reserved` ones of models that are being loaded.

    All that may go, when even that is not enough. A budget of 0 bounds nothing.
    """
    if budget <= 0:
        return []
    total = sum(each.bytes for each in residents) + reserved + need
    chosen = []
    for each in order(residents):
        if total <= budget:
            break
        chosen.append(each)
        total -= each.bytes
    return chosen


def next_victim(residents: Sequence[Resident]) -> Resident | None:
    """The one to go when a container says that its memory is full (507)."""
    return next(iter(order(residents)), None)
