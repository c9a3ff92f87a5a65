"""SDK 2.x: TensorFlowModel with a SavedModel and no script; rows with and without their key."""

import os
import tarfile
import tempfile

import boto3
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, JSONLinesSerializer, StringSerializer
from sagemaker.tensorflow import TensorFlowModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["MODEL"])

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add(source, "half")
data = session.upload_data("model.tar.gz", key_prefix="half")

model = TensorFlowModel(model_data=data, role=role, framework_version="2.16")
predictor = model.deploy(1, "ml.m5.large", endpoint_name="sdk-tf")
answer = predictor.predict({"instances": [[2.0, 4.0]]})
assert answer == {"predictions": [[2.0, 3.0]]}, answer
assert predictor.predict([[2.0, 4.0], [6.0, 8.0]]) == {"predictions": [[2.0, 3.0], [4.0, 5.0]]}
for serializer, body in ((CSVSerializer(), "2,4\n6,8"), (JSONLinesSerializer(), "[2, 4]\n[6, 8]")):
    plain = Predictor("sdk-tf", session, serializer=serializer, deserializer=JSONDeserializer())
    assert plain.predict(body) == {"predictions": [[2.0, 3.0], [4.0, 5.0]]}, serializer
predictor.delete_endpoint()
print("rows answer")

with open("inference.py", "w") as f:
    f.write(
        "import json\n"
        "def input_handler(data, context):\n"
        "    return json.dumps({'instances': [[float(v) for v in data.read().decode().split('|')]]})\n"
        "def output_handler(response, context):\n"
        "    return json.dumps(response.json()['predictions'][0]), context.accept_header\n"
    )
scripted = TensorFlowModel(model_data=data, role=role, framework_version="2.16", entry_point="inference.py")
scripted.deploy(1, "ml.m5.large", endpoint_name="sdk-tf-script", wait=False)  # the SDK would look every 30 s
waiter = boto3.client("sagemaker").get_waiter("endpoint_in_service")
waiter.wait(EndpointName="sdk-tf-script", WaiterConfig={"Delay": 1, "MaxAttempts": 240})
predictor = Predictor(
    "sdk-tf-script", session, serializer=StringSerializer(content_type="text/bars"), deserializer=JSONDeserializer()
)
assert predictor.predict("2|4") == [2.0, 3.0]
predictor.delete_endpoint()
print("done")
