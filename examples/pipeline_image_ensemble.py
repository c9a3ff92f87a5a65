"""A serial ensemble of three models on pictures: image quality, recognition, topic grouping, in one call.

Eight small scans of handwritten digits come as one npy array. The first model finds scans that are too noisy and mends them,
the second recognises what they show, the third groups the recognised words by topic (here: how the digits are drawn). Bodies
between the containers are npy and json. It needs boto3 and scikit-learn, as the image's environment has:

    python=$(slipway images show --python sagemaker-scikit-learn:1.2-1-cpu-py3)
    slipway run -- $python examples/pipeline_image_ensemble.py
"""

from __future__ import annotations

import io
import json
import os
import tarfile

import boto3
import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
BUCKET = os.environ.get("BUCKET", "image-ensemble")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
NAME = "digits-ensemble"
SCRIPT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ROUND = {"zero", "six", "eight", "nine", "three"}

LOAD = """
import io, json, os
import joblib, numpy as np

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""

QUALITY = """
def input_fn(body, content_type):
    return np.load(io.BytesIO(body), allow_pickle=False)

def predict_fn(scans, model):
    poor = model.predict(scans).astype(bool)
    mended = scans.copy()
    around = np.stack([np.roll(scans[poor].reshape(-1, 8, 8), (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    mended[poor] = np.median(around, axis=0).reshape(-1, 64)
    return np.hstack([mended, poor[:, None]])

def output_fn(found, accept):
    out = io.BytesIO()
    np.save(out, found)
    return out.getvalue(), "application/x-npy"
"""

RECOGNISE = """
WORDS = "zero one two three four five six seven eight nine".split()

def input_fn(body, content_type):
    return np.load(io.BytesIO(body), allow_pickle=False)

def predict_fn(found, model):
    words = [WORDS[digit] for digit in model.predict(found[:, :64])]
    return {"words": words, "mended": found[:, 64].astype(bool).tolist()}

def output_fn(found, accept):
    return json.dumps(found), "application/json"
"""

TOPICS = """
def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(found, model):
    found["topics"] = model.predict(found["words"]).tolist()
    found["of the whole"] = model.predict([" ".join(found["words"])])[0]
    return found

def output_fn(found, accept):
    return json.dumps(found), "application/json"
"""


def archive(model: object, script: str) -> bytes:
    """A model.tar.gz: the fitted model, and the script beside it."""
    fitted, out = io.BytesIO(), io.BytesIO()
    joblib.dump(model, fitted)
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (("model.joblib", fitted.getvalue()), ("code/inference.py", (LOAD + script).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


chance = np.random.RandomState(0)


def noisy(scans: np.ndarray) -> np.ndarray:
    """With salt and pepper, as a poor scanner has it."""
    spots = chance.rand(*scans.shape) < 0.15
    return np.where(spots, chance.choice([0.0, 16.0], scans.shape), scans)


digits = load_digits()
scans, labels = digits.data, digits.target
train = slice(0, 1500)
both = np.vstack([scans[train], noisy(scans[train])])
quality = RandomForestClassifier(40, random_state=0, n_jobs=1).fit(both, np.repeat([0, 1], 1500))
recognition = SVC(gamma=0.001).fit(scans[train], labels[train])
captions = [" ".join(chance.choice(WORDS, 3)) for _ in range(400)] + WORDS * 20
topics = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
    captions,
    ["round" if sum(word in ROUND for word in each.split()) * 2 > len(each.split()) else "straight" for each in captions],
)

s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
s3.create_bucket(Bucket=BUCKET)
containers = []
for hostname, model, script in (
    ("quality", quality, QUALITY),
    ("recognition", recognition, RECOGNISE),
    ("topics", topics, TOPICS),
):
    s3.put_object(Bucket=BUCKET, Key=f"{hostname}.tar.gz", Body=archive(model, script))
    data = f"s3://{BUCKET}/{hostname}.tar.gz"
    containers.append({"ContainerHostname": hostname, "Image": IMAGE, "ModelDataUrl": data, "Environment": SCRIPT})
sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, Containers=containers)
variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)

pictures = scans[1500:1508].copy()
pictures[4:] = noisy(pictures[4:])
body = io.BytesIO()
np.save(body, pictures)
answer = runtime.invoke_endpoint(EndpointName=NAME, Body=body.getvalue(), ContentType="application/x-npy")
told = json.loads(answer["Body"].read())
right = sum(word == WORDS[label] for word, label in zip(told["words"], labels[1500:1508], strict=True))
print(f"ensemble of three models: {' '.join(told['words'])}")
print(
    f"{right} of 8 are right, {sum(told['mended'])} scans were mended, {told['topics'].count('round')} of the words are round"
)

sagemaker.delete_endpoint(EndpointName=NAME)
sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
sagemaker.delete_model(ModelName=NAME)
