"""Real-time inference with plain boto3, as on AWS: train, deploy, update without downtime, shift traffic, stream an answer.

Nothing here knows of slipway. It needs boto3 and scikit-learn 1.2, which the environment of the image it deploys to has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/realtime.py

On AWS the same script runs with a role that SageMaker may assume (ROLE) and a bucket name that is free (BUCKET).
"""

from __future__ import annotations

import collections
import io
import os
import tarfile
import threading
import time
from typing import Any

import boto3
import joblib
from botocore.exceptions import BotoCoreError, ClientError
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "iris-models")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ENDPOINT = "iris"

INFERENCE = """
import os, time
import joblib
from botocore.exceptions import BotoCoreError, ClientError

NAMES = ("setosa", "versicolor", "virginica")

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(body, content_type):
    return [[float(number) for number in line.split(",")] for line in body.strip().splitlines()]

def predict_fn(rows, model):
    return [NAMES[label] for label in model.predict(rows)]

def output_fn(labels, accept):
    if accept != "text/event-stream":
        return "\\n".join(labels), "text/csv"
    def events():
        for label in labels:
            yield f"data: {label}\\n\\n"
            time.sleep(0.05)
    return events(), accept
"""

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")


def upload(name: str, model: Any) -> str:
    """The S3 address of `name`'s model.tar.gz: the trained model, and the code that serves it."""
    trained = io.BytesIO()
    joblib.dump(model, trained)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for path, data in (("model.joblib", trained.getvalue()), ("code/inference.py", INFERENCE.encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    key = f"{name}/model.tar.gz"
    s3.put_object(Bucket=BUCKET, Key=key, Body=archive.getvalue())
    return f"s3://{BUCKET}/{key}"


def create_model(name: str, url: str) -> None:
    environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    container = {"Image": IMAGE, "ModelDataUrl": url, "Environment": environment}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)


def create_config(name: str, **weights: float) -> None:
    """One production variant for each model, with its share of the traffic."""
    size = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    variants = [{"VariantName": model, "ModelName": model, "InitialVariantWeight": w, **size} for model, w in weights.items()]
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)


def wait() -> None:
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT)


def predict(rows: list[list[float]], **more: str) -> dict[str, Any]:
    body = "\n".join(",".join(map(str, row)) for row in rows)
    answer: dict[str, Any] = runtime.invoke_endpoint(EndpointName=ENDPOINT, ContentType="text/csv", Body=body, **more)
    return answer


def update_under_load(row: list[float]) -> tuple[int, int]:
    """Moves the endpoint to the second configuration while it is being called; calls that were answered, and that failed."""
    stop, answered, failed = threading.Event(), [], []

    def call() -> None:
        while not stop.is_set():
            try:
                answered.append(predict([row])["InvokedProductionVariant"])
            except (BotoCoreError, ClientError) as error:
                failed.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    sagemaker.update_endpoint(EndpointName=ENDPOINT, EndpointConfigName="iris-both")
    time.sleep(1)
    wait()
    stop.set()
    caller.join()
    return len(answered), len(failed)


def shares(row: list[float], calls: int = 200) -> str:
    """Which variants answered, in percent."""
    counts = collections.Counter(predict([row])["InvokedProductionVariant"] for _ in range(calls))
    return ", ".join(f"{name} {100 * count / calls:.0f} %" for name, count in sorted(counts.items()))


def main() -> None:
    data = load_iris()
    x, held_x, y, held_y = train_test_split(data.data, data.target, test_size=0.2, random_state=0)
    rows, truth = held_x.tolist(), [str(data.target_names[label]) for label in held_y]
    s3.create_bucket(Bucket=BUCKET)
    for name, model in (("linear", LogisticRegression(max_iter=1000)), ("forest", RandomForestClassifier(n_estimators=20))):
        create_model(name, upload(name, model.fit(x, y)))
        print(f"trained and uploaded {name}: accuracy {model.score(held_x, held_y):.2f}")

    create_config("iris-linear", linear=1)
    create_config("iris-both", linear=0.9, forest=0.1)
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="iris-linear")
    wait()
    labels = predict(rows)["Body"].read().decode().splitlines()
    right = sum(label == expected for label, expected in zip(labels, truth, strict=True))
    print(f"deployed: {right} of {len(rows)} rows answered rightly")

    answered, failed = update_under_load(rows[0])
    print(f"updated to two variants: {failed} of {answered + failed} calls failed meanwhile")
    print(f"traffic: {shares(rows[0])}")

    weights = [{"VariantName": "linear", "DesiredWeight": 0}, {"VariantName": "forest", "DesiredWeight": 1}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName=ENDPOINT, DesiredWeightsAndCapacities=weights)
    wait()
    print(f"traffic: {shares(rows[0])}")
    print("asked by name:", predict(rows[:1], TargetVariant="linear")["InvokedProductionVariant"])

    body = "\n".join(",".join(map(str, row)) for row in rows[:5])
    stream = runtime.invoke_endpoint_with_response_stream(
        EndpointName=ENDPOINT, ContentType="text/csv", Accept="text/event-stream", Body=body
    )
    begun = time.perf_counter()
    for event in stream["Body"]:
        text = event["PayloadPart"]["Bytes"].decode().strip()
        print(f"  {time.perf_counter() - begun:5.2f} s  {text}")

    sagemaker.delete_endpoint(EndpointName=ENDPOINT)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=ENDPOINT)
    for config in ("iris-linear", "iris-both"):
        sagemaker.delete_endpoint_config(EndpointConfigName=config)
    for model_name in ("linear", "forest"):
        sagemaker.delete_model(ModelName=model_name)
        s3.delete_object(Bucket=BUCKET, Key=f"{model_name}/model.tar.gz")
    s3.delete_bucket(Bucket=BUCKET)
    print("deleted")


if __name__ == "__main__":
    main()
