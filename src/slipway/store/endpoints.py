"""Endpoints as rows: their documents decoded, what they use of an account's quotas, and a change of what is wanted.

Shared by the services, which write what callers ask for, and by control, which scales. All functions run inside `Db.read` or
`Db.write`, or touch no database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection

from slipway.core.deployments import Asked, Deployment, Reached, Wanted, target
from slipway.core.endpoints import DELETING, FAILED, UPDATING, Goal
from slipway.core.limits import Quotas, instances_over_quota
from slipway.store import resources
from slipway.store.resources import Resource

KIND = "endpoint"


@dataclass(frozen=True, slots=True)
class Stored:
    """An endpoint's row with its documents decoded."""

    row: Resource
    asked: Asked
    wanted: Wanted
    reached: Reached

    @property
    def target(self) -> tuple[Deployment, tuple[Goal, ...]]:
        return target(self.asked, self.wanted, self.reached, self.row.generation)


def stored(row: Resource) -> Stored:
    asked, wanted = msgspec.convert(row.spec, Asked), msgspec.convert(row.desired, Wanted)
    return Stored(row, asked, wanted, msgspec.convert(row.observed, Reached))


def asking(old: Stored, asked: Asked, goals: tuple[Goal, ...], now: float) -> Resource:
    """The row with another deployment or other goals: Updating, of the next generation."""
    return replace(
        old.row,
        spec=msgspec.to_builtins(asked),
        desired=msgspec.to_builtins(Wanted(goals, changed=now)),
        status=UPDATING,
        reason="",
        generation=old.row.generation + 1,
        modified=now,
    )


def over_quota(
    connection: Connection, account: str, region: str, arn: str, made: Deployment, goals: tuple[Goal, ...]
) -> str | None:
    """AWS's message if the account's other endpoints and these goals of `arn` are more instances than it may have."""
    used: dict[str, int] = {}
    for row in resources.every(connection, KIND):
        if row.arn != arn and (row.account, row.region) == (account, region) and row.status not in (FAILED, DELETING):
            _count(used, *stored(row).target)
    wanted: dict[str, int] = {}
    _count(wanted, made, goals)
    return instances_over_quota(Quotas(), used, wanted)


def _count(counts: dict[str, int], made: Deployment, goals: tuple[Goal, ...]) -> None:
    for goal in goals:
        kind = made.variant(goal.variant).instance_type
        counts[kind] = counts.get(kind, 0) + goal.count
