"""Environments are built by the real uv, from wheels made here: no index is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.replicas import environments as module
from slipway.replicas.environments import Environments
from slipway.replicas.failures import CannotRun
from slipway.replicas.images import Interpreter, Runtime, own_interpreter
from slipway.replicas.requirements import Wanted, read_requirements


def wheel(folder: Path, name: str, version: str, body: str = "", needs: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", body or f"VERSION = {version!r}\n")
        required = f"Requires-Dist: {needs}\n" if needs else ""
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def ignore(_: str) -> None: ...


def compiled(path: str) -> list[Path]:
    return list(Path(path).glob("lib/python*/site-packages/frame/__pycache__/*.pyc"))


class Fixed(Environments):
    """Runs the framework `frame`, whatever the image."""

    requirements: Sequence[str] = ("frame==1.0", "beside")

    async def runtime(self, image: str) -> Runtime:
        return Runtime("sklearn", "frame 1.0 (python 3)", tuple(self.requirements), own_interpreter(), ("a note",))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    wheel(folder, "frame", "1.0")
    wheel(folder, "frame", "2.0")
    wheel(folder, "beside", "1.0")
    wheel(folder, "tiny", "1.0")
    return folder


def make(tmp_path: Path, index: Path, **environ: str) -> Fixed:
    passed = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    return Fixed(str(tmp_path / "cache"), environ={**passed, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index), **environ})


def say(python: str, code: str) -> str:
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def test_built_once_compiled_and_found_again(tmp_path: Path, index: Path) -> None:
    told: list[str] = []
    built = await make(tmp_path, index).ensure("img", told.append)
    assert await asyncio.to_thread(say, built.python, "import frame, beside; print(frame.VERSION)") == "1.0"
    assert await asyncio.to_thread(compiled, built.path)
    assert told[0] == "building environment frame 1.0 (python 3)"
    assert any("Installed 2 packages" in line for line in told)
    assert told[-1] == "built environment frame 1.0 (python 3)"
    assert (built.title, built.flavour, built.notes) == ("frame 1.0 (python 3)", "sklearn", ("a note",))
    assert built.path in built.readable
    told.clear()
    assert (await make(tmp_path, index, UV_FIND_LINKS="/nowhere").ensure("img", told.append)).path == built.path
    assert told == []


async def test_builders_in_two_places_share_one_build(tmp_path: Path, index: Path) -> None:
    told: list[str] = []
    first, second = make(tmp_path, index), make(tmp_path, index)
    one, two, three = await asyncio.gather(
        first.ensure("img", told.append), first.ensure("img", told.append), second.ensure("img", told.append)
    )
    assert one.path == two.path == three.path
    assert told.count("building environment frame 1.0 (python 3)") == 1
    assert "waiting for another process that builds environment frame 1.0 (python 3)" in told


async def test_requirements_of_a_model(tmp_path: Path, index: Path) -> None:
    maker = make(tmp_path, index)
    base = await maker.ensure("img", ignore)
    both = await maker.ensure("img", ignore, wanted=Wanted(lines=["tiny"]))
    assert both.path != base.path
    assert await asyncio.to_thread(say, both.python, "import tiny, frame; print(frame.VERSION)") == "1.0"
    newer = await maker.ensure("img", ignore, wanted=Wanted(lines=["frame==2.0"]))
    assert await asyncio.to_thread(say, newer.python, "import frame, beside; print(frame.VERSION)") == "2.0"
    assert await asyncio.to_thread(say, base.python, "import frame; print(frame.VERSION)") == "1.0"
    assert (await maker.ensure("img", ignore, wanted=Wanted())).path == base.path


async def test_vendored_wheels_count_by_content(tmp_path: Path, index: Path) -> None:
    paths = []
    for n, body in enumerate(("V = 1", "V = 1", "V = 2")):
        code = tmp_path / f"upload{n}"
        wheel(code / "wheels", "vendored", "1.0", body)
        os.utime(code / "wheels" / "vendored-1.0-py3-none-any.whl", (n, n))
        (code / "requirements.txt").write_text("--no-index\n--find-links wheels\nvendored==1.0\n")
        wanted = read_requirements(str(code / "requirements.txt"), {})
        paths.append((await make(tmp_path, index).ensure("img", ignore, wanted=wanted, isolated=True)).path)
    # Made at different times the wheels differ in bytes; the same bytes must give the same environment.
    (tmp_path / "upload9" / "wheels").mkdir(parents=True)
    for name in ("requirements.txt", "wheels/vendored-1.0-py3-none-any.whl"):
        (tmp_path / "upload9" / name).write_bytes((tmp_path / "upload2" / name).read_bytes())
    wanted = read_requirements(str(tmp_path / "upload9" / "requirements.txt"), {})
    again = await make(tmp_path, index).ensure("img", ignore, wanted=wanted, isolated=True)
    assert again.path == paths[2]
    assert paths[2] != paths[0]


async def failure(maker: Environments, wanted: Wanted | None = None, **how: bool) -> tuple[str, str, str]:
    with pytest.raises(CannotRun) as caught:
        await maker.ensure("img:1", ignore, wanted=wanted, **how)
    found = caught.value.failure
    return found.kind, found.message, found.mend


async def test_failures_explain_themselves(tmp_path: Path, index: Path) -> None:
    maker = make(tmp_path, index)
    kind, message, mend = await failure(maker, Wanted(lines=["nowhere-to-be-found"]))
    assert kind == "requirements"
    assert "nowhere-to-be-found" in message
    assert "requirements.txt" in mend
    kind, message, _ = await failure(maker, Wanted(lines=["tiny==9"]), isolated=True)
    assert (kind, "tiny" in message) == ("requirements", True)
    assert not [name for name in os.listdir(tmp_path / "cache" / "environments") if "making" in name]


async def test_without_a_network_the_command_is_named(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    environ |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    kind, message, mend = await failure(Fixed(str(tmp_path / "cache"), environ=environ))
    assert kind == "environment"
    assert "frame 1.0" in message
    assert "no package index can be reached (Failed to fetch" in message
    assert "Using" not in message
    assert mend == "run `slipway images pull img:1` while a package index can be reached"


async def test_an_interpreter_that_is_gone(tmp_path: Path) -> None:
    class Gone(Environments):
        async def runtime(self, image: str) -> Runtime:
            return Runtime("sklearn", "x", ("frame",), Interpreter("/nowhere/python3.11", (3, 11)))

    assert (await failure(Gone(str(tmp_path / "cache"))))[0] == "environment"


async def test_cancelling_a_build_leaves_nothing(tmp_path: Path, index: Path) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(make(tmp_path, index).ensure("img", lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    names = os.listdir(tmp_path / "cache" / "environments")
    assert [name for name in names if not name.endswith(".lock")] == []


def test_uv_sees_only_what_it_needs(tmp_path: Path) -> None:
    environ = {"UV_INDEX_URL": "x", "HTTPS_PROXY": "p", "SSL_CERT_FILE": "c", "AWS_SECRET_ACCESS_KEY": "s", "PATH": "/bin"}
    passed = module.Environments(str(tmp_path), environ=environ)._uv_environment()
    assert passed.keys() == {
        "UV_INDEX_URL",
        "HTTPS_PROXY",
        "SSL_CERT_FILE",
        "PATH",
        "UV_CACHE_DIR",
        "UV_NO_PROGRESS",
        "NO_COLOR",
    }


class Elsewhere(Fixed):
    """Its framework has a second place where it may be found."""

    requirements = ("frame==3.0+cpu", "beside")
    otherwise: tuple[str, ...] = ()

    async def runtime(self, image: str) -> Runtime:
        return replace(await super().runtime(image), otherwise=self.otherwise)


async def test_a_second_place_is_asked_where_the_first_lacks_the_framework(tmp_path: Path, index: Path) -> None:
    wheel(tmp_path / "second", "frame", "3.0+cpu")
    wheel(tmp_path / "second", "beside", "1.0")
    environments = Elsewhere(str(tmp_path / "cache"), environ=make(tmp_path, index)._environ)
    with pytest.raises(CannotRun, match=r"frame==3\.0\+cpu"):
        await environments.ensure("img", ignore)
    environments.otherwise = ("--find-links", str(tmp_path / "third"))
    with pytest.raises(CannotRun) as caught:
        await environments.ensure("img", ignore)
    assert "UV_FIND_LINKS" in caught.value.failure.mend
    environments.otherwise = ("--find-links", str(tmp_path / "second"))
    built = await environments.ensure("img", ignore)
    assert await asyncio.to_thread(say, built.python, "import frame; print(frame.VERSION)") == "3.0+cpu"


async def test_folders_of_wheels_that_pip_knows_are_used(tmp_path: Path, index: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    environ |= {"UV_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path} {index}"}
    built = await Fixed(str(tmp_path / "cache"), environ=environ).ensure("img", ignore)
    assert await asyncio.to_thread(say, built.python, "import frame; print(frame.VERSION)") == "1.0"
