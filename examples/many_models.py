"""Many models behind one endpoint: a house-price model for each city, chosen by the request.

    slipway run -- python examples/many_models.py

Needs boto3. Trains nothing: each city's model is a small script with its own prices.
"""

from __future__ import annotations

import io
import json
import tarfile

import boto3

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::123456789012:role/service"
SCRIPT = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "prices.json")) as file:
        return json.load(file)

def predict_fn(rows, model):
    return [model["base"] + model["square_metre"] * float(row[0]) for row in rows]
"""
CITIES = {
    "Houston_TX": {"base": 40_000, "square_metre": 1_400},
    "NewYork_NY": {"base": 150_000, "square_metre": 8_900},
    "Chicago_IL": {"base": 60_000, "square_metre": 2_600},
}


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def main() -> None:
    s3, sagemaker, runtime = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
    s3.create_bucket(Bucket="houses")
    sagemaker.create_model(
        ModelName="houses",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://houses/models/",
            "Environment": {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
        },
    )
    variant = {"VariantName": "AllTraffic", "ModelName": "houses", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="houses", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="houses", EndpointConfigName="houses")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="houses", WaiterConfig={"Delay": 1})

    # Models come by upload, whenever they are ready: the endpoint runs already.
    for city, prices in CITIES.items():
        body = archive({"code/inference.py": SCRIPT, "prices.json": json.dumps(prices)})
        s3.put_object(Bucket="houses", Key=f"models/{city}/{city}.tar.gz", Body=body)

    for city in CITIES:
        answer = runtime.invoke_endpoint(
            EndpointName="houses", TargetModel=f"{city}/{city}.tar.gz", ContentType="application/json", Body=b"[[100]]"
        )
        (price,) = json.loads(answer["Body"].read())
        print(f"100 square metres in {city}: {price:,.0f}")
    sagemaker.delete_endpoint(EndpointName="houses")


if __name__ == "__main__":
    main()
