"""What a client needs to talk to a slipway: endpoint, key, region, and a configuration file for SageMaker's SDKs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from slipway.cli.options import UsageError

SDK_CONFIG = """\
# Written by slipway. Both SDKs would otherwise ask the real AWS for a default bucket, and report their use to it.
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: sagemaker-{region}-{account}
"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The contents of `credentials.json` (mode 0600), written at the first start."""

    access_key_id: str
    secret_access_key: str
    account: str
    region: str


def read_credentials(data_dir: Path) -> Credentials:
    try:
        found = json.loads((data_dir / "credentials.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no slipway has started in {data_dir} yet: type `slipway up` first (or give --data-dir)") from None
    except PermissionError:
        raise UsageError(f"{data_dir} belongs to another user: run as that user, or give --data-dir") from None
    except ValueError:
        raise UsageError(f"{data_dir}/credentials.json is damaged: remove it, and `slipway up` makes a new key") from None
    return Credentials(**{name: found[name] for name in Credentials.__slots__})


def running(data_dir: Path) -> dict[str, object]:
    """What the keeper wrote of itself (`up.json`): `pid`, `endpoint_url`, `run_dir`; {} when none runs."""
    try:
        found: dict[str, object] = json.loads((data_dir / "up.json").read_text())
        os.kill(int(str(found["pid"])), 0)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, ProcessLookupError):
        return {}
    except PermissionError:
        return found
    return found


def client_environment(data_dir: Path, default_url: str) -> dict[str, str]:
    """The variables that `slipway env` prints; writes the SDKs' file where it is missing or old."""
    keys = read_credentials(data_dir)
    sdk_config = data_dir / "sagemaker-config.yaml"
    text = SDK_CONFIG.format(region=keys.region, account=keys.account)
    if not sdk_config.exists() or sdk_config.read_text() != text:
        sdk_config.write_text(text)
    return {
        "AWS_ENDPOINT_URL": str(running(data_dir).get("endpoint_url", default_url)),
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_DEFAULT_REGION": keys.region,
        "AWS_REGION": keys.region,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(sdk_config),
        "SLIPWAY_DATA_DIR": str(data_dir),  # for slipway's own commands in that shell
    }
