"""A SageMaker Python SDK 2.x notebook: an asynchronous endpoint, its predictor, a result waited for and an error."""

import os
import tarfile
import tempfile

import sagemaker
from sagemaker.async_inference import AsyncInferenceConfig, WaiterConfig
from sagemaker.deserializers import JSONDeserializer, StringDeserializer
from sagemaker.exceptions import AsyncInferenceModelError
from sagemaker.predictor_async import AsyncPredictor
from sagemaker.serializers import JSONSerializer
from sagemaker.sklearn import SKLearnModel

SCRIPT = """
import json

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    assert content_type == "application/json", content_type
    return json.loads(body)

def predict_fn(numbers, model):
    if not numbers:
        raise ValueError("nothing to add up")
    return sum(numbers)

def output_fn(total, accept):
    return json.dumps({"total": total}), "application/json"
"""

session = sagemaker.Session()
bucket = session.default_bucket()
os.chdir(tempfile.mkdtemp())
with open("serve.py", "w") as f:
    f.write(SCRIPT)
with open("empty", "w") as f:
    f.write("")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("empty")
model = SKLearnModel(
    model_data=session.upload_data("model.tar.gz", bucket=bucket, key_prefix="sdk-async"),
    role="arn:aws:iam::123456789012:role/SageMakerRole",
    entry_point="serve.py",
    framework_version="1.2-1",
    sagemaker_session=session,
)
predictor = model.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    endpoint_name="sdk-async",
    async_inference_config=AsyncInferenceConfig(max_concurrent_invocations_per_instance=2),
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
assert isinstance(predictor, AsyncPredictor), predictor
predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
config = session.sagemaker_client.describe_endpoint(EndpointName="sdk-async")["AsyncInferenceConfig"]
print("outputs in", config["OutputConfig"]["S3OutputPath"])
assert config["OutputConfig"]["S3FailurePath"].startswith(f"s3://{bucket}/")

quick = WaiterConfig(max_attempts=15, delay=1)  # its threads outlive a result by so many seconds
answer = predictor.predict(data=[1, 2, 3], waiter_config=quick)
assert answer == {"total": 6}, answer
response = predictor.predict_async(data=[4, 5], inference_id="my-own-id")
assert response.output_path.startswith(config["OutputConfig"]["S3OutputPath"]), response.output_path
assert response.get_result(quick) == {"total": 9}
assert response.get_result() == {"total": 9}
print("results come")

uploaded = predictor._input_path
assert predictor.predict(input_path=uploaded, waiter_config=quick) == {"total": 9}
predictor.deserializer = StringDeserializer()  # a failure object is text
try:
    predictor.predict(data=[], waiter_config=quick)
except AsyncInferenceModelError as error:
    print("an error is an error:", error)
else:
    raise AssertionError("an answer to nothing")

predictor.delete_model()
predictor.delete_endpoint()
print("done")
