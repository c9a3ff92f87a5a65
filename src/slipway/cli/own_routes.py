"""Calls of slipway's own routes (`/_slipway/…`): signed like every other call, JSON in the answer."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import urllib.error
import urllib.request
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from slipway.cli.environment import client_environment, running
from slipway.cli.options import UsageError, data_directory

SCOPE = "slipway"
TIMEOUT_SECONDS = 60.0


def call(args: argparse.Namespace, method: str, path: str, body: Any = None, *, region: str | None = None) -> Any:
    """The answer to `path` (with its query, percent-encoded). UsageError for a refusal, and when no slipway runs here."""
    data_dir = data_directory(args, os.environ)
    if not running(data_dir):
        raise UsageError(f"no slipway runs in {data_dir}: type `slipway up` in another shell (or give --data-dir)")
    environment = client_environment(data_dir, "")
    url = environment["AWS_ENDPOINT_URL"] + path
    data = None if body is None else json.dumps(body).encode()
    request = AWSRequest(method, url, data=data, headers={"Content-Type": "application/json"} if data else {})
    keys = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, SCOPE, region or environment["AWS_REGION"]).add_auth(request)
    sent = urllib.request.Request(url, data=data, headers=dict(request.headers.items()), method=method)  # noqa: S310 - our own
    # A certificate of one's own on this machine: the connection is to ourselves.
    context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323
    try:
        with urllib.request.urlopen(sent, timeout=TIMEOUT_SECONDS, context=context) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            raise UsageError(_message(error.read()) or f"slipway answered {error.code}") from None
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(f"slipway does not answer at {environment['AWS_ENDPOINT_URL']}: {reason}") from None


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("message", "")) if isinstance(found, dict) else ""
