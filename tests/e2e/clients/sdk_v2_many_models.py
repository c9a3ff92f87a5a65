"""SDK 2.x: MultiDataModel of scikit-learn scripts: deployed, models added and listed, called by name, deleted."""

import os
import tarfile
import tempfile

import boto3
import joblib
import numpy as np
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.serializers import JSONSerializer
from sagemaker.sklearn import SKLearnModel
from sklearn.linear_model import LinearRegression

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
bucket = session.default_bucket()
os.chdir(tempfile.mkdtemp())
with open("serve.py", "w") as file:
    file.write("import joblib, os\ndef model_fn(model_dir):\n    return joblib.load(os.path.join(model_dir, 'model.joblib'))\n")


def packed(slope):
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, slope]), "model.joblib")
    name = f"slope{slope:g}.tar.gz"
    with tarfile.open(name, "w:gz") as tar:
        tar.add("model.joblib")
    return name


base = session.upload_data(packed(1.0), key_prefix="base")
model = SKLearnModel(model_data=base, role=role, entry_point="serve.py", framework_version="1.2-1", sagemaker_session=session)
many = MultiDataModel(name="sdk-many", model_data_prefix=f"s3://{bucket}/sdk-many/", model=model, sagemaker_session=session)
predictor = many.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="sdk-many")
predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
described = session.sagemaker_client.describe_model(ModelName="sdk-many")
assert described["PrimaryContainer"]["Mode"] == "MultiModel", described

for slope in (2.0, 5.0):
    packed(slope)
    with tarfile.open(f"with-code{slope:g}.tar.gz", "w:gz") as tar:
        tar.add("model.joblib")
        tar.add("serve.py", "code/serve.py")
    many.add_model(model_data_source=f"with-code{slope:g}.tar.gz", model_data_path=f"slopes/{slope:g}.tar.gz")
listed = sorted(many.list_models())
assert listed[-2:] == ["slopes/2.tar.gz", "slopes/5.tar.gz"], listed
for slope in (2.0, 5.0):
    (answer,) = predictor.predict([[10.0]], target_model=f"slopes/{slope:g}.tar.gz")
    assert np.isclose(answer, 10 * slope), (slope, answer)
print("MultiDataModel answers")
predictor.delete_endpoint()
boto3.client("sagemaker").delete_model(ModelName="sdk-many")
print("done")
