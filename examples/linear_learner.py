"""A linear model trained with scikit-learn, behind AWS's Linear Learner: packed as its `model_algo-1`, deployed, called.

Whoever has an artifact of a Linear Learner training job deploys that as it is; this makes one, of the same layout, from any
linear model. Nothing here knows of slipway. It needs boto3 and scikit-learn, which the environment of an image has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/linear_learner.py
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from typing import Any

import boto3
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "linear-models")
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1"
NAME = "iris-linear"


def model_algo_1(weights: Any, bias: Any) -> bytes:
    """A multiclass classifier's artifact: `weights` features by classes, `bias` one for each class."""
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "fc0_weight", "inputs": []},
        {"op": "dot", "name": "dot0", "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "null", "name": "fc0_bias", "inputs": []},
        {"op": "broadcast_add", "name": "broadcast_plus0", "inputs": [[2, 0, 0], [3, 0, 0]]},
        {"op": "null", "name": "out_label", "inputs": []},
        {"op": "SoftmaxOutput", "name": "softmaxoutput0", "inputs": [[4, 0, 0], [5, 0, 0]]},
    ]
    symbol = {"nodes": nodes, "arg_nodes": [0, 1, 3, 5], "heads": [[6, 0, 0]], "attrs": {"mxnet_version": ["int", 10301]}}
    arrays = {"arg:fc0_weight": weights, "arg:fc0_bias": bias.reshape(1, -1)}
    params = struct.pack("<QQQ", 0x112, 0, len(arrays))  # MXNet's file of arrays
    for array in arrays.values():
        params += struct.pack("<IiiqqIii", 0xF993FAC9, 0, 2, *array.shape, 1, 0, 0) + array.astype("<f4").tobytes()
    params += struct.pack("<Q", len(arrays))
    for name in arrays:
        params += struct.pack("<Q", len(name)) + name.encode()
    members = {
        "additional-params.json": {"threshold": 0.5, "loss_type": "softmax_loss", "predictor_type": "multiclass_classifier"},
        "manifest.json": {"additional-params.json": "json", "mx-mod": "mxnet_module", "version": 1},
        "mx-mod-symbol.json": symbol,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(content))
        archive.writestr("mx-mod-0000.params", params)
    return out.getvalue()


def main() -> None:
    rows, labels = load_iris(return_X_y=True)
    trained = LogisticRegression(max_iter=1000).fit(rows, labels)
    content = model_algo_1(trained.coef_.T, trained.intercept_)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model_algo-1")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))

    s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=packed.getvalue())
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "all", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 300})

    csv = "\n".join(",".join(map(str, row)) for row in rows)
    answer = runtime.invoke_endpoint(EndpointName=NAME, Body=csv, ContentType="text/csv")
    told = json.load(answer["Body"])["predictions"]
    same = sum(each["predicted_label"] == label for each, label in zip(told, trained.predict(rows), strict=True))
    farthest = np.abs(np.array([each["score"] for each in told]) - trained.predict_proba(rows)).max()
    print(f"{same} of {len(rows)} labels are scikit-learn's; scores differ by at most {farthest:.0e}")

    sparse = {"data": {"features": {"keys": [0, 2], "values": [6.0, 5.0], "shape": [4]}}}
    lines = {"ContentType": "application/jsonlines", "Accept": "application/jsonlines"}
    answer = runtime.invoke_endpoint(EndpointName=NAME, Body=json.dumps(sparse), **lines)
    print(answer["Body"].read().decode().strip())

    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
    sagemaker.delete_model(ModelName=NAME)


if __name__ == "__main__":
    main()
