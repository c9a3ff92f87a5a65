"""A pipeline with a choice in the middle: one preprocessing, then one of many models by request, then one post-processing.

House prices of a few cities: a scikit-learn container scales the features of all, the multi-model container has a model
for each city (TargetModel names it), the last container says the price in words. A new city is an upload, while the endpoint
runs. It needs boto3 and scikit-learn, as the image's environment has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/pipeline_of_many_models.py
"""

from __future__ import annotations

import io
import json
import os
import tarfile

import boto3
import joblib
import numpy as np
from botocore.exceptions import ClientError
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "houses")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
NAME = "house-prices"
SCRIPT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
CITIES = {"Chicago_IL": 150.0, "Houston_TX": 90.0, "NewYork_NY": 400.0}
"""Thousands of dollars for each room."""

LOAD = """
import json, os
import joblib, numpy as np

def model_fn(model_dir):
    path = os.path.join(model_dir, "model.joblib")
    return joblib.load(path) if os.path.exists(path) else None

def input_fn(body, content_type):
    return np.array(json.loads(body))
"""
PREPROCESS = "\ndef predict_fn(rows, scaler):\n    return scaler.transform(rows)\n"
CITY = "\ndef predict_fn(rows, city):\n    return city.predict(rows)\n"
POSTPROCESS = """
def predict_fn(prices, model):
    return [f"{price:,.0f} thousand dollars" for price in prices]

def output_fn(prices, accept):
    return json.dumps({"prices": prices}), "application/json"
"""


def archive(model: object, script: str) -> bytes:
    """A model.tar.gz: the fitted model (or none), and the script beside it."""
    files = {"code/inference.py": (LOAD + script).encode()}
    if model is not None:
        fitted = io.BytesIO()
        joblib.dump(model, fitted)
        files["model.joblib"] = fitted.getvalue()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


chance = np.random.RandomState(0)
houses = np.column_stack([chance.randint(1, 8, 300), chance.randint(0, 80, 300)]).astype(float)  # rooms, age in years
scaler = StandardScaler().fit(houses)

s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))


def upload(city: str, room: float) -> None:
    prices = houses[:, 0] * room - houses[:, 1] + chance.normal(0, 1, len(houses))
    s3.put_object(
        Bucket=BUCKET,
        Key=f"cities/{city}/{city}.tar.gz",
        Body=archive(Ridge(0.01).fit(scaler.transform(houses), prices), CITY),
    )


def price(city: str, rooms: int, age: int) -> str:
    body, target = json.dumps([[rooms, age]]), f"{city}/{city}.tar.gz"
    answer = runtime.invoke_endpoint(EndpointName=NAME, Body=body, ContentType="application/json", TargetModel=target)
    found: str = json.loads(answer["Body"].read())["prices"][0]
    return found


s3.create_bucket(Bucket=BUCKET)
s3.put_object(Bucket=BUCKET, Key="preprocess.tar.gz", Body=archive(scaler, PREPROCESS))
s3.put_object(Bucket=BUCKET, Key="postprocess.tar.gz", Body=archive(None, POSTPROCESS))
for name, room in CITIES.items():
    upload(name, room)
one = {"Image": IMAGE, "Environment": SCRIPT}
containers = [
    {**one, "ContainerHostname": "preprocess", "ModelDataUrl": f"s3://{BUCKET}/preprocess.tar.gz"},
    {**one, "ContainerHostname": "city", "ModelDataUrl": f"s3://{BUCKET}/cities/", "Mode": "MultiModel"},
    {**one, "ContainerHostname": "postprocess", "ModelDataUrl": f"s3://{BUCKET}/postprocess.tar.gz"},
]
sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, Containers=containers)
variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)

for name in CITIES:
    print(f"{name}: four rooms, ten years old: {price(name, 4, 10)}")
upload("Boston_MA", 300.0)
print(f"Boston_MA, uploaded just now: {price('Boston_MA', 4, 10)}")
try:
    price("Atlantis", 4, 10)
except ClientError as error:
    print(f"Atlantis: {error.response['Error']['Code']}")

sagemaker.delete_endpoint(EndpointName=NAME)
sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
sagemaker.delete_model(ModelName=NAME)
