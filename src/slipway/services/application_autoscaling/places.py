"""What the operations have in common: which target is meant, AWS's words for one that is not there, pages.

slipway scales one dimension, the instance count of an endpoint's variant. Everything else is refused with AWS's own
"Unsupported service namespace, resource type or scalable dimension", the dimensions of SageMaker that are not built by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from slipway.core.endpoints import DELETING
from slipway.names import sagemaker_arn
from slipway.services import Context
from slipway.store import resources, scaling
from slipway.store.db import Connection
from slipway.store.resources import BadToken
from slipway.store.scaling import Place, Target
from slipway.wire.errors import AwsError, validation_exception

T = TypeVar("T")

NAMESPACE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
UNSUPPORTED = "Unsupported service namespace, resource type or scalable dimension"
NOT_BUILT = {
    "sagemaker:variant:DesiredProvisionedConcurrency": "provisioned concurrency comes with serverless endpoints",
    "sagemaker:inference-component:DesiredCopyCount": "copy counts come with inference components",
}
_RESOURCE = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")

TARGETS, POLICIES, ACTIONS = 500, 50, 200
"""Quotas: scalable targets of a region, policies and scheduled actions of a target (hosting.md 6.1)."""


def place_of(ctx: Context, request: Mapping[str, Any]) -> Place:
    """The place that a request names. Raises ValidationException for what slipway, or AWS, does not scale."""
    dimension = request["ScalableDimension"]
    if request["ServiceNamespace"] == NAMESPACE and dimension in NOT_BUILT:
        raise validation_exception(f"{UNSUPPORTED}: slipway does not scale {dimension} yet ({NOT_BUILT[dimension]})")
    if request["ServiceNamespace"] != NAMESPACE or dimension != DIMENSION or not _RESOURCE.fullmatch(request["ResourceId"]):
        raise validation_exception(UNSUPPORTED)
    return Place(ctx.account, ctx.region, request["ResourceId"], dimension)


def names_of(place: Place) -> tuple[str, str]:
    """Endpoint and variant."""
    match = _RESOURCE.fullmatch(place.resource_id)
    if match is None:
        raise validation_exception(UNSUPPORTED)
    return match[1], match[2]


def endpoint_arn(place: Place) -> str:
    return sagemaker_arn(place.region, place.account, "endpoint", names_of(place)[0])


def live_target(connection: Connection, place: Place) -> Target | None:
    """The target, unless its endpoint is gone or going: then it is as good as deregistered."""
    found = scaling.target(connection, place)
    if found is None:
        return None
    row = resources.get_by_arn(connection, found.endpoint)
    return found if row is not None and row.status != DELETING and row.created == found.incarnation else None


def registered(connection: Connection, place: Place, word: str = "registered") -> Target:
    """Raises ObjectNotFoundException. `word`: AWS says `registered` where something is put, `found` where it is removed."""
    found = live_target(connection, place)
    if found is None:
        raise AwsError("ObjectNotFoundException", f"No scalable target {word} for {where(place)}")
    return found


def where(place: Place) -> str:
    return f"service namespace: {NAMESPACE}, resource ID: {place.resource_id}, scalable dimension: {place.dimension}"


def shown(place: Place) -> dict[str, str]:
    return {"ServiceNamespace": NAMESPACE, "ResourceId": place.resource_id, "ScalableDimension": place.dimension}


def limited(ctx: Context, count: int, most: int, what: str) -> None:
    """LimitExceededException where one more would be too many."""
    if ctx.world.settings.limits.enforce_quotas and count >= most:
        raise AwsError("LimitExceededException", f"The limit of {most} {what} has been reached.")


def page_size(request: Mapping[str, Any], most: int) -> int:
    wanted: int = request.get("MaxResults", most)
    if not 1 <= wanted <= most:
        bound = f"less than or equal to {most}" if wanted > most else "greater than or equal to 1"
        raise validation_exception(
            f"1 validation error detected: Value '{wanted}' at 'maxResults' failed to satisfy constraint: "
            f"Member must have value {bound}"
        )
    return wanted


def needs_resource(request: Mapping[str, Any], member: str) -> None:
    """AWS: "If you specify a scalable dimension, you must also specify a resource ID"."""
    if request.get("ScalableDimension") and not request.get(member):
        raise validation_exception("If a scalable dimension is specified, a resource ID must be specified as well.")


async def paged(ctx: Context, fn: Callable[[Connection], tuple[list[T], str | None]]) -> tuple[list[T], dict[str, str]]:
    """What `fn` reads, and NextToken where there is more. Raises InvalidNextTokenException."""
    try:
        rows, token = await ctx.world.db.read(fn)
    except BadToken:
        raise AwsError("InvalidNextTokenException", "The next token supplied was invalid.") from None
    return rows, {} if token is None else {"NextToken": token}


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
