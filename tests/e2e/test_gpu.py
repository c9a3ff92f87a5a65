"""A real GPU, where there is one: the replica of a gpu image computes on it, and nobody else sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from slipway.cli.launch import temporary
from slipway.replicas.devices import find_devices
from tests.e2e.deployments import Deployments, script

DEVICES = find_devices()
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DEVICES, reason="this machine has no CUDA device (no /dev/nvidiactl and /dev/nvidia0)"),
]

PYTORCH = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3-{}-py311"
WHERE = """
import json, os, torch
def model_fn(model_dir): return torch.nn.Linear(2, 1)
def predict_fn(data, model):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    return [model(data.to(device)).device.type, torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")]
def output_fn(prediction, accept): return json.dumps(prediction)
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Deployments]:
    with temporary() as launched:
        yield Deployments(launched)


def where(site: Deployments, name: str, device: str) -> list[object]:
    variant = {"InstanceType": "ml.g5.xlarge"}
    site.start(name, script(WHERE), variant, image=PYTORCH.format(device), environment={})
    site.settle(name, "InService", 1500)
    found: list[object] = json.loads(site.invoke(name, [[1, 2]]))
    return found


def test_the_gpu_is_used_by_who_asked_and_by_nobody_else(site: Deployments) -> None:
    kind, count, names = where(site, "on-gpu", "gpu")
    assert (kind, count) == ("cuda", 1)
    assert names
    assert where(site, "on-cpu", "cpu")[:2] == ["cpu", 0]
    assert "the container has GPU" in site.log("on-gpu")
    for number in range(1, len(DEVICES)):
        where(site, f"more-{number}", "gpu")
    site.start("too-many", script(WHERE), {"InstanceType": "ml.g5.xlarge"}, image=PYTORCH.format("gpu"), environment={})
    reason = str(site.settle("too-many", "Failed", 120)["FailureReason"])
    assert "on-gpu/AllTraffic" in reason
    assert "SLIPWAY_GPU_SHARING=2" in reason
