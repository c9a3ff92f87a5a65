"""What models, endpoint configurations and endpoints have in common: names and ARNs, AWS's messages, tags, listings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway.core.limits import quota_message
from slipway.names import sagemaker_arn
from slipway.services import Context
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.resources import BadToken, Exists, Query, Resource
from slipway.wire.errors import AwsError, validation_exception

MAX_TAGS = 50
PAGE = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entity: as the ARN names it, as messages do, as members do, and what a page of them is called."""

    arn: str
    words: str
    member: str
    listing: str

    def arn_of(self, ctx: Context, name: str) -> str:
        return sagemaker_arn(ctx.region, ctx.account, self.arn, name)


MODEL = Kind("model", "model", "Model", "Models")
ENDPOINT_CONFIG = Kind("endpoint-config", "endpoint configuration", "EndpointConfig", "EndpointConfigs")
ENDPOINT = Kind("endpoint", "endpoint", "Endpoint", "Endpoints")
TRANSFORM_JOB = Kind("transform-job", "transform job", "TransformJob", "TransformJobSummaries")
KINDS = (MODEL, ENDPOINT_CONFIG, ENDPOINT, TRANSFORM_JOB)


def not_found(kind: Kind, arn: str) -> AwsError:
    return validation_exception(f'Could not find {kind.words} "{arn}".')


def find(connection: Connection, ctx: Context, kind: Kind, name: str) -> Resource:
    """By name in any case. Raises AWS's "Could not find …"."""
    found = resources.get(connection, ctx.account, ctx.region, kind.arn, name)
    if found is None:
        raise not_found(kind, kind.arn_of(ctx, name))
    return found


def insert(connection: Connection, ctx: Context, kind: Kind, new: Resource, tags: Mapping[str, str], quota: int) -> None:
    """Add it with its tags. Of two that race for one name, one gets AWS's "Cannot create already existing …"."""
    if ctx.world.settings.limits.enforce_quotas:
        used = resources.count(connection, ctx.account, ctx.region, kind.arn)
        if used >= quota:
            raise AwsError("ResourceLimitExceeded", quota_message(f"Number of {kind.listing}", kind.listing, quota, used, 1))
    try:
        resources.add(connection, new)
    except Exists as error:
        raise validation_exception(f'Cannot create already existing {kind.words} "{new.arn}".') from error
    resources.set_tags(connection, new.arn, tags)


def checked_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags of a request by key. Raises ValidationException for reserved, repeated or too many keys."""
    found: dict[str, str] = {}
    for tag in tags:
        key = tag["Key"]
        if key.lower().startswith("aws:"):
            raise validation_exception(f'Tag keys that start with "aws:" are reserved for system use: "{key}".')
        if key in found:
            raise validation_exception(f'Duplicate tag keys found: "{key}". Each tag key must be unique.')
        found[key] = tag["Value"]
    if len(found) > MAX_TAGS:
        raise validation_exception(f"A resource can have at most {MAX_TAGS} tags: {len(found)} were given.")
    return found


def given(request: Mapping[str, Any], *without: str) -> dict[str, Any]:
    """The members that hold something: AWS leaves empty lists, maps and structures out of its answers."""
    return {name: value for name, value in request.items() if name not in without and value not in (None, {}, [], "")}


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def seconds(value: datetime | float | None) -> float | None:
    """A timestamp of a request, as epoch seconds."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


def query(request: Mapping[str, Any], statuses: tuple[str, ...] = ()) -> Query:
    """A List operation's members as a store query: newest first, pages of 10; only `After` includes its moment."""
    after, modified_after = seconds(request.get("CreationTimeAfter")), seconds(request.get("LastModifiedTimeAfter"))
    sorts = {"Name": "name", "CreationTime": "created", "Status": "status"}
    return Query(
        name_contains=request.get("NameContains", ""),
        created_after=None if after is None else math.nextafter(after, -math.inf),
        created_before=seconds(request.get("CreationTimeBefore")),
        modified_after=None if modified_after is None else math.nextafter(modified_after, -math.inf),
        modified_before=seconds(request.get("LastModifiedTimeBefore")),
        statuses=statuses,
        sort=sorts[request.get("SortBy", "CreationTime")],
        descending=request.get("SortOrder", "Descending") == "Descending",
        limit=request.get("MaxResults", PAGE),
        token=request.get("NextToken") or None,
    )


async def page(ctx: Context, kind: Kind, request: Mapping[str, Any], statuses: tuple[str, ...] = ()) -> dict[str, Any]:
    """The answer of a List operation. An unreadable NextToken is a ValidationException."""
    wanted = query(request, statuses)
    try:
        found = await ctx.world.db.read(lambda c: resources.find(c, ctx.account, ctx.region, kind.arn, wanted))
    except BadToken as error:
        raise validation_exception("Invalid NextToken: it does not belong to this listing.") from error
    answer: dict[str, Any] = {kind.listing: [_summary(kind, item) for item in found.items]}
    if found.token is not None:
        answer["NextToken"] = found.token
    return answer


def _summary(kind: Kind, item: Resource) -> dict[str, Any]:
    summary: dict[str, Any] = {
        f"{kind.member}Name": item.name,
        f"{kind.member}Arn": item.arn,
        "CreationTime": moment(item.created),
    }
    if kind is ENDPOINT:
        summary |= {"LastModifiedTime": moment(item.modified), "EndpointStatus": item.status}
    if kind is TRANSFORM_JOB:
        summary |= {"LastModifiedTime": moment(item.modified), "TransformJobStatus": item.status}
        if item.reason:
            summary["FailureReason"] = item.reason
        if (ended := item.observed.get("ended")) is not None:
            summary["TransformEndTime"] = moment(ended)
    return summary


def is_multi_model(model: Mapping[str, Any]) -> bool:
    """Whether one of the containers of CreateModel's request is a multi-model one."""
    containers = [model.get("PrimaryContainer") or {}, *(model.get("Containers") or ())]
    return any(container.get("Mode") == "MultiModel" for container in containers)
