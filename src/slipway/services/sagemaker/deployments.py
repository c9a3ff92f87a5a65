"""From an endpoint configuration and its models to a deployment; and from a stored endpoint to DescribeEndpoint's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.core.deployments import ContainerSpec, DeployedImage, Deployment, VariantSpec, image_key
from slipway.core.endpoints import CREATING, FAILED, IN_SERVICE, UPDATING, Goal
from slipway.core.models import Models
from slipway.services import Context
from slipway.services.sagemaker.async_configs import options
from slipway.services.sagemaker.containers import container_name, containers_of, direct_is_not_asynchronous, is_direct
from slipway.services.sagemaker.entities import ENDPOINT_CONFIG, MODEL, find, given, moment
from slipway.store.db import Connection
from slipway.store.endpoints import Stored

_SHOWN = ("DataCaptureConfig", "MetricsConfig", "AsyncInferenceConfig")
_SHOWN_OF_VARIANT = ("ManagedInstanceScaling", "RoutingConfig")


def deployment(connection: Connection, ctx: Context, config_name: str, number: int) -> Deployment:
    """A snapshot of the configuration and its models. Raises "Could not find …" for either."""
    config = find(connection, ctx, ENDPOINT_CONFIG, config_name)
    variants, goals = [], []
    for variant in config.spec["ProductionVariants"]:
        model = find(connection, ctx, MODEL, variant["ModelName"])
        if config.spec.get("AsyncInferenceConfig") and is_direct(model.spec):
            raise direct_is_not_asynchronous(model.name)
        variants.append(variant_spec(variant, model.spec, config.spec, ctx.account))
        goals.append(Goal(variant["VariantName"], variant["InitialVariantWeight"], variant["InitialInstanceCount"]))
    shown: dict[str, Any] = {name: config.spec[name] for name in _SHOWN if name in config.spec}
    asynchronous = options(config.spec.get("AsyncInferenceConfig"))
    return Deployment(number, config.name, tuple(variants), tuple(goals), ctx.world.now(), shown, asynchronous)


def _multi_model(container: Mapping[str, Any], account: str) -> Models | None:
    """Of a container with Mode MultiModel."""
    if container.get("Mode") != "MultiModel":
        return None
    setting = (container.get("MultiModelConfig") or {}).get("ModelCacheSetting", "Enabled")
    return Models(container["ModelDataUrl"], account, setting != "Disabled")


def variant_spec(
    variant: Mapping[str, Any], model: Mapping[str, Any], config: Mapping[str, Any], account: str = ""
) -> VariantSpec:
    """A variant (or the instances of a transform job) with the containers of its model."""
    containers = [_container(each, number, account) for number, each in enumerate(containers_of(model), 1)]
    first, several = containers[0], len(containers) > 1
    return VariantSpec(
        name=variant["VariantName"],
        instance_type=variant["InstanceType"],
        image=first.image,
        environment=first.environment,
        model_data=first.model_data,
        model_data_archive=first.model_data_archive,
        isolated=bool(model.get("EnableNetworkIsolation") or config.get("EnableNetworkIsolation")),
        least_outstanding=variant.get("RoutingConfig", {}).get("RoutingStrategy") == "LEAST_OUTSTANDING_REQUESTS",
        download_seconds=variant.get("ModelDataDownloadTimeoutInSeconds"),
        start_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        models=None if several else first.models,
        shown={name: variant[name] for name in _SHOWN_OF_VARIANT if name in variant},
        mode=(model.get("InferenceExecutionConfig") or {}).get("Mode", "Serial") if several else "",
        containers=tuple(containers) if several else (),
    )


def _container(container: Mapping[str, Any], number: int, account: str) -> ContainerSpec:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    models = _multi_model(container, account)
    return ContainerSpec(
        name=container_name(container, number),
        image=container["Image"],
        environment=container.get("Environment") or {},
        model_data=None if models else source["S3Uri"] if source else container.get("ModelDataUrl"),
        model_data_archive=source is None or source["CompressionType"] == "Gzip",
        models=models,
    )


def described(endpoint: Stored) -> dict[str, Any]:
    """DescribeEndpoint's answer (hosting.md 2.4). While it is created, and when that failed, it shows no variants."""
    row, reached = endpoint.row, endpoint.reached
    wanted, goals = endpoint.target
    shown = reached.serving or wanted
    answer: dict[str, Any] = {
        "EndpointName": row.name,
        "EndpointArn": row.arn,
        "EndpointConfigName": shown.config,
        "EndpointStatus": row.status,
        "CreationTime": moment(row.created),
        "LastModifiedTime": moment(row.modified),
        "FailureReason": row.reason,
        "LastDeploymentConfig": endpoint.asked.deployment_config if row.status != CREATING else None,
        "AsyncInferenceConfig": shown.shown.get("AsyncInferenceConfig"),
        "MetricsConfig": shown.shown.get("MetricsConfig"),
        "DataCaptureConfig": _capture(shown.shown.get("DataCaptureConfig")),
    }
    if reached.serving is not None and row.status != FAILED:
        replacing = row.status == UPDATING and wanted.number != reached.serving.number
        desired = reached.goals if replacing else goals
        answer["ProductionVariants"] = [_summary(endpoint, goal, desired) for goal in reached.goals]
        if replacing:
            answer["PendingDeploymentSummary"] = _pending(wanted, goals)
    return given(answer)


def _summary(endpoint: Stored, current: Goal, desired: tuple[Goal, ...]) -> dict[str, Any]:
    goal = next((g for g in desired if g.variant == current.variant), current)
    summary: dict[str, Any] = {"VariantName": current.variant}
    serving = endpoint.reached.serving
    if images := _images(endpoint, current.variant):
        summary["DeployedImages"] = [
            {"SpecifiedImage": image.specified, "ResolvedImage": image.resolved, "ResolutionTime": moment(image.at)}
            for image in images
        ]
    summary |= {
        "CurrentWeight": current.weight,
        "DesiredWeight": goal.weight,
        "CurrentInstanceCount": current.count,
        "DesiredInstanceCount": goal.count,
    }
    if endpoint.row.status != IN_SERVICE:
        started = endpoint.wanted.deleting_since or endpoint.wanted.changed
        summary["VariantStatus"] = [{"Status": endpoint.row.status, "StartTime": moment(started)}]
    return summary | (dict(serving.variant(current.variant).shown) if serving else {})


def _images(endpoint: Stored, variant: str) -> list[DeployedImage]:
    """Of a variant's containers, in order."""
    serving = endpoint.reached.serving
    if serving is None:
        return []
    spec = serving.variant(variant)
    keys = [image_key(spec, index) for index in range(max(len(spec.containers), 1))]
    return [endpoint.reached.images[key] for key in keys if key in endpoint.reached.images]


def _pending(wanted: Deployment, goals: tuple[Goal, ...]) -> dict[str, Any]:
    variants = []
    for goal in goals:
        spec = wanted.variant(goal.variant)
        variants.append(
            {
                "VariantName": goal.variant,
                "DeployedImages": [
                    {"SpecifiedImage": image} for image in [each.image for each in spec.containers] or [spec.image]
                ],
                "CurrentWeight": 0.0,
                "DesiredWeight": goal.weight,
                "CurrentInstanceCount": 0,
                "DesiredInstanceCount": goal.count,
                "InstanceType": spec.instance_type,
                "VariantStatus": [{"Status": "Creating", "StartTime": moment(wanted.started)}],
                **spec.shown,
            }
        )
    return {"EndpointConfigName": wanted.config, "ProductionVariants": variants, "StartTime": moment(wanted.started)}


def _capture(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A configuration that captures is refused, so what is shown is always a stopped one."""
    if config is None:
        return None
    shown = {
        "EnableCapture": False,
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
    }
    return shown | ({"KmsKeyId": config["KmsKeyId"]} if config.get("KmsKeyId") else {})
