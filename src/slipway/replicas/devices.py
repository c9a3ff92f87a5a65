"""GPUs of this machine, and whose each is: a device belongs to one instance at a time, unless sharing is asked for.

Found without any CUDA library: by the driver's device files and what it tells under /proc, else by nvidia-smi.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slipway.replicas.failures import cannot

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE = 10.0
"""Seconds to wait for a device of a replica that is about to end."""
_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")
"""Of all devices together, below /dev."""
_FIELD = re.compile(r"^(Model|GPU UUID|Device Minor):\s*(.+?)\s*$", re.MULTILINE)
_UUID = re.compile(r"GPU-[0-9a-fA-F-]+")


@dataclass(frozen=True, slots=True)
class Device:
    index: int
    """As CUDA counts by default order of the bus."""
    node: str
    """`/dev/nvidia0`."""
    uuid: str = ""
    """Empty: the driver does not tell."""
    name: str = ""


@dataclass(slots=True)
class _Holder:
    label: str
    devices: tuple[Device, ...]
    users: int


def find_devices(root: str = "") -> tuple[Device, ...]:
    """The devices of the machine whose files lie below `root`. Blocking, since nvidia-smi may be asked."""
    nodes = [
        path
        for path in glob.glob(f"{glob.escape(root)}/dev/nvidia[0-9]*")
        if re.fullmatch(r"nvidia\d+", os.path.basename(path))
    ]
    if not nodes or not os.path.exists(f"{root}/dev/nvidiactl"):
        return ()
    told = _of_driver(root) or _of_program()
    found = []
    for index, minor in enumerate(sorted(int(os.path.basename(path).removeprefix("nvidia")) for path in nodes)):
        about = told.get(minor, {})
        uuid = about.get("GPU UUID", "")
        node = f"{root}/dev/nvidia{minor}"
        found.append(
            Device(int(about.get("index", index)), node, uuid if _UUID.fullmatch(uuid) else "", about.get("Model", ""))
        )
    return tuple(sorted(found, key=lambda device: device.index))


def _of_driver(root: str) -> dict[int, dict[str, str]]:
    """By minor number, what /proc/driver/nvidia says; its folders are the addresses on the bus, in CUDA's order."""
    found = {}
    for index, path in enumerate(sorted(glob.glob(f"{glob.escape(root)}/proc/driver/nvidia/gpus/*/information"))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                about = dict(_FIELD.findall(file.read(65536)))
        except OSError:
            continue
        if about.get("Device Minor", "").isdigit():
            found[int(about["Device Minor"])] = {**about, "index": str(index)}
    return found


def _of_program() -> dict[int, dict[str, str]]:
    """The same by nvidia-smi, which counts in the order of the minor numbers on nearly every machine."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [[part.strip() for part in line.split(",", 2)] for line in done.stdout.splitlines()]
    return {
        int(row[0]): {"index": row[0], "GPU UUID": row[1], "Model": row[2]}
        for row in rows
        if len(row) == 3 and row[0].isdigit()
    }


class Devices:
    """All devices of this keeper. `sharing`: instances that one device may belong to."""

    def __init__(self, found: Sequence[Device] = (), sharing: int = 1, *, patience: float = PATIENCE, root: str = "") -> None:
        self.found = tuple(found)
        self.common = tuple(path for name in _COMMON if found and os.path.exists(path := f"{root}/dev/{name}"))
        self._sharing = sharing
        self._patience = patience
        self._holders: dict[str, _Holder] = {}
        self._freed = asyncio.Event()

    async def take(self, instance: str, label: str, count: int) -> tuple[Device, ...]:
        """`count` devices for an instance (`label` in messages), all of the machine's at most; its further containers get
        the same. Waits a moment for one that is being given back. CannotRun."""
        count = min(count, len(self.found))
        if holder := self._holders.get(instance):
            holder.users += 1
            return holder.devices
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            if devices := self._free(count):
                self._holders[instance] = _Holder(label, devices, 1)
                return devices
            self._freed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._freed.wait()
            except TimeoutError:
                raise cannot("gpu", *self._why(count)) from None

    def release(self, instance: str) -> None:
        holder = self._holders.get(instance)
        if holder is not None:
            holder.users -= 1
            if holder.users <= 0:
                del self._holders[instance]
                self._freed.set()

    def _free(self, count: int) -> tuple[Device, ...]:
        """The least used ones; none if there are too few."""
        used = Counter(device for holder in self._holders.values() for device in holder.devices)
        free = sorted((device for device in self.found if used[device] < self._sharing), key=lambda d: (used[d], d.index))
        return tuple(sorted(free[:count], key=lambda device: device.index)) if len(free) >= count else ()

    def _why(self, count: int) -> tuple[str, str]:
        owners = Counter(holder.label for holder in self._holders.values())
        used = ", ".join(f"{label} ({number})" if number > 1 else label for label, number in sorted(owners.items()))
        there = f"{len(self.found)} GPU{'s' if len(self.found) > 1 else ''}"
        message = f"This instance needs {count} of this machine's {there}, and too few are free: in use by {used}."
        mend = (
            "delete one of these endpoints, ask for fewer instances or an instance type with fewer GPUs, or let instances "
            f"share a GPU: SLIPWAY_GPU_SHARING={self._sharing + 1}"
        )
        return message, mend

    def variables(self, devices: Sequence[Device], *, sandboxed: bool) -> Mapping[str, str]:
        """What CUDA must be told. In a sandbox there are no other device files; elsewhere an empty list hides them."""
        if not self.found or (sandboxed and not devices):
            return {}
        if all(device.uuid for device in devices):
            names = [device.uuid for device in devices]
        else:
            names = [str(number if sandboxed else device.index) for number, device in enumerate(devices)]
        return {VISIBLE: ",".join(names), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def files(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """What a sandbox must show."""
        return (*(device.node for device in devices), *self.common) if devices else ()

    def note(self, devices: Sequence[Device]) -> str:
        names = ", ".join(f"GPU {device.index}" + (f" ({device.name})" if device.name else "") for device in devices)
        return f"the container has {names}" + ("" if self._sharing == 1 else ", which others may share")


def declined(environment: Mapping[str, str]) -> bool:
    """The model's own Environment hides every device."""
    return environment.get(VISIBLE, "0").strip() in ("", "-1")
