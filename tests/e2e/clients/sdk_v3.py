"""SageMaker Python SDK 3.x: the resource classes, and ModelBuilder around an image and an archive."""

import io
import json
import tarfile

import boto3
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
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

out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz") as tar:
    info = tarfile.TarInfo("code/inference.py")
    info.size = len(SCRIPT)
    tar.addfile(info, io.BytesIO(SCRIPT))
s3 = boto3.client("s3")
s3.create_bucket(Bucket="v3-bucket")
s3.put_object(Bucket="v3-bucket", Key="model.tar.gz", Body=out.getvalue())

model = Model.create(
    model_name="v3-model",
    primary_container=ContainerDefinition(image=IMAGE, model_data_url="s3://v3-bucket/model.tar.gz"),
    execution_role_arn=ROLE,
)
EndpointConfig.create(
    endpoint_config_name="v3-config",
    production_variants=[
        ProductionVariant(variant_name="v", model_name="v3-model", instance_type="ml.m5.large", initial_instance_count=1)
    ],
)
endpoint = Endpoint.create(endpoint_name="v3-endpoint", endpoint_config_name="v3-config")
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body=json.dumps({"a": 1}), content_type="application/json", accept="application/json")
assert json.loads(answer.body.read()) == {"got": {"a": 1}}
print("resources answer")

builder = ModelBuilder(
    image_uri=IMAGE, s3_model_data_url="s3://v3-bucket/model.tar.gz", role_arn=ROLE, instance_type="ml.m5.large"
)
built = builder.build(model_name="v3-built")
deployed = builder.deploy(endpoint_name="v3-built", initial_instance_count=1, instance_type="ml.m5.large")
answer = deployed.invoke(body=json.dumps([1]), content_type="application/json")
assert json.loads(answer.body.read()) == {"got": [1]}
print("ModelBuilder answers", built.model_name)
for each in (endpoint, deployed):
    each.delete()
model.delete()
print("done")
