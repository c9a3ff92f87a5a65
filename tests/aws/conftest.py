"""`cloud`: boto3 against control in process, an account of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from tests.aws.cloud import Cloud, ServerThread, new_key


@pytest.fixture(scope="session")
def aws_session() -> Iterator[boto3.Session]:
    """Untouched by the machine's own AWS settings; botocore's models are read once."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "AWS_REGION"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield boto3.Session()


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    server = ServerThread(tmp_path_factory.mktemp("control"))
    yield server
    server.close()


@pytest.fixture
def cloud(control: ServerThread, aws_session: boto3.Session) -> Iterator[Cloud]:
    cloud = Cloud(control, aws_session, new_key(control))
    yield cloud
    cloud.close()
