"""A SageMaker Python SDK 2.x notebook: scikit-learn and XGBoost models, three serializers, an update, clean-up."""

import os
import tarfile
import tempfile

import boto3
import joblib
import numpy as np
import sagemaker
from sagemaker import image_uris
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer, NumpyDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, JSONSerializer, NumpySerializer
from sagemaker.sklearn import SKLearnModel
from sklearn.linear_model import LinearRegression

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
bucket = session.default_bucket()
print("bucket", bucket)

folder = tempfile.mkdtemp()
os.chdir(folder)
x = np.arange(20.0).reshape(10, 2)
joblib.dump(LinearRegression().fit(x, x.sum(axis=1)), "model.joblib")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("model.joblib")
with open("serve.py", "w") as f:
    f.write("import joblib, os\ndef model_fn(model_dir):\n    return joblib.load(os.path.join(model_dir, 'model.joblib'))\n")
data = session.upload_data("model.tar.gz", bucket=bucket, key_prefix="sdk")

model = SKLearnModel(model_data=data, role=role, entry_point="serve.py", framework_version="1.2-1", sagemaker_session=session)
predictor = model.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="sdk-sklearn")
rows = np.array([[1.0, 2.0], [3.0, 4.0]])
assert np.allclose(predictor.predict(rows), [3.0, 7.0]), "npy"
for serializer, deserializer in ((JSONSerializer(), JSONDeserializer()), (CSVSerializer(), CSVDeserializer())):
    predictor.serializer, predictor.deserializer = serializer, deserializer
    answer = np.array(predictor.predict(rows.tolist()), dtype=float).ravel()
    assert np.allclose(answer, [3.0, 7.0]), (serializer, answer)
predictor.serializer, predictor.deserializer = NumpySerializer(), NumpyDeserializer()
print("sklearn answers")

joblib.dump(LinearRegression().fit(x, -x.sum(axis=1)), "model.joblib")
with tarfile.open("model2.tar.gz", "w:gz") as tar:
    tar.add("model.joblib")
second = SKLearnModel(
    model_data=session.upload_data("model2.tar.gz", bucket=bucket, key_prefix="sdk"),
    role=role,
    entry_point="serve.py",
    framework_version="1.2-1",
    sagemaker_session=session,
)
second.create(instance_type="ml.m5.large")
predictor.update_endpoint(initial_instance_count=1, instance_type="ml.m5.large", model_name=second.name)
assert np.allclose(predictor.predict(rows), [-3.0, -7.0]), "updated"
print("updated")

uri = image_uris.retrieve("sklearn", session.boto_region_name, version="1.2-1", instance_type="ml.m5.large")
with tarfile.open("model3.tar.gz", "w:gz") as tar:
    tar.add("model.joblib")
plain = Model(
    image_uri=uri,
    model_data=session.upload_data("model3.tar.gz", bucket=bucket, key_prefix="sdk"),
    role=role,
    predictor_cls=Predictor,
)
plain.create(instance_type="ml.m5.large")
assert boto3.client("sagemaker").describe_model(ModelName=plain.name)["PrimaryContainer"]["Image"] == uri

predictor.delete_model()
predictor.delete_endpoint()
print("done")
