"""Batch transform with plain boto3, as on AWS: a table of patients scored by a model that sees neither names nor diagnoses.

The model gets the measurements alone (InputFilter), each result stands beside its row (JoinSource), and what is written is the
patient, the diagnosis and the prediction (OutputFilter). Then the same through a pipeline: a scaler, then the model.
Nothing here knows of slipway. It needs boto3 and scikit-learn 1.2, which the environment of the image it uses has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/batch_transform.py

On AWS the same script runs with a role that SageMaker may assume (ROLE) and a bucket name that is free (BUCKET).
"""

from __future__ import annotations

import csv
import io
import os
import tarfile
import time
from typing import Any

import boto3
import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "patients")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"

COMMON = """
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(body, content_type):
    text = body if isinstance(body, str) else body.decode()  # between containers the type is "text/csv; charset=utf-8"
    return [[float(field) for field in line.split(",")] for line in text.splitlines()]
"""
SCALE = """
def predict_fn(rows, scaler):
    return scaler.transform(rows)

def output_fn(rows, accept):
    return "".join(",".join(map(repr, row)) + "\\n" for row in rows.tolist()), "text/csv"
"""
PREDICT = """
def predict_fn(rows, model):
    return model.predict_proba(rows)[:, 1]

def output_fn(scores, accept):
    return "".join(f"{score:.4f}\\n" for score in scores), "text/csv"
"""

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")


def main() -> None:
    data = load_breast_cancer()
    scaler = StandardScaler().fit(data.data)
    model = LogisticRegression().fit(scaler.transform(data.data), data.target)
    s3.create_bucket(Bucket=BUCKET)
    table = io.StringIO()
    rows = zip(data.data.tolist(), data.target.tolist(), strict=True)
    csv.writer(table).writerows(
        [f"patient-{number}", *row, data.target_names[label]] for number, (row, label) in enumerate(rows)
    )
    s3.put_object(Bucket=BUCKET, Key="in/patients.csv", Body=table.getvalue().encode())

    alone = LogisticRegression(max_iter=10_000).fit(data.data, data.target)
    create("patients", container("alone", alone, COMMON + PREDICT))
    create("patients-pipeline", container("scale", scaler, COMMON + SCALE), container("predict", model, COMMON + PREDICT))
    for name in ("patients", "patients-pipeline"):
        told = transform(name)
        found = list(csv.reader(told.splitlines()))
        right = sum((diagnosis == "benign") == (float(score) > 0.5) for _, diagnosis, score in found)
        print(f"{name}: {len(found)} patients, {right} predicted right; the first: {', '.join(found[0])}")
        sagemaker.delete_model(ModelName=name)


def container(name: str, fitted: Any, script: str) -> dict[str, Any]:
    """Upload a fitted model with its script."""
    packed, file = io.BytesIO(), io.BytesIO()
    joblib.dump(fitted, file)
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in (("model.joblib", file.getvalue()), ("code/inference.py", script.encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    s3.put_object(Bucket=BUCKET, Key=f"models/{name}/model.tar.gz", Body=packed.getvalue())
    environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    return {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/models/{name}/model.tar.gz", "Environment": environment}


def create(name: str, *containers: dict[str, Any]) -> None:
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=list(containers))


def transform(model: str) -> str:
    """Run the job; what it wrote."""
    job = f"{model}-{int(time.time())}"
    sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out/{job}", "Accept": "text/csv", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        DataProcessing={"InputFilter": "$[1:-1]", "JoinSource": "Input", "OutputFilter": "$[0,-2,-1]"},
    )
    while (told := sagemaker.describe_transform_job(TransformJobName=job))["TransformJobStatus"] == "InProgress":
        time.sleep(0.2)
    if told["TransformJobStatus"] != "Completed":
        raise SystemExit(f"{job}: {told['FailureReason']}")
    body: bytes = s3.get_object(Bucket=BUCKET, Key=f"out/{job}/patients.csv.out")["Body"].read()
    return body.decode()


if __name__ == "__main__":
    main()
