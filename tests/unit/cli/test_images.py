from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from slipway.cli.main import main
from slipway.replicas.cached import COMPLETE, hold


def cached(cache: Path, key: str, title: str) -> str:
    folder = cache / "environments" / key
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(os.urandom(3 << 20))
    (folder / COMPLETE).write_text(title + "\n")
    return str(folder)


def test_sizes_users_and_last_use_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "list", "--cache-dir", str(tmp_path)]) == 0
    assert "none built yet" in capsys.readouterr().out
    release = hold(cached(tmp_path, "one", "frame 1.0 (python 3.11)"), "i-1", "shop/blue")
    cached(tmp_path, "two", "frame 2.0 (python 3.11)")
    assert main(["images", "--cache-dir", str(tmp_path), "list"]) == 0
    release()
    head, one, two = capsys.readouterr().out.splitlines()
    assert head.split() == ["ENVIRONMENT", "SIZE", "BUILT", "LAST", "USED", "USED", "BY"]
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"frame 1\.0 \(python 3\.11\) +3 MiB  {when}  {when}  shop/blue", one)
    assert re.fullmatch(rf"frame 2\.0 \(python 3\.11\) +3 MiB  {when}  {when}  -", two)


def test_prune_keeps_what_is_in_use_and_what_was_wanted_lately(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = hold(cached(tmp_path, "one", "frame 1.0"), "i-1", "shop/blue")
    two, three = cached(tmp_path, "two", "frame 2.0"), cached(tmp_path, "three", "frame 3.0")
    os.utime(f"{two}/{COMPLETE}", (1_000_000_000, 1_000_000_000))
    (tmp_path / "uv").mkdir()
    assert main(["images", "--cache-dir", str(tmp_path), "prune", "--unused-for", "30"]) == 0
    assert capsys.readouterr().out.splitlines() == ["removed frame 2.0", "3 MiB freed"]
    assert main(["images", "--cache-dir", str(tmp_path), "prune"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == ["kept frame 1.0: shop/blue runs in it", "removed frame 3.0", "3 MiB freed"]
    assert not Path(three).exists()
    assert (tmp_path / "uv").exists(), "a builder may need it"
    release()
    assert main(["images", "--cache-dir", str(tmp_path), "prune"]) == 0
    assert not (tmp_path / "uv").exists()
    assert list((tmp_path / "environments").iterdir()) == []


def test_what_runs_is_shown_with_its_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:9.1-1-cpu-py3"
    assert main(["images", "--cache-dir", str(tmp_path), "show", image]) == 0
    told = capsys.readouterr().out
    assert "asks for   sklearn 9.1 (cpu)" in told
    assert "note       scikit-learn 9.1 has no wheels" in told
