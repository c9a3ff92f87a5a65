"""An endpoint's instance counts, read and changed from inside control: what the autoscaler does instead of calling the API.

The rules are UpdateEndpointWeightsAndCapacities' (hosting.md 2.4): only while InService, within the account's quotas; the
endpoint is Updating until the new counts are reached, and InService again with the old ones, and a reason, if they cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slipway.core.endpoints import IN_SERVICE, Goal
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.endpoints import asking, over_quota, stored


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an endpoint has and is to have. Counts by variant."""

    status: str
    generation: int
    """Counts the changes: a `set_counts` that changed something made it one more."""
    current: Mapping[str, int]
    """DescribeEndpoint's CurrentInstanceCount: reached when it was last InService."""
    desired: Mapping[str, int]
    """DesiredInstanceCount."""
    asynchronous: bool
    failure: str = ""
    """Why the last change was given up, the endpoint being InService on what it had before; else empty."""


def capacity(connection: Connection, arn: str) -> Capacity | None:
    """None: there is no such endpoint."""
    row = resources.get_by_arn(connection, arn)
    if row is None:
        return None
    endpoint = stored(row)
    made, goals = endpoint.target
    abandoned = row.status == IN_SERVICE and endpoint.reached.abandoned == row.generation
    return Capacity(
        row.status,
        row.generation,
        {goal.variant: goal.count for goal in endpoint.reached.goals},
        {goal.variant: goal.count for goal in goals},
        made.asynchronous is not None,
        row.reason if abandoned else "",
    )


def set_counts(
    connection: Connection, arn: str, counts: Mapping[str, int], now: float, *, enforce_quotas: bool = True
) -> str | None:
    """Have so many instances of these variants, the others as they are. None: it is wanted now, wake `endpoint` after commit.

    Else why not, in AWS's words with code (hosting.md 2.9, 6.7), and nothing has changed. Counts that are wanted already
    change nothing. No TestNotification is published: nobody called.
    """
    row = resources.get_by_arn(connection, arn)
    if row is None:
        return _refused("ValidationException", f'Could not find endpoint "{arn}".')
    endpoint = stored(row)
    made, goals = endpoint.target
    wanted = tuple(replace(goal, count=counts.get(goal.variant, goal.count)) for goal in goals)
    if message := _wrong(counts, goals, made.config, made.asynchronous is not None):
        return _refused("ValidationException", message)
    if row.status != IN_SERVICE:
        return _refused("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
    if wanted == goals:
        return None
    more = enforce_quotas and sum(goal.count for goal in wanted) > sum(goal.count for goal in goals)
    if more and (message := over_quota(connection, row.account, row.region, arn, made, wanted)):
        return _refused("ResourceLimitExceeded", message)
    resources.save(connection, row, asking(endpoint, replace(endpoint.asked, deployment=made), wanted, now))
    return None


def _wrong(counts: Mapping[str, int], goals: tuple[Goal, ...], config: str, asynchronous: bool) -> str | None:
    known = {goal.variant for goal in goals}
    if missing := [name for name in counts if name not in known]:
        listed = ", ".join(f'"{name}"' for name in missing)
        return f'The variant name(s) {listed} is/are not present within endpoint configuration "{config}".'
    lowest = 0 if asynchronous else 1
    for count in counts.values():
        if count < lowest:
            return f"A variant of this endpoint cannot have {count} instances: {lowest} is the least it may have."
    return None


def _refused(code: str, message: str) -> str:
    return f"{message} (Service: AmazonSageMaker; Status Code: 400; Error Code: {code})"
