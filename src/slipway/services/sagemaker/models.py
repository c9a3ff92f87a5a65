"""CreateModel, DescribeModel, ListModels, DeleteModel: an image, model data and environment under a name (hosting.md 2.2)."""

from __future__ import annotations

import re
from typing import Any

from slipway.core.limits import Quotas
from slipway.names import parse_s3_uri
from slipway.services import Context
from slipway.services.sagemaker.containers import checked_containers, containers_of
from slipway.services.sagemaker.entities import MODEL, checked_tags, find, given, insert, moment, not_found, page
from slipway.services.sagemaker.refusals import refuse
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.resources import Resource
from slipway.wire.errors import validation_exception

ENVIRONMENT_BYTES = 32 * 1024
"""Of all containers of one model together."""

_IMAGE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:\d+)?(/[A-Za-z0-9][A-Za-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


async def create_model(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Starts nothing. Any well-formed image is accepted; model data must be there."""
    refuse("CreateModel", request)
    tags = checked_tags(request.get("Tags") or [])
    for container in checked_containers(request):
        await _check_container(ctx, container)
    _check_environment(request)
    arn = MODEL.arn_of(ctx, request["ModelName"])
    now = ctx.world.now()
    spec = given(request, "Tags", "ModelName")
    new = Resource(ctx.account, ctx.region, MODEL.arn, request["ModelName"], arn, spec, created=now, modified=now)
    await ctx.world.db.write(lambda c: insert(c, ctx, MODEL, new, tags, Quotas().models))
    return {"ModelArn": arn}


async def describe_model(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """What was given, with `Mode` and `EnableNetworkIsolation` filled in."""
    found = await ctx.world.db.read(lambda c: find(c, ctx, MODEL, request["ModelName"]))
    answer: dict[str, Any] = {"ModelName": found.name, "EnableNetworkIsolation": False, **found.spec}
    if primary := found.spec.get("PrimaryContainer"):
        answer["PrimaryContainer"] = {"Mode": "SingleModel", **given(primary)}
    if containers := found.spec.get("Containers"):
        answer["Containers"] = [{"Mode": "SingleModel", **given(container)} for container in containers]
    return {**answer, "CreationTime": moment(found.created), "ModelArn": found.arn}


async def list_models(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    return await page(ctx, MODEL, request)


async def delete_model(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Removes the entity only; endpoints that use it go on."""

    def write(connection: Connection) -> None:
        arn = MODEL.arn_of(ctx, request["ModelName"])
        if not resources.remove(connection, arn):
            raise not_found(MODEL, arn)

    await ctx.world.db.write(write)
    return {}


async def _check_container(ctx: Context, container: dict[str, Any]) -> None:
    image = container.get("Image")
    if not image:
        raise validation_exception("The container has no Image. Please specify the image that serves the model.")
    if not _IMAGE.fullmatch(image):
        raise validation_exception(f'ECR image "{image}" is invalid.')
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
    if container.get("Mode") == "MultiModel":
        _check_multi_model(container)
        return
    if container.get("MultiModelConfig"):
        raise validation_exception("MultiModelConfig can only be specified for a container whose Mode is MultiModel.")
    if url and source:
        raise validation_exception("Both ModelDataUrl and ModelDataSource are specified. Please specify only one of them.")
    if source and "S3DataSource" not in source:
        raise validation_exception("ModelDataSource has no S3DataSource.")
    if source:
        url = source["S3DataSource"]["S3Uri"]
    if url:
        await _check_model_data(ctx, url)


def _check_multi_model(container: dict[str, Any]) -> None:
    """Models come and go: the prefix need not hold one yet (containers.md 5.1)."""
    url = container.get("ModelDataUrl")
    if container.get("ModelDataSource"):
        raise validation_exception("ModelDataSource cannot be specified for a container whose Mode is MultiModel.")
    if not url:
        raise validation_exception("A container whose Mode is MultiModel needs a ModelDataUrl: the S3 prefix of its models.")
    if not url.endswith("/") or parse_s3_uri(url) is None:
        raise validation_exception(
            f"ModelDataUrl {url} is no S3 prefix. For a container whose Mode is MultiModel it must be s3://… and end in /."
        )


async def _check_model_data(ctx: Context, url: str) -> None:
    place = parse_s3_uri(url)
    if place is None or not place.key or await ctx.world.objects.head(place.bucket, place.key, account=ctx.account) is None:
        raise validation_exception(f"Could not find model data at {url}.")


def _check_environment(request: dict[str, Any]) -> None:
    size = 0
    for container in containers_of(request):
        for key, value in (container.get("Environment") or {}).items():
            if "\0" in value:
                raise validation_exception(
                    f"The environment variable {key} holds a null character, which no process can be given."
                )
            size += len(key.encode()) + len(value.encode())
    if size > ENVIRONMENT_BYTES:
        raise validation_exception(
            f"The environment variables of the model take {size} bytes together; at most {ENVIRONMENT_BYTES} are allowed."
        )
