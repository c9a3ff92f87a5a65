"""Which AWS services are served, and by which module."""

from __future__ import annotations

from slipway.services import application_autoscaling, cloudwatch, ecr, iam, logs, s3, sagemaker, sns, sqs, sts

MODULES = {
    "application-autoscaling": application_autoscaling,
    "cloudwatch": cloudwatch,
    "ecr": ecr,
    "iam": iam,
    "logs": logs,
    "s3": s3,
    "sagemaker": sagemaker,
    "sns": sns,
    "sqs": sqs,
    "sts": sts,
}
TO_COME = ()
"""Understood in their own protocols; every operation is answered as not built yet."""
SERVICES = (*MODULES, *TO_COME, "sagemaker-runtime")
"""The runtime's invocations never get to control: what does is unsigned, or not an invocation, and is told so."""
