"""Services that come later answer in their own protocol, by name."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("sns", "list_topics"),
        ("cloudwatch", "list_metrics"),
        ("application-autoscaling", "describe_scalable_targets"),
    ],
)
def test_a_service_to_come_says_so(cloud: Cloud, service: str, operation: str) -> None:
    arguments = {"ServiceNamespace": "sagemaker"} if service == "application-autoscaling" else {}
    with pytest.raises(ClientError) as caught:
        getattr(cloud.client(service), operation)(**arguments)
    assert "slipway does not implement" in caught.value.response["Error"]["Message"]
    assert operation.replace("_", "") in caught.value.response["Error"]["Message"].lower()
