"""Dynamic batching by boto3: many callers at once, each with its own answer; a batch whose worker dies; asynchronous too."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from tests.e2e.deployments import BUCKET, SCRIPT_MODE, Deployments, script, until

ROWS = """
import os, numpy as np
def model_fn(model_dir): return np.array([1.0, 10.0])
def predict_fn(rows, model):
    print("rows", len(rows), flush=True)
    if (rows < 0).any(): raise ValueError("a negative number")
    if (rows > 1e6).any(): os._exit(7)
    return rows @ model
predict_fn.batched = True
"""
BATCHED = {
    **SCRIPT_MODE,
    "SLIPWAY_MAX_BATCH_SIZE": "8",
    "SLIPWAY_MAX_BATCH_DELAY_MS": "200",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
}


def outcome(server: Deployments, name: str, row: list[float]) -> object:
    """The predictions, or the error's code and what the model said."""
    try:
        return json.loads(server.invoke(name, [row]))
    except ClientError as error:
        return (error.response["Error"]["Code"], error.response["Error"]["Message"])


def largest(server: Deployments, name: str) -> int:
    """Rows of the largest call."""
    return max(int(line.partition(" ")[2]) for line in server.log(name).splitlines() if line.startswith("rows "))


def test_callers_share_calls_and_nothing_else(server: Deployments) -> None:
    server.deploy("rows", script(ROWS), environment=BATCHED)
    with ThreadPoolExecutor(16) as threads:

        def full() -> bool:
            """Whether a call was as large as allowed, once 64 were made, 16 at once: on a busy machine they come one by one."""
            found = list(threads.map(lambda n: outcome(server, "rows", [n, 1.0]), range(64)))
            assert found == [[n + 10.0] for n in range(64)]
            return largest(server, "rows") == 8

        until(full, what="a full batch")
        mixed = list(threads.map(lambda n: outcome(server, "rows", [n, 1.0]), (1, 2, -3, 4, 5, 6)))
        assert [each for n, each in enumerate(mixed) if n != 2] == [[n + 10.0] for n in (1, 2, 4, 5, 6)]
        assert mixed[2][0] == "ModelError"  # type: ignore[index]
        assert "a negative number" in mixed[2][1]  # type: ignore[index]
        died = list(threads.map(lambda n: outcome(server, "rows", [n, 1.0]), (1, 2, 1e7, 4)))
        assert any(each[0] == "ModelError" for each in died if isinstance(each, tuple))
        assert all(each == [n + 10.0] or each[0] == "ModelError" for n, each in zip((1, 2, 0, 4), died, strict=True))  # type: ignore[index]
    assert outcome(server, "rows", [5.0, 1.0]) == [15.0]
    assert server.status("rows") == "InService"


def test_asynchronous_requests_share_calls(server: Deployments) -> None:
    server.model("later", script(ROWS), environment=BATCHED)
    variant = {"VariantName": "AllTraffic", "ModelName": "later", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="later",
        ProductionVariants=[variant],
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/out"}},
    )
    server.sagemaker.create_endpoint(EndpointName="later", EndpointConfigName="later")
    server.settle("later", "InService")
    server.s3.put_object(Bucket=BUCKET, Key="in.json", Body=b"[[2.0, 1.0]]")

    def shared() -> bool:
        """Whether two of twenty were one call: on a busy machine they come one by one."""
        sent = [
            server.runtime.invoke_endpoint_async(
                EndpointName="later", InputLocation=f"s3://{BUCKET}/in.json", ContentType="application/json"
            )["OutputLocation"].removeprefix(f"s3://{BUCKET}/")
            for _ in range(20)
        ]
        for key in sent:
            server.s3.get_waiter("object_exists").wait(Bucket=BUCKET, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 90})
            assert json.loads(server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == [12.0]
        return largest(server, "later") > 1

    until(shared, what="a batch")


def test_a_transform_job_shares_calls(server: Deployments) -> None:
    server.model("job", script(ROWS), environment=BATCHED)
    server.s3.put_object(Bucket=BUCKET, Key="table/data.csv", Body="\n".join(f"{n},1" for n in range(32)))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/table/"}}
    server.sagemaker.create_transform_job(
        TransformJobName="job",
        ModelName="job",
        MaxConcurrentTransforms=8,
        BatchStrategy="SingleRecord",
        TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/done", "Accept": "text/csv", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    status = server.sagemaker.describe_transform_job
    until(lambda: status(TransformJobName="job")["TransformJobStatus"] in ("Completed", "Failed"))
    data = server.s3.get_object(Bucket=BUCKET, Key="done/data.csv.out")["Body"].read().decode()
    assert [float(line) for line in data.split()] == [n + 10.0 for n in range(32)]
    events = server.logs.filter_log_events(logGroupName="/aws/sagemaker/TransformJobs", filterPattern="rows")["events"]
    assert max(int(event["message"].partition(" ")[2]) for event in events) > 1


def test_a_model_that_cannot_batch_fails_with_the_mend(server: Deployments) -> None:
    text = "def model_fn(d): return 1\ndef predict_fn(data, model): return data\n"
    reason = server.fail("single", script(text), environment=BATCHED)
    assert "SLIPWAY_MAX_BATCH_SIZE is 8" in reason
    assert "batch_predict_fn(inputs, model)" in reason
