"""Names and how they are written: ARNs, S3 URIs, ids. Pure: it formats what it is given and asks for nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-iso-", "aws-iso"), ("us-isob-", "aws-iso-b"))


def partition(region: str) -> str:
    for prefix, name in PARTITIONS:
        if region.startswith(prefix):
            return name
    return "aws"


def arn(service: str, region: str, account: str, resource: str) -> str:
    return f"arn:{partition(region)}:{service}:{region}:{account}:{resource}"


def sagemaker_arn(region: str, account: str, kind: str, name: str) -> str:
    """`kind` as in the ARN (`endpoint-config`). The name is lower-cased, as AWS does (hosting.md 2.1)."""
    return arn("sagemaker", region, account, f"{kind}/{name.lower()}")


def replica_principal(region: str, account: str, id: str) -> str:
    """Who a model is that calls with the credentials of its replica: a session of a role of no user's making."""
    return f"arn:{partition(region)}:sts::{account}:assumed-role/slipway-replica/{id}"


class S3Location(NamedTuple):
    bucket: str
    key: str


_S3_URI = re.compile(r"s3://([^/]+)/?(.*)", re.DOTALL)
_S3_HTTPS_PATH = re.compile(r"https://s3[.-][^/]*/([^/]+)/?(.*)", re.DOTALL)
_S3_HTTPS_HOST = re.compile(r"https://([^/]+?)\.s3[.-][^/]*/?(.*)", re.DOTALL)


def parse_s3_uri(uri: str) -> S3Location | None:
    """Bucket and key of `s3://bucket/key` or of S3's https forms; None for anything else."""
    for form in (_S3_URI, _S3_HTTPS_PATH, _S3_HTTPS_HOST):
        if match := form.fullmatch(uri):
            return S3Location(match[1], match[2])
    return None


def endpoint_log_group(endpoint: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def log_group_arn(region: str, account: str, group: str) -> str:
    return arn("logs", region, account, f"log-group:{group}")
