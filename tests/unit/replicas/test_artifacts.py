from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.replicas.artifacts import Artifacts
from slipway.replicas.failures import CannotRun
from slipway.replicas.unpack import Bounds
from tests.deadlines import PATIENCE
from tests.unit.replicas.fakes import ObjectService, archive

BOUNDS = Bounds(10**9, 1000, 200)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ObjectService]:
    made = ObjectService(tmp_path / "o.sock")
    await made.start()
    yield made
    await made.stop()


def make(folder: Path, service: ObjectService, **how: int) -> Artifacts:
    artifacts = Artifacts(str(folder / "artifacts"), f"unix:{service.path}", "localhost:4566", BOUNDS, **how)
    artifacts.open()
    return artifacts


def exists(path: str) -> bool:
    return os.path.exists(path)


def ignore(_: str) -> None: ...


async def refused(artifacts: Artifacts, *wanted: object, timeout: float = 10.0) -> tuple[str, str]:
    with pytest.raises(CannotRun) as caught:
        await artifacts.hold(wanted, ignore, timeout)  # type: ignore[arg-type]
    return caught.value.failure.kind, caught.value.failure.message


async def test_an_archive_is_fetched_unpacked_and_shared(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service)
    model = service.put("m.tar.gz", archive({"model": b"weights", "code/inference.py": b"x"}))
    told: list[str] = []
    one, two = await asyncio.gather(*(artifacts.hold([model], told.append, PATIENCE) for _ in range(2)))
    assert one.path == two.path
    assert len(service.requests) == 1
    assert b"host: localhost:4566" in service.requests[0].lower()
    assert (Path(one.path) / "code" / "inference.py").read_bytes() == b"x"
    assert stat.S_IMODE(os.stat(one.path).st_mode) == 0o755
    assert told[0] == "fetching s3://bucket/m.tar.gz"
    assert sorted(os.listdir(os.path.dirname(one.path))) == ["about.json", "tree"]
    one.release()
    one.release()
    two.release()
    assert (await artifacts.hold([replace(model, url="/bucket/signed-anew")], ignore, PATIENCE)).path == one.path
    assert len(service.requests) == 1


async def test_another_keeper_of_the_same_boot_uses_what_is_there(tmp_path: Path, service: ObjectService) -> None:
    model = service.put("m", archive({"a": b"b"}))
    (await make(tmp_path, service).hold([model], ignore, PATIENCE)).release()
    (tmp_path / "artifacts" / "x.making").mkdir()
    again = make(tmp_path, service)
    await again.hold([model], ignore, PATIENCE)
    assert len(service.requests) == 1
    assert not (tmp_path / "artifacts" / "x.making").exists()


async def test_after_another_boot_everything_is_fetched_anew(tmp_path: Path, service: ObjectService) -> None:
    model = service.put("m", archive({"a": b"b"}))
    (await make(tmp_path, service).hold([model], ignore, PATIENCE)).release()
    (tmp_path / "artifacts" / "boot").write_text("another boot")
    await make(tmp_path, service).hold([model], ignore, PATIENCE)
    assert len(service.requests) == 2


async def test_a_fetch_goes_on_where_it_broke_off(tmp_path: Path, service: ObjectService) -> None:
    data = os.urandom(3_000_000)
    service.cut_after = [1_000_000, 0, 700_000]
    model = replace(service.put("m", data), archive=False, name="weights.bin")
    holding = await make(tmp_path, service).hold([model], ignore, PATIENCE)
    assert (Path(holding.path) / "weights.bin").read_bytes() == data
    assert len(service.requests) == 4
    assert b"range: bytes=1000000-" in service.requests[1].lower()
    assert b"range: bytes=1700000-" in service.requests[3].lower()


async def test_a_restart_of_the_object_service_is_waited_for(tmp_path: Path, service: ObjectService) -> None:
    model = service.put("m", archive({"a": b"b"}))
    await service.stop()
    waiting = asyncio.create_task(make(tmp_path, service).hold([model], ignore, PATIENCE))
    await asyncio.sleep(0.05)
    service.statuses = [503, 500]
    await service.start()
    await waiting
    assert len(service.requests) == 3


async def test_what_cannot_be_fetched_says_why(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service)
    model = service.put("m", archive({"a": b"b"}))
    gone = replace(model, url="/bucket/gone", source="s3://bucket/gone")
    assert await refused(artifacts, gone) == ("fetch-missing", "There is no object at s3://bucket/gone.")
    service.statuses = [403]
    kind, message = await refused(artifacts, model)
    assert kind == "fetch-failed"
    assert "403 AccessDenied" in message
    for changed in (replace(model, etag="e2"), replace(model, size=model.size - 1)):
        assert "changed while it was fetched" in (await refused(artifacts, changed))[1]
    service.gate = asyncio.Event()
    assert "not fetched within 0 seconds" in (await refused(artifacts, model, timeout=0.05))[1]
    service.gate.set()
    service.gate = None
    await artifacts.hold([model], ignore, PATIENCE)
    assert not [name for name in os.listdir(tmp_path / "artifacts") if "making" in name]


async def test_a_hostile_archive_is_refused_with_its_kind(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service)
    kind, message = await refused(artifacts, service.put("m", archive({"../../evil": b"x"})))
    assert kind == "hostile-archive"
    assert message.startswith("s3://bucket/m: a name points out of the archive")
    assert (await refused(artifacts, service.put("n", b"not an archive" * 100)))[0] == "not-an-archive"
    assert sorted(os.listdir(tmp_path / "artifacts")) == ["boot"]


async def test_single_files_and_folders_of_files(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service)
    files = [replace(service.put(f"p/{n}", n.encode(), n), archive=False, name=n) for n in ("a", "sub/b", "sub/c/d")]
    holding = await artifacts.hold(files, ignore, PATIENCE)
    assert (Path(holding.path) / "sub" / "c" / "d").read_bytes() == b"sub/c/d"
    escape = replace(files[0], name="../../evil")
    assert (await refused(artifacts, escape))[0] == "fetch-failed"
    clash = [files[0], replace(files[1], name="a/b")]
    assert (await refused(artifacts, *clash))[0] == "fetch-failed"
    twice = [files[0], files[0]]
    assert (await refused(artifacts, *twice))[0] == "fetch-failed"


async def test_the_last_one_to_give_up_ends_the_fetch(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service)
    model = service.put("m", archive({"a": b"b"}))
    service.gate = asyncio.Event()
    first, second = (asyncio.create_task(artifacts.hold([model], ignore, PATIENCE)) for _ in range(2))
    while not service.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.wait([first])
    service.gate.set()
    holding = await second
    assert exists(holding.path)
    assert len(service.requests) == 1


async def test_what_is_unused_goes_when_there_is_too_much(tmp_path: Path, service: ObjectService) -> None:
    artifacts = make(tmp_path, service, keep_bytes=250)
    kept = await artifacts.hold([service.put("kept", archive({"a": b"x" * 100}))], ignore, PATIENCE)
    paths = []
    for n in range(4):
        holding = await artifacts.hold([service.put(f"m{n}", archive({"a": b"x" * 100}))], ignore, PATIENCE)
        holding.release()
        os.utime(os.path.dirname(holding.path), (n, n))
        paths.append(holding.path)
    await artifacts.hold([service.put("last", archive({"a": b"x" * 100}))], ignore, PATIENCE)
    assert [exists(path) for path in paths] == [False, False, True, True]
    assert exists(kept.path)
