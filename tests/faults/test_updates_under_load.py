"""F1 in short: updates, weights and scaling while requests keep coming; none of them fails (users.md 4.3)."""

from __future__ import annotations

from tests.e2e.deployments import Deployments, script
from tests.faults.load import load

SAYS = "def model_fn(d):\n    return None\ndef transform_fn(m, data, ct, accept):\n    return %r, 'text/plain'\n"
WORKERS = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


def two_variants(name: str) -> list[dict[str, object]]:
    return [
        {"VariantName": "a", "ModelName": name, "InitialVariantWeight": 1},
        {"VariantName": "b", "ModelName": name, "InitialVariantWeight": 1},
    ]


def capacities(server: Deployments, **wanted: tuple[float, int]) -> dict[str, dict[str, object]]:
    """Set weight and count of each variant; what Describe says then."""
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="busy",
        DesiredWeightsAndCapacities=[
            {"VariantName": name, "DesiredWeight": weight, "DesiredInstanceCount": count}
            for name, (weight, count) in wanted.items()
        ],
    )
    told = server.settle("busy", "InService")
    return {variant["VariantName"]: variant for variant in told["ProductionVariants"]}


def test_no_request_fails_while_everything_about_the_endpoint_changes(server: Deployments) -> None:
    for number in range(2):
        server.model(f"busy-{number}", script(SAYS % f"{number}".encode()), environment=WORKERS)
        server.config(f"busy-{number}", *two_variants(f"busy-{number}"))
    server.sagemaker.create_endpoint(EndpointName="busy", EndpointConfigName="busy-0")
    server.settle("busy", "InService")
    with load(server, "busy") as calls:
        for turn in range(1, 6):
            server.sagemaker.update_endpoint(EndpointName="busy", EndpointConfigName=f"busy-{turn % 2}")
            server.settle("busy", "InService")
            assert server.invoke("busy", b"x") == f"{turn % 2}".encode()
            calls.more()
        for weight in (0, 3, 0, 1, 2):
            told = capacities(server, a=(1, 1), b=(weight, 1))
            assert told["b"]["CurrentWeight"] == weight
            calls.more(5)
        for count in (3, 1, 3, 1):
            told = capacities(server, a=(1, count), b=(1, 1))
            assert told["a"]["CurrentInstanceCount"] == count
            calls.more(5)
        calls.more(max(20, 201 - calls.good))
    assert calls.errors == []
