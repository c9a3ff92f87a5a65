"""ECR is honest about having no images."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_repositories", {"repositoryNames": ["mine"]}),
        ("describe_images", {"repositoryName": "mine"}),
        ("batch_get_image", {"repositoryName": "mine", "imageIds": [{"imageTag": "1"}]}),
    ],
)
def test_no_repository_is_found(cloud: Cloud, operation: str, arguments: dict[str, Any]) -> None:
    client = cloud.client("ecr")
    with pytest.raises(client.exceptions.RepositoryNotFoundException) as error:
        getattr(client, operation)(**arguments)
    message = f"The repository with name 'mine' does not exist in the registry with id '{cloud.account}'"
    assert error.value.response["Error"]["Message"] == message


def test_no_repositories_are_listed(cloud: Cloud) -> None:
    assert cloud.client("ecr").describe_repositories()["repositories"] == []


def test_there_is_nothing_to_log_in_to(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="slipway keeps no image registry"):
        cloud.client("ecr").get_authorization_token()


def test_what_is_not_built_says_so(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="slipway does not implement ECR CreateRepository yet"):
        cloud.client("ecr").create_repository(repositoryName="mine")
