"""The endpoint operations: they write what is wanted and wake control, which makes it so (hosting.md 2.4, 2.5).

CreateEndpoint, DescribeEndpoint, ListEndpoints, UpdateEndpoint, UpdateEndpointWeightsAndCapacities, DeleteEndpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from slipway.core.deployments import Asked, Deployment, Wanted
from slipway.core.endpoints import CREATING, DELETING, FAILED, IN_SERVICE, UPDATING, Goal
from slipway.core.limits import Quotas
from slipway.services import Context
from slipway.services.sagemaker.async_topics import probe
from slipway.services.sagemaker.deployments import deployment, described
from slipway.services.sagemaker.entities import ENDPOINT, ENDPOINT_CONFIG, checked_tags, find, given, insert, page
from slipway.services.sagemaker.refusals import not_built, refuse
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.endpoints import Stored, asking, over_quota, stored
from slipway.store.resources import Resource
from slipway.store.scaling import targets_of
from slipway.wire.errors import AwsError, validation_exception

IN_TRANSITION = frozenset({CREATING, UPDATING, DELETING})
_CHANGES_KIND = (
    "One or more endpoint features are not supported using this configuration: an endpoint cannot be changed from real-time to "
    "asynchronous inference, or back. Create another endpoint."
)


async def create_endpoint(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Returns at once, with the endpoint Creating."""
    refuse("CreateEndpoint", request)
    config = _deployment_config(request)
    tags = checked_tags(request.get("Tags") or [])
    arn, now = ENDPOINT.arn_of(ctx, request["EndpointName"]), ctx.world.now()

    def write(connection: Connection) -> None:
        made = deployment(connection, ctx, request["EndpointConfigName"], 1)
        _check_quota(connection, ctx, arn, made, made.initial)
        asked, wanted = Asked(made, config), Wanted(made.initial, changed=now)
        new = Resource(
            ctx.account,
            ctx.region,
            ENDPOINT.arn,
            request["EndpointName"],
            arn,
            msgspec.to_builtins(asked),
            created=now,
            modified=now,
            status=CREATING,
            desired=msgspec.to_builtins(wanted),
        )
        insert(connection, ctx, ENDPOINT, new, tags, Quotas().endpoints)
        probe(connection, ctx, made.asynchronous)

    await ctx.world.db.write(write)
    return _woken(ctx, arn)


async def describe_endpoint(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """One in transition holds the answer until it changes, for a few seconds at most (design.md 4, "waiting")."""
    arn = ENDPOINT.arn_of(ctx, request["EndpointName"])
    hold = ctx.world.settings.describe_wait_seconds
    # Waiting begins before the first look, so that no change falls between them.
    change = asyncio.ensure_future(ctx.world.changed(ENDPOINT.arn, arn, hold))
    try:
        row = await ctx.world.db.read(lambda c: find(c, ctx, ENDPOINT, request["EndpointName"]))
        if row.status in IN_TRANSITION and hold > 0:
            await change
            row = await ctx.world.db.read(lambda c: find(c, ctx, ENDPOINT, request["EndpointName"]))
    finally:
        change.cancel()
    return described(stored(row))


async def list_endpoints(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    status = request.get("StatusEquals")
    return await page(ctx, ENDPOINT, request, (status,) if status else ())


async def update_endpoint(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """A new fleet beside the old one; the old one goes when the new one serves, or stays when it does not come up."""
    refuse("UpdateEndpoint", request)
    config = _deployment_config(request)
    excluded = {e["VariantPropertyType"] for e in request.get("ExcludeRetainedVariantProperties") or []}

    def change(connection: Connection, old: Stored) -> Resource:
        current, goals = old.target
        find(connection, ctx, ENDPOINT_CONFIG, current.config)
        number = max(old.asked.deployment.number, current.number) + 1
        made = deployment(connection, ctx, request["EndpointConfigName"], number)
        if (made.asynchronous is None) != (current.asynchronous is None):
            raise validation_exception(_CHANGES_KIND)
        _check_scaled(connection, old.row.arn, current, made)
        wanted = made.initial
        if request.get("RetainAllVariantProperties"):
            wanted = tuple(_retained(goal, goals, excluded) for goal in wanted)
        _check_quota(connection, ctx, old.row.arn, made, wanted)
        probe(connection, ctx, made.asynchronous)
        kept = old.asked.deployment_config if request.get("RetainDeploymentConfig") else None
        return asking(old, Asked(made, config or kept), wanted, ctx.world.now())

    return await _change(ctx, request["EndpointName"], change)


async def update_endpoint_weights_and_capacities(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Other weights, or other instance counts, of the same fleet. Variants that are not named keep theirs.

    Only an asynchronous endpoint may be told to have no instance (on AWS auto scaling alone does that: hosting.md 4.5).
    """
    refuse("UpdateEndpointWeightsAndCapacities", request)
    changes: dict[str, dict[str, Any]] = {}
    zero = 0
    for number, item in enumerate(request["DesiredWeightsAndCapacities"], 1):
        if item["VariantName"] in changes:
            raise validation_exception(f'The variant name "{item["VariantName"]}" was non-unique within the request.')
        if item.get("DesiredInstanceCount") == 0:
            zero = zero or number
        changes[item["VariantName"]] = item

    def change(connection: Connection, old: Stored) -> Resource:
        current, goals = old.target
        if zero and current.asynchronous is None:
            raise validation_exception(
                f"1 validation error detected: Value '0' at 'desiredWeightsAndCapacities.{zero}.member.desiredInstanceCount' "
                "failed to satisfy constraint: Member must have value greater than or equal to 1"
            )
        _check_names(changes, goals, current.config)
        wanted = tuple(_changed(goal, changes.get(goal.variant, {})) for goal in goals)
        _check_quota(connection, ctx, old.row.arn, current, wanted)
        probe(connection, ctx, current.asynchronous, required=False)
        return asking(old, replace(old.asked, deployment=current), wanted, ctx.world.now())

    return await _change(ctx, request["EndpointName"], change)


async def delete_endpoint(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Accepted in every state (kinder than AWS: design.md 1, statement 5); the name is free within seconds."""

    def write(connection: Connection) -> str:
        old = stored(find(connection, ctx, ENDPOINT, request["EndpointName"]))
        if old.row.status == DELETING:
            return old.row.arn
        now = ctx.world.now()
        wanted = msgspec.to_builtins(replace(old.wanted, deleting_since=now))
        generation = old.row.generation + 1
        new = replace(old.row, status=DELETING, desired=wanted, generation=generation, modified=now)
        resources.save(connection, old.row, new)
        return old.row.arn

    _woken(ctx, await ctx.world.db.write(write))
    return {}


def _woken(ctx: Context, arn: str) -> dict[str, Any]:
    ctx.world.wake(ENDPOINT.arn, arn)
    return {"EndpointArn": arn}


async def _change(ctx: Context, name: str, change: Callable[[Connection, Stored], Resource]) -> dict[str, Any]:
    """One transaction that reads the endpoint, checks that it may be changed, and writes what is wanted."""

    def write(connection: Connection) -> str:
        row = find(connection, ctx, ENDPOINT, name)
        if row.status == FAILED:
            raise validation_exception(f'Cannot update endpoint "{row.arn}" because it is in Failed status. Please delete it.')
        if row.status != IN_SERVICE:
            raise validation_exception(f'Cannot update in-progress endpoint "{row.arn}".')
        resources.save(connection, row, change(connection, stored(row)))
        return row.arn

    return _woken(ctx, await ctx.world.db.write(write))


def _deployment_config(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The DeploymentConfig, which asks for all at once without baking: everything else is refused."""
    config: dict[str, Any] | None = request.get("DeploymentConfig")
    policy = (config or {}).get("BlueGreenUpdatePolicy") or {}
    if policy.get("TerminationWaitInSeconds"):
        at = "DeploymentConfig.BlueGreenUpdatePolicy.TerminationWaitInSeconds"
        raise validation_exception(not_built(at, "Baking a new fleet"))
    return given(config) if config else None


def _retained(goal: Goal, current: tuple[Goal, ...], excluded: set[str]) -> Goal:
    """With RetainAllVariantProperties: the counts and weights of now, for variants of the same name (hosting.md 2.7)."""
    now = next((g for g in current if g.variant == goal.variant), goal)
    weight = goal.weight if "DesiredWeight" in excluded else now.weight
    count = goal.count if "DesiredInstanceCount" in excluded else now.count
    return Goal(goal.variant, weight, count)


def _changed(goal: Goal, item: Mapping[str, Any]) -> Goal:
    weight, count = item.get("DesiredWeight"), item.get("DesiredInstanceCount")
    return Goal(
        goal.variant,
        goal.weight if weight is None else float(weight),
        goal.count if count is None else count,
    )


def _check_names(names: Iterable[str], goals: tuple[Goal, ...], config: str) -> None:
    known = {goal.variant for goal in goals}
    if missing := [name for name in names if name not in known]:
        listed = ", ".join(f'"{name}"' for name in missing)
        raise validation_exception(f'The variant name(s) {listed} is/are not present within endpoint configuration "{config}".')


def _check_scaled(connection: Connection, arn: str, current: Deployment, made: Deployment) -> None:
    """A variant that is scaled automatically may change its model, and neither go nor change its instance type (2.7)."""
    types = {variant.name: variant.instance_type for variant in made.variants}
    scaled = {target.variant for target in targets_of(connection, arn)}
    if lost := [v.name for v in current.variants if v.name in scaled and types.get(v.name) != v.instance_type]:
        listed = ", ".join(f'"{name}"' for name in lost)
        raise validation_exception(
            f"The variant(s) {listed} must be deregistered as scalable targets with AWS Application Auto Scaling before they "
            "can be removed or have their instance type updated."
        )


def _check_quota(connection: Connection, ctx: Context, arn: str, made: Deployment, goals: tuple[Goal, ...]) -> None:
    """Instances of all other endpoints of the account and region, and these."""
    if not ctx.world.settings.limits.enforce_quotas:
        return
    if message := over_quota(connection, ctx.account, ctx.region, arn, made, goals):
        raise AwsError("ResourceLimitExceeded", message)
