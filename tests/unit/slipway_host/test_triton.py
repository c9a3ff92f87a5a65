"""What Triton is started with, and what is refused before: by the names of models and backends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway_host.triton import serve


def model(repository: Path, name: str, config: str | None = None, file: str = "model.py") -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / file).write_text("")
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


def test_the_model_that_answers(tmp_path: Path) -> None:
    model(tmp_path, "one")
    (tmp_path / "code").mkdir()
    assert serve.default_model(str(tmp_path), {}) == "one"
    model(tmp_path, "two")
    assert serve.default_model(str(tmp_path), {serve.DEFAULT_MODEL: "two"}) == "two"
    with pytest.raises(serve.Refused, match=r"2 models \(one, two\)\. Set SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"):
        serve.default_model(str(tmp_path), {})
    with pytest.raises(serve.Refused, match="is three, and the model archive has one, two"):
        serve.default_model(str(tmp_path), {serve.DEFAULT_MODEL: "three"})


def test_archives_that_are_no_repository(tmp_path: Path) -> None:
    with pytest.raises(serve.Refused, match="no folder of a model"):
        serve.default_model(str(tmp_path), {})
    (tmp_path / "config.pbtxt").write_text("")
    with pytest.raises(serve.Refused, match=r"config\.pbtxt is at the top"):
        serve.default_model(str(tmp_path), {})


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ('backend: "python"', "model.py"),
        ('platform: "onnxruntime_onnx"', "model.onnx"),
        ('# backend: "tensorrt"\nname: "m"\nbackend : "onnxruntime"', "model.onnx"),
        (None, "model.onnx"),
        ("max_batch_size: 4", "model.py"),
    ],
)
def test_backends_that_there_are(tmp_path: Path, config: str | None, file: str) -> None:
    model(tmp_path, "m", config, file)
    serve.check(str(tmp_path), "m")


@pytest.mark.parametrize(
    ("config", "file", "says"),
    [
        ('platform: "tensorrt_plan"', "model.plan", "needs backend tensorrt_plan"),
        ('backend: "pytorch"', "model.pt", "needs backend pytorch"),
        (None, "model.savedmodel", "a backend that its files do not tell"),
        ('platform: "ensemble"\nensemble_scheduling { step [ { model_name: "gone" } ] }', "x", "An ensemble names gone"),
        ('platform: "ensemble"\nensemble_scheduling { step [ { model_name: "../m" } ] }', "x", "An ensemble names ../m"),
    ],
)
def test_backends_that_need_docker_are_refused_by_name(tmp_path: Path, config: str | None, file: str, says: str) -> None:
    model(tmp_path, "m", config, file)
    with pytest.raises(serve.Refused, match=says):
        serve.check(str(tmp_path), "m")


def test_every_model_of_an_ensemble_is_looked_at(tmp_path: Path) -> None:
    model(
        tmp_path, "all", 'platform: "ensemble"\nstep { model_name: "a" }\nstep { model_name: "all" }\nstep { model_name: "b" }'
    )
    model(tmp_path, "a", 'backend: "python"')
    model(tmp_path, "b", 'backend: "dali"')
    with pytest.raises(serve.Refused, match="Model b needs backend dali"):
        serve.check(str(tmp_path), "all")


def test_the_images_variables_become_arguments() -> None:
    environment = {
        "SAGEMAKER_BIND_TO_PORT": "9000",
        "SAGEMAKER_TRITON_THREAD_COUNT": "3",
        "SAGEMAKER_TRITON_LOG_INFO": "false",
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--exit-timeout-secs=3 --model-load-thread-count=2",
    }
    found = list(serve.arguments(environment, "/opt/ml/model", "m", "/b"))
    for argument in (
        "--sagemaker-port=9000", "--model-repository=/opt/ml/model", "--load-model=m", "--backend-directory=/b",
        "--model-control-mode=explicit", "--sagemaker-thread-count=3", "--log-info=false", "--allow-http=false",
    ):  # fmt: skip
        assert argument in found
    assert found[-2:] == ["--exit-timeout-secs=3", "--model-load-thread-count=2"]
    assert "--sagemaker-port=8080" in list(serve.arguments({}, "r", "m", "/b"))


def test_the_backends_are_files_of_their_own(tmp_path: Path) -> None:
    carried, ours = tmp_path / "carried", tmp_path / "ours"
    stub = carried / "python_backend_stubs" / "{}.{}".format(*sys.version_info) / "triton_python_backend_stub"
    for path in (carried / "backends/python/libtriton_python.so", stub, ours / "model.py", ours / "__pycache__/model.pyc"):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    folder = Path(serve.backend_folder(str(carried), str(ours), str(tmp_path / "made")))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert files == ["onnxruntime/model.py", "python/libtriton_python.so", "python/triton_python_backend_stub"]
