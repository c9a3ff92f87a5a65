"""SDK 2.x: HuggingFaceModel with real weights; sentence embeddings by a script."""

import os
import tarfile
import tempfile

import sagemaker
from sagemaker.huggingface import HuggingFaceModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["MODEL"])
code = os.environ["CODE"]
versions = {"transformers_version": "4.37.0", "pytorch_version": "2.1.0", "py_version": "py310"}

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    for name in os.listdir(source):
        tar.add(os.path.join(source, name), name)
data = session.upload_data("model.tar.gz", key_prefix="minilm")

script = HuggingFaceModel(
    model_data=data, role=role, entry_point=os.path.basename(code), source_dir=os.path.dirname(code), **versions
)
predictor = script.deploy(1, "ml.m5.large", endpoint_name="sdk-sentences")
texts = ["A dog barks in the garden.", "The puppy is barking outside.", "Interest rates rose again."]
first, second, third = predictor.predict({"inputs": texts})["embeddings"]


def similarity(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


assert abs(similarity(first, first) - 1) < 1e-3
assert similarity(first, second) > 0.5 > 0.2 > similarity(first, third)
predictor.delete_endpoint()
print("done")
