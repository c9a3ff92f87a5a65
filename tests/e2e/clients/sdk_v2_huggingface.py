"""SDK 2.x: HuggingFaceModel without a script, the task by HF_TASK; then with a script that replaces predict_fn."""

import os
import tarfile
import tempfile

import sagemaker
from sagemaker.huggingface import HuggingFaceModel

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
source = os.path.abspath(os.environ["MODEL"])
versions = {"transformers_version": "4.37.0", "pytorch_version": "2.1.0", "py_version": "py310"}

os.chdir(tempfile.mkdtemp())
with tarfile.open("model.tar.gz", "w:gz") as tar:
    for name in os.listdir(source):
        tar.add(os.path.join(source, name), name)
data = session.upload_data("model.tar.gz", key_prefix="pegasus")

plain = HuggingFaceModel(model_data=data, role=role, env={"HF_TASK": "summarization"}, **versions)
predictor = plain.deploy(1, "ml.m5.large", endpoint_name="sdk-summaries")
text = "the quick brown fox jumps over the lazy dog"
answer = predictor.predict({"inputs": text, "parameters": {"max_new_tokens": 6}})
assert list(answer[0]) == ["summary_text"], answer
predictor.delete_endpoint()
print("pipeline answers")

os.mkdir("code")
with open("code/inference.py", "w") as f:
    f.write(
        "from transformers import pipeline\n"
        "def model_fn(model_dir):\n    return pipeline('summarization', model=model_dir, tokenizer=model_dir)\n"
        "def predict_fn(data, model):\n"
        "    return {'summary': model(data['inputs'], max_new_tokens=6)[0]['summary_text'], 'of': len(data['inputs'])}\n"
    )
script = HuggingFaceModel(model_data=data, role=role, entry_point="inference.py", source_dir="code", **versions)
predictor = script.deploy(1, "ml.m5.large", endpoint_name="sdk-script")
answer = predictor.predict({"inputs": text})
assert (set(answer), answer["of"]) == ({"summary", "of"}, len(text)), answer
predictor.delete_endpoint()
print("done")
