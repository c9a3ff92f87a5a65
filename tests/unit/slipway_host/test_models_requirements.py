"""A model's requirements.txt beside many others': what is not met is named."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from slipway_host.models_requirements import MAX_NAMED, unmet

HERE = metadata.version("pytest")
MAJOR = int(HERE.split(".")[0])


def asked(folder: Path, text: str) -> list[str]:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "requirements.txt").write_text(text)
    return unmet(str(folder))


@pytest.mark.parametrize(
    "line",
    [
        "pytest", "PyTest  # a word", f"pytest=={HERE}", f"pytest=={MAJOR}.*", f"pytest>={MAJOR},<{MAJOR + 1}",
        f"pytest~={MAJOR}.0", "pytest[testing]", "pytest (>=1)", "pytest!=1.*", "pytest===" + HERE,
        f"pytest=={HERE} --hash=sha256:00", "", "# nothing", "--index-url https://example.com/simple",
        "nosuch ; sys_platform == 'win32'", "pytest @ https://example.com/p.whl", "pytest>=1,\\\n  <9999",
    ],
)  # fmt: skip
def test_met(tmp_path: Path, line: str) -> None:
    assert asked(tmp_path, line + "\n") == []


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("no-such_package==1.0", "no-such_package==1.0 (not installed)"),
        ("pytest==1.0", f"pytest==1.0 (installed: {HERE})"),
        ("pytest<1", f"pytest<1 (installed: {HERE})"),
        (f"pytest~={MAJOR + 1}.0", f"pytest~={MAJOR + 1}.0 (installed: {HERE})"),
        (f"pytest!={MAJOR}.*", f"pytest!={MAJOR}.* (installed: {HERE})"),
        ("pytest>9999", f"pytest>9999 (installed: {HERE})"),
        ("nosuch @ https://example.com/p.whl", "nosuch (not installed)"),
        ("./own.whl", "./own.whl (not looked at)"),
        ("-r more.txt", "-r more.txt (not looked at)"),
        ("pytest==" + "9" * 5000, f"pytest=={'9' * 38} (installed: {HERE})"),
    ],
)
def test_not_met(tmp_path: Path, line: str, phrase: str) -> None:
    assert asked(tmp_path, line + "\n") == [phrase]


def test_none_and_many(tmp_path: Path) -> None:
    assert unmet(str(tmp_path)) == []
    assert len(asked(tmp_path, "".join(f"no-such-{number}\n" for number in range(50)))) == MAX_NAMED
    (tmp_path / "code" / "requirements.txt").write_bytes(b"\xff\xfe\0\n")
    assert unmet(str(tmp_path)) == ["\ufffd\ufffd? (not looked at)"]
