"""CloudWatch's errors, page tokens, and members that are refused by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from slipway.wire.errors import AwsError

REFUSED: Mapping[str, Mapping[str, str]] = {
    "PutMetricData": {
        "EntityMetricData": "metrics of entities",
        "StrictEntityValidation": "metrics of entities",
    },
    "GetMetricData": {"LabelOptions": "time zones of labels"},
    "ListMetrics": {"IncludeLinkedAccounts": "linked accounts", "OwningAccount": "linked accounts"},
    "PutMetricAlarm": {
        "ThresholdMetricId": "anomaly detection",
        "EvaluationWindow": "alarms by the wall clock",
        "WarmUpConfiguration": "warming up",
        "EvaluationCriteria": "PromQL",
        "EvaluationInterval": "PromQL",
        "ActionConfiguration": "tags in notifications",
    },
    "DescribeAlarms": {
        "ChildrenOfAlarmName": "composite alarms",
        "ParentsOfAlarmName": "composite alarms",
    },
    "DescribeAlarmHistory": {"AlarmContributorId": "alarms with contributors"},
}
"""By operation, members that ask for what slipway does not have, and what that is."""


def refuse(operation: str, request: Mapping[str, Any]) -> None:
    """Raises for the first refused member that is there."""
    for member, feature in REFUSED.get(operation, {}).items():
        if request.get(member) not in (None, False, [], {}):
            raise bad_value(f"{member} is not supported by slipway: {feature}")


def bad_value(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)


def bad_combination(message: str) -> AwsError:
    return AwsError("InvalidParameterCombinationException", message)


def missing(message: str) -> AwsError:
    return AwsError("MissingRequiredParameterException", message)


def validation_error(message: str) -> AwsError:
    """What PutMetricAlarm and GetMetricData answer with, which declare no other."""
    return AwsError("ValidationError", message)


def page_token(last: object) -> str:
    """Where a listing goes on: after what was given last."""
    return base64.urlsafe_b64encode(msgspec.json.encode(last)).decode()


def page_start(token: str | None, kind: Any) -> Any:
    """What `page_token` was given, of type `kind`. Raises InvalidNextToken."""
    if not token:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise AwsError("InvalidNextToken", "The next token specified is invalid.") from None
