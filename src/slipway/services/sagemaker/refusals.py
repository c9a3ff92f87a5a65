"""What SageMaker can be asked for and slipway does not do (yet), as data: refused by name, or accepted without effect.

docs/coverage.md is generated from these tables and botocore's model; a request that meets a refusal gets ValidationException.
Paths are member names joined by dots, `[]` after a list; a path stands for everything below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.wire.errors import validation_exception


@dataclass(frozen=True, slots=True)
class Refusal:
    operation: str
    path: str
    feature: str
    """What it asks for, as the subject of a sentence."""
    values: tuple[Any, ...] = ()
    """Refused only with one of these values; empty: whenever it is given."""


@dataclass(frozen=True, slots=True)
class NoEffect:
    operation: str
    path: str
    why: str


_CONTAINER = (
    ("ModelPackageName", "A model package", ()),
    ("InferenceSpecificationName", "A model package", ()),
    ("AdditionalModelDataSources", "Further model data", ()),
    ("ModelDataSource.S3DataSource.S3DataType", "Model data under an S3 prefix", ("S3Prefix",)),
    ("ModelDataSource.S3DataSource.ManifestS3Uri", "A manifest of model data", ()),
    ("ModelDataSource.S3DataSource.ManifestEtag", "A manifest of model data", ()),
    ("ModelDataSource.S3DataSource.HubAccessConfig", "Model data of a hub", ()),
)

_VARIANT = (
    ("ServerlessConfig", "A serverless variant", ()),
    ("InstancePools", "A variant of several instance types", ()),
    ("VariantInstanceProvisionTimeoutInSeconds", "A variant of several instance types", ()),
    ("AcceleratorType", "Elastic Inference, which AWS has retired,", ()),
    ("CoreDumpConfig", "Uploading core dumps", ()),
    ("ManagedInstanceScaling.Status", "Managed instance scaling", ("ENABLED",)),
    ("RoutingConfig.RoutingStrategy", "Prefix-aware and KV-aware routing", ("PREFIX_AWARE", "KV_AWARE")),
    ("RoutingConfig.PrefixAwareRoutingConfig", "Prefix-aware routing", ()),
    ("AcceleratorPartitionLayouts", "Partitioning accelerators", ()),
)

_DEPLOYMENT = (
    ("BlueGreenUpdatePolicy.TrafficRoutingConfiguration.Type", "Shifting traffic in steps", ("CANARY", "LINEAR")),
    ("BlueGreenUpdatePolicy.TrafficRoutingConfiguration.CanarySize", "Shifting traffic in steps", ()),
    ("BlueGreenUpdatePolicy.TrafficRoutingConfiguration.LinearStepSize", "Shifting traffic in steps", ()),
    ("RollingUpdatePolicy", "A rolling update", ()),
    ("AutoRollbackConfiguration.Alarms[]", "Rolling back on an alarm", ()),
)


def _all(operation: str, prefix: str, rows: tuple[tuple[str, str, tuple[Any, ...]], ...]) -> Iterator[Refusal]:
    for path, feature, values in rows:
        yield Refusal(operation, f"{prefix}.{path}", feature, values)


REFUSED: tuple[Refusal, ...] = (
    *_all("CreateModel", "PrimaryContainer", _CONTAINER),
    *_all("CreateModel", "Containers[]", _CONTAINER),
    *_all("CreateEndpointConfig", "ProductionVariants[]", _VARIANT),
    Refusal("CreateEndpointConfig", "ShadowProductionVariants", "A shadow variant"),
    Refusal("CreateEndpointConfig", "DataCaptureConfig.EnableCapture", "Data capture", (True,)),
    Refusal("CreateEndpointConfig", "ExplainerConfig", "Online explanation"),
    Refusal("CreateEndpointConfig", "CrossRegionTrafficConfig", "Traffic to other regions"),
    *_all("CreateEndpoint", "DeploymentConfig", _DEPLOYMENT),
    *_all("UpdateEndpoint", "DeploymentConfig", _DEPLOYMENT),
    Refusal(
        "CreateTransformJob",
        "TransformInput.DataSource.S3DataSource.S3DataType",
        "An augmented manifest or a conversation as the input of batch transform",
        ("AugmentedManifestFile", "Converse"),
    ),
    Refusal(
        "UpdateEndpointWeightsAndCapacities", "DesiredWeightsAndCapacities[].ServerlessUpdateConfig", "A serverless variant"
    ),
)

REFUSED_BY_RULE: Mapping[tuple[str, str], str] = {
    (
        "CreateModel",
        "Containers[].ContainerHostname",
    ): "twice the same, or some containers without (all of them need one in direct mode)",
    ("CreateModel", "InferenceExecutionConfig.Mode"): "Direct with fewer than two containers, or with a multi-model container",
    ("CreateEndpointConfig", "ProductionVariants[].ModelName"): "a variant without it (inference components)",
    ("CreateEndpointConfig", "AsyncInferenceConfig"): "with more than one variant, or where AWS refuses it with another member",
    ("CreateEndpointConfig", "AsyncInferenceConfig.OutputConfig.S3OutputPath"): "a configuration without it",
    ("CreateEndpoint", "DeploymentConfig.BlueGreenUpdatePolicy.TerminationWaitInSeconds"): "other than 0 (baking)",
    ("UpdateEndpoint", "DeploymentConfig.BlueGreenUpdatePolicy.TerminationWaitInSeconds"): "other than 0 (baking)",
}
"""What the operations refuse by more than one member's value; for the coverage table."""

_STORED_CONTAINER = (
    ("ImageConfig", "kept and given back: images are not pulled from a registry in a VPC"),
    ("ContainerMetricsConfig", "kept and given back: containers' own metrics are not scraped yet"),
    ("ModelDataSource.S3DataSource.ModelAccessConfig", "kept and given back: there is no licence to accept here"),
    ("ModelDataSource.S3DataSource.ETag", "kept and given back: the object that is there is the one that is used"),
)

_STORED_VARIANT = (
    ("VolumeSizeInGB", "kept and given back: replicas use the machine's own disk"),
    ("EnableSSMAccess", "kept and given back: there is no instance to log in to"),
    ("InferenceAmiVersion", "kept and given back: there is no machine image"),
    ("CapacityReservationConfig", "kept and given back: there is nothing to reserve"),
    ("ManagedInstanceScaling.MinInstanceCount", "kept and given back while Status is DISABLED"),
    ("ManagedInstanceScaling.MaxInstanceCount", "kept and given back while Status is DISABLED"),
    ("ManagedInstanceScaling.ScaleInPolicy", "kept and given back while Status is DISABLED"),
)

_STORED_DEPLOYMENT = (
    ("BlueGreenUpdatePolicy.TrafficRoutingConfiguration.WaitIntervalInSeconds", "all at once has no intervals"),
    ("BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds", "the start limit of the containers ends a deployment"),
)

NO_EFFECT: tuple[NoEffect, ...] = (
    *(
        NoEffect("CreateModel", f"{at}.{path}", why)
        for at in ("PrimaryContainer", "Containers[]")
        for path, why in _STORED_CONTAINER
    ),
    NoEffect("CreateModel", "PrimaryContainer.ContainerHostname", "AWS ignores it for a single container; given back"),
    NoEffect("CreateModel", "ExecutionRoleArn", "any well-formed role is accepted: access is decided by access keys"),
    NoEffect("CreateModel", "VpcConfig", "kept and given back: there is no VPC"),
    *(NoEffect("CreateEndpointConfig", f"ProductionVariants[].{path}", why) for path, why in _STORED_VARIANT),
    NoEffect("CreateEndpointConfig", "DataCaptureConfig", "kept and given back while EnableCapture is false"),
    NoEffect("CreateEndpointConfig", "ExecutionRoleArn", "kept and given back: it is for inference components"),
    NoEffect("CreateEndpointConfig", "VpcConfig", "kept and given back: there is no VPC"),
    NoEffect("CreateEndpointConfig", "KmsKeyId", "kept and given back: volumes are not encrypted by slipway"),
    NoEffect(
        "CreateEndpointConfig",
        "AsyncInferenceConfig.OutputConfig.KmsKeyId",
        "kept and given back: objects are not encrypted by slipway",
    ),
    NoEffect("CreateEndpointConfig", "MetricsConfig", "kept and given back: all metrics are published, once a minute"),
    *(
        NoEffect(op, f"DeploymentConfig.{path}", why)
        for op in ("CreateEndpoint", "UpdateEndpoint")
        for path, why in _STORED_DEPLOYMENT
    ),
    NoEffect("CreateTransformJob", "TransformOutput.KmsKeyId", "kept and given back: objects are not encrypted by slipway"),
    NoEffect("CreateTransformJob", "TransformResources.VolumeKmsKeyId", "kept and given back: there are no volumes"),
    NoEffect("CreateTransformJob", "TransformResources.TransformAmiVersion", "kept and given back: there is no machine image"),
    NoEffect("CreateTransformJob", "DataCaptureConfig.KmsKeyId", "kept and given back: objects are not encrypted by slipway"),
    NoEffect("CreateTransformJob", "ExperimentConfig", "kept and given back: there are no experiments"),
    NoEffect("CreateEndpoint", "DeploymentConfig", "kept for a later RetainDeploymentConfig, as on AWS"),
)

NEVER_ANSWERED: Mapping[tuple[str, str], str] = {
    ("DescribeModel", "DeploymentRecommendation"): "there is no Inference Recommender",
    ("DescribeEndpointConfig", "ShadowProductionVariants"): "refused at creation",
    ("DescribeEndpointConfig", "ExplainerConfig"): "refused at creation",
    ("DescribeEndpointConfig", "CrossRegionTrafficConfig"): "refused at creation",
    ("DescribeTransformJob", "LabelingJobArn"): "there are no labeling jobs",
    ("DescribeTransformJob", "AutoMLJobArn"): "there is no Autopilot",
    ("DescribeEndpoint", "ShadowProductionVariants"): "refused at creation",
    ("DescribeEndpoint", "ExplainerConfig"): "refused at creation",
    ("DescribeEndpoint", "PendingDeploymentSummary.ShadowProductionVariants"): "refused at creation",
    ("DescribeEndpoint", "ProductionVariants[].InstancePools"): "refused at creation",
    ("DescribeEndpoint", "ProductionVariants[].CurrentServerlessConfig"): "refused at creation",
    ("DescribeEndpoint", "ProductionVariants[].DesiredServerlessConfig"): "refused at creation",
}
"""Output members that no answer holds."""


def not_built(path: str, feature: str) -> str:
    return f"{feature} is not supported by this version of slipway: leave {path} out."


def refuse(operation: str, request: Mapping[str, Any]) -> None:
    """Raises ValidationException, naming the member, if the request asks for anything in REFUSED."""
    for refusal in REFUSED:
        if refusal.operation != operation:
            continue
        for at, value in _values(request, refusal.path.split(".")):
            if not refusal.values:
                raise validation_exception(not_built(at, refusal.feature))
            if value in refusal.values:
                raise validation_exception(f"{refusal.feature} is not supported by this version of slipway: {at} is {value}.")


def _values(value: Any, path: list[str], at: str = "") -> Iterator[tuple[str, Any]]:
    """Each value at `path`, with where it was found; positions count from 1, as AWS's messages do."""
    if not path:
        yield at, value
        return
    name, listed = path[0].removesuffix("[]"), path[0].endswith("[]")
    if not isinstance(value, Mapping) or value.get(name) is None:
        return
    here = f"{at}.{name}" if at else name
    if listed:
        for number, item in enumerate(value[name], 1):
            yield from _values(item, path[1:], f"{here}.{number}")
    else:
        yield from _values(value[name], path[1:], here)
