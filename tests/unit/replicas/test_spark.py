"""What a pipeline that Spark saved itself needs: told by its folders; a Java that is new enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.replicas.failures import CannotRun
from slipway.replicas.spark import find_java, needs_spark


def java(home: Path, version: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    program.chmod(0o755)
    return home


def test_told_by_its_folders(tmp_path: Path) -> None:
    assert not needs_spark("sparkml", None)
    assert not needs_spark("sparkml", str(tmp_path))
    (tmp_path / "metadata").mkdir()
    assert needs_spark("sparkml", str(tmp_path))
    assert not needs_spark("sklearn", str(tmp_path))
    (tmp_path / "bundle.json").touch()
    assert not needs_spark("sparkml", str(tmp_path))


def test_the_best_java(tmp_path: Path) -> None:
    old, good = java(tmp_path / "8", "1.8.0_392"), java(tmp_path / "17", "17.0.9")
    new = java(tmp_path / "25", "25")
    everywhere = str(tmp_path / "*" / "bin" / "java")
    assert find_java({"PATH": ""}, everywhere).home == str(good)
    assert find_java({"PATH": f"{new}/bin"}, "").version == 25
    assert find_java({"PATH": f"{old}/bin", "JAVA_HOME": str(good)}, "").readable == (str(good),)


def test_without_java_the_mend_is_named(tmp_path: Path) -> None:
    old = java(tmp_path / "8", "1.8.0_392")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text("#!/nowhere\n")
    (tmp_path / "bin" / "java").chmod(0o755)
    for environ, told in (({"PATH": f"{tmp_path}/bin"}, "or newer."), ({"PATH": f"{old}/bin"}, "there is Java 8.")):
        with pytest.raises(CannotRun) as caught:
            find_java(environ, "")
        failure = caught.value.failure
        assert (failure.kind, "needs Java 17" in failure.message, told in failure.message) == ("environment", True, True)
        assert "default-jre-headless" in failure.mend
