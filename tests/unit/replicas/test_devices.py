"""GPUs found in a tree of device files, given to one instance at a time, shown to its replicas alone."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.core.limits import gpu_count
from slipway.replicas import devices
from slipway.replicas.devices import Device, Devices, find_devices
from slipway.replicas.failures import CannotRun
from slipway.replicas.images import Interpreter, runtime_of
from tests.unit.replicas.fakes import make_spec
from tests.unit.replicas.test_supervise import Node, node  # noqa: F401  a fixture

TWO = (Device(0, "/dev/nvidia0", "GPU-aa", "A"), Device(1, "/dev/nvidia1", "GPU-bb", "A"))
PYTORCH = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3-gpu-py311"
OWN = Interpreter("/usr/bin/python3", (3, 11))


def tree(root: Path, *minors: int, control: bool = True) -> None:
    (root / "dev").mkdir(parents=True)
    for minor in minors:
        (root / f"dev/nvidia{minor}").touch()
    for name in ("nvidiactl",) * control + ("nvidia-uvm", "nvidia-caps-imex-channels"):
        (root / "dev" / name).touch()


def driver(root: Path, address: str, minor: int, uuid: str) -> None:
    folder = root / "proc/driver/nvidia/gpus" / address
    folder.mkdir(parents=True)
    text = f"Model: \t\t NVIDIA H100\nIRQ:   \t\t 5\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
    (folder / "information").write_text(text)


def test_devices_by_what_the_driver_tells(tmp_path: Path) -> None:
    """CUDA counts in the order of the bus, which is not that of the minor numbers."""
    tree(tmp_path, 0, 1)
    driver(tmp_path, "0000:1b:00.0", 1, "GPU-1111-aaaa")
    driver(tmp_path, "0000:43:00.0", 0, "GPU-????????")
    assert find_devices(str(tmp_path)) == (
        Device(0, f"{tmp_path}/dev/nvidia1", "GPU-1111-aaaa", "NVIDIA H100"),
        Device(1, f"{tmp_path}/dev/nvidia0", "", "NVIDIA H100"),
    )


def test_devices_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, 0, 3, 10)
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '0, GPU-0a, Tesla T4'\necho '3, GPU-3b, Tesla, odd'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    found = find_devices(str(tmp_path))
    assert [(each.node.rpartition("/")[2], each.uuid, each.name) for each in found] == [
        ("nvidia0", "GPU-0a", "Tesla T4"), ("nvidia10", "", ""), ("nvidia3", "GPU-3b", "Tesla, odd"),
    ]  # fmt: skip
    monkeypatch.setenv("PATH", "/nowhere")
    assert [each.index for each in find_devices(str(tmp_path))] == [0, 1, 2]


def test_no_devices(tmp_path: Path) -> None:
    assert find_devices(str(tmp_path)) == ()
    tree(tmp_path, 0, control=False)
    assert find_devices(str(tmp_path)) == ()  # its driver is not loaded


async def test_a_device_belongs_to_one_instance() -> None:
    found = Devices(TWO, patience=0.3)
    assert await found.take("i-1", "one/All", 1) == TWO[:1]
    assert await found.take("i-2", "two/All", 1) == TWO[1:]
    assert await found.take("i-1", "one/All", 1) == TWO[:1]  # another container of it
    with pytest.raises(CannotRun) as error:
        await found.take("i-3", "three/All", 1)
    failure = error.value.failure
    assert failure.kind == "gpu"
    assert (
        failure.message == "This instance needs 1 of this machine's 2 GPUs, and too few are free: in use by one/All, two/All."
    )
    assert "SLIPWAY_GPU_SHARING=2" in failure.mend
    found.release("i-1")
    with pytest.raises(CannotRun):
        await found.take("i-3", "three/All", 1)
    waiting = asyncio.create_task(found.take("i-3", "three/All", 1))
    await asyncio.sleep(0)
    found.release("i-1")
    assert await waiting == TWO[:1]


async def test_several_devices_and_sharing() -> None:
    found = Devices(TWO, sharing=2, patience=0.01)
    assert await found.take("i-1", "a", 8) == TWO
    assert await found.take("i-2", "b", 1) == TWO[:1]
    assert await found.take("i-3", "b", 1) == TWO[1:]
    with pytest.raises(CannotRun, match=r"in use by a, b \(2\)"):
        await found.take("i-4", "c", 1)
    assert found.note(TWO) == "the container has GPU 0 (A), GPU 1 (A), which others may share"
    found.release("i-nobody")


@pytest.mark.parametrize(
    ("given", "sandboxed", "wanted"),
    [
        (TWO, True, "GPU-aa,GPU-bb"),
        (TWO[1:], False, "GPU-bb"),
        ((replace(TWO[1], uuid=""),), True, "0"),  # there is no other inside
        ((replace(TWO[1], uuid=""),), False, "1"),
        ((), False, ""),
        ((), True, None),
    ],
)
def test_what_cuda_is_told(given: tuple[Device, ...], sandboxed: bool, wanted: str | None) -> None:
    assert Devices(TWO).variables(given, sandboxed=sandboxed).get(devices.VISIBLE) == wanted
    assert Devices().variables((), sandboxed=sandboxed) == {}


def test_gpus_of_instance_types() -> None:
    names = (
        "ml.m5.large",
        "ml.g4dn.xlarge",
        "ml.g4dn.12xlarge",
        "ml.g5.48xlarge",
        "ml.p3.2xlarge",
        "ml.p5.48xlarge",
        "ml.c7g.large",
        "",
    )
    assert [gpu_count(name) for name in names] == [0, 1, 4, 8, 1, 8, 0, 0]


def test_the_build_of_an_image_for_gpu() -> None:
    there = runtime_of(PYTORCH, OWN, tuple, gpu=True)
    assert there.gpu
    assert "torch==2.13.0,!=2.13.0+cpu" in there.requirements
    assert there.title == "PyTorch 2.13.0 with CUDA (python 3.11)"
    assert not any("gpu" in note for note in there.notes)
    absent = runtime_of(PYTORCH, OWN, tuple)
    assert not absent.gpu
    assert "torch==2.13.0+cpu" in absent.requirements
    assert (
        "the image asks for gpu, and no CUDA device is present on this machine; the CPU build of PyTorch runs" in absent.notes
    )
    cpu = runtime_of(PYTORCH.replace("gpu", "cpu"), OWN, tuple, gpu=True)
    assert not cpu.gpu
    tensorflow = runtime_of(PYTORCH.replace("pytorch", "tensorflow"), OWN, tuple, gpu=True)
    assert not tensorflow.gpu
    assert "the image asks for gpu; the CPU build of TensorFlow runs" in tensorflow.notes


def fake_gpus(at: Node, *, wants: bool = True) -> tuple[Device, ...]:
    """Two files that stand for device files; the environments say that what runs uses a GPU."""
    found = []
    for number in range(2):
        path = at.folder / f"nvidia{number}"
        path.touch(mode=0o666)
        found.append(Device(number, str(path), f"GPU-{number}f", "H100"))
    at.tools.devices = Devices(found, patience=0.05)
    runtime = at.tools.environments.runtime

    async def asking(image: str) -> object:
        return replace(await runtime(image), gpu=wants)

    at.tools.environments.runtime = asking  # type: ignore[method-assign,assignment]
    return tuple(found)


def looking(at: Node) -> dict[str, str]:
    """A fake host that tells what it sees."""
    there = f"[os.path.exists('{at.folder}/nvidia' + str(n)) for n in range(2)]"
    return {"HOW": "script", "SCRIPT": f"print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), {there}, flush=True)"}


async def test_each_replica_gets_a_gpu_of_its_own(node: Node) -> None:  # noqa: F811
    fake_gpus(node)
    environment = looking(node)
    for number in (1, 2):
        await node.keeper.start(replace(make_spec(f"i-{number}", environment=environment, gpus=1), instance=f"i-{number}"))
        ready = await node.until("ready", f"i-{number}")
        assert f"the container has GPU {number - 1} (H100)" in ready.notes
    boxed = node.tools.sandbox.bwrap is not None
    for number in (1, 2):
        seen = [not boxed or n == number - 1 for n in range(2)]
        assert any(f"sees GPU-{number - 1}f {seen}" in line for line in node.log(f"i-{number}")), node.log(f"i-{number}")
    await node.keeper.start(replace(make_spec("i-3", gpus=1), instance="i-3"))
    failure = (await node.until("exited", "i-3")).failure
    assert failure is not None
    assert failure.kind == "gpu"
    await node.keeper.stop("i-1", 5.0)
    await node.until("exited", "i-1")
    await node.keeper.start(replace(make_spec("i-4", gpus=4), instance="i-4"))
    failure = (await node.until("exited", "i-4")).failure
    assert failure is not None
    assert "needs 2 of this machine's 2 GPUs" in failure.message


async def test_who_asks_for_no_gpu_sees_none(node: Node) -> None:  # noqa: F811
    fake_gpus(node, wants=False)
    await node.keeper.start(make_spec("i-1", environment=looking(node), gpus=1))
    await node.until("ready")
    if node.tools.sandbox.bwrap is None:
        assert any("sees  [" in line for line in node.log())
    else:
        assert any("sees None [False, False]" in line for line in node.log())


async def test_a_model_may_decline(node: Node) -> None:  # noqa: F811
    fake_gpus(node)
    await node.keeper.start(make_spec("i-1", gpus=1, environment={"CUDA_VISIBLE_DEVICES": ""}))
    ready = await node.until("ready")
    assert not any("the container has GPU" in note for note in ready.notes)


async def test_an_instance_type_with_a_gpu_on_a_machine_without(node: Node) -> None:  # noqa: F811
    await node.keeper.start(make_spec("i-1", gpus=1))
    ready = await node.until("ready")
    wanted = "the instance type has a GPU; no CUDA device is present on this machine, and the model runs on the CPU"
    assert wanted in ready.notes
    assert any(wanted in line for line in node.log())
