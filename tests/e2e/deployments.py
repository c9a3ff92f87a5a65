"""What the end-to-end tests share: archives, a running slipway with boto3 clients, an endpoint deployed in one call."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import psutil
from botocore.config import Config
from botocore.exceptions import ClientError

from slipway.cli.launch import Launched
from tests.deadlines import PATIENCE
from tests.deadlines import until as until

SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/service"
BUCKET = "models"
SCRIPT_MODE = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}

IDENTITY = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data, content_type or "application/octet-stream"
"""


def archive(files: Mapping[str, bytes | str]) -> bytes:
    """A model.tar.gz with these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def script(text: str) -> bytes:
    """An archive that holds only `code/inference.py`."""
    return archive({"code/inference.py": text})


class Deployments:
    """boto3 against one running slipway."""

    def __init__(self, launched: Launched) -> None:
        self.launched = launched
        self.s3 = self.client("s3")
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.logs = self.client("logs")
        if not any(bucket["Name"] == BUCKET for bucket in self.s3.list_buckets()["Buckets"]):
            self.s3.create_bucket(Bucket=BUCKET)

    def client(self, service: str, **config: Any) -> Any:
        environment = self.launched.environment
        return boto3.client(
            service,
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
            config=Config(**{"retries": {"max_attempts": 1, "mode": "standard"}, "max_pool_connections": 64, **config}),
        )

    def model(
        self, name: str, data: bytes | None, *, image: str = SKLEARN, environment: Mapping[str, str] = SCRIPT_MODE, **more: Any
    ) -> None:
        container: dict[str, Any] = {"Image": image, "Environment": dict(environment)}
        if data is not None:
            self.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=data)
            container["ModelDataUrl"] = f"s3://{BUCKET}/{name}/model.tar.gz"
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, **more)

    def several(self, name: str, containers: Sequence[Mapping[str, Any]], mode: str = "Serial", **more: Any) -> None:
        """A model of several containers; `data` of each is its archive, `hostname` its name."""
        made = []
        for number, each in enumerate(containers, 1):
            container = {"Image": SKLEARN, "Environment": dict(SCRIPT_MODE), **each}
            data = container.pop("data", None)
            if data is not None:
                key = f"{name}/{number}/model.tar.gz"
                self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
                container["ModelDataUrl"] = f"s3://{BUCKET}/{key}"
            if hostname := container.pop("hostname", None):
                container["ContainerHostname"] = hostname
            made.append(container)
        self.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, Containers=made, InferenceExecutionConfig={"Mode": mode}, **more
        )

    def config(self, name: str, *variants: Mapping[str, Any]) -> None:
        filled = [
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                **variant,
            }
            for variant in (variants or ({},))
        ]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=filled)

    def start(self, name: str, data: bytes | None, variant: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Model, configuration and endpoint of one name; returns while it is Creating."""
        self.model(name, data, **more)
        self.config(name, variant or {})
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def deploy(self, name: str, data: bytes | None, variant: Mapping[str, Any] | None = None, **more: Any) -> None:
        """The same, and waits until it is InService."""
        self.start(name, data, variant, **more)
        self.settle(name, "InService")

    def status(self, name: str) -> str:
        return str(self.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    def settle(self, name: str, wanted: str, seconds: float = 90.0) -> dict[str, Any]:
        """Describe's answer once the endpoint has left its transition, which must be in `wanted`."""
        deadline = time.monotonic() + seconds
        while True:
            told: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            if told["EndpointStatus"] not in ("Creating", "Updating", "Deleting"):
                assert told["EndpointStatus"] == wanted, told.get("FailureReason")
                return told
            assert time.monotonic() < deadline, f"still {told['EndpointStatus']} after {seconds} s"

    def fail(self, name: str, data: bytes | None, **more: Any) -> str:
        """Deploys what cannot work; its FailureReason."""
        self.start(name, data, **more)
        return str(self.settle(name, "Failed")["FailureReason"])

    def invoke(self, name: str, body: bytes | str | Any, **more: Any) -> bytes:
        if not isinstance(body, bytes | str):
            body = json.dumps(body)
        arguments = {"ContentType": "application/json", **more}
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **arguments)
        data: bytes = answer["Body"].read()
        return data

    def delete(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)

    def gone(self, name: str, seconds: float = PATIENCE) -> None:
        """Wait until Describe does not find the endpoint any more."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.status(name)
            except ClientError as error:
                if "Could not find endpoint" not in str(error):
                    raise
                return
            assert time.monotonic() < deadline, f"{name} is still there after {seconds} s"

    def log(self, name: str) -> str:
        """All lines that the endpoint's containers printed."""
        events = self.logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")["events"]
        return "\n".join(event["message"] for event in events)

    def processes(self, word: str) -> list[psutil.Process]:
        """Processes of this slipway whose command line holds `word`."""
        found = []
        for process in psutil.Process(self.launched.process.pid).children(recursive=True):
            try:
                if any(word in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found
