"""The signing key: made once, kept to ourselves, the same after a restart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.backing.notices_signing import Signer


def test_the_key_outlives_a_restart_and_is_ours_alone(tmp_path: Path) -> None:
    first = Signer(str(tmp_path), "http://here")
    signature = first.sign(b"text", "2")
    assert os.listdir(tmp_path) == ["sns-signing.pem"]
    assert (tmp_path / "sns-signing.pem").stat().st_mode & 0o777 == 0o600
    again = Signer(str(tmp_path), "http://here")
    assert again.certificate() == first.certificate()
    assert again.sign(b"text", "2") == signature != again.sign(b"text", "1")
    assert b"PRIVATE" not in first.certificate()


def test_one_key_for_all_threads(tmp_path: Path) -> None:
    signer = Signer(str(tmp_path), "http://here")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(signer.sign(b"text", "1"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Signer(str(tmp_path / "gone"), "http://here").sign(b"text", "1")


def test_control_starts_without_the_heavy_libraries() -> None:
    code = "import slipway.roles.control, sys; print([m for m in ('aiohttp', 'cryptography') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
