"""Broken deployments: each ends at once, and says what is wrong and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway_host import failures
from tests.deadlines import Watch

from .running import Host

OK = "def model_fn(d): return 1\ndef transform_fn(*a): return b''\n"


def fails(host: Host, script: str, environment: dict[str, str] | None = None, **config: Any) -> dict[str, Any]:
    host.script(script)
    started = Watch()
    report = host.fails(environment, **config)
    assert started.free < 10
    assert report["mend"]
    assert report["message"] in host.output()
    assert not list(host.run.glob("*.sock"))
    return report


@pytest.mark.parametrize("workers", [1, 2])
def test_model_fn_raises(host: Host, workers: int) -> None:
    report = fails(host, "def model_fn(d):\n    raise RuntimeError('no weights')\n", workers=workers)
    assert report["kind"] == "model-fn-error"
    assert (
        report["message"]
        == "model_fn raised RuntimeError: no weights (inference.py, line 2: raise RuntimeError('no weights'))."
    )
    assert report["traceback"][0] == "Traceback (most recent call last):"
    assert report["traceback"][-1] == "RuntimeError: no weights"
    assert not any("slipway_host" in line for line in report["traceback"])


def test_syntax_error(host: Host) -> None:
    report = fails(host, "x = 1\ndef model_fn(d)\n    return 1\n")
    assert report["kind"] == "syntax-error"
    assert "inference.py, line 2, has a syntax error" in report["message"]
    assert "def model_fn(d)" in report["message"]


def test_missing_package(host: Host) -> None:
    report = fails(host, "import os\nimport cv2\n" + OK)
    assert report["kind"] == "import-error"
    assert report["message"] == "No module named 'cv2' (inference.py, line 2: import cv2)."
    assert report["mend"] == "add opencv-python-headless to code/requirements.txt"


def test_misspelt_module_of_the_user(host: Host) -> None:
    (host.model / "code" / "featurizer.py").write_text("")
    report = fails(host, "import Featuriser\n" + OK)
    assert "featurizer" in report["mend"]


def test_missing_name_in_a_module(host: Host) -> None:
    report = fails(host, "from json import loadz\n" + OK)
    assert report["kind"] == "import-error"
    assert "loadz" in report["message"]


def test_no_model_file(host: Host) -> None:
    (host.model / "model.bin").touch()
    report = fails(host, "import os\ndef model_fn(d): return open(os.path.join(d, 'model.joblib'), 'rb').read()\n")
    assert report["kind"] == "no-model"
    assert "model.joblib" in report["message"]
    assert "holds code/, model.bin" in report["message"]


def test_no_model_fn(host: Host) -> None:
    report = fails(host, "def predict_fn(data, model): return 1\n")
    assert report["message"] == "inference.py defines no model_fn"


def test_transform_fn_beside_the_others(host: Host) -> None:
    report = fails(host, OK + "def input_fn(a, b): return 1\n")
    assert "Cannot use transform_fn implementation in conjunction with" in report["message"]


def test_a_program_that_is_not_in_the_archive(host: Host) -> None:
    report = fails(host, OK, {"SAGEMAKER_PROGRAM": "entry.py"})
    assert "SAGEMAKER_PROGRAM names entry.py" in report["message"]


def test_neither_script_nor_model(host: Host) -> None:
    (host.model / "code").rmdir()
    report = host.fails()
    assert report["kind"] == "no-model"
    assert "it is empty" in report["message"]


@pytest.mark.parametrize("script", ["import sys\nsys.exit(4)\n", "import sys\ndef model_fn(d): sys.exit(4)\n"])
def test_sys_exit(host: Host, script: str) -> None:
    report = fails(host, script)
    assert report["kind"] == "exited"
    assert "sys.exit(4)" in report["message"]


@pytest.mark.parametrize("workers", [1, 2])
def test_exit_without_a_word(host: Host, workers: int) -> None:
    report = fails(host, "import os\ndef model_fn(d):\n    print('last words')\n    os._exit(7)\n", workers=workers)
    assert report["kind"] == "exited"
    assert "exited with status 7" in report["message"]


def test_death_by_signal(host: Host) -> None:
    report = fails(host, "import os, signal\ndef model_fn(d): os.kill(os.getpid(), signal.SIGSEGV)\n")
    assert report["kind"] == "exited"
    assert "SIGSEGV (a crash inside a native library)" in report["message"]


@pytest.mark.parametrize("grow", ["x = bytearray(4 << 30)", "x = []\n    while True: x.append(bytearray(1 << 18))"])
def test_out_of_memory(host: Host, grow: str) -> None:
    script = (
        f"import resource\ndef model_fn(d):\n    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n    {grow}\n"
    )
    report = fails(host, script)
    assert report["kind"] == "out-of-memory"
    assert "the limit is 400 MiB" in report["message"]


def test_killed_for_memory_is_told_from_killed() -> None:
    killed = failures.exited(9, "loading the model", oom_kills=1)
    assert killed.kind == "out-of-memory"
    assert failures.exited(9, "loading the model", oom_kills=0).kind == "exited"


def test_unpickling_a_class_of_the_training_script(host: Host) -> None:
    (host.model / "m.pkl").write_bytes(b"c__main__\nMyModel\n.")
    report = fails(host, "import pickle\ndef model_fn(d): return pickle.load(open(d + '/m.pkl', 'rb'))\n")
    assert report["kind"] == "pickle-version"
    assert "MyModel" in report["message"]


def test_unpickling_what_another_version_wrote(host: Host) -> None:
    content = b"cjson.no_such_module\nTree\n." + b"_sklearn_version\x94\x8c\x051.0.2\x94"
    (host.model / "m.pkl").write_bytes(content)
    report = fails(host, "import pickle\ndef model_fn(d):\n    return pickle.load(open(d + '/m.pkl', 'rb'))\n")
    assert report["kind"] == "pickle-version"
    assert "m.pkl was written by scikit-learn 1.0.2;" in report["message"]
    assert "scikit-learn 1.0.2" in report["mend"]


def test_unpickling_a_package_that_is_not_installed_is_an_import_error(host: Host) -> None:
    (host.model / "m.pkl").write_bytes(b"clightgbm_not_here.basic\nBooster\n.")
    report = fails(host, "import pickle\ndef model_fn(d): return pickle.load(open(d + '/m.pkl', 'rb'))\n")
    assert report["kind"] == "import-error"
    assert "lightgbm_not_here" in report["mend"]


def test_a_flavour_that_is_not_there(host: Host) -> None:
    assert "no flavour 'cobol'" in fails(host, OK, flavour="cobol")["message"]


def test_a_socket_that_cannot_be_bound(host: Host) -> None:
    run = host.folder / ("long" * 30)
    run.mkdir()
    host.run = run
    report = fails(host, OK, run_dir=str(run))
    assert report["kind"] == "internal"
    assert "could not bind its sockets" in report["message"]
