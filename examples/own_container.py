"""Bring your own container, without Docker: a folder with `serve` in it (spaCy behind Flask and gunicorn), deployed by boto3.

The folder is registered once, with a Python environment of its own, in which the model is also made:

    slipway images add spacy-ner examples/spacy_container --python 3.11 \
        --requirements examples/spacy_container/requirements.txt
    python=$(slipway images show --python spacy-ner)
    slipway run -- sh -c "$python examples/own_container.py make && python examples/own_container.py deploy"

`make` needs spaCy, `deploy` boto3. On AWS the same folder is what the Dockerfile copies to /opt/program, and IMAGE is its URI.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from pathlib import Path

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
IMAGE = os.environ.get("IMAGE", "123456789012.dkr.ecr.us-east-1.amazonaws.com/spacy-ner:latest")
ARCHIVE = Path(os.environ.get("ARCHIVE", "spacy-model.tar.gz"))
BUCKET = "spacy-models"
NAME = "spacy-ner"


def make() -> None:
    """A blank English pipeline with rules for two kinds of entities, saved and packed."""
    import spacy  # noqa: PLC0415

    nlp = spacy.blank("en")
    rules = nlp.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "ORG", "pattern": "Amazon"}, {"label": "GPE", "pattern": [{"LOWER": "berlin"}]}])
    folder = ARCHIVE.with_suffix("").with_suffix("")
    nlp.to_disk(folder)
    with tarfile.open(ARCHIVE, "w:gz") as tar:
        tar.add(folder, "pipeline")
    print(f"made {ARCHIVE}")


def deploy() -> None:
    """Upload, deploy, ask, delete."""
    import boto3  # noqa: PLC0415

    s3, sagemaker, runtime = boto3.client("s3"), boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(ARCHIVE), BUCKET, "model.tar.gz")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "one", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)
    text = "Amazon opened an office in Berlin."
    answer = runtime.invoke_endpoint(EndpointName=NAME, ContentType="text/plain", Body=text)
    for entity in json.load(answer["Body"])["entities"]:
        print(f"{entity['text']}: {entity['label']}")
    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
    sagemaker.delete_model(ModelName=NAME)


if __name__ == "__main__":
    {"make": make, "deploy": deploy}[sys.argv[1]]()
