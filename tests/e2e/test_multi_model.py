"""Multi-model endpoints with boto3 against a real slipway: loading, eviction, change, and what goes wrong with one model."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import random
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from slipway.cli.main import main
from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import BUCKET, ROLE, SCRIPT_MODE, SKLEARN, Deployments, archive, until

NAMED = """
import os, json, time
def model_fn(model_dir):
    told = json.load(open(os.path.join(model_dir, "told.json")))
    held = bytearray(os.urandom(4096)) * (told.get("mib", 0) * 256)
    time.sleep(told.get("slow", 0))
    if told.get("die"): os._exit(9)
    if told.get("raise"): raise ValueError("it does not want to")
    return told, held
def transform_fn(model, data, content_type, accept):
    data = data if isinstance(data, str) else bytes(data).decode()
    if data == "crash": os._exit(11)
    if data == "hold": time.sleep(0.2)
    return model[0]["name"] + ":" + data, "text/plain"
"""
ECHO = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return data, "text/plain"
"""


def packed(name: str, **told: Any) -> bytes:
    return archive({"code/inference.py": NAMED, "told.json": json.dumps({"name": name, **told})})


class Fleet:
    """One multi-model endpoint."""

    def __init__(
        self,
        server: Deployments,
        name: str,
        *,
        cache: str | None = None,
        instances: int = 1,
        image: str = SKLEARN,
        environment: Mapping[str, str] = SCRIPT_MODE,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        self.server = server
        self.name = name
        self.prefix = f"{name}/"
        container: dict[str, Any] = {
            "Image": image,
            "Mode": "MultiModel",
            "ModelDataUrl": f"s3://{BUCKET}/{self.prefix}",
            "Environment": dict(environment),
        }
        if cache is not None:
            container["MultiModelConfig"] = {"ModelCacheSetting": cache}
        for key, data in files.items():
            self.put(key, data)
        server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        server.config(name, {"InitialInstanceCount": instances})
        server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        server.settle(name, "InService")

    def put(self, key: str, data: bytes) -> None:
        self.server.s3.put_object(Bucket=BUCKET, Key=self.prefix + key, Body=data)

    def ask(self, target: str, body: str = "x") -> str:
        """As AWS's clients do: again after ModelNotReadyException."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.server.invoke(self.name, body, TargetModel=target, ContentType="text/csv").decode()
            except ClientError as error:
                if error.response["Error"]["Code"] != "ModelNotReadyException" or time.monotonic() > deadline:
                    raise

    def refused(self, target: str | None, body: str = "x") -> tuple[str, int, str, dict[str, Any]]:
        more = {} if target is None else {"TargetModel": target}
        with pytest.raises(ClientError) as error:
            self.server.invoke(self.name, body, ContentType="text/csv", **more)
        told = error.value.response
        return told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Message"], dict(told)

    def refused_at_last(self, target: str) -> tuple[str, int, str, dict[str, Any]]:
        """Once the load has ended, which may take longer than a request waits for it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.refused(target)
            if found[0] != "ModelNotReadyException" or time.monotonic() > deadline:
                return found

    def models(self, *arguments: str) -> Any:
        """What `slipway models NAME` says, as JSON."""
        return models(self.server, self.name, *arguments)

    def loaded(self) -> dict[str, dict[str, Any]]:
        rows = [row for replica in self.models()["replicas"] for row in replica["models"]]
        return {row["target"]: row for row in rows if row["state"] == "loaded"}


def models(server: Deployments, name: str, *arguments: str) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["models", name, *arguments, "--json", "--data-dir", str(server.launched.data_dir)])
    assert status == 0, out.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    """1 GiB for an instance, of which a fifth is for models; short waits."""
    limits = ("--replica-memory", "1GiB", "--model-memory", "0.2", "--model-wait-limit", "3", "--model-load-limit", "15")
    with temporary(limits) as launched:
        yield Deployments(launched)


@pytest.fixture(scope="module")
def fleet(server: Deployments) -> Fleet:
    made = Fleet(server, "fleet")
    for name in ("a", "b", "c"):
        made.put(f"{name}.tar.gz", packed(name))
    made.put("deep/er/d.tar.gz", packed("d"))
    return made


def test_models_are_loaded_on_first_use_and_answer_for_themselves(fleet: Fleet) -> None:
    assert [fleet.ask(f"{name}.tar.gz") for name in ("a", "b", "a", "c")] == ["a:x", "b:x", "a:x", "c:x"]
    assert fleet.ask("deep/er/d.tar.gz", "y" * 200_000) == "d:" + "y" * 200_000
    rows = fleet.loaded()
    assert set(rows) == {"a.tar.gz", "b.tar.gz", "c.tar.gz", "deep/er/d.tar.gz"}
    assert rows["a.tar.gz"]["uses"] == 2
    assert rows["a.tar.gz"]["bytes"] > 100_000


def test_a_hot_model_is_counted_and_shown(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.ask("a.tar.gz")
    assert main(["models", fleet.name, "--data-dir", str(fleet.server.launched.data_dir)]) == 0
    out = capsys.readouterr().out
    assert "models loaded" in out
    assert "a.tar.gz" in out


def test_several_callers_share_one_load_and_others_are_not_held_up(fleet: Fleet) -> None:
    fleet.put("slow.tar.gz", packed("slow", slow=1.0))
    fleet.put("quick.tar.gz", packed("quick"))
    fleet.ask("a.tar.gz")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(fleet.ask, "slow.tar.gz") for _ in range(4)]
        began = Watch()
        assert fleet.ask("quick.tar.gz") == "quick:x"
        assert fleet.ask("a.tar.gz") == "a:x"
        assert began.free < 0.9
        assert [each.result() for each in slow] == ["slow:x"] * 4
    assert fleet.server.log(fleet.name).count("running model_fn") == 0
    assert fleet.loaded()["slow.tar.gz"]["uses"] == 4


@pytest.mark.parametrize(
    ("target", "code", "status", "words"),
    [
        (None, "ValidationError", 400, "missing a target model header"),
        ("nobody.tar.gz", "ValidationError", 400, "Failed to download model data(bucket: models, key: fleet/nobody.tar.gz)"),
        ("../other/model.tar.gz", "ValidationError", 400, "Invalid TargetModel"),
        ("a/../../x.tar.gz", "ValidationError", 400, "Invalid TargetModel"),
        ("/etc/passwd", "ValidationError", 400, "Invalid TargetModel"),
        ("s3://models/fleet/a.tar.gz", "ValidationError", 400, "Invalid TargetModel"),
        ("%2e%2e/x.tar.gz", "ValidationError", 400, "Invalid TargetModel"),
        ("a//b.tar.gz", "ValidationError", 400, "Invalid TargetModel"),
        ("a\\..\\b", "ValidationError", 400, "Invalid TargetModel"),
        ("x" * 1025, "ValidationError", 400, "Member must have length less than or equal to 1024"),
    ],
)
def test_names_that_are_none(fleet: Fleet, target: str | None, code: str, status: int, words: str) -> None:
    found = fleet.refused(target)
    assert found[:2] == (code, status)
    assert words in found[2]
    assert fleet.ask("a.tar.gz") == "a:x"


def test_a_target_model_elsewhere_is_refused(server: Deployments) -> None:
    server.deploy("single", archive({"code/inference.py": NAMED, "told.json": '{"name": "one"}'}))
    with pytest.raises(ClientError) as error:
        server.invoke("single", "x", ContentType="text/csv", TargetModel="a.tar.gz")
    assert "is not a multi-model endpoint and does not support target model header" in str(error.value)


def test_a_bad_model_is_its_own_affair(fleet: Fleet) -> None:
    """Archive, load, memory, time, crash: each fails for who asked for it, while another model answers all along."""
    fleet.put("text.tar.gz", b"no archive at all")
    fleet.put("raises.tar.gz", packed("raises", **{"raise": True}))
    fleet.put("dies.tar.gz", packed("dies", die=True))
    fleet.put("huge.tar.gz", packed("huge", mib=500))
    fleet.put("late.tar.gz", packed("late", slow=30))
    fleet.put("fine.tar.gz", packed("fine"))
    fleet.ask("fine.tar.gz")
    done = False

    def keep_asking() -> int:
        count = 0
        while not done:
            assert fleet.ask("fine.tar.gz") == "fine:x"
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = pool.submit(keep_asking)
        try:
            code, status, message, _ = fleet.refused_at_last("text.tar.gz")
            assert (code, status) == ("ValidationError", 400), message
            assert "is not a gzip" in message or "archive" in message
            code, status, message, told = fleet.refused_at_last("raises.tar.gz")
            assert (code, status, told["OriginalStatusCode"]) == ("ModelError", 424, 500)
            assert "it does not want to" in message
            assert fleet.refused_at_last("dies.tar.gz")[3]["OriginalStatusCode"] == 500
            told = fleet.refused_at_last("huge.tar.gz")[3]
            assert told["OriginalStatusCode"] == 507
            assert "Models of this instance may take 204 MiB together: choose" in told["OriginalMessage"]
            assert "fine.tar.gz" in fleet.loaded()
            assert fleet.refused("late.tar.gz")[:2] == ("ModelNotReadyException", 429)
            code, _, message, told = fleet.refused("fine.tar.gz", "crash")
            assert (code, told["OriginalStatusCode"]) == ("ModelError", 0)
        except AssertionError:
            done = True
            raise
        finally:
            done = True
        with contextlib.suppress(ClientError):  # the one that was with the crashed process
            assert asking.result(PATIENCE) > 10
    assert fleet.ask("fine.tar.gz") == "fine:x"
    for words in ("[slipway] model huge.tar.gz: loading it as ", "model fine.tar.gz", "its process ended"):
        until(lambda words=words: words in fleet.server.log(fleet.name), 10.0, words)  # type: ignore[misc]


def test_least_recently_used_goes_when_memory_is_short(fleet: Fleet) -> None:
    """205 MiB for models, 60 MiB each: three fit."""
    for number in range(4):
        fleet.put(f"big{number}.tar.gz", packed(f"big{number}", mib=60))
    for number in (0, 1, 2):
        assert fleet.ask(f"big{number}.tar.gz") == f"big{number}:x"
    fleet.ask("big0.tar.gz")
    assert fleet.ask("big3.tar.gz") == "big3:x"
    loaded = fleet.loaded()
    assert "big1.tar.gz" not in loaded
    assert {"big0.tar.gz", "big2.tar.gz", "big3.tar.gz"} <= set(loaded)
    assert all(row["bytes"] >= 60 << 20 for target, row in loaded.items() if target.startswith("big"))
    gone = [past for replica in fleet.models()["replicas"] for past in replica["evictions"] if past["why"] == "memory"]
    assert gone[0]["target"] == "big1.tar.gz"


def test_working_set_twice_the_memory_stays_live(fleet: Fleet) -> None:
    for number in range(6):
        fleet.put(f"thrash{number}.tar.gz", packed(f"thrash{number}", mib=60))
    asked = [number % 6 for number in range(15)]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda number: fleet.ask(f"thrash{number}.tar.gz"), asked))
    assert answers == [f"thrash{number}:x" for number in asked]


def test_dozens_of_models_each_answer_for_themselves(fleet: Fleet) -> None:
    """A short form of `python -m bench models`, which has a thousand."""
    for number in range(30):
        fleet.put(f"many/{number}.tar.gz", packed(f"n{number}"))
    wanted = random.Random(3).choices(range(30), [1 / (rank + 1) for rank in range(30)], k=90)
    wanted[:30] = range(30)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: fleet.ask(f"many/{number}.tar.gz"), wanted))
    assert answers == [f"n{number}:x" for number in wanted]


def test_pinned_models_stay(fleet: Fleet) -> None:
    for number in range(4):
        fleet.put(f"pin{number}.tar.gz", packed(f"pin{number}", mib=60))
    assert fleet.models("pin", "pin0.tar.gz")["pinned"] is True
    for number in (1, 2, 3):
        fleet.ask(f"pin{number}.tar.gz")
    assert fleet.loaded()["pin0.tar.gz"]["pinned"]
    fleet.models("unpin", "pin0.tar.gz")
    fleet.models("preload", "a.tar.gz")
    assert not fleet.loaded()["pin0.tar.gz"]["pinned"]
    assert fleet.models("unpin", "pin0.tar.gz")["was_pinned"] is False


def test_a_replacement_loads_what_is_pinned_and_a_later_endpoint_of_that_name_does_not(server: Deployments) -> None:
    files = {"kept.tar.gz": packed("kept"), "other.tar.gz": packed("other")}
    fleet = Fleet(server, "pinned", files=files)
    fleet.models("pin", "kept.tar.gz")
    assert fleet.ask("other.tar.gz") == "other:x"
    (before,) = fleet.models()["replicas"]
    server.processes(before["replica"])[0].kill()
    until(
        lambda: [each["replica"] for each in fleet.models()["replicas"]] not in ([], [before["replica"]]),
        what="another instance",
    )
    until(lambda: set(fleet.loaded()) == {"kept.tar.gz"}, what="the pinned model, unasked")
    assert fleet.loaded()["kept.tar.gz"]["pinned"]
    server.delete("pinned")
    server.gone("pinned")
    server.sagemaker.create_endpoint(EndpointName="pinned", EndpointConfigName="pinned")
    server.settle("pinned", "InService")
    assert fleet.ask("kept.tar.gz") == "kept:x"
    assert not fleet.loaded()["kept.tar.gz"]["pinned"]


def test_a_changed_object_is_loaded_anew_without_a_failed_request(fleet: Fleet) -> None:
    fleet.put("changing.tar.gz", packed("first"))
    assert fleet.ask("changing.tar.gz") == "first:x"
    seen: list[str] = []
    fleet.put("changing.tar.gz", packed("second"))

    def renewed() -> bool:
        seen.append(fleet.ask("changing.tar.gz"))
        return seen[-1] == "second:x"

    begun = Watch()
    until(renewed, what="the new version")
    assert begun.free < 5
    assert set(seen) <= {"first:x", "second:x"}
    assert all(answer == "second:x" for answer in seen[seen.index("second:x") :])
    fleet.server.s3.delete_object(Bucket=BUCKET, Key=fleet.prefix + "changing.tar.gz")
    assert fleet.ask("changing.tar.gz") == "second:x"


def test_without_a_cache_a_model_goes_once_it_has_answered(server: Deployments) -> None:
    fleet = Fleet(server, "passing", cache="Disabled")
    fleet.put("a.tar.gz", packed("a"))
    assert [fleet.ask("a.tar.gz") for _ in range(3)] == ["a:x"] * 3
    until(lambda: not fleet.loaded(), what="the model to be unloaded")
    whys = {past["why"] for replica in fleet.models()["replicas"] for past in replica["evictions"]}
    assert "disabled" in whys


def test_what_has_no_effect_on_many_models_is_said(server: Deployments) -> None:
    """Variables, and requirements of one model: named in the log, and in the answer when the model cannot do without them."""
    said = {"SAGEMAKER_NUM_MODEL_WORKERS": "2", "SAGEMAKER_TS_BATCH_SIZE": "4"}
    files = {
        "works.tar.gz": archive({"code/inference.py": ECHO, "code/requirements.txt": "scikit-learn>=1\njoblib<0.1\n"}),
        "fails.tar.gz": archive({"code/inference.py": "import nosuch", "code/requirements.txt": "numpy\nnosuch==1.0\n"}),
    }
    fleet = Fleet(server, "said", environment={**SCRIPT_MODE, **said}, files=files)
    assert fleet.ask("works.tar.gz", "y") == "y"
    message = fleet.refused_at_last("fails.tar.gz")[2]
    assert "No module named 'nosuch'" in message
    assert "nosuch==1.0 (not installed)" in message
    assert "share one environment" in message
    for words in (*(f"{name} has no effect" for name in said), "is not met: joblib<0.1 (installed: "):
        until(lambda words=words: words in server.log("said"), what=words)  # type: ignore[misc]
    assert "scikit-learn>=1" not in server.log("said")


def test_one_script_and_its_packages_for_all_models(server: Deployments) -> None:
    """What the message on a model's unmet requirements says to do."""
    script = (
        "import humanize, json, os\n"
        "def model_fn(d): return json.load(open(os.path.join(d, 'told.json')))['name']\n"
        "def transform_fn(m, data, ct, accept): return m + humanize.intcomma(int(data)), 'text/plain'\n"
    )
    shared = archive({"serve.py": script, "requirements.txt": "humanize==4.9.0\n"})
    server.s3.put_object(Bucket=BUCKET, Key="shared/source.tar.gz", Body=shared)
    submit = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/shared/source.tar.gz"}
    told = {name: json.dumps({"name": name}) for name in ("a", "b")}
    files = {
        f"{name}.tar.gz": archive({"told.json": text, "code/requirements.txt": "humanize>=4"}) for name, text in told.items()
    }
    fleet = Fleet(server, "shared", environment=submit, files=files)
    assert [fleet.ask(f"{name}.tar.gz", "12345") for name in told] == ["a12,345", "b12,345"]
    assert "is not met" not in server.log("shared")


def test_creation_refuses_what_cannot_be(server: Deployments) -> None:
    container = {"Image": SKLEARN, "Mode": "MultiModel"}

    def refused(**more: Any) -> str:
        with pytest.raises(ClientError) as error:
            server.sagemaker.create_model(ModelName="no", ExecutionRoleArn=ROLE, PrimaryContainer={**container, **more})
        return str(error.value)

    assert "needs a ModelDataUrl" in refused()
    assert "must be s3://… and end in /" in refused(ModelDataUrl=f"s3://{BUCKET}/a.tar.gz")
    source = {"S3DataSource": {"S3Uri": f"s3://{BUCKET}/x/", "S3DataType": "S3Prefix", "CompressionType": "None"}}
    assert "S3Prefix" in refused(ModelDataSource=source) or "ModelDataSource" in refused(ModelDataSource=source)
    wrong = {"Image": SKLEARN, "MultiModelConfig": {"ModelCacheSetting": "Enabled"}}
    with pytest.raises(ClientError, match="MultiModelConfig can only"):
        server.sagemaker.create_model(ModelName="no", ExecutionRoleArn=ROLE, PrimaryContainer=wrong)
    server.sagemaker.create_model(
        ModelName="empty", ExecutionRoleArn=ROLE, PrimaryContainer={**container, "ModelDataUrl": f"s3://{BUCKET}/nothing/"}
    )
    told = server.sagemaker.describe_model(ModelName="empty")["PrimaryContainer"]
    assert told["Mode"] == "MultiModel"
    with pytest.raises(ClientError, match="not supported for multi-model"):
        server.sagemaker.create_endpoint_config(
            EndpointConfigName="empty",
            ProductionVariants=[
                {"VariantName": "v", "ModelName": "empty", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            ],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"}},
        )
