"""A plain boto3 script, as one finds them: nothing in it knows of slipway."""

import io
import tarfile
import time

import boto3

SCRIPT = b"""
def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return [float(x) for x in (body.decode() if isinstance(body, bytes) else body).split(",")]

def predict_fn(data, model):
    return [x * model for x in data]

def output_fn(prediction, accept):
    return ",".join(str(x) for x in prediction), "text/csv"
"""

bucket = "my-bucket"
s3 = boto3.client("s3")
sm = boto3.client("sagemaker")
smr = boto3.client("sagemaker-runtime")
print("account", boto3.client("sts").get_caller_identity()["Account"])

out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz") as tar:
    info = tarfile.TarInfo("code/inference.py")
    info.size = len(SCRIPT)
    tar.addfile(info, io.BytesIO(SCRIPT))
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="m/model.tar.gz", Body=out.getvalue())
sm.create_model(
    ModelName="MyModel",
    ExecutionRoleArn="arn:aws:iam::123456789012:role/SageMakerRole",
    PrimaryContainer={
        "Image": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        "ModelDataUrl": f"s3://{bucket}/m/model.tar.gz",
    },
)
sm.create_endpoint_config(
    EndpointConfigName="MyConfig",
    ProductionVariants=[
        {"VariantName": "v1", "ModelName": "MyModel", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    ],
)
print(sm.create_endpoint(EndpointName="MyEndpoint", EndpointConfigName="MyConfig")["EndpointArn"])
while (status := sm.describe_endpoint(EndpointName="MyEndpoint")["EndpointStatus"]) == "Creating":
    time.sleep(0.2)
assert status == "InService", status
answer = smr.invoke_endpoint(EndpointName="MyEndpoint", ContentType="text/csv", Body="1,2,3")
assert answer["Body"].read() == b"2.0,4.0,6.0"
assert answer["ContentType"].startswith("text/csv")
for page in sm.get_paginator("list_endpoints").paginate(NameContains="myend"):
    assert [e["EndpointName"] for e in page["Endpoints"]] == ["MyEndpoint"]
url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "m/model.tar.gz"})
assert "Signature" in url
groups = boto3.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/MyEndpoint")["logStreams"]
assert groups[0]["logStreamName"].startswith("v1/i-"), groups
sm.delete_endpoint(EndpointName="MyEndpoint")
sm.get_waiter("endpoint_deleted").wait(EndpointName="MyEndpoint", WaiterConfig={"Delay": 1, "MaxAttempts": 90})
sm.delete_endpoint_config(EndpointConfigName="MyConfig")
sm.delete_model(ModelName="MyModel")
print("done")
