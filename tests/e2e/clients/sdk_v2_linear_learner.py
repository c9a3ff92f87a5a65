"""SDK 2.x: LinearLearnerModel and its predictor as they are (recordio both ways), and the generic Model with json and csv."""

import json
import os
import tarfile
import tempfile

import numpy as np
import sagemaker
from sagemaker import LinearLearnerModel, LinearLearnerPredictor, image_uris
from sagemaker.deserializers import JSONDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, JSONSerializer

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["ARTIFACT"])
rows = np.array(json.loads(os.environ["ROWS"]), dtype="float32")
expected = np.array(json.loads(os.environ["EXPECTED"]))

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add(source, "model_algo-1")
data = session.upload_data("model.tar.gz", key_prefix="linear")

model = LinearLearnerModel(data, role, session)
predictor = model.deploy(1, "ml.m5.large", endpoint_name="sdk-linear", wait=False)
session.wait_for_endpoint("sdk-linear", poll=1)  # what deploy does, every 30 s
assert isinstance(predictor, LinearLearnerPredictor)
for given in (rows, rows.astype("float64")):
    records = predictor.predict(given)
    scores = [record.label["score"].float32_tensor.values[0] for record in records]
    assert np.allclose(scores, expected, atol=1e-5), scores
    labels = [record.label["predicted_label"].float32_tensor.values[0] for record in records]
    assert labels == [float(score >= 0.5) for score in expected], labels
predictor.delete_endpoint(delete_endpoint_config=True)
print("LinearLearnerPredictor answers")

generic = Model(
    image_uri=image_uris.retrieve("linear-learner", session.boto_region_name),
    model_data=data,
    role=role,
    predictor_cls=Predictor,
)
predictor = generic.deploy(1, "ml.m5.large", endpoint_name="generic", deserializer=JSONDeserializer(), wait=False)
session.wait_for_endpoint("generic", poll=1)
predictor.serializer = CSVSerializer()
answers = [predictor.predict(rows)]
predictor.serializer = JSONSerializer()
answers.append(predictor.predict({"instances": [{"features": row} for row in rows.tolist()]}))
for answer in answers:
    assert np.allclose([each["score"] for each in answer["predictions"]], expected, atol=1e-5), answer
predictor.delete_endpoint()
print("done")
