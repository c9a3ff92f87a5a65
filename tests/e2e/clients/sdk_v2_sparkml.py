"""SDK 2.x: SparkMLModel with an MLeap bundle, and as the first step of a PipelineModel before XGBoost."""

import json
import os
import tarfile
import tempfile

import sagemaker
from sagemaker.model import Model
from sagemaker.pipeline import PipelineModel
from sagemaker.sparkml.model import SparkMLModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
bundle, booster = os.path.abspath(os.environ["BUNDLE"]), os.path.abspath(os.environ["BOOSTER"])
schema = os.environ["SCHEMA"]

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    for name in os.listdir(bundle):
        tar.add(os.path.join(bundle, name), name)
data = session.upload_data("model.tar.gz", key_prefix="spark")
with tarfile.open("boosted.tar.gz", "w:gz") as tar:
    tar.add(booster, "xgboost-model")
boosted_data = session.upload_data("boosted.tar.gz", key_prefix="boosted")


def spark_model():
    return SparkMLModel(model_data=data, role=role, spark_version="3.3", env={"SAGEMAKER_SPARKML_SCHEMA": schema})


image = sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, "1.7-1")
xgboost = Model(image_uri=image, model_data=boosted_data, role=role, sagemaker_session=session)
both = PipelineModel(models=[spark_model(), xgboost], role=role, sagemaker_session=session)
alone = spark_model().deploy(1, "ml.m5.large", endpoint_name="sdk-spark", wait=False)
both.deploy(1, "ml.m5.large", endpoint_name="sdk-both", wait=False)
for name in ("sdk-spark", "sdk-both"):  # the SDK looks every 30 s: the two start together
    session.wait_for_endpoint(name)

answer = alone.predict("a,1.5,-2.0")
features = [float(value) for value in answer.decode().split(",")]
assert features == json.loads(os.environ["FEATURES"]), features
alone.delete_endpoint()

csv, json_ = sagemaker.serializers.CSVSerializer(), sagemaker.deserializers.JSONDeserializer()
predictor = sagemaker.Predictor("sdk-both", session, serializer=csv, deserializer=json_)
score = predictor.predict("a,1.5,-2.0")["predictions"][0]["score"]
assert abs(score - float(os.environ["SCORE"])) < 1e-6, score
predictor.delete_endpoint()
print("done")
