"""Services that come later answer in their own protocol, by name."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("cloudwatch", "list_metrics"),
    ],
)
def test_a_service_to_come_says_so(cloud: Cloud, service: str, operation: str) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(cloud.client(service), operation)()
    assert "slipway does not implement" in caught.value.response["Error"]["Message"]
    assert operation.replace("_", "") in caught.value.response["Error"]["Message"].lower()
