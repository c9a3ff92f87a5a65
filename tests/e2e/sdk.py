"""Deployments through the SageMaker Python SDK 3 in its own environment and network namespace, and what they answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.answers import Ask
from tests.e2e.environments import SDK_3, client_python
from tests.e2e.test_clients import HERE, offline

Deployment = tuple[str, bytes, Mapping[str, str], Sequence[Ask]]
"""Image, archive, environment, and what is asked."""


def ask_sdk_3(folder: Path, deployments: Mapping[str, Deployment], seconds: float = 500) -> None:
    """Fails where an answer is not the one that is expected. `folder`: for the archives."""
    listed = []
    for name, (image, data, environment, asks) in deployments.items():
        path = folder / f"{name}.tar.gz"
        path.write_bytes(data)
        one = {"name": name, "image": image, "archive": str(path), "environment": dict(environment)}
        listed.append({**one, "asks": [each.wire() for each in asks]})
    (folder / "deployments.json").write_text(json.dumps(listed))
    script = str(HERE / "sdk_v3_frameworks.py")
    told = offline(client_python(*SDK_3), script, seconds=seconds, DEPLOYMENTS=str(folder / "deployments.json"))
    (line,) = [line for line in told.splitlines() if line.startswith("RESULTS ")]
    results = json.loads(line.removeprefix("RESULTS "))
    for name, (_, _, _, asks) in deployments.items():
        for each, one in zip(asks, results[name], strict=True):
            each.check({**one, "body": base64.b64decode(one.get("body", ""))})
