"""Ways in which models come: requirements, code in an object of its own, a bare joblib file, XGBoost's algorithm mode."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.e2e.deployments import BUCKET, IDENTITY, SKLEARN, XGBOOST, Deployments, archive, until
from tests.faults.load import hosts, role

SLIPWAY = [sys.executable, "-m", "slipway.cli.main"]


def interpreter(image: str) -> str:
    """The image's own, so that what is trained here is what runs there."""
    subprocess.run([*SLIPWAY, "images", "pull", image], check=True, capture_output=True)
    shown = subprocess.run([*SLIPWAY, "images", "show", "--python", image], check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def trained(image: str, code: str, file: Path) -> str:
    """What the training code prints; it is given the file to write."""
    told = subprocess.run([interpreter(image), "-c", code, str(file)], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def test_requirements_are_installed_once_and_serve(server: Deployments) -> None:
    code = (
        "import humanize\n"
        "def model_fn(d):\n    return None\n"
        "def transform_fn(m, data, ct, accept):\n    return humanize.intcomma(int(data)), 'text/plain'\n"
    )
    data = archive({"code/inference.py": code, "code/requirements.txt": "humanize==4.9.0\n"})
    server.deploy("humane", data)
    assert server.invoke("humane", b"1234567", ContentType="text/plain") == b"1,234,567"
    server.deploy("humane-2", archive({"code/inference.py": code + "\n", "code/requirements.txt": "humanize==4.9.0\n"}))
    assert server.invoke("humane-2", b"1000", ContentType="text/plain") == b"1,000"
    built = [line for line in server.log("humane-2").splitlines() if "Installed" in line or "Building" in line]
    assert built == [], "the second one finds what the first one built"


def test_code_in_an_object_of_its_own(server: Deployments) -> None:
    code = (
        "import os\n"
        "def model_fn(model_dir):\n    return open(os.path.join(model_dir, 'weights.txt')).read()\n"
        "def transform_fn(model, data, ct, accept):\n    return model + ' ' + helper.suffix(), 'text/plain'\n"
    )
    sources = archive({"serve.py": "import helper\n" + code, "helper.py": "def suffix():\n    return 'helped'\n"})
    server.s3.put_object(Bucket=BUCKET, Key="code/sourcedir.tar.gz", Body=sources)
    server.deploy(
        "separate",
        archive({"weights.txt": "seven"}),
        environment={"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/code/sourcedir.tar.gz"},
    )
    assert server.invoke("separate", b"x", ContentType="text/plain") == b"seven helped"


def test_code_in_an_object_that_is_not_there(server: Deployments) -> None:
    reason = server.fail(
        "no-code",
        archive({"weights.txt": "seven"}),
        environment={"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/code/nowhere.tar.gz"},
    )
    assert f"s3://{BUCKET}/code/nowhere.tar.gz" in reason


def test_scikit_learn_with_nothing_but_a_joblib_file(server: Deployments, tmp_path: Path) -> None:
    expected = json.loads(
        trained(
            SKLEARN,
            "import json, sys, joblib\n"
            "from sklearn.datasets import load_iris\n"
            "from sklearn.linear_model import LogisticRegression\n"
            "data = load_iris(); model = LogisticRegression(max_iter=500).fit(data.data, data.target)\n"
            "joblib.dump(model, sys.argv[1])\n"
            "print(json.dumps([data.data[::30].tolist(), model.predict(data.data[::30]).tolist()]))\n",
            tmp_path / "model.joblib",
        )
    )
    server.deploy("bare", archive({"model.joblib": (tmp_path / "model.joblib").read_bytes()}), environment={})
    rows, wanted = expected
    assert json.loads(server.invoke("bare", rows)) == wanted
    csv = "\n".join(",".join(map(str, row)) for row in rows)
    answer = server.invoke("bare", csv, ContentType="text/csv", Accept="text/csv").decode()
    assert [float(value) for value in answer.split()] == wanted
    with pytest.raises(ClientError) as caught:
        server.invoke("bare", b"<xml/>", ContentType="application/xml")
    assert caught.value.response["OriginalStatusCode"] == 415


def test_xgboost_in_algorithm_mode(server: Deployments, tmp_path: Path) -> None:
    wanted = json.loads(
        trained(
            XGBOOST,
            "import json, sys, numpy as np, xgboost as xgb\n"
            "x = np.random.RandomState(0).rand(200, 2); y = x[:, 0] * 2 - x[:, 1]\n"
            "b = xgb.train({'max_depth': 3, 'nthread': 1}, xgb.DMatrix(x, y), 20); b.save_model(sys.argv[1])\n"
            "print(json.dumps(b.predict(xgb.DMatrix(np.array([[0.25, 0.75], [0.75, 0.25]]))).tolist()))\n",
            tmp_path / "xgboost-model.ubj",
        )
    )
    model = archive({"xgboost-model": (tmp_path / "xgboost-model.ubj").read_bytes()})
    server.deploy("boosted", model, image=XGBOOST, environment={})
    csv = server.invoke("boosted", "0.25,0.75\n0.75,0.25", ContentType="text/csv").decode()
    assert [float(value) for value in csv.replace("\n", ",").strip(",").split(",")] == pytest.approx(wanted, rel=1e-5)
    libsvm = server.invoke("boosted", "0:0.25 1:0.75\n0:0.75 1:0.25", ContentType="text/libsvm").decode()
    assert [float(value) for value in libsvm.replace("\n", ",").strip(",").split(",")] == pytest.approx(wanted, rel=1e-5)
    answer = json.loads(server.invoke("boosted", "0.25,0.75", ContentType="text/csv", Accept="application/json"))
    assert answer["predictions"][0]["score"] == pytest.approx(wanted[0], rel=1e-5)
    with pytest.raises(ClientError) as caught:
        server.invoke("boosted", b"nonsense", ContentType="application/pdf")
    assert caught.value.response["OriginalStatusCode"] == 415


def test_user_code_keeps_calling_us_when_control_is_started_again(server: Deployments) -> None:
    """Its address and its credentials stay good, also those that it fetches anew."""
    code = (
        "import boto3\n"
        "def model_fn(d):\n    return boto3.client('s3')\n"
        "def transform_fn(s3, data, ct, accept):\n"
        "    if data == 'anew':\n        s3 = boto3.session.Session().client('s3')\n"
        f"    return s3.get_object(Bucket='{BUCKET}', Key='asked-for')['Body'].read(), 'text/plain'\n"
    )
    server.s3.put_object(Bucket=BUCKET, Key="asked-for", Body=b"value")
    server.deploy("caller", archive({"code/inference.py": code}))
    before = {p.pid for p in hosts(server)}
    for _ in range(2):
        for how in (b"again", b"anew"):
            assert server.invoke("caller", how, ContentType="text/plain") == b"value"
        old = role(server, "control")
        old.kill()
        until(lambda old=old: role(server, "control").pid != old.pid)  # type: ignore[misc]
        for how in (b"again", b"anew"):
            assert server.invoke("caller", how, ContentType="text/plain") == b"value"
    assert {p.pid for p in hosts(server)} >= before


def test_a_model_in_memory_is_the_one_that_was_uploaded(server: Deployments) -> None:
    """A changed object under a running endpoint changes nothing until the endpoint is updated."""
    data = io.BytesIO(archive({"code/inference.py": IDENTITY}))
    server.deploy("stable", data.getvalue())
    server.s3.put_object(Bucket=BUCKET, Key="stable/model.tar.gz", Body=b"not an archive any more")
    assert server.invoke("stable", b"x") == b"x"
    assert server.status("stable") == "InService"
