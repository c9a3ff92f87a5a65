"""SDK 2.x: PipelineModel of a scikit-learn script and an XGBoost booster, deployed, called, updated and deleted."""

import os
import tarfile
import tempfile

import numpy as np
import sagemaker
from sagemaker.deserializers import CSVDeserializer
from sagemaker.model import Model
from sagemaker.pipeline import PipelineModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn import SKLearnModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
booster, expected = os.path.abspath(os.environ["BOOSTER"]), [float(value) for value in os.environ["EXPECTED"].split(",")]

os.chdir(tempfile.mkdtemp())
with open("preprocess.py", "w") as file:
    file.write(
        "import io\n"
        "import numpy as np\n"
        "def model_fn(model_dir):\n"
        "    return 10.0\n"
        "def input_fn(body, content_type):\n"
        "    return np.loadtxt(io.StringIO(body), delimiter=',', ndmin=2)\n"
        "def predict_fn(rows, scale):\n"
        "    return rows / scale\n"
    )
with tarfile.open("empty.tar.gz", "w:gz"):
    pass
with tarfile.open("booster.tar.gz", "w:gz") as tar:
    tar.add(booster, "xgboost-model")
preprocess = SKLearnModel(
    model_data=session.upload_data("empty.tar.gz", key_prefix="pipeline"),
    role=role,
    entry_point="preprocess.py",
    framework_version="1.2-1",
    env={"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"},
    sagemaker_session=session,
)
xgboost = Model(
    image_uri=sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1"),
    model_data=session.upload_data("booster.tar.gz", key_prefix="pipeline"),
    role=role,
    sagemaker_session=session,
)
pipeline = PipelineModel(
    models=[preprocess, xgboost], role=role, predictor_cls=Predictor, name="sdk-pipeline", sagemaker_session=session
)
predictor = pipeline.deploy(initial_instance_count=1, instance_type="ml.c4.xlarge", endpoint_name="sdk-pipeline")
predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
scores = [float(value) for row in predictor.predict([[0, 10], [10, 0]]) for value in row]
assert np.allclose(scores, expected, atol=1e-4), (scores, expected)
described = session.sagemaker_client.describe_model(ModelName="sdk-pipeline")
assert len(described["Containers"]) == 2, described
assert described["Containers"][0]["Environment"]["SAGEMAKER_PROGRAM"] == "preprocess.py"
print("PipelineModel answers")
predictor.delete_endpoint()
pipeline.delete_model()
print("done")
