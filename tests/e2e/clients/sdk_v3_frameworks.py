"""SageMaker Python SDK 3.x: models of several frameworks by the resource classes; what each answers, as JSON on one line.

DEPLOYMENTS names a JSON file: [{"name", "image", "archive", "environment", "asks": [{"body", "content_type", "accept"}]}].
"""

import base64
import json
import os

import boto3
from botocore.exceptions import ClientError
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"


def told(endpoint, ask):
    types = {name: ask[name] for name in ("content_type", "accept") if ask[name]}
    try:
        answer = endpoint.invoke(body=base64.b64decode(ask["body"]), **types)
    except ClientError as error:
        return {"status": error.response["OriginalStatusCode"]}
    body = base64.b64encode(answer.body.read()).decode()
    return {"status": 200, "content_type": answer.content_type, "body": body}


s3 = boto3.client("s3")
s3.create_bucket(Bucket="v3-frameworks")
with open(os.environ["DEPLOYMENTS"]) as file:
    deployments = json.load(file)
endpoints = {}
for each in deployments:
    name = each["name"]
    s3.upload_file(each["archive"], "v3-frameworks", f"{name}/model.tar.gz")
    container = ContainerDefinition(
        image=each["image"], model_data_url=f"s3://v3-frameworks/{name}/model.tar.gz", environment=each["environment"]
    )
    Model.create(model_name=name, primary_container=container, execution_role_arn=ROLE)
    variant = ProductionVariant(variant_name="v", model_name=name, instance_type="ml.m5.large", initial_instance_count=1)
    EndpointConfig.create(endpoint_config_name=name, production_variants=[variant])
    endpoints[name] = Endpoint.create(endpoint_name=name, endpoint_config_name=name)
results = {}
for each in deployments:
    endpoint = endpoints[each["name"]]
    endpoint.wait_for_status("InService", poll=1)
    results[each["name"]] = [told(endpoint, ask) for ask in each["asks"]]
    endpoint.delete()
print("RESULTS " + json.dumps(results))
print("done")
