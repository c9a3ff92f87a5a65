"""SDK 2.x: TensorFlowModel with a SavedModel and no script; rows with and without their key."""

import os
import tarfile
import tempfile

import sagemaker
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
predictor.delete_endpoint()
print("done")
