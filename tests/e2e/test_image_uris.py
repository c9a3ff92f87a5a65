"""The table of image URIs in tests/unit/core is what the SDK itself makes, region by region (some 54,000 URIs)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .environments import SDK_2, client_python

SCRIPT = Path(__file__).with_name("clients") / "image_uris.py"
TABLE = Path(__file__).parents[1] / "unit" / "core" / "image_uris.txt"


@pytest.mark.sdk
def test_the_table_is_the_sdks_own() -> None:
    made = subprocess.run([client_python(*SDK_2), str(SCRIPT)], capture_output=True, text=True, check=True)
    assert made.stdout == TABLE.read_text(), f"{SCRIPT.name} > {TABLE.name} writes it anew"
    assert int(made.stderr.split()[-1]) > 50_000
