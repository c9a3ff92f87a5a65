"""botocore clients for the slipway of a data directory: the commands speak AWS like everybody else."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from slipway.cli.environment import client_environment, running
from slipway.cli.options import UsageError, data_directory

__all__ = ["ClientError", "connect", "one_line"]


@contextmanager
def one_line() -> Iterator[None]:
    """A refusal, and a slipway that went away, become a UsageError: what a person reads is one line."""
    try:
        yield
    except ClientError as error:
        raise UsageError(error.response["Error"]["Message"]) from None
    except BotoCoreError as error:
        raise UsageError(f"slipway does not answer: {error}") from None


def connect(args: argparse.Namespace, service: str, region: str | None = None) -> Any:
    """A client (`region`: another than the environment's); UsageError when no slipway runs in the data directory."""
    data_dir = data_directory(args, os.environ)
    if not running(data_dir):
        raise UsageError(f"no slipway runs in {data_dir}: type `slipway up` in another shell (or give --data-dir)")
    environment = client_environment(data_dir, "")
    return botocore.session.Session().create_client(
        service,
        region_name=region or environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        # a certificate of one's own on this machine: the connection is to ourselves
        verify=not environment["AWS_ENDPOINT_URL"].startswith("https:"),
        config=Config(retries={"max_attempts": 2}),
    )
