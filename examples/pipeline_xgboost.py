"""A serial pipeline: scikit-learn prepares raw rows, XGBoost scores them, a third container says what the scores mean.

Three containers of two frameworks on one endpoint, one call. Each container's answer is the next one's request: csv from the
first (SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT says so, since scikit-learn's own default is json, which XGBoost does not read),
csv again, json from the last. It needs boto3, scikit-learn and XGBoost, as the image's environment has:

    python=$(slipway images show --python sagemaker-xgboost:1.7-1)
    slipway run -- $python examples/pipeline_xgboost.py
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile

import boto3
import joblib
import numpy as np
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "xgboost-pipeline")
REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
SKLEARN = f"{REGISTRY}/sagemaker-scikit-learn:1.2-1-cpu-py3"
XGBOOST = f"{REGISTRY}/sagemaker-xgboost:1.7-1"
NAME = "tumours"
SCRIPT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}

PREPROCESS = """
import io, os
import joblib, numpy as np

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "preprocess.joblib"))

def input_fn(body, content_type):
    return np.genfromtxt(io.StringIO(body), delimiter=",", ndmin=2)  # an empty field is a measurement that is missing

def predict_fn(rows, model):
    return model.transform(rows)
"""

POSTPROCESS = """
import json

def model_fn(model_dir):
    return ("malignant", "benign")

def input_fn(body, content_type):
    text = body if isinstance(body, str) else body.decode()  # XGBoost's type has a charset beside it
    return [float(line) for line in text.replace(",", "\\n").split()]

def predict_fn(scores, names):
    return [{"label": names[score >= 0.5], "score": round(score, 4)} for score in scores]

def output_fn(found, accept):
    return json.dumps({"predictions": found}), "application/json"
"""


def archive(**files: bytes) -> bytes:
    """A model.tar.gz; in names `__` stands for a dot, and a script goes below code/."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"code/{name}.py" if name == "inference" else name.replace("__", "."))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


data = load_breast_cancer()
rows, labels = data.data.copy(), data.target
rows[np.random.RandomState(0).rand(*rows.shape) < 0.02] = np.nan  # as raw data are
train, test = slice(0, 450), slice(450, 480)
preprocess = make_pipeline(SimpleImputer(), StandardScaler()).fit(rows[train])
booster = xgboost.train(
    {"objective": "binary:logistic", "max_depth": 3, "nthread": 1},
    xgboost.DMatrix(preprocess.transform(rows[train]), labels[train]),
    30,
)
fitted = io.BytesIO()
joblib.dump(preprocess, fitted)
with tempfile.NamedTemporaryFile(suffix=".ubj") as file:
    booster.save_model(file.name)
    with open(file.name, "rb") as saved:
        boosted = saved.read()

s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
s3.create_bucket(Bucket=BUCKET)
archives = {
    "preprocess": archive(preprocess__joblib=fitted.getvalue(), inference=PREPROCESS.encode()),
    "xgboost": archive(**{"xgboost-model": boosted}),
    "postprocess": archive(inference=POSTPROCESS.encode()),
}
for key, content in archives.items():
    s3.put_object(Bucket=BUCKET, Key=f"{key}.tar.gz", Body=content)
containers = [
    {
        "ContainerHostname": name,
        "Image": XGBOOST if name == "xgboost" else SKLEARN,
        "ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz",
        "Environment": {} if name == "xgboost" else {**SCRIPT, "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"},
    }
    for name in archives
]
sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, Containers=containers)
variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)

body = "\n".join(",".join("" if np.isnan(value) else str(value) for value in row) for row in rows[test])
answer = runtime.invoke_endpoint(EndpointName=NAME, Body=body, ContentType="text/csv", Accept="application/json")
found = json.loads(answer["Body"].read())["predictions"]
expected = booster.predict(xgboost.DMatrix(preprocess.transform(rows[test])))
right = sum(each["label"] == data.target_names[label] for each, label in zip(found, labels[test], strict=True))
same = np.allclose([each["score"] for each in found], expected, atol=1e-3)
print(f"pipeline of three containers: {right} of {len(found)} rows are right; scores as computed here: {same}")

sagemaker.delete_endpoint(EndpointName=NAME)
sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
sagemaker.delete_model(ModelName=NAME)
