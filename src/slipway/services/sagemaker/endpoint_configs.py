"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig: immutable (hosting.md 2.3)."""

from __future__ import annotations

from typing import Any

from slipway.core.limits import Quotas
from slipway.services import Context
from slipway.services.sagemaker.async_configs import check_async
from slipway.services.sagemaker.containers import direct_is_not_asynchronous, is_direct
from slipway.services.sagemaker.entities import (
    ENDPOINT_CONFIG,
    MODEL,
    checked_tags,
    find,
    given,
    insert,
    is_multi_model,
    moment,
    not_found,
    page,
)
from slipway.services.sagemaker.refusals import not_built, refuse
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.resources import Resource
from slipway.wire.errors import validation_exception


async def create_endpoint_config(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The models that its variants name must exist."""
    capture = request.get("DataCaptureConfig")
    if capture is not None:
        request = {**request, "DataCaptureConfig": {"EnableCapture": True, **capture}}
    check_async(ctx.region, ctx.account, request)
    refuse("CreateEndpointConfig", request)
    tags = checked_tags(request.get("Tags") or [])
    variants = [_variant(number, variant) for number, variant in enumerate(request["ProductionVariants"], 1)]
    names = [variant["VariantName"] for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise validation_exception(f'The variant name "{name}" was non-unique within the request.')
    arn = ENDPOINT_CONFIG.arn_of(ctx, request["EndpointConfigName"])
    now = ctx.world.now()
    spec = {**given(request, "Tags", "EndpointConfigName"), "ProductionVariants": variants}
    name = request["EndpointConfigName"]
    new = Resource(ctx.account, ctx.region, ENDPOINT_CONFIG.arn, name, arn, spec, created=now, modified=now)

    def write(connection: Connection) -> None:
        for variant in variants:
            model = find(connection, ctx, MODEL, variant["ModelName"])
            if request.get("AsyncInferenceConfig") and is_direct(model.spec):
                raise direct_is_not_asynchronous(model.name)
            if request.get("AsyncInferenceConfig") and is_multi_model(model.spec):
                raise validation_exception(
                    f"Asynchronous inference is not supported for multi-model endpoints, and model {model.name} is for one."
                )
        insert(connection, ctx, ENDPOINT_CONFIG, new, tags, Quotas().endpoint_configs)

    await ctx.world.db.write(write)
    return {"EndpointConfigArn": arn}


async def describe_endpoint_config(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    found = await ctx.world.db.read(lambda c: find(c, ctx, ENDPOINT_CONFIG, request["EndpointConfigName"]))
    identity = {"EndpointConfigName": found.name, "EndpointConfigArn": found.arn, "CreationTime": moment(found.created)}
    return {**found.spec, **identity}


async def list_endpoint_configs(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    return await page(ctx, ENDPOINT_CONFIG, request)


async def delete_endpoint_config(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Allowed while an endpoint uses it; that endpoint cannot be updated any more (hosting.md 2.3)."""

    def write(connection: Connection) -> None:
        arn = ENDPOINT_CONFIG.arn_of(ctx, request["EndpointConfigName"])
        if not resources.remove(connection, arn):
            raise not_found(ENDPOINT_CONFIG, arn)

    await ctx.world.db.write(write)
    return {}


def _variant(number: int, variant: dict[str, Any]) -> dict[str, Any]:
    """A variant as it is stored and given back: defaults filled in, empty members left out."""
    if not variant.get("ModelName"):
        at = f"ProductionVariants.{number}"
        raise validation_exception(f"{not_built(at, 'A variant without ModelName (for inference components)')}")
    for member in ("InstanceType", "InitialInstanceCount"):
        if variant.get(member) is None:
            at = f"productionVariants.{number}.member.{member[0].lower()}{member[1:]}"
            raise validation_exception(
                f"1 validation error detected: Value null at '{at}' failed to satisfy constraint: Member must not be null"
            )
    return {**given(variant), "InitialVariantWeight": float(variant.get("InitialVariantWeight", 1.0))}
