"""A slipway of the benchmark's own, with an identity model and a scikit-learn model deployed through boto3."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from slipway.cli.launch import Launched

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::123456789012:role/bench"
SCRIPT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
PINS = ("scikit-learn==1.2.2", "numpy<2", "joblib")

IDENTITY = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""

SCIKIT_LEARN = """
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""

TRAIN = """
import sys, joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
x, y = load_breast_cancer(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=10000).fit(x, y), sys.argv[1])
"""

ROW = (
    b"[[17.99,10.38,122.8,1001.0,0.1184,0.2776,0.3001,0.1471,0.2419,0.07871,1.095,0.9053,8.589,153.4,0.006399,0.04904,0.05373,"
    b"0.01587,0.03003,0.006193,25.38,17.33,184.6,2019.0,0.1622,0.6656,0.7119,0.2654,0.4601,0.1189]]"
)


def image_python(image: str = IMAGE) -> str:
    """The interpreter of an image's environment, built if need be."""
    slipway = [sys.executable, "-m", "slipway.cli.main", "images"]
    subprocess.run([*slipway, "pull", image], check=True, stdout=sys.stderr)
    return subprocess.run([*slipway, "show", "--python", image], check=True, capture_output=True, text=True).stdout.strip()


def train(python: str, folder: Path) -> Path:
    path = folder / "model.joblib"
    subprocess.run([python, "-c", TRAIN, str(path)], check=True)
    return path


def archive(script: str, model: Path | None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(script.encode())
        tar.addfile(entry, io.BytesIO(script.encode()))
        if model:
            tar.add(model, "model.joblib")
    return out.getvalue()


class Deployment:
    """Clients of one slipway, and what they deployed."""

    def __init__(self, launched: Launched) -> None:
        self.launched = launched
        environment = launched.environment
        self.session = boto3.Session(
            environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
        )
        self.s3 = self.client("s3")
        self.sagemaker = self.client("sagemaker")
        self.s3.create_bucket(Bucket="bench")

    def client(self, name: str) -> Any:
        return self.session.client(name, endpoint_url=self.launched.endpoint_url)

    def deploy(
        self, name: str, data: bytes, *, workers: int = 1, image: str = IMAGE, environment: Mapping[str, str] = SCRIPT
    ) -> float:
        """Seconds from CreateEndpoint to InService."""
        self.s3.put_object(Bucket="bench", Key=f"{name}.tar.gz", Body=data)
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": image,
                "ModelDataUrl": f"s3://bench/{name}.tar.gz",
                "Environment": {
                    **environment,
                    "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            },
        )
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        begun = time.perf_counter()
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        while True:
            told = self.sagemaker.describe_endpoint(EndpointName=name)
            if told["EndpointStatus"] == "InService":
                return time.perf_counter() - begun
            if told["EndpointStatus"] == "Failed":
                raise RuntimeError(told["FailureReason"])
            time.sleep(0.01)  # as `Server.ready` does: asking without a pause takes a core from who is to start

    def url(self, name: str) -> str:
        return f"{self.launched.endpoint_url}/endpoints/{name}/invocations"

    def signed_headers(self, name: str, body: bytes, content_type: str) -> dict[str, str]:
        """Headers of one signed request; the same request may be sent again and again for 15 minutes."""
        environment = self.launched.environment
        keys = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        request = AWSRequest("POST", self.url(name), data=body, headers={"Content-Type": content_type})
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        request.headers["Host"] = urlsplit(self.url(name)).netloc
        SigV4Auth(keys, "sagemaker", environment["AWS_REGION"]).add_auth(request)
        return dict(request.headers.items())
