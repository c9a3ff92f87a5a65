"""SageMaker Python SDK 3.x: a transform job by the resource class, and one by Transformer."""

import io
import tarfile

import boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Model, TransformJob
from sagemaker.core.shapes import (
    ContainerDefinition,
    TransformDataSource,
    TransformInput,
    TransformOutput,
    TransformResources,
    TransformS3DataSource,
)
from sagemaker.core.transformer import Transformer

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
SCRIPT = b"""
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data.upper(), content_type
"""

s3 = boto3.client("s3")
out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz") as tar:
    info = tarfile.TarInfo("code/inference.py")
    info.size = len(SCRIPT)
    tar.addfile(info, io.BytesIO(SCRIPT))
s3.create_bucket(Bucket="v3-batch")
s3.put_object(Bucket="v3-batch", Key="model.tar.gz", Body=out.getvalue())
s3.put_object(Bucket="v3-batch", Key="in/lines.csv", Body=b"one\ntwo\n")


def written(prefix):
    return s3.get_object(Bucket="v3-batch", Key=f"{prefix}/lines.csv.out")["Body"].read()


Model.create(
    model_name="v3-batch",
    primary_container=ContainerDefinition(image=IMAGE, model_data_url="s3://v3-batch/model.tar.gz"),
    execution_role_arn=ROLE,
)
source = TransformS3DataSource(s3_data_type="S3Prefix", s3_uri="s3://v3-batch/in/")
job = TransformJob.create(
    transform_job_name="v3-batch",
    model_name="v3-batch",
    transform_input=TransformInput(
        data_source=TransformDataSource(s3_data_source=source), content_type="text/csv", split_type="Line"
    ),
    transform_output=TransformOutput(s3_output_path="s3://v3-batch/out", assemble_with="Line"),
    transform_resources=TransformResources(instance_type="ml.m5.large", instance_count=1),
)
job.wait(poll=1)
assert job.transform_job_status == "Completed", job
assert written("out") == b"ONE\nTWO\n"
print("resource")

transformer = Transformer(
    model_name="v3-batch",
    instance_count=1,
    instance_type="ml.m5.large",
    output_path="s3://v3-batch/out-2",
    assemble_with="Line",
    sagemaker_session=Session(),
)
transformer.transform("s3://v3-batch/in/", content_type="text/csv", split_type="Line", wait=True, logs=False)
assert written("out-2") == b"ONE\nTWO\n"
print("done")
