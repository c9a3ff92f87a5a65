"""SDK 2.x with XGBoost: script mode through XGBoostModel, algorithm mode through the plain Model."""

import os
import tarfile
import tempfile

import numpy as np
import sagemaker
from sagemaker import image_uris
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, LibSVMSerializer
from sagemaker.xgboost import XGBoostModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
bucket = session.default_bucket()
source = os.path.abspath(os.environ["BOOSTER"])
expected = np.array([float(v) for v in os.environ["EXPECTED"].split(",")])
rows = [[0.0, 1.0], [1.0, 0.0]]

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add(source, "xgboost-model")
data = session.upload_data("model.tar.gz", bucket=bucket, key_prefix="xgb")

algorithm = Model(
    image_uri=image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1"),
    model_data=data,
    role=role,
    predictor_cls=Predictor,
)
predictor = algorithm.deploy(1, "ml.m5.large", endpoint_name="xgb", serializer=CSVSerializer(), deserializer=CSVDeserializer())
answer = np.array(predictor.predict(rows), dtype=float).ravel()
assert np.allclose(answer, expected, atol=1e-5), answer
predictor.serializer, predictor.deserializer = LibSVMSerializer(), JSONDeserializer()
answer = predictor.predict("0 0:0 1:1\n0 0:1 1:0")
assert np.allclose([each["score"] for each in answer["predictions"]], expected, atol=1e-5), answer
predictor.delete_endpoint()
print("algorithm mode answers")

with open("serve.py", "w") as f:
    f.write(
        "import os, xgboost as xgb\n"
        "def model_fn(d):\n"
        "    booster = xgb.Booster()\n"
        "    booster.load_model(os.path.join(d, 'xgboost-model'))\n"
        "    return booster\n"
    )
script = XGBoostModel(model_data=data, role=role, entry_point="serve.py", framework_version="1.7-1")
predictor = script.deploy(1, "ml.m5.large", endpoint_name="xgb-script")
predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
answer = np.array(predictor.predict(rows), dtype=float).ravel()
assert np.allclose(answer, expected, atol=1e-5), answer
predictor.delete_endpoint()
print("done")
