"""SDK 2.x: PyTorchModel with a script of its own (the SDK repacks the archive), npy both ways."""

import os
import tarfile
import tempfile

import numpy as np
import sagemaker
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer
from sagemaker.pytorch import PyTorchModel
from sagemaker.serializers import CSVSerializer, JSONSerializer

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["MODEL"])

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add(source, "model.pt")
data = session.upload_data("model.tar.gz", key_prefix="torch")
with open("inference.py", "w") as f:
    f.write(
        "import os, torch\n"
        "def model_fn(model_dir, context=None):\n"
        "    return torch.jit.load(os.path.join(model_dir, 'model.pt'))\n"
    )
model = PyTorchModel(model_data=data, role=role, entry_point="inference.py", framework_version="2.3", py_version="py311")
predictor = model.deploy(1, "ml.m5.large", endpoint_name="sdk-torch")
rows = np.array([[1.0, 1.0], [2.0, 2.0]], dtype="float32")
assert np.allclose(predictor.predict(rows), [[6.0], [9.0]]), "npy"
predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
assert np.allclose(predictor.predict(rows.tolist()), [[6.0], [9.0]]), "json"
predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
assert np.allclose(np.array(predictor.predict(rows.tolist()), dtype=float).ravel(), [6.0, 9.0]), "csv"
predictor.delete_model()
predictor.delete_endpoint()
print("done")
