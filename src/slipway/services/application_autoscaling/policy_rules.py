"""What a scaling policy's configuration may be (hosting.md 6.2, 6.5), and AWS's answer to what it may not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.core.metric_math import names_in
from slipway.core.metric_math_syntax import MathError, parse
from slipway.core.metric_statistics import BadStatistic, reader
from slipway.core.scaling_metrics import PREDEFINED
from slipway.core.scaling_steps import PERCENT, Step, wrong_steps
from slipway.services.application_autoscaling.places import DIMENSION
from slipway.wire.errors import AwsError, validation_exception

TRACKING, STEP, PREDICTIVE = "TargetTrackingScaling", "StepScaling", "PredictiveScaling"
MAX_QUERIES = 10
_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
_LARGEST = 1.174271e108
"""AWS's bound of TargetValue."""


def checked_configuration(kind: str, request: Mapping[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration to keep: the given one, or the old one where none is given. Raises ValidationException."""
    members = {
        TRACKING: "TargetTrackingScalingPolicyConfiguration",
        STEP: "StepScalingPolicyConfiguration",
        PREDICTIVE: "PredictiveScalingPolicyConfiguration",
    }
    if kind == PREDICTIVE or request.get(members[PREDICTIVE]) is not None:
        raise validation_exception("PredictiveScaling is not supported for the service namespace sagemaker.")
    for other, member in members.items():
        if other != kind and request.get(member) is not None:
            raise validation_exception(f"{member} cannot be specified for a policy of type {kind}.")
    given: dict[str, Any] | None = request.get(members[kind])
    if given is None:
        if old is None:
            raise validation_exception(f"{members[kind]} must be specified for a policy of type {kind}.")
        return old
    (_check_tracking if kind == TRACKING else _check_step)(given)
    return given


def same_metric(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Two target tracking configurations on the same metric contradict each other (AWS: "must use different metrics")."""
    return bool(_metric(one) == _metric(other))


def _metric(config: Mapping[str, Any]) -> Any:
    if (spec := config.get("PredefinedMetricSpecification")) is not None:
        return spec["PredefinedMetricType"]
    spec = dict(config.get("CustomizedMetricSpecification") or {})
    spec["Dimensions"] = sorted((d["Name"], d["Value"]) for d in spec.get("Dimensions") or ())
    return spec


def _check_tracking(config: Mapping[str, Any]) -> None:
    target = config["TargetValue"]
    if not math.isfinite(target) or not 0 < target <= _LARGEST:
        raise validation_exception(f"The target value {target} is not valid: it must be greater than 0.")
    for member in ("ScaleOutCooldown", "ScaleInCooldown"):
        _check_cooldown(config, member)
    predefined, customized = config.get("PredefinedMetricSpecification"), config.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise validation_exception(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be specified."
        )
    if predefined is not None:
        _check_predefined(predefined)
    elif customized is not None:
        _check_customized(customized)


def _check_cooldown(config: Mapping[str, Any], member: str) -> None:
    if not 0 <= config.get(member, 0) <= 2**31 - 1:
        raise validation_exception(f"{member} must be greater than or equal to 0.")


def _check_predefined(spec: Mapping[str, Any]) -> None:
    kind = spec["PredefinedMetricType"]
    if kind not in PREDEFINED:
        raise validation_exception(f"The predefined metric type {kind} is not supported for {DIMENSION}.")
    if spec.get("ResourceLabel"):
        raise validation_exception(f"ResourceLabel is not supported for the predefined metric type {kind}.")


def _check_customized(spec: Mapping[str, Any]) -> None:
    single = [m for m in ("MetricName", "Namespace", "Dimensions", "Statistic", "Unit") if spec.get(m)]
    if spec.get("Metrics"):
        if single:
            raise validation_exception(f"Metrics cannot be specified together with {single[0]}.")
        _check_queries(spec["Metrics"])
        return
    for member in ("MetricName", "Namespace", "Statistic"):
        if not spec.get(member):
            raise validation_exception(f"{member} must be specified in CustomizedMetricSpecification.")
    names = [d["Name"] for d in spec.get("Dimensions") or ()]
    if len(set(names)) != len(names):
        raise validation_exception("The dimensions of a metric must have different names.")


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    """Metric math: exactly one result, every name known, every expression one that can be read."""
    ids = [query["Id"] for query in queries]
    if len(queries) > MAX_QUERIES:
        raise validation_exception(f"Metrics can hold at most {MAX_QUERIES} entries.")
    if len(set(ids)) != len(ids) or not all(_ID.fullmatch(ident) for ident in ids):
        raise validation_exception(
            "The ids of Metrics must be different, begin with a lower-case letter, and be letters, digits and _."
        )
    if sum(query.get("ReturnData", True) for query in queries) != 1:
        raise validation_exception("Exactly one entry of Metrics must have ReturnData set to true.")
    for query in queries:
        _check_query(query, set(ids))


def _check_query(query: Mapping[str, Any], ids: set[str]) -> None:
    expression, stat = query.get("Expression"), query.get("MetricStat")
    if (expression is None) == (stat is None):
        raise validation_exception(f"The entry {query['Id']} of Metrics must have either an Expression or a MetricStat.")
    if stat is not None:
        if not (stat["Metric"].get("MetricName") and stat["Metric"].get("Namespace")):
            raise validation_exception(f"The entry {query['Id']} of Metrics must name a metric and its namespace.")
        try:
            reader(stat["Stat"])
        except BadStatistic:
            raise validation_exception(f"The statistic {stat['Stat']} of the entry {query['Id']} is not valid.") from None
        return
    try:
        parse(expression or "")
        unknown = sorted(names_in(expression or "")[0] - ids)
    except MathError as error:
        raise validation_exception(f"The expression of the entry {query['Id']} is not valid: {error}") from None
    if unknown:
        raise validation_exception(f"The expression of the entry {query['Id']} uses the id {unknown[0]}, which is not there.")


def _check_step(config: Mapping[str, Any]) -> None:
    if not config.get("AdjustmentType"):
        raise validation_exception("AdjustmentType must be specified in StepScalingPolicyConfiguration.")
    _check_cooldown(config, "Cooldown")
    steps = tuple(
        Step(s["ScalingAdjustment"], s.get("MetricIntervalLowerBound"), s.get("MetricIntervalUpperBound"))
        for s in config.get("StepAdjustments") or ()
    )
    if problem := wrong_steps(steps):
        code = "LimitExceededException" if "at most 20" in problem else "ValidationException"
        raise AwsError(code, problem, status=400)
    if config["AdjustmentType"] == "ExactCapacity" and any(step.adjustment < 0 for step in steps):
        raise validation_exception("A step adjustment of type ExactCapacity cannot be negative.")
    least = config.get("MinAdjustmentMagnitude")
    if least is not None and config["AdjustmentType"] != PERCENT:
        raise validation_exception(
            "MinAdjustmentMagnitude can only be specified for the adjustment type PercentChangeInCapacity."
        )
    if least is not None and least < 1:
        raise validation_exception("MinAdjustmentMagnitude must be greater than or equal to 1.")
