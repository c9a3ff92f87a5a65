"""Twelve (and more) broken deployments: each says cause and mend, within seconds."""

from __future__ import annotations

import io
import tarfile

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.deadlines import Watch
from tests.e2e.deployments import BUCKET, IDENTITY, ROLE, SKLEARN, XGBOOST, Deployments, archive, script


@pytest.fixture(autouse=True)
def within_seconds() -> object:
    begun = Watch()
    yield
    assert begun.free < 30


def hostile(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def test_1_archive_missing_at_create_model(server: Deployments) -> None:
    with pytest.raises(ClientError) as caught:
        server.sagemaker.create_model(
            ModelName="gone",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": SKLEARN, "ModelDataUrl": f"s3://{BUCKET}/no/such.tar.gz"},
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["Error"]["Message"].startswith(f"Could not find model data at s3://{BUCKET}/no/such.tar.gz")


def test_1_archive_gone_by_the_time_the_endpoint_starts(server: Deployments) -> None:
    server.model("vanishes", script(IDENTITY))
    server.config("vanishes")
    server.s3.delete_object(Bucket=BUCKET, Key="vanishes/model.tar.gz")
    server.sagemaker.create_endpoint(EndpointName="vanishes", EndpointConfigName="vanishes")
    reason = server.settle("vanishes", "Failed")["FailureReason"]
    assert "Failed to download model data" in reason
    assert f"s3://{BUCKET}/vanishes/model.tar.gz" in reason


def test_2_not_an_archive(server: Deployments) -> None:
    reason = server.fail("not-an-archive", b"PK\x03\x04 this is a zip, or so" * 50)
    assert "Failed to extract model data archive" in reason
    assert "tar.gz" in reason


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("dots", hostile(entry("../../evil")), ".."),
        ("symlink", hostile(entry("link", tarfile.SYMTYPE, "/etc/passwd")), "link"),
        ("device", hostile(entry("disk", tarfile.BLKTYPE)), "device"),
    ],
    ids=["dots", "symlink", "device"],  # an archive has a moment in it, and workers must agree on the tests' names
)
def test_3_hostile_archive(server: Deployments, name: str, data: bytes, word: str) -> None:
    reason = server.fail(f"hostile-{name}", data)
    assert "Failed to extract model data archive" in reason
    assert word in reason


def test_3_a_bomb(server: Deployments) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=9) as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 600 * 1024 * 1024

        class Zeros(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                return bytes(size)

        tar.addfile(info, Zeros())
    assert "too large" in server.fail("bomb", out.getvalue())


def test_4_no_model_file(server: Deployments) -> None:
    reason = server.fail("empty", archive({"readme.txt": "nothing here"}), environment={})
    assert "model" in reason
    assert "inference.py" in reason or "joblib" in reason
    log = server.log("empty")
    assert "[slipway] mend: put" in log
    assert "exited with status" not in log  # what was explained is not explained again


def test_4_a_folder_too_high(server: Deployments) -> None:
    reason = server.fail("too-high", archive({"model/code/inference.py": IDENTITY}))
    assert "there is model/code/inference.py" in reason
    assert "-C model ." in reason


def test_5_a_syntax_error(server: Deployments) -> None:
    reason = server.fail("syntax", script("def model_fn(model_dir)\n    return 1\n"))
    assert "SyntaxError" in reason or "syntax error" in reason
    assert "inference.py" in reason
    assert "line 1" in reason


def test_6_an_import_error(server: Deployments) -> None:
    reason = server.fail("imports", script("import a_module_nobody_has\n"))
    assert "a_module_nobody_has" in reason
    assert "requirements.txt" in reason


def test_7_an_environment_variable_is_missing(server: Deployments) -> None:
    reason = server.fail("variable", script("import os\nwhere = os.environ['MODEL_NAME']\n"))
    assert "Set MODEL_NAME in the model's Environment" in reason
    assert "inference.py, line 2" in reason


def test_7_model_fn_raises(server: Deployments) -> None:
    reason = server.fail("model-fn", script("def model_fn(model_dir):\n    raise ValueError('weights are corrupt')\n"))
    assert "model_fn" in reason
    assert "weights are corrupt" in reason


def test_8_a_pickle_of_another_version(server: Deployments) -> None:
    # a pickle that names a class of a module which this version does not have, as an old scikit-learn's would
    pickle = b"\x80\x03csklearn.linear_model.logistic\nLogisticRegression\nq\x00)\x81q\x01."
    code = (
        "import os, pickle\n"
        "def model_fn(d):\n    with open(os.path.join(d, 'model.pkl'), 'rb') as f:\n        return pickle.load(f)\n"
    )
    reason = server.fail("pickle", archive({"code/inference.py": code, "model.pkl": pickle}))
    assert "sklearn.linear_model.logistic" in reason
    assert "version" in reason


def test_9_the_process_exits(server: Deployments) -> None:
    reason = server.fail("exits", script("import os\nprint('about to leave', flush=True)\nos._exit(3)\n"))
    assert "3" in reason
    assert "exit" in reason


def test_10_out_of_memory(server: Deployments) -> None:
    hog = "def model_fn(d):\n    return [bytearray(64 << 20) for _ in range(400)]\n"
    reason = server.fail("hog", script(hog), variant={"InstanceType": "ml.t2.medium"})
    assert "memory" in reason
    assert "GiB" in reason or "MiB" in reason


def test_11_a_server_that_binds_nothing_is_told_at_its_start_limit() -> None:
    with temporary(["--start-limit", "3"]) as launched:
        reason = Deployments(launched).fail("stuck", script("import time\ndef model_fn(d):\n    time.sleep(600)\n"))
    assert "did not pass the ping health check" in reason
    assert "3 s" in reason


def test_12_requirements_that_do_not_install(server: Deployments) -> None:
    data = archive({"code/inference.py": IDENTITY, "code/requirements.txt": "this-package-does-not-exist-anywhere==1.0\n"})
    reason = server.fail("requirements", data)
    assert "this-package-does-not-exist-anywhere" in reason
    assert "requirements.txt" in reason


def test_an_image_that_nobody_knows_names_the_ways_out(server: Deployments) -> None:
    reason = server.fail("unknown-image", script(IDENTITY), image="123456789012.dkr.ecr.us-east-1.amazonaws.com/my-own:1")
    assert "my-own:1" in reason
    assert "scikit-learn" in reason or "images" in reason


def test_xgboost_with_two_broken_files(server: Deployments) -> None:
    reason = server.fail("broken-booster", archive({"xgboost-model": b"not a booster"}), image=XGBOOST, environment={})
    assert "xgboost-model" in reason


def test_a_failed_endpoint_can_only_be_deleted(server: Deployments) -> None:
    server.fail("dead", script("raise SystemExit(1)\n"))
    with pytest.raises(ClientError, match="ValidationException"):
        server.sagemaker.update_endpoint(EndpointName="dead", EndpointConfigName="dead")
    server.delete("dead")
    server.gone("dead")
