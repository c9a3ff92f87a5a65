"""Pre- and post-processing beside the model in one container: the least effort of the ways to serve an inference pipeline.

The four functions of inference.py do it all: `input_fn` reads a picture, `predict_fn` calls the model, `output_fn` says it in
words. The picture is a plain PGM file of a handwritten digit. It needs boto3 and scikit-learn, as the image's environment has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/pipeline_one_container.py
"""

from __future__ import annotations

import io
import json
import os
import tarfile

import boto3
import joblib
from sklearn.datasets import load_digits
from sklearn.svm import SVC

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "one-container")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
NAME = "digits-in-one-container"

INFERENCE = """
import json, os
import joblib, numpy as np

WORDS = "zero one two three four five six seven eight nine".split()

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(body, content_type):
    if content_type != "image/x-portable-graymap":
        raise ValueError(f"a digit is a PGM picture, not {content_type}")
    kind, width, height, most, pixels = body.split(maxsplit=4)
    return np.frombuffer(pixels, np.uint8).reshape(1, -1) / int(most) * 16

def predict_fn(picture, model):
    return model.predict_proba(picture)[0]

def output_fn(shares, accept):
    best = int(shares.argmax())
    return json.dumps({"digit": best, "word": WORDS[best], "confidence": round(float(shares[best]), 3)}), "application/json"
"""


def archive(model: object) -> bytes:
    """A model.tar.gz: the fitted model, and the script beside it."""
    fitted, out = io.BytesIO(), io.BytesIO()
    joblib.dump(model, fitted)
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (("model.joblib", fitted.getvalue()), ("code/inference.py", INFERENCE.encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def picture(pixels: list[float]) -> bytes:
    return b"P5 8 8 16\n" + bytes(int(value) for value in pixels)


digits = load_digits()
model = SVC(gamma=0.001, probability=True).fit(digits.data[:1500], digits.target[:1500])

s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
s3.create_bucket(Bucket=BUCKET)
s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive(model))
container = {
    "Image": IMAGE,
    "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
    "Environment": {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
}
sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)

right = 0
for pixels, label in zip(digits.data[1500:1520], digits.target[1500:1520], strict=True):
    answer = runtime.invoke_endpoint(EndpointName=NAME, Body=picture(pixels), ContentType="image/x-portable-graymap")
    told = json.loads(answer["Body"].read())
    right += told["digit"] == label
print(f"one container: {right} of 20 digits are right; the last one is {told['word']} ({told['confidence']:.0%})")

sagemaker.delete_endpoint(EndpointName=NAME)
sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
sagemaker.delete_model(ModelName=NAME)
