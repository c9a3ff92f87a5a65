"""Instance types, quotas, backoff."""

from __future__ import annotations

import pytest

from slipway.core.limits import (
    GIB,
    InstanceType,
    Quotas,
    container_size,
    instance_type,
    instances_over_quota,
    restart_delay,
)


@pytest.mark.parametrize(
    ("name", "cpus", "gib"),
    [
        ("ml.t2.medium", 2, 4),
        ("ml.m5.large", 2, 8),
        ("ml.m5d.24xlarge", 96, 384),
        ("ml.c5.xlarge", 4, 8),
        ("ml.c5.9xlarge", 36, 72),
        ("ml.c6gn.16xlarge", 64, 128),
        ("ml.c4.large", 2, 3.75),
        ("ml.r5.12xlarge", 48, 384),
        ("ml.r8g.medium", 1, 8),
        ("ml.g4dn.xlarge", 4, 16),
        ("ml.g6e.2xlarge", 8, 64),
        ("ml.p3.2xlarge", 8, 61),
        ("ml.inf1.6xlarge", 24, 48),
        ("ml.inf2.8xlarge", 32, 128),
        ("ml.trn2.48xlarge", 192, 2052),
        ("ml.dl1.24xlarge", 96, 768),
        ("ml.p6-b200.48xlarge", 192, 2052),
        ("ml.z9.huge", 2, 8),
    ],
)
def test_types(name: str, cpus: int, gib: float) -> None:
    assert instance_type(name) == InstanceType(cpus, int(gib * GIB))


def test_the_machine_is_the_bound() -> None:
    small = InstanceType(2, 3 * GIB)
    assert container_size("ml.m5.4xlarge", small) == small
    assert container_size("ml.m5.4xlarge", InstanceType(64, 0)) == InstanceType(16, 64 * GIB)
    assert container_size("ml.m5.large", InstanceType(8, 32 * GIB), GIB).memory_bytes == GIB


def test_quotas() -> None:
    quotas = Quotas(instances_per_type=3, instances=4)
    assert instances_over_quota(quotas, {"ml.m5.large": 1}, {"ml.m5.large": 2}) is None
    message = instances_over_quota(quotas, {"ml.m5.large": 2}, {"ml.m5.large": 2})
    assert message is not None
    assert message.startswith(
        "The account-level service limit 'ml.m5.large for endpoint usage' is 3 Instances, with current utilization of 2 "
        "Instances and a request delta of 2 Instances."
    )
    assert "Number of instances" in (instances_over_quota(quotas, {"ml.m5.large": 3}, {"ml.c5.large": 2}) or "")
    assert instances_over_quota(quotas, {"ml.m5.large": 9}, {"ml.m5.large": -1}) is None


def test_backoff_grows_to_a_minute() -> None:
    assert [restart_delay(n) for n in (0, 1, 2, 3, 4, 8, 9, 50, 10**6)] == [0, 0, 1, 2, 4, 60, 60, 60, 60]
