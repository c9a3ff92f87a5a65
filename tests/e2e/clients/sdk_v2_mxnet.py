"""SDK 2.x: MXNetModel with a script that leaves all to the defaults (the SDK repacks the archive), json both ways."""

import json
import os
import tarfile
import tempfile

import numpy as np
import sagemaker
from sagemaker.mxnet import MXNetModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["MODEL"])
with open(source + "/truth.json") as file:
    truth = json.load(file)

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    for name in ("model-symbol.json", "model-0000.params", "model-shapes.json"):
        tar.add(f"{source}/{name}", name)
data = session.upload_data("model.tar.gz", key_prefix="mxnet")
with open("inference.py", "w") as f:
    f.write("# the defaults\n")
model = MXNetModel(
    model_data=data,
    role=role,
    entry_point="inference.py",
    framework_version="1.9.0",
    py_version="py38",
    model_server_workers=1,
)
predictor = model.deploy(1, "ml.m5.large", endpoint_name="sdk-mxnet", wait=False)
session.wait_for_endpoint("sdk-mxnet", poll=1)  # what deploy does, every 30 s
assert np.allclose(predictor.predict(truth["rows"]), truth["module"], rtol=1e-5), "json"
predictor.delete_model()
predictor.delete_endpoint()
print("done")
