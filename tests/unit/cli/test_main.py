"""The command line's own manners: one line for each mistake and for a machine that cannot."""

from __future__ import annotations

import errno
import os

import pytest

from slipway.cli import doctor, env, main


@pytest.mark.parametrize("argv", [["env", "--nope"], ["logs"], ["nothing"], ["env", "extra"]])
def test_a_mistake_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("slipway")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_machine_that_cannot_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(args: object) -> int:
        raise OSError(number, os.strerror(number), "/data/x")

    monkeypatch.setattr(env, "run", refuse)
    assert main.main(["env"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"slipway env: /data/x: {os.strerror(number)}: ")
    assert "--data-dir" in told
    assert len(told.splitlines()) == 1


def test_a_bug_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(args: object) -> int:
        raise OSError(errno.EBADF, "ours")

    monkeypatch.setattr(env, "run", break_down)
    with pytest.raises(OSError, match="ours"):
        main.main(["env"])


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert main.main(["doctor"]) == 130
    assert capsys.readouterr().err == ""
