"""Which replica shall have a model: rendezvous hashing with bounded load.

Every gateway orders the replicas alike for one model, and when a replica comes or goes only its own models move. A replica that
already has far more than its share of the work in hand is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

BOUND = 1.25
"""Times the mean load, beyond which a replica gets no further model."""


def ranking(target: str, replicas: Iterable[str]) -> list[str]:
    """All replicas, best first."""
    return sorted(replicas, key=lambda id: hashlib.blake2b(f"{id}\0{target}".encode("utf-8", "surrogatepass")).digest())


def choose(target: str, load: Mapping[str, int]) -> str | None:
    """The first in the model's order whose load (requests in hand, by replica) is within the bound; None without replicas."""
    if not load:
        return None
    bound = BOUND * (sum(load.values()) + 1) / len(load)
    order = ranking(target, load)
    return next((id for id in order if load[id] + 1 <= max(bound, 1.0)), order[0])
