"""What a control keeps in the data directory beside the database: the node's name, and the credentials for the commands."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import msgspec

from slipway.core.routing import Key
from slipway.settings import Settings
from slipway.store import keys


def configured(settings: Settings) -> list[Key]:
    """The settings' keys."""
    return [Key(key.id, key.secret, key.account, f"arn:aws:iam::{key.account}:{keys.CONFIGURED}") for key in settings.keys]


def node(data_dir: str) -> str:
    """This data directory's name for itself, made once."""
    path = Path(data_dir) / "node"
    try:
        return path.read_text()
    except FileNotFoundError:
        name = secrets.token_hex(8)
        _write_private(path, name.encode())
        return name


def write_credentials(settings: Settings, key: Key) -> None:
    """For `slipway env` and the commands: mode 0600."""
    values = {
        "access_key_id": key.id,
        "secret_access_key": key.secret,
        "account": key.account,
        "region": settings.region,
    }
    content = msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"
    path = Path(settings.data_dir) / "credentials.json"
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    _write_private(path, content)


def _write_private(path: Path, content: bytes) -> None:
    """Replace the file whole; it was never readable by others."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
