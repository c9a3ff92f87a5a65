from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.replicas import sandbox as module
from slipway.replicas.sandbox import Confinement, Sandbox, environment_script, warning


def confine(folder: Path, **changes: object) -> Confinement:
    return replace(Confinement(str(folder), {}, (), False, None, 0, "/"), **changes)  # type: ignore[arg-type]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("value", ["plain", "it's", '"$HOME" `id` $(id) \\ ;', "two\nlines", "", "ünï"])
def test_any_value_survives_the_script(tmp_path: Path, value: str) -> None:
    script = tmp_path / "start.sh"
    script.write_text(environment_script({"VALUE": value}))
    code = "import os; print(repr(os.environ['VALUE']))"
    result = subprocess.run(["/bin/sh", script, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == repr(value)


@pytest.mark.parametrize(
    ("name", "value"), [("A B", ""), ("1A", ""), ("", ""), ("A;id", ""), ("A", "x\0--bind"), ("Ä", ""), ("A\n", "")]
)
def test_what_no_shell_can_set_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        environment_script({name: value})


def test_values_stay_out_of_arguments(tmp_path: Path) -> None:
    sandbox = Sandbox("/usr/bin/bwrap", True, "/usr/bin/setpriv", etc=str(tmp_path))
    command = sandbox.command(confine(tmp_path, uid=200_001, isolated=True), ["/bin/true"], 7)
    assert command[:3] == ["/usr/bin/bwrap", "--info-fd", "7"]
    assert "--unshare-net" in command
    assert "--unshare-user" not in command
    assert command[command.index("--") + 1 :][:5] == ["/usr/bin/setpriv", "--reuid", "200001", "--regid", "200001"]
    as_user = Sandbox("/usr/bin/bwrap", False, etc=str(tmp_path)).command(confine(tmp_path), ["/bin/true"])
    assert "--unshare-user" in as_user
    assert "--unshare-net" not in as_user
    assert as_user[-2:] == ["--", "/bin/true"]


def test_without_bubblewrap_the_reason_and_the_mend_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = Sandbox.probe(str(tmp_path))
    assert found.bwrap is None
    assert "bubblewrap is not installed" in found.name
    assert "apt-get install bubblewrap" in warning(found)


def test_a_bubblewrap_that_does_not_work_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = Sandbox.probe(str(tmp_path / "etc"))
    assert found.bwrap is None
    assert "No permissions to create new namespace" in found.reason
    assert "user namespaces" in found.mend


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("bwrap") is None or shutil.which("setpriv") is None, reason="gives up root"
)
def test_it_works_for_a_normal_user(open_folder: Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no interpreter that another user may run")
    room = open_folder
    os.chown(room, 54321, 54321)
    code = (
        f"import sys; sys.path.insert(0, {str(room)!r}); import sandbox, os, subprocess\n"
        f"s = sandbox.Sandbox.probe({str(room / 'etc')!r}); print(s.name)\n"
        f"c = sandbox.Confinement({str(room)!r}, {{}}, (), True, None, 0, '/')\n"
        "print(subprocess.run(s.command(c, ['/bin/sh', '-c', 'id -u; id -un; ls -d /root /home 2>&1 | wc -l']), "
        "capture_output=True, text=True).stdout.split())"
    )
    shutil.copy(module.__file__, room / "sandbox.py")
    command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", python, "-B", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    lines = result.stdout.splitlines()
    if lines[0].startswith("none:"):
        pytest.skip(lines[0])
    assert lines[0] == "bubblewrap, in a user namespace"
    assert lines[1] == "['54321', 'model', '2']"
