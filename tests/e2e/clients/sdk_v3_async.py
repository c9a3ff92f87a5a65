"""SageMaker Python SDK 3.x: an asynchronous endpoint by the resource classes, and one by ModelBuilder."""

import io
import json
import tarfile
import time

import boto3
from botocore.exceptions import ClientError
from sagemaker.core.inference_config import AsyncInferenceConfig as BuilderConfig
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import (
    AsyncInferenceClientConfig,
    AsyncInferenceConfig,
    AsyncInferenceOutputConfig,
    ContainerDefinition,
    ProductionVariant,
)
from sagemaker.serve import ModelBuilder

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
SCRIPT = b"""
import json

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return json.dumps({"got": json.loads(data)}), "application/json"
"""

s3 = boto3.client("s3")


def fetched(location):
    """The object, once it is there."""
    bucket, key = location.removeprefix("s3://").split("/", 1)
    for _ in range(200):
        try:
            return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError:
            time.sleep(0.1)
    raise AssertionError(f"{location} does not come")


out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz") as tar:
    info = tarfile.TarInfo("code/inference.py")
    info.size = len(SCRIPT)
    tar.addfile(info, io.BytesIO(SCRIPT))
s3.create_bucket(Bucket="v3-async")
s3.put_object(Bucket="v3-async", Key="model.tar.gz", Body=out.getvalue())
s3.put_object(Bucket="v3-async", Key="input.json", Body=b'{"a": 1}', ContentType="application/json")

model = Model.create(
    model_name="v3-async",
    primary_container=ContainerDefinition(image=IMAGE, model_data_url="s3://v3-async/model.tar.gz"),
    execution_role_arn=ROLE,
)
EndpointConfig.create(
    endpoint_config_name="v3-async",
    production_variants=[
        ProductionVariant(variant_name="v", model_name="v3-async", instance_type="ml.m5.large", initial_instance_count=1)
    ],
    async_inference_config=AsyncInferenceConfig(
        output_config=AsyncInferenceOutputConfig(s3_output_path="s3://v3-async/out", s3_failure_path="s3://v3-async/failed"),
        client_config=AsyncInferenceClientConfig(max_concurrent_invocations_per_instance=2),
    ),
)
endpoint = Endpoint.create(endpoint_name="v3-async", endpoint_config_name="v3-async")
endpoint.wait_for_status("InService", poll=1)
assert endpoint.async_inference_config.output_config.s3_output_path == "s3://v3-async/out"
answer = endpoint.invoke_async(input_location="s3://v3-async/input.json", content_type="application/json")
assert answer.output_location.startswith("s3://v3-async/out/"), answer
assert answer.failure_location.startswith("s3://v3-async/failed/"), answer
assert fetched(answer.output_location) == {"got": {"a": 1}}
print("resources answer")

builder = ModelBuilder(
    image_uri=IMAGE, s3_model_data_url="s3://v3-async/model.tar.gz", role_arn=ROLE, instance_type="ml.m5.large"
)
builder.build(model_name="v3-async-built")
deployed = builder.deploy(
    endpoint_name="v3-async-built",
    initial_instance_count=1,
    instance_type="ml.m5.large",
    inference_config=BuilderConfig(output_path="s3://v3-async/built", failure_path="s3://v3-async/built-failed"),
)
told = boto3.client("sagemaker-runtime").invoke_endpoint_async(
    EndpointName="v3-async-built", InputLocation="s3://v3-async/input.json"
)
assert fetched(told["OutputLocation"]) == {"got": {"a": 1}}
print("ModelBuilder answers", type(deployed).__name__)
boto3.client("sagemaker").delete_endpoint(EndpointName="v3-async-built")
endpoint.delete()
model.delete()
print("done")
