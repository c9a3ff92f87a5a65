"""A pytest plugin: `def test_deploy(slipway): boto3.client("sagemaker", **slipway.client_arguments)`.

One slipway for the whole session, in a temporary folder on a free port, started when the first test asks for it. While the
fixture is active `AWS_ENDPOINT_URL`, the key and the region stand in the environment, so unchanged code under test finds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from slipway.cli.launch import temporary

if TYPE_CHECKING:
    from slipway.cli.launch import Launched


class Slipway:
    """The running slipway that a test was given."""

    def __init__(self, launched: Launched) -> None:
        self.endpoint_url = launched.endpoint_url
        """`http://127.0.0.1:<port>`."""
        self.environment = dict(launched.environment)
        """What `slipway env` prints."""
        self.client_arguments = {
            "endpoint_url": launched.endpoint_url,
            "aws_access_key_id": launched.environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": launched.environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": launched.environment["AWS_REGION"],
        }
        """Keyword arguments for `boto3.client(service, **…)`."""


@pytest.fixture(scope="session")
def slipway_server() -> Iterator[Slipway]:
    """One slipway for the session."""
    with temporary() as launched:
        yield Slipway(launched)


@pytest.fixture
def slipway(slipway_server: Slipway, monkeypatch: pytest.MonkeyPatch) -> Slipway:
    """The session's slipway, with this test's environment pointing at it."""
    for name in set(os.environ) - set(_environment(slipway_server)):
        monkeypatch.delenv(name)
    for name, value in _environment(slipway_server).items():
        monkeypatch.setenv(name, value)
    return slipway_server


def _environment(server: Slipway) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {**kept, **server.environment}


__all__ = ["Slipway", "slipway", "slipway_server"]
