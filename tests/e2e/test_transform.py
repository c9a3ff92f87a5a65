"""Batch transform from CreateTransformJob to its outputs, through boto3 against real processes."""

from __future__ import annotations

import gzip
import json
import re
import struct
import time
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.core.transform_records import RECORDIO_MAGIC, masked_crc
from tests.deadlines import LONG, Watch
from tests.e2e.deployments import ROLE, SCRIPT_MODE, SKLEARN, Deployments, script, until

MODEL = """
import os
import time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body if isinstance(body, bytes) else body.encode()

def predict_fn(data, model):
    if b"slow" in data:
        time.sleep(60)
    if b"poison" in data:
        raise ValueError("there is poison in it")
    if b"die" in data:
        os._exit(9)
    if b"environment" in data:
        return "|".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if "BATCH" in k or k == "MINE").encode()
    if b"short" in data:
        return b"one\\n"
    if data.lstrip()[:1] == b"{":
        import json
        return b"".join(json.dumps({"n": len(line)}).encode() + b"\\n" for line in data.splitlines())
    return data.upper()

def output_fn(prediction, accept):
    return prediction, accept
"""


class Batch:
    def __init__(self, server: Deployments) -> None:
        self.server = server
        self.sagemaker = server.sagemaker
        server.s3.create_bucket(Bucket="data")
        server.model("upper", script(MODEL))

    def put(self, objects: Mapping[str, bytes]) -> None:
        for key, body in objects.items():
            self.server.s3.put_object(Bucket="data", Key=key, Body=body)

    def start(
        self, name: str, prefix: str, *, source: Mapping[str, Any], output: Mapping[str, Any], instances: int = 1, **more: Any
    ) -> None:
        kind = more.pop("S3DataType", "S3Prefix")
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=more.pop("ModelName", "upper"),
            TransformInput={"DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": f"s3://data/{prefix}"}}, **source},
            TransformOutput={"S3OutputPath": f"s3://data/out/{name}", **output},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": instances},
            **more,
        )

    def settle(self, name: str, wanted: str = "Completed", seconds: float = LONG) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            told: dict[str, Any] = self.sagemaker.describe_transform_job(TransformJobName=name)
            if told["TransformJobStatus"] not in ("InProgress", "Stopping"):
                assert told["TransformJobStatus"] == wanted, told.get("FailureReason")
                return told
            assert time.monotonic() < deadline, f"still {told['TransformJobStatus']} after {seconds} s"

    def run(self, job: str, prefix: str, wanted: str = "Completed", **more: Any) -> dict[str, Any]:
        self.start(job, prefix, **more)
        return self.settle(job, wanted)

    def outputs(self, name: str) -> dict[str, bytes]:
        found = self.server.s3.list_objects_v2(Bucket="data", Prefix=f"out/{name}/").get("Contents", [])
        return {
            each["Key"].removeprefix(f"out/{name}/"): self.server.s3.get_object(Bucket="data", Key=each["Key"])["Body"].read()
            for each in found
        }

    def log(self, name: str) -> str:
        events = self.server.logs.filter_log_events(
            logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=f"{name}/"
        )["events"]
        return "\n".join(event["message"] for event in events)


CSV = {"ContentType": "text/csv", "SplitType": "Line"}
LINES = {"AssembleWith": "Line", "Accept": "text/csv"}


@pytest.fixture(scope="module")
def batch(server: Deployments) -> Batch:
    return Batch(server)


def recordio(data: bytes) -> bytes:
    return struct.pack("<II", RECORDIO_MAGIC, len(data)) + data + b"\0" * (-len(data) % 4)


def tfrecord(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + b"\0\0\0\0"


def rows(count: int, word: str = "row") -> bytes:
    return b"".join(b"%s,%d\n" % (word.encode(), number) for number in range(count))


def test_lines_in_batches_are_assembled_under_the_same_keys(batch: Batch) -> None:
    batch.put({f"in/deep/{n}.csv": rows(n * 500 + 1, f"r{n}")[:-1] for n in range(3)} | {"in/folder/": b"", "input": b"x"})
    told = batch.run("lines", "in/", source=CSV, output=LINES, instances=2, Environment={"MINE": "yes"})
    assert told["TransformEndTime"] >= told["TransformStartTime"] > told["CreationTime"]
    assert batch.outputs("lines") == {f"deep/{n}.csv.out": rows(n * 500 + 1, f"R{n}") for n in range(3)}
    until(lambda: "Completed: 3 of 3 objects done" in batch.log("lines"))
    assert "MaxConcurrentTransforms=" in batch.log("lines")


def test_gzip_single_records_and_the_platform_s_variables(batch: Batch) -> None:
    batch.put({"zip/a.gz": gzip.compress(b"one\ntwo\nenvironment\n")})
    more: dict[str, Any] = {
        "BatchStrategy": "SingleRecord",
        "MaxPayloadInMB": 1,
        "MaxConcurrentTransforms": 2,
        "Environment": {"MINE": "yes"},
    }
    batch.run("zipped", "zip/a", source={**CSV, "CompressionType": "Gzip"}, output=LINES, **more)
    ((key, body),) = batch.outputs("zipped").items()
    assert key == "a.gz.out"
    assert body.splitlines()[:2] == [b"ONE", b"TWO"]
    assert body.splitlines()[2] == b"MINE=yes|SAGEMAKER_BATCH=true|SAGEMAKER_BATCH_STRATEGY=SINGLE_RECORD"


def test_whole_objects_with_and_without_a_limit(batch: Batch) -> None:
    batch.put({"whole/a": b"x" * 3_000_000, "whole/b": b""})
    for name, payload in (("limited", 6), ("streamed", 0)):
        batch.run(name, "whole/a", source={"ContentType": "text/csv"}, output={}, MaxPayloadInMB=payload)
        assert batch.outputs(name) == {"a.out": b"X" * 3_000_000}
    reason = batch.run("small", "whole/a", "Failed", source={}, output={}, MaxPayloadInMB=1)["FailureReason"]
    assert "ClientError: See job logs for more information." in reason
    assert "Record is larger than 1MB. Please increase your max_payload" in reason


def test_an_object_that_fails_leaves_no_output_and_the_others_theirs(batch: Batch) -> None:
    batch.put({"mixed/a": b"fine\n", "mixed/b": b"poison\n", "mixed/c": b"fine as well\n"})
    client: dict[str, Any] = {"ModelClientConfig": {"InvocationsMaxRetries": 1}}
    told = batch.run("mixed", "mixed/", "Failed", source=CSV, output=LINES, **client)
    assert set(batch.outputs("mixed")) == {"a.out", "c.out"}
    assert "1 of 3 objects failed; data/mixed/b: Bad HTTP status received from algorithm: 500" in told["FailureReason"]
    until(lambda: "data/mixed/b: Message:" in batch.log("mixed"))
    assert "there is poison in it" in batch.log("mixed")


def test_inputs_that_are_not_there(batch: Batch) -> None:
    told = batch.run("empty", "nothing/here", "Failed", source=CSV, output=LINES)
    assert 'No S3 objects found under S3 URL "s3://data/nothing/here"' in told["FailureReason"]


def test_bad_gzip_and_broken_records(batch: Batch) -> None:
    packed = gzip.compress(rows(200_000))
    batch.put({"bad/cut.gz": packed[:-100], "bad2/records": b"no record at all"})
    told = batch.run("cut", "bad/", "Failed", source={**CSV, "CompressionType": "Gzip"}, output=LINES)
    assert "the gzip data ends too early" in told["FailureReason"]
    told = batch.run("broken", "bad2/", "Failed", source={"SplitType": "RecordIO"}, output={})
    assert "there is no RecordIO record" in told["FailureReason"]


def test_records_of_the_binary_formats(batch: Batch) -> None:
    records = [b"one", b"two, longer", b"x" * 4000]
    batch.put({"rec/io": b"".join(map(recordio, records)), "rec/tf": b"".join(map(tfrecord, records))})
    for split, key in (("RecordIO", "io"), ("TFRecord", "tf")):
        source = {"SplitType": split}
        batch.run(f"{key}-single", f"rec/{key}", source=source, output={"AssembleWith": "Line"}, BatchStrategy="SingleRecord")
        assert batch.outputs(f"{key}-single") == {f"{key}.out": b"".join(r.upper() + b"\n" for r in records)}
    binary = {"SplitType": "RecordIO", "ContentType": "application/octet-stream"}
    data = b"".join(map(recordio, [b"ONE", b"TWO"]))
    batch.put({"rec/multi": data})
    batch.run("io-multi", "rec/multi", source=binary, output={}, BatchStrategy="MultiRecord")
    assert batch.outputs("io-multi") == {"multi.out": data}, "framing and all"


def test_a_record_that_kills_its_worker_is_tried_again_and_then_fails_the_object(batch: Batch) -> None:
    batch.put({"deadly/a": b"die\n", "deadly/b": b"fine\n"})
    client: dict[str, Any] = {"ModelClientConfig": {"InvocationsMaxRetries": 1}}
    told = batch.run("deadly", "deadly/", "Failed", source=CSV, output=LINES, **client)
    assert told["FailureReason"].startswith("AlgorithmError: See job logs")
    assert "Unable to get response from algorithm: the model process exited" in told["FailureReason"]
    assert set(batch.outputs("deadly")) == {"b.out"}


def test_stopping_before_there_is_an_instance(batch: Batch) -> None:
    batch.put({"early/a": b"fine\n"})
    batch.start("early", "early/", source=CSV, output=LINES)
    begun = Watch()
    batch.sagemaker.stop_transform_job(TransformJobName="early")
    batch.settle("early", "Stopped")
    assert begun.free < 5
    assert batch.outputs("early") == {}


@pytest.mark.heavy
def test_a_million_records_with_a_bad_one(batch: Batch) -> None:
    """999,999 outputs and one error line."""
    data = rows(1_000_000).replace(b"row,654321\n", b"poison,654321\n")
    batch.put({"million/a.csv": data})
    tags = [{"Key": "slipway.quarantine", "Value": "true"}]
    batch.start("million", "million/", source=CSV, output=LINES, Tags=tags)
    batch.settle("million")
    found = batch.outputs("million")
    assert found["a.csv.out"].count(b"\n") == 999_999
    assert found["a.csv.out"] == rows(1_000_000).replace(b"row,654321\n", b"").upper()
    (line,) = found["a.csv.errors.jsonl"].splitlines()
    assert json.loads(line)["record"] == 654_321


def test_filter_join_and_filter_again(batch: Batch) -> None:
    batch.put({"join/a.csv": b'1,"a, b",x\n2,c,y\n', "json/a.jsonl": b'{"id":1,"f":[1]}\n{"id":2,"f":[2]}\n'})
    processing = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    batch.run("csv-join", "join/", source=CSV, output=LINES, DataProcessing=processing)
    assert batch.outputs("csv-join") == {"a.csv.out": b"1,X\n2,Y\n"}
    jsonl = {"ContentType": "application/jsonlines", "SplitType": "Line"}
    processing = {"JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"}
    out = {"AssembleWith": "Line", "Accept": "application/jsonlines"}
    batch.run("json-join", "json/", source=jsonl, output=out, DataProcessing=processing)
    assert [json.loads(line)["id"] for line in batch.outputs("json-join")["a.jsonl.out"].splitlines()] == [1, 2]


def test_a_model_that_answers_the_wrong_number_of_records(batch: Batch) -> None:
    batch.put({"wrong/a.csv": b"short\nb\n"})
    told = batch.run("wrong", "wrong/", "Failed", source=CSV, output=LINES, DataProcessing={"JoinSource": "Input"})
    assert "the algorithm returned 1 result for 2 records" in told["FailureReason"]


def test_a_manifest_names_its_objects(batch: Batch) -> None:
    batch.put({"m/x/1": b"a\n", "m/x/2": b"b\n", "m/list": json.dumps([{"prefix": "s3://data/m/"}, "x/1", "x/2"]).encode()})
    batch.run("manifest", "m/list", source=CSV, output=LINES, S3DataType="ManifestFile")
    assert batch.outputs("manifest") == {"x/1.out": b"A\n", "x/2.out": b"B\n"}
    batch.put({"m/missing": json.dumps([{"prefix": "s3://data/m/"}, "x/1", "x/none"]).encode(), "m/no": b"{}"})
    told = batch.run("missing", "m/missing", "Failed", source=CSV, output=LINES, S3DataType="ManifestFile")
    assert "data/m/x/none: The object could not be read. NoSuchKey" in told["FailureReason"]
    told = batch.run("no-manifest", "m/no", "Failed", source=CSV, output=LINES, S3DataType="ManifestFile")
    assert "cannot be used" in told["FailureReason"]


def test_bad_records_are_put_aside_where_the_job_says_so(batch: Batch) -> None:
    data = rows(3000).replace(b"row,1234\n", b"poison,1234\n")
    batch.put({"aside/a.csv": data})
    tags = [{"Key": "slipway.quarantine", "Value": "true"}]
    client: dict[str, Any] = {"ModelClientConfig": {"InvocationsMaxRetries": 0}}
    batch.run("aside", "aside/", source=CSV, output=LINES, Tags=tags, **client)
    found = batch.outputs("aside")
    assert found["a.csv.out"] == rows(3000).replace(b"row,1234\n", b"").upper()
    (line,) = found["a.csv.errors.jsonl"].splitlines()
    told = json.loads(line)
    assert (told["record"], told["byte"], told["input"]) == (1234, data.index(b"poison"), "poison,1234")
    assert "there is poison in it" in told["cause"]


def test_bad_records_of_an_earlier_job_do_not_stay_beside_a_better_one(batch: Batch) -> None:
    tags = [{"Key": "slipway.quarantine", "Value": "true"}]
    output = {"S3OutputPath": "s3://data/out/again", **LINES}
    client: dict[str, Any] = {"ModelClientConfig": {"InvocationsMaxRetries": 0}}
    batch.put({"again/a.csv": b"one\npoison\n", "again/b.csv": b"two\n"})
    batch.run("again-1", "again/", source=CSV, output=output, Tags=tags, **client)
    assert batch.outputs("again")["a.csv.errors.jsonl"].count(b"\n") == 1
    batch.put({"again/a.csv": b"one\nmended\n"})
    batch.run("again-2", "again/", source=CSV, output=output, Tags=tags, **client)
    found = batch.outputs("again")
    assert found == {"a.csv.out": b"ONE\nMENDED\n", "a.csv.errors.jsonl": b"", "b.csv.out": b"TWO\n"}


def captured(batch: Batch, name: str, side: str) -> list[list[str]]:
    """Addresses that the manifests of one side list, a list for each."""
    prefix = f"captured/{name}/{side}/"
    found = []
    for each in batch.server.s3.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", []):
        assert re.fullmatch(r"\d{4}/\d\d/\d\d/\d\d/[0-9a-f-]{36}\.json", each["Key"].removeprefix(prefix))
        head, *keys = json.loads(batch.server.s3.get_object(Bucket="data", Key=each["Key"])["Body"].read())
        found.append([head["prefix"] + key for key in keys])
    return found


def test_what_was_captured_is_listed_and_results_have_inference_ids(batch: Batch) -> None:
    batch.put({"cap/x/a.csv": rows(30), "cap/b.csv": b"only\n", "cap/c.csv": b"poison\n"})
    capture = {"DestinationS3Uri": "s3://data/captured/ids", "GenerateInferenceId": True}
    client: dict[str, Any] = {"ModelClientConfig": {"InvocationsMaxRetries": 0}}
    batch.run("ids", "cap/", "Failed", source=CSV, output=LINES, DataCaptureConfig=capture, **client)
    assert captured(batch, "ids", "input") == [["s3://data/cap/b.csv", "s3://data/cap/x/a.csv"]]
    assert captured(batch, "ids", "output") == [["s3://data/out/ids/b.csv.out", "s3://data/out/ids/x/a.csv.out"]]
    lines = [line.rsplit(",", 2) for line in batch.outputs("ids")["x/a.csv.out"].decode().splitlines()]
    assert [line[0] for line in lines] == rows(30, "ROW").decode().splitlines()
    assert len({uuid.UUID(line[1]) for line in lines}) == 30
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line[2]) for line in lines)
    (manifest,) = batch.server.s3.list_objects_v2(Bucket="data", Prefix="captured/ids/input/")["Contents"]
    batch.run("from-capture", manifest["Key"], source=CSV, output=LINES, S3DataType="ManifestFile")
    assert set(batch.outputs("from-capture")) == {"b.csv.out", "x/a.csv.out"}, "a manifest is a job's input"


def test_inference_ids_of_json_and_a_destination_that_is_not_there(batch: Batch) -> None:
    batch.put({"cap-json/a": b'{"id":1}\n{"id":2}\n'})
    source = {"ContentType": "application/jsonlines", "SplitType": "Line"}
    capture = {"DestinationS3Uri": "s3://no-such-bucket/x", "GenerateInferenceId": True}
    batch.run("ids-json", "cap-json/", source=source, output={"AssembleWith": "Line"}, DataCaptureConfig=capture)
    found = [json.loads(line) for line in batch.outputs("ids-json")["a.out"].splitlines()]
    assert [each["n"] for each in found] == [8, 8]
    assert found[0]["SageMakerInferenceId"] != found[1]["SageMakerInferenceId"]
    assert found[0]["SageMakerInferenceTime"].endswith("Z")
    until(lambda: "Data capture to s3://no-such-bucket/x" in batch.log("ids-json"))


def test_stopping_cuts_what_runs_and_keeps_what_is_done(batch: Batch) -> None:
    batch.put({"stop/a": b"fine\n", "stop/b": b"slow\n"})  # a worker for each: whichever comes first, `a` waits for nobody
    batch.start("stop", "stop/", source=CSV, output=LINES)
    until(lambda: "a.out" in batch.outputs("stop"))
    begun = Watch()
    batch.sagemaker.stop_transform_job(TransformJobName="stop")
    told = batch.settle("stop", "Stopped")
    assert begun.free < 5
    assert "TransformEndTime" in told
    assert set(batch.outputs("stop")) == {"a.out"}
    with pytest.raises(batch.sagemaker.exceptions.ClientError, match="only a job that is InProgress can be stopped"):
        batch.sagemaker.stop_transform_job(TransformJobName="stop")


def test_a_model_that_cannot_be_loaded_says_why(batch: Batch) -> None:
    batch.server.model("broken", script("import nothing_of_that_name\n"))
    told = batch.run("unloadable", "in/", "Failed", source=CSV, output=LINES, ModelName="broken")
    assert "nothing_of_that_name" in told["FailureReason"]
    assert told["FailureReason"].startswith("AlgorithmError: The primary container did not pass the ping health check.")
    assert "transform job" in told["FailureReason"]


def test_an_unwritable_output(batch: Batch) -> None:
    request = {"S3OutputPath": "s3://no-such-bucket/out", **LINES}
    told = batch.run("unwritable", "in/deep/0", "Failed", source=CSV, output=request)
    assert "no-such-bucket" in told["FailureReason"]


ADD = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else data.decode()
    lines = [f"{line},WORD" for line in text.splitlines()]
    return "".join(line + "\\n" for line in lines), "text/csv" if accept == "text/csv" else "text/plain"
"""


def test_a_pipeline_walks_each_batch(batch: Batch) -> None:
    containers = []
    for word in ("one", "two"):
        key = f"step-{word}/model.tar.gz"
        batch.server.s3.put_object(Bucket="models", Key=key, Body=script(ADD.replace("WORD", word)))
        containers.append(
            {"Image": SKLEARN, "ModelDataUrl": f"s3://models/{key}", "Environment": SCRIPT_MODE, "ContainerHostname": word}
        )
    batch.sagemaker.create_model(ModelName="pipeline", ExecutionRoleArn=ROLE, Containers=containers)
    batch.put({"pipe/a": b"1\n2\n"})
    batch.run("pipe", "pipe/", source=CSV, output=LINES, ModelName="pipeline")
    assert batch.outputs("pipe") == {"a.out": b"1,one,two\n2,one,two\n"}


def test_nothing_is_left_of_jobs_that_ended(batch: Batch) -> None:
    until(lambda: not batch.server.processes("slipway_host"))


def slipway(capsys: pytest.CaptureFixture[str], batch: Batch, *arguments: str) -> str:
    """What `slipway transform …` prints."""
    main(["transform", "--data-dir", str(batch.server.launched.data_dir), *arguments])
    told = capsys.readouterr()
    return told.out + told.err


def test_the_command_lists_watches_and_reports(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.put({"told/a": b"fine\n", "told/b": b"poison\n"})
    batch.run("told", "told/", "Failed", source=CSV, output=LINES, ModelClientConfig={"InvocationsMaxRetries": 0})
    assert "1 of 2 objects, 1 record, 1 object failed" in slipway(capsys, batch, "list")
    assert "Failed   1 of 2 objects" in slipway(capsys, batch, "watch", "told")
    report = slipway(capsys, batch, "report", "told").splitlines()
    assert report[0].startswith("done     s3://data/told/a  1 record")
    assert report[1].startswith("failed   s3://data/told/b  0 records")
    assert "Bad HTTP status received from algorithm: 500" in report[1]
    (failed,) = slipway(capsys, batch, "report", "told", "--state", "failed", "--json").splitlines()
    assert json.loads(failed)["key"] == "told/b"
    assert "only a job that is InProgress can be stopped" in slipway(capsys, batch, "stop", "told")
    assert "There is no transform job none" in slipway(capsys, batch, "watch", "none")
