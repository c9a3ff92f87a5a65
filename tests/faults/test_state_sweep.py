"""F5 in short: every operation in every state, from several threads at once: documented errors only (users.md 4.3)."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import Deployments, script, until

THREADS, CALLS = 8, 50
NAMES = ("one", "two", "three")
CONFIGS = ("good", "slow", "bad", "unknown")
ANSWERS = "def transform_fn(m, data, ct, accept):\n    return b'fine', 'text/plain'\n"
MODELS = {
    "good": "def model_fn(d):\n    return None\n" + ANSWERS,
    "slow": "import time\ndef model_fn(d):\n    time.sleep(2)\n" + ANSWERS,
    "bad": "raise RuntimeError('never')\n",
}
DOCUMENTED = {
    "create_endpoint": {"ValidationException", "ResourceLimitExceeded"},
    "update_endpoint": {"ValidationException", "ResourceLimitExceeded"},
    "update_endpoint_weights_and_capacities": {"ValidationException", "ResourceLimitExceeded"},
    "delete_endpoint": {"ValidationException"},
    "describe_endpoint": {"ValidationException"},
    "list_endpoints": set(),
    "add_tags": {"ValidationException"},
    "list_tags": {"ValidationException"},
    "invoke_endpoint": {"ValidationError", "ModelError", "ServiceUnavailable"},
}
WANTED = {"create_endpoint", "update_endpoint", "delete_endpoint", "InService", "Creating", "Updating"}
STATES = {"Creating", "Updating", "InService", "Failed", "Deleting"}


class Walk:
    """One client that does whatever comes to its mind; all of them share the endpoints."""

    def __init__(self, server: Deployments, seed: int, seen: Counter[str]) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.seen = seen
        self.wrong: list[str] = []
        sagemaker = server.sagemaker
        self.acts: list[tuple[str, Callable[[str], object]]] = [
            ("create_endpoint", lambda n: sagemaker.create_endpoint(EndpointName=n, EndpointConfigName=self.config())),
            ("create_endpoint", lambda n: sagemaker.create_endpoint(EndpointName=n, EndpointConfigName=self.config())),
            ("update_endpoint", lambda n: sagemaker.update_endpoint(EndpointName=n, EndpointConfigName=self.config())),
            ("update_endpoint", lambda n: sagemaker.update_endpoint(EndpointName=n, EndpointConfigName=self.config())),
            ("update_endpoint_weights_and_capacities", self.weights),
            ("update_endpoint_weights_and_capacities", self.weights),
            ("delete_endpoint", self.delete),
            ("describe_endpoint", self.server.status),
            ("list_endpoints", self.list),
            ("list_endpoints", self.list),
            ("add_tags", lambda n: sagemaker.add_tags(ResourceArn=arn(n), Tags=[{"Key": "k", "Value": "v"}])),
            ("list_tags", lambda n: sagemaker.list_tags(ResourceArn=arn(n))),
            ("invoke_endpoint", lambda n: server.invoke(n, b"x")),
            ("invoke_endpoint", lambda n: server.invoke(n, b"x")),
        ]

    def config(self) -> str:
        return self.random.choices(CONFIGS, (4, 3, 1, 1))[0]

    def weights(self, name: str) -> None:
        wanted = {"VariantName": "AllTraffic", "DesiredWeight": self.random.choice((0, 1, 2)), "DesiredInstanceCount": 1}
        wanted["DesiredInstanceCount"] = self.random.choice((1, 2))
        self.server.sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=[wanted])

    def delete(self, name: str) -> None:
        """Not as often as the rest: else there would seldom be anything."""
        if self.random.random() < 0.3:
            self.server.delete(name)

    def list(self, _name: str) -> None:
        for endpoint in self.server.sagemaker.list_endpoints()["Endpoints"]:
            assert endpoint["EndpointStatus"] in STATES
            self.seen[endpoint["EndpointStatus"]] += 1

    def run(self) -> None:
        began = Watch()
        for number in itertools.count():
            if number >= CALLS and (set(self.seen) >= WANTED or began.seconds > PATIENCE):
                return
            operation, act = self.random.choice(self.acts)
            time.sleep(self.random.uniform(0, 0.25))  # endpoints need time to get anywhere
            try:
                act(self.random.choice(NAMES))
                self.seen[operation] += 1
            except ClientError as error:
                code = error.response["Error"]["Code"]
                self.seen[f"{operation} {code}"] += 1
                if code not in DOCUMENTED[operation]:
                    self.wrong.append(f"{operation}: {error}")


def arn(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}"


def test_any_operation_in_any_state(server: Deployments) -> None:
    for name, code in MODELS.items():
        server.model(
            name, script(code), environment={"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
        )
        server.config(name)
    seen: Counter[str] = Counter()
    walks = [Walk(server, seed, seen) for seed in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(walk.run) for walk in walks]:
            done.result()
    assert [wrong for walk in walks for wrong in walk.wrong] == []
    assert set(seen) >= WANTED, seen
    for endpoint in server.sagemaker.list_endpoints()["Endpoints"]:
        if endpoint["EndpointStatus"] != "Deleting":
            server.delete(endpoint["EndpointName"])
    began = Watch()
    until(lambda: not server.sagemaker.list_endpoints()["Endpoints"], what="the end of all endpoints")
    assert began.free < 5
    until(lambda: not server.processes("slipway_host"), what="the end of all replicas")
    for name in MODELS:
        server.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        server.sagemaker.delete_model(ModelName=name)
    assert server.sagemaker.list_models()["Models"] == []


def test_deletes_that_race_have_one_outcome(server: Deployments) -> None:
    server.deploy("raced", script(MODELS["good"]))
    gate, outcomes = threading.Barrier(6), []

    def delete() -> None:
        gate.wait()
        try:
            server.delete("raced")
            outcomes.append("accepted")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(delete)
    assert "accepted" in outcomes
    assert set(outcomes) <= {"accepted", "ValidationException"}
    server.gone("raced")
