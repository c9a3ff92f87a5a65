"""SageMaker Python SDK 2.x: Model.transformer(), transform with filters and a join, wait with logs, Transformer.attach."""

import csv
import os
import tarfile
import tempfile

import boto3
import joblib
import sagemaker
from sagemaker.sklearn import SKLearnModel
from sagemaker.transformer import Transformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

role = "arn:aws:iam::123456789012:role/SageMakerRole"
session = sagemaker.Session()
bucket = session.default_bucket()
folder = tempfile.mkdtemp()
os.chdir(folder)
x, y = load_breast_cancer(return_X_y=True)
fitted = LogisticRegression(max_iter=10000).fit(x, y)
joblib.dump(fitted, "model.joblib")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("model.joblib")
with open("serve.py", "w") as f:
    f.write("import joblib, os\ndef model_fn(model_dir):\n    return joblib.load(os.path.join(model_dir, 'model.joblib'))\n")
    f.write("def output_fn(prediction, accept):\n    return ''.join(f'{each}\\n' for each in prediction), 'text/csv'\n")
with open("patients.csv", "w", newline="") as f:
    csv.writer(f).writerows([f"patient-{number}", *row, label] for number, (row, label) in enumerate(zip(x, y, strict=True)))
data = session.upload_data("patients.csv", bucket=bucket, key_prefix="batch/in")
archive = session.upload_data("model.tar.gz", bucket=bucket, key_prefix="batch/model")

model = SKLearnModel(archive, role, entry_point="serve.py", framework_version="1.2-1", sagemaker_session=session)
transformer = model.transformer(
    instance_count=1,
    instance_type="ml.m5.large",
    strategy="MultiRecord",
    assemble_with="Line",
    accept="text/csv",
    output_path=f"s3://{bucket}/batch/out",
    max_payload=1,
)
transformer.transform(
    data,
    content_type="text/csv",
    split_type="Line",
    input_filter="$[1:-1]",
    join_source="Input",
    output_filter="$[0,-2,-1]",
    wait=True,
    logs=True,
)
body = boto3.client("s3").get_object(Bucket=bucket, Key="batch/out/patients.csv.out")["Body"].read().decode()
rows = list(csv.reader(body.splitlines()))
assert len(rows) == len(x), len(rows)
assert rows[0][0] == "patient-0", rows[0]
assert [int(float(row[2])) for row in rows] == fitted.predict(x).tolist()
assert sum(row[1] == row[2] for row in rows) > 500
print("joined")

again = Transformer.attach(transformer.latest_transform_job.name, sagemaker_session=session)
assert again.output_path == f"s3://{bucket}/batch/out", again.output_path
again.wait(logs=False)
transformer.delete_model()
print("done")
