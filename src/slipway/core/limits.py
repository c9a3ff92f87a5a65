"""What an instance type gives a container, account quotas, and how long to wait before a restart. Figures and pure functions.

A type's vCPUs and memory are EC2's published ones; on a smaller machine the machine is the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

GIB = 1024**3


class InstanceType(NamedTuple):
    cpus: int
    memory_bytes: int


_SIZES: Mapping[str, int] = {
    "medium": 1,
    "large": 2,
    "xlarge": 4,
}
"""vCPUs of the sizes without a number; `Nxlarge` has 4 N."""

_RATIO: Mapping[str, float] = {"c": 2, "m": 4, "r": 8, "g": 4, "gr": 8, "inf": 2, "trn": 4, "t": 4, "p": 8, "dl": 8}
"""GiB of memory for one vCPU by the family's letters: compute 2, general 4, memory 8."""

_FAMILY_RATIO: Mapping[str, float] = {"c4": 1.875, "inf2": 4, "g6e": 8, "g7e": 8, "trn2": 10.6875, "p6-b200": 10.6875}

_EXACT: Mapping[str, tuple[int, float]] = {
    "t2.medium": (2, 4),
    "t2.large": (2, 8),
    "t2.xlarge": (4, 16),
    "t2.2xlarge": (8, 32),
    "c4.8xlarge": (36, 60),
    "p2.xlarge": (4, 61),
    "p2.8xlarge": (32, 488),
    "p2.16xlarge": (64, 732),
    "p3.2xlarge": (8, 61),
    "p3.8xlarge": (32, 244),
    "p3.16xlarge": (64, 488),
    "p4d.24xlarge": (96, 1152),
    "p4de.24xlarge": (96, 1152),
    "p5.4xlarge": (16, 256),
    "p5.48xlarge": (192, 2048),
    "p5e.48xlarge": (192, 2048),
    "p5en.48xlarge": (192, 2048),
    "p6-b300.48xlarge": (192, 4096),
    "p6e-gb200.36xlarge": (144, 960),
    "trn1.2xlarge": (8, 32),
    "trn1.32xlarge": (128, 512),
    "trn1n.32xlarge": (128, 512),
}


def instance_type(name: str) -> InstanceType:
    """vCPUs and memory of `ml.<family>.<size>`; a type that nobody listed is computed from its family and size."""
    _, _, rest = name.partition(".")
    family, _, size = rest.partition(".")
    if exact := _EXACT.get(rest):
        return InstanceType(exact[0], int(exact[1] * GIB))
    multiple = size.removesuffix("xlarge")
    cpus = _SIZES.get(size) or (4 * int(multiple) if multiple.isdigit() else 2)
    ratio = _FAMILY_RATIO.get(family) or _RATIO.get(_leading_letters(family)) or 4
    return InstanceType(cpus, int(cpus * ratio * GIB))


def _leading_letters(family: str) -> str:
    for at, character in enumerate(family):
        if character.isdigit():
            return family[:at]
    return family


_GPU_FAMILIES = frozenset(("g", "gr", "p"))
_GPUS: Mapping[str, int] = {
    "p2.8xlarge": 8,
    "p2.16xlarge": 16,
    "p3.8xlarge": 4,
    "p3.16xlarge": 8,
    "p3dn.24xlarge": 8,
    "p4d.24xlarge": 8,
    "p4de.24xlarge": 8,
    "p5.48xlarge": 8,
    "p5e.48xlarge": 8,
    "p5en.48xlarge": 8,
    "p6-b200.48xlarge": 8,
    "p6-b300.48xlarge": 8,
    "p6e-gb200.36xlarge": 4,
    "g4dn.12xlarge": 4,
    **{f"{family}.{size}xlarge": count for family in ("g5", "g6", "g6e") for size, count in ((12, 4), (24, 4), (48, 8))},
    "g7e.12xlarge": 2,
    "g7e.24xlarge": 4,
    "g7e.48xlarge": 8,
}
"""Of instance types with more than one."""


def gpu_count(name: str) -> int:
    """GPUs of `ml.<family>.<size>`; 0 for a family without any."""
    _, _, rest = name.partition(".")
    if _leading_letters(rest.partition(".")[0]) not in _GPU_FAMILIES:
        return 0
    return _GPUS.get(rest, 1)


def container_size(name: str, machine: InstanceType, memory_bound: int = 0) -> InstanceType:
    """What one container of an instance of this type may use here: never more than the machine has, or than `memory_bound`."""
    wanted = instance_type(name)
    memory = min(wanted.memory_bytes, machine.memory_bytes) if machine.memory_bytes else wanted.memory_bytes
    if memory_bound:
        memory = min(memory, memory_bound)
    return InstanceType(max(1, min(wanted.cpus, machine.cpus)), memory)


@dataclass(frozen=True, slots=True)
class Quotas:
    """Per account and region. Generous: they exist so that a runaway script meets AWS's error, not a swapping machine."""

    instances_per_type: int = 100
    instances: int = 500
    endpoints: int = 1000
    endpoint_configs: int = 10_000
    models: int = 10_000
    transform_jobs: int = 100_000
    """Of all times: there is no call that deletes one."""


def quota_message(what: str, unit: str, limit: int, used: int, delta: int) -> str:
    """ResourceLimitExceeded in AWS's words (hosting.md 2.9). `what`: `ml.m5.large for endpoint usage`; `unit`: `Instances`."""
    return (
        f"The account-level service limit '{what}' is {limit} {unit}, with current utilization of {used} {unit} and a request "
        f"delta of {delta} {unit}. Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas "
        "is not available, contact AWS support to request an increase for this quota."
    )


def instances_over_quota(quotas: Quotas, used: Mapping[str, int], wanted: Mapping[str, int]) -> str | None:
    """The message for the first instance type, or the total, that would go over its quota; None: allowed.

    Both mappings are instance counts by instance type: those of the account's other endpoints, and those asked for.
    """
    for kind, delta in wanted.items():
        have = used.get(kind, 0)
        if delta > 0 and have + delta > quotas.instances_per_type:
            return quota_message(f"{kind} for endpoint usage", "Instances", quotas.instances_per_type, have, delta)
    have, delta = sum(used.values()), sum(wanted.values())
    if delta > 0 and have + delta > quotas.instances:
        return quota_message("Number of instances across active endpoints", "Instances", quotas.instances, have, delta)
    return None


RESTART_MAX_SECONDS = 60.0


def restart_delay(crashes: int) -> float:
    """Seconds to wait after the n-th crash in a row: none after the first, then 1, 2, 4 … up to a minute."""
    if crashes <= 1:
        return 0.0
    return min(2.0 ** min(crashes - 2, 10), RESTART_MAX_SECONDS)
