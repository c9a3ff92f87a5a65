"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob (containers.md 7.1, 7.2).

They write what is wanted and wake control, which makes it so (`control.transforms`). The model is taken as it is at creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from slipway.core.deployments import Deployment
from slipway.core.limits import Quotas
from slipway.core.transform_captures import stamp
from slipway.core.transform_jobs import VARIANT, Planned, Progress
from slipway.core.transform_joins import CSV, checked_path, kind_of
from slipway.core.transforms import (
    IN_PROGRESS,
    MOST_PAYLOAD_MB,
    PAYLOAD_MB,
    QUARANTINE_TAG,
    RETRIES,
    STOPPING,
    TERMINAL,
    TIMEOUT_SECONDS,
    TransformOptions,
)
from slipway.names import S3Location, parse_s3_uri
from slipway.services import Context
from slipway.services.sagemaker.containers import containers_of, is_direct
from slipway.services.sagemaker.deployments import variant_spec
from slipway.services.sagemaker.entities import MODEL, TRANSFORM_JOB, checked_tags, given, insert, moment, page
from slipway.services.sagemaker.refusals import refuse
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.resources import Exists, Resource
from slipway.wire.errors import AwsError, validation_exception

IN_TRANSITION = frozenset({IN_PROGRESS, STOPPING})
_NOT_FOUND = "Requested resource not found."


async def create_transform_job(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Returns at once, with the job InProgress."""
    refuse("CreateTransformJob", request)
    tags = checked_tags(request.get("Tags") or [])
    arn, now = TRANSFORM_JOB.arn_of(ctx, request["TransformJobName"]), ctx.world.now()
    source = _place("TransformInput.DataSource.S3DataSource.S3Uri", _s3(request)["S3Uri"])
    output = _place("TransformOutput.S3OutputPath", request["TransformOutput"]["S3OutputPath"])
    capture = _capture(request)
    options = replace(_options(request, arn, output), quarantine=_quarantine(tags))
    if (request.get("DataCaptureConfig") or {}).get("GenerateInferenceId"):
        _check_ids(options)
        options = replace(options, inference_time=stamp(now))

    def write(connection: Connection) -> None:
        model = resources.get(connection, ctx.account, ctx.region, MODEL.arn, request["ModelName"])
        if model is None:
            raise AwsError("ResourceNotFound", f'Could not find model "{MODEL.arn_of(ctx, request["ModelName"])}".')
        deployment = _deployment(request, model, options, now)
        planned = Planned(
            deployment,
            request["TransformResources"]["InstanceCount"],
            source.bucket,
            source.key,
            _s3(request)["S3DataType"] == "ManifestFile",
            output.key,
            capture.bucket,
            capture.key,
        )
        new = Resource(
            ctx.account,
            ctx.region,
            TRANSFORM_JOB.arn,
            request["TransformJobName"],
            arn,
            given(request, "Tags"),
            created=now,
            modified=now,
            status=IN_PROGRESS,
            desired=msgspec.to_builtins(planned),
            observed=msgspec.to_builtins(Progress()),
        )
        try:
            insert(connection, ctx, TRANSFORM_JOB, new, tags, Quotas().transform_jobs)
        except AwsError as error:
            if isinstance(error.__cause__, Exists):
                message = (
                    f"Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})"
                )
                raise AwsError("ResourceInUse", message) from error
            raise

    await ctx.world.db.write(write)
    ctx.world.wake(TRANSFORM_JOB.arn, arn)
    return {"TransformJobArn": arn}


async def describe_transform_job(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """One in transition holds the answer until it changes, for a few seconds at most (design.md 4, "waiting")."""
    arn = TRANSFORM_JOB.arn_of(ctx, request["TransformJobName"])
    hold = ctx.world.settings.describe_wait_seconds
    # Waiting begins before the first look, so that no change falls between them.
    change = asyncio.ensure_future(ctx.world.changed(TRANSFORM_JOB.arn, arn, hold))
    try:
        row = await ctx.world.db.read(lambda c: _found(c, ctx, request["TransformJobName"]))
        if row.status in IN_TRANSITION and hold > 0:
            await change
            row = await ctx.world.db.read(lambda c: _found(c, ctx, request["TransformJobName"]))
    finally:
        change.cancel()
    return _described(row)


async def list_transform_jobs(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    status = request.get("StatusEquals")
    return await page(ctx, TRANSFORM_JOB, request, (status,) if status else ())


async def stop_transform_job(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Accepted while it runs, and again while it stops; a job that has ended cannot be stopped."""

    def write(connection: Connection) -> str:
        row = _found(connection, ctx, request["TransformJobName"])
        if row.status in TERMINAL:
            raise validation_exception(
                f"The request was rejected because the transform job is in status {row.status}: only a job that is InProgress "
                "can be stopped."
            )
        resources.save(connection, row, replace(row, status=STOPPING, modified=ctx.world.now()))
        return row.arn

    ctx.world.wake(TRANSFORM_JOB.arn, await ctx.world.db.write(write))
    return {}


def _found(connection: Connection, ctx: Context, name: str) -> Resource:
    row = resources.get(connection, ctx.account, ctx.region, TRANSFORM_JOB.arn, name)
    if row is None:
        raise AwsError("ResourceNotFound", _NOT_FOUND)
    return row


def _described(row: Resource) -> dict[str, Any]:
    """What was given, and what has become of it (AWS shows no defaults: containers.md 7.1)."""
    progress = msgspec.convert(row.observed, Progress)
    answer: dict[str, Any] = {
        **row.spec,
        "TransformJobArn": row.arn,
        "TransformJobStatus": row.status,
        "FailureReason": row.reason,
        "CreationTime": moment(row.created),
        "TransformStartTime": moment(progress.started) if progress.started is not None else None,
        "TransformEndTime": moment(progress.ended) if progress.ended is not None else None,
    }
    return given(answer)


# What the members say


def _s3(request: Mapping[str, Any]) -> Mapping[str, Any]:
    source: Mapping[str, Any] | None = request["TransformInput"]["DataSource"].get("S3DataSource")
    if source is None:
        raise validation_exception("TransformInput.DataSource has no S3DataSource.")
    return source


def _place(member: str, uri: str) -> S3Location:
    found = parse_s3_uri(uri)
    if found is None:
        raise validation_exception(f"Invalid {member}: {uri} is not an S3 address.")
    return found


def _capture(request: Mapping[str, Any]) -> S3Location:
    config = request.get("DataCaptureConfig")
    return _place("DataCaptureConfig.DestinationS3Uri", config["DestinationS3Uri"]) if config else S3Location("", "")


def _check_ids(options: TransformOptions) -> None:
    """Inference ids stand in csv rows and JSON objects alone (containers.md 9)."""
    content_type = options.accept or options.content_type
    if kind_of(content_type) is None:
        raise validation_exception(
            "DataCaptureConfig.GenerateInferenceId needs an output of text/csv, application/json or application/jsonlines: set "
            f'TransformOutput.Accept, which is "{options.accept or ""}" (TransformInput.ContentType is '
            f'"{options.content_type or ""}").'
        )
    if options.split not in ("None", "Line"):
        raise validation_exception(
            f"DataCaptureConfig.GenerateInferenceId cannot tell the results of {options.split} records apart: SplitType must "
            "be Line or None."
        )
    if options.split == "Line" and not options.lines:
        raise validation_exception(
            "DataCaptureConfig.GenerateInferenceId with SplitType Line needs TransformOutput.AssembleWith Line."
        )


def _quarantine(tags: Mapping[str, str]) -> bool:
    value = tags.get(QUARANTINE_TAG, "false").lower()
    if value not in ("true", "false", ""):
        raise validation_exception(f'The tag {QUARANTINE_TAG} says "{tags[QUARANTINE_TAG]}": it may be true or false.')
    return value == "true"


def _options(request: Mapping[str, Any], arn: str, output: S3Location) -> TransformOptions:
    given_input, given_output = request["TransformInput"], request["TransformOutput"]
    client, processing = request.get("ModelClientConfig") or {}, request.get("DataProcessing") or {}
    options = TransformOptions(
        arn,
        output.bucket,
        given_input.get("ContentType"),
        given_output.get("Accept"),
        given_input.get("CompressionType") == "Gzip",
        given_input.get("SplitType") or "None",
        request.get("BatchStrategy") or "",
        request.get("MaxConcurrentTransforms") or 0,
        request.get("MaxPayloadInMB"),
        client.get("InvocationsTimeoutInSeconds", TIMEOUT_SECONDS),
        client.get("InvocationsMaxRetries", RETRIES),
        given_output.get("AssembleWith") == "Line",
        processing.get("InputFilter") or "$",
        processing.get("OutputFilter") or "$",
        processing.get("JoinSource") == "Input",
    )
    _check(options)
    _check_processing(options)
    return options


def _check(options: TransformOptions) -> None:
    payload = PAYLOAD_MB if options.payload_mb is None else options.payload_mb
    if payload > MOST_PAYLOAD_MB:
        raise validation_exception(f"MaxPayloadInMB is {payload}: at most {MOST_PAYLOAD_MB} are allowed.")
    if options.concurrent * payload > MOST_PAYLOAD_MB:
        raise validation_exception(
            f"MaxConcurrentTransforms ({options.concurrent}) times MaxPayloadInMB ({payload}) is over {MOST_PAYLOAD_MB} MB."
        )
    if options.strategy and options.split == "None":
        raise validation_exception(
            f"BatchStrategy is {options.strategy}, and SplitType is None: records cannot be batched unless the input is split. "
            "Set TransformInput.SplitType to Line, RecordIO or TFRecord, or leave BatchStrategy out."
        )


def _check_processing(options: TransformOptions) -> None:
    """containers.md 7.5."""
    if not options.join and options.input_filter == options.output_filter == "$":
        return
    kind = kind_of(options.content_type)
    if kind is None:
        raise validation_exception(
            f"DataProcessing needs a TransformInput.ContentType of text/csv, application/json or application/jsonlines, not "
            f'"{options.content_type or ""}".'
        )
    if options.split not in ("None", "Line"):
        raise validation_exception(f"DataProcessing cannot look into {options.split} records: SplitType must be Line or None.")
    by_lines = kind == CSV or "jsonl" in (options.content_type or "")
    if options.join:
        if kind_of(options.accept) is None or _bare(options.accept) != _bare(options.content_type):
            raise validation_exception(
                "JoinSource is Input: TransformOutput.Accept must be the same as TransformInput.ContentType "
                f'("{options.content_type}"), not "{options.accept or ""}".'
            )
        if by_lines and not (options.split == "Line" and options.lines):
            raise validation_exception(
                f'JoinSource is Input: with ContentType "{options.content_type}" both TransformInput.SplitType and '
                "TransformOutput.AssembleWith must be Line."
            )
    elif by_lines and options.split == "None":
        raise validation_exception(
            f'Filters look at records: with ContentType "{options.content_type}" SplitType must be Line.'
        )
    answers = options.accept if kind_of(options.accept) is not None else options.content_type
    for member, text, content_type in (
        ("InputFilter", options.input_filter, options.content_type),
        ("OutputFilter", options.output_filter, answers),
    ):
        try:
            checked_path(member, text, content_type or "")
        except ValueError as error:
            raise validation_exception(str(error)) from error


def _bare(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _deployment(request: Mapping[str, Any], model: Resource, options: TransformOptions, now: float) -> Deployment:
    if is_direct(model.spec):
        raise _unfit(model, "its containers are called directly (InferenceExecutionConfig.Mode is Direct)")
    containers = containers_of(model.spec)
    if any(container.get("Mode") == "MultiModel" for container in containers):
        raise _unfit(model, "it has a multi-model container")
    sources = [(container.get("ModelDataSource") or {}).get("S3DataSource") or {} for container in containers]
    if any(source.get("S3DataType") == "S3Prefix" for source in sources):
        raise _unfit(model, "its model data is a prefix")
    kind = request["TransformResources"]["InstanceType"]
    spec = variant_spec({"VariantName": VARIANT, "InstanceType": kind}, model.spec, {})
    over = {**(request.get("Environment") or {}), **_platform(request)}
    several = tuple(replace(each, environment={**each.environment, **over}) for each in spec.containers)
    spec = replace(spec, environment={**spec.environment, **over}, containers=several)
    return Deployment(1, request["TransformJobName"], (spec,), (), now, transform=options)


def _unfit(model: Resource, why: str) -> AwsError:
    return validation_exception(f'Batch transform does not support model "{model.name}": {why}.')


def _platform(request: Mapping[str, Any]) -> dict[str, str]:
    """What AWS's platform sets, beyond SAGEMAKER_BATCH only where the caller gave it (containers.md 1.9)."""
    found = {"SAGEMAKER_BATCH": "true"}
    if (payload := request.get("MaxPayloadInMB")) is not None:
        found["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(payload)
    if strategy := request.get("BatchStrategy"):
        found["SAGEMAKER_BATCH_STRATEGY"] = "SINGLE_RECORD" if strategy == "SingleRecord" else "MULTI_RECORD"
    if concurrent := request.get("MaxConcurrentTransforms"):
        found["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(concurrent)
    return found
