from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.replicas.cached import COMPLETE, hold, list_cached, note_use, remove


def environment(cache: Path, key: str, title: str, size: int = 10_000) -> str:
    folder = cache / "environments" / key
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "content").write_bytes(os.urandom(size))
    (folder / COMPLETE).write_text(title + "\n")
    return str(folder)


def test_what_is_told_of_an_environment(tmp_path: Path) -> None:
    path = environment(tmp_path, "k1", "frame 2.0", 1_000_000)
    os.utime(f"{path}/{COMPLETE}", (1_000_000_000, 1_000_000_000))
    (tmp_path / "environments" / "half-built").mkdir()
    environment(tmp_path, "k0", "another 1.0")
    other, row = list_cached(str(tmp_path))
    assert (other.title, row.title, row.image, row.users) == ("another 1.0", "frame 2.0", "", ())
    assert row.used == row.built
    assert 1_000_000 <= row.bytes < 1_100_000
    note_use(path, "registry/frame:2.0")
    _, row = list_cached(str(tmp_path))
    assert row.used > row.built
    assert row.image == "registry/frame:2.0"
    assert list(list_cached(str(tmp_path / "nothing"))) == []


def test_a_use_is_never_a_failure(tmp_path: Path) -> None:
    note_use(str(tmp_path / "gone" / "k"), "image")


def test_an_environment_in_use_stays(tmp_path: Path) -> None:
    path = environment(tmp_path, "k", "frame 2.0")
    release = [hold(path, name, "shop/blue") for name in ("i-1", "i-2")]
    (row,) = list_cached(str(tmp_path))
    assert row.users == ("shop/blue", "shop/blue")
    for each in release:
        assert not remove(row)
        assert Path(path, COMPLETE).read_text() == "frame 2.0\n"
        each()
    (row,) = list_cached(str(tmp_path))
    assert row.users == ()
    assert remove(row)
    assert remove(row), "gone is gone"
    assert list((tmp_path / "environments").iterdir()) == []


def test_what_is_gone_cannot_be_held(tmp_path: Path) -> None:
    path = environment(tmp_path, "k", "frame 2.0")
    (row,) = list_cached(str(tmp_path))
    (Path(path) / COMPLETE).unlink()
    with pytest.raises(FileNotFoundError):
        hold(path, "i-1", "shop/blue")
    assert row.users == ()
    assert os.listdir(f"{path}.uses") == []


def test_a_dead_keepers_uses_count_for_nothing(tmp_path: Path) -> None:
    path = environment(tmp_path, "k", "frame 2.0")
    program = f"from slipway.replicas.cached import hold; import os; hold({path!r}, 'i-1', 'shop/blue'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert os.listdir(f"{path}.uses") == ["i-1"]
    (row,) = list_cached(str(tmp_path))
    assert row.users == ()
    assert remove(row)
