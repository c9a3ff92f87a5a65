"""AsyncInferenceConfig: what it may say, with what it may stand, and what it means for the endpoint (hosting.md 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.core.asynchronous import AsyncOptions
from slipway.names import parse_s3_uri
from slipway.services.sagemaker.refusals import not_built
from slipway.wire.errors import validation_exception

_AT = "AsyncInferenceConfig.OutputConfig"
_CLASHES = (
    ("ShadowProductionVariants", "ShadowProductionVariants"),
    ("ExplainerConfig", "ExplainerConfig"),
)


def check_async(region: str, account: str, config: Mapping[str, Any]) -> None:
    """The AsyncInferenceConfig of a CreateEndpointConfig request, if it has one. Raises ValidationException.

    Whether its topics exist is asked when an endpoint is made of it, as AWS does: that publishes to them.
    """
    found = config.get("AsyncInferenceConfig")
    if found is None:
        return
    _check_company(config)
    output = found["OutputConfig"]
    if not output.get("S3OutputPath"):
        raise validation_exception(
            "1 validation error detected: Value null at 'asyncInferenceConfig.outputConfig.s3OutputPath' failed to satisfy "
            "constraint: Member must not be null"
        )
    for member in ("S3OutputPath", "S3FailurePath"):
        _check_path(f"{_AT}.{member}", output.get(member) or "")
    notify = output.get("NotificationConfig") or {}
    for member in ("SuccessTopic", "ErrorTopic"):
        _check_topic(f"{_AT}.NotificationConfig.{member}", notify.get(member) or "", region, account)


def _check_company(config: Mapping[str, Any]) -> None:
    """What an asynchronous endpoint cannot have (hosting.md 2.11)."""
    variants = config.get("ProductionVariants") or []
    clash = next((name for member, name in _CLASHES if config.get(member)), None)
    if len(variants) > 1:
        clash = "more than one production variant"
    elif any(variant.get("ServerlessConfig") for variant in variants):
        clash = "ServerlessConfig"
    elif (config.get("DataCaptureConfig") or {}).get("EnableCapture"):
        clash = "DataCaptureConfig"
    if clash is not None:
        raise validation_exception(
            f"One or more endpoint features are not supported using this configuration: AsyncInferenceConfig with {clash}."
        )


def _check_path(at: str, path: str) -> None:
    place = parse_s3_uri(path) if path else None
    if path and (place is None or not place.bucket):
        raise validation_exception(f"Invalid S3 URI at {at}: {path} does not name a bucket, as s3://bucket/prefix does.")


def _check_topic(at: str, topic: str, region: str, account: str) -> None:
    """Of this region, as AWS publishes from there; and of this account, since accounts see nothing of each other here."""
    if not topic:
        return
    _, _, _, its_region, its_account, _ = topic.split(":", 5)
    if its_region != region:
        raise validation_exception(
            f"Invalid topic at {at}: {topic} is not in {region}, the region of the endpoint configuration."
        )
    if its_account != account:
        raise validation_exception(not_built(at, f"A topic of another account ({its_account})"))


def options(config: Mapping[str, Any] | None) -> AsyncOptions | None:
    """What a deployment needs of a configuration's AsyncInferenceConfig."""
    if config is None:
        return None
    output = config["OutputConfig"]
    notify = output.get("NotificationConfig") or {}
    included = notify.get("IncludeInferenceResponseIn") or ()
    return AsyncOptions(
        output_path=_folder(output["S3OutputPath"]),
        failure_path=_folder(output["S3FailurePath"]) if output.get("S3FailurePath") else None,
        success_topic=notify.get("SuccessTopic") or None,
        error_topic=notify.get("ErrorTopic") or None,
        include_success="SUCCESS_NOTIFICATION_TOPIC" in included,
        include_error="ERROR_NOTIFICATION_TOPIC" in included,
        max_concurrent=(config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance") or 0,
    )


def _folder(uri: str) -> str:
    """`s3://bucket/prefix`, whichever form it was given in, without a slash at its end."""
    place = parse_s3_uri(uri)
    if place is None:
        raise ValueError(f"not an S3 URI: {uri}")
    return f"s3://{place.bucket}/{place.key}".rstrip("/")
