from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway.core.images import parse_image
from slipway.replicas.failures import CannotRun
from slipway.replicas.images import Interpreter, Runtime, Version, find_interpreters, own_interpreter, runtime_of


def runs(uri: str, own: Version = (3, 11), *others: Version) -> Runtime:
    return runtime_of(uri, Interpreter("own", own), lambda: [Interpreter(f"other{v}", v) for v in others])


@pytest.mark.parametrize(
    ("uri", "own", "others", "title"),
    [
        ("sagemaker-scikit-learn:1.2-1-cpu-py3", (3, 11), (), "scikit-learn 1.2.2 (python 3.11)"),
        ("sagemaker-scikit-learn:1.4-2", (3, 12), (), "scikit-learn 1.4.2 (python 3.12)"),
        ("sagemaker-scikit-learn:1.0-1-cpu-py3", (3, 11), ((3, 10),), "scikit-learn 1.0.2 (python 3.10)"),
        ("sagemaker-scikit-learn:1.0-1-cpu-py3", (3, 11), (), "scikit-learn 1.1.3 (python 3.11)"),
        ("sagemaker-scikit-learn:0.23-1-cpu-py3", (3, 11), ((3, 9),), "scikit-learn 0.24.2 (python 3.9)"),
        ("sagemaker-scikit-learn:0.20.0-cpu-py3", (3, 13), (), "scikit-learn 1.5.2 (python 3.13)"),
        ("sagemaker-scikit-learn:2.0-1", (3, 11), (), "scikit-learn 1.7.2 (python 3.11)"),
        ("sagemaker-xgboost:1.7-1", (3, 11), (), "XGBoost 1.7.6 (python 3.11)"),
        ("sagemaker-xgboost:3.0-5", (3, 12), (), "XGBoost 3.0.5 (python 3.12)"),
        ("sagemaker-xgboost:0.90-2-cpu-py3", (3, 11), (), "XGBoost 0.90 (python 3.11)"),
        ("sagemaker-xgboost:1.7-1", (3, 13), (), "XGBoost 2.1.4 (python 3.13)"),
        ("pytorch-inference:2.3-cpu-py311", (3, 11), (), "PyTorch 2.13.0 (python 3.11)"),
        ("sagemaker-pytorch:1.1.0-cpu-py3", (3, 12), (), "PyTorch 2.13.0 (python 3.12)"),
        (
            "huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
            (3, 11),
            (),
            "transformers 4.57.6 on PyTorch 2.13.0 (python 3.11)",
        ),
        ("tensorflow-inference:2.16-cpu", (3, 11), (), "TensorFlow 2.21.0 (python 3.11)"),
        ("mxnet-inference:1.9-cpu-py38", (3, 11), (), "MXNet 1.9.1 (python 3.11)"),
        ("sagemaker-mxnet-serving:1.4-cpu-py2", (3, 12), ((3, 10),), "MXNet 1.9.1 (python 3.10)"),
        ("linear-learner:1", (3, 12), (), "Linear Learner 1 on numpy 2.4.6 (python 3.12)"),
        ("811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:1", (3, 11), (), "XGBoost 0.90 (python 3.11)"),
    ],
)
def test_what_runs(uri: str, own: Version, others: tuple[Version, ...], title: str) -> None:
    assert runs(uri, own, *others).title == title


def test_sparkml_needs_no_package_and_knows_its_engine() -> None:
    for tag in ("2.2", "2.4", "3.3"):
        found = runs(f"246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-sparkml-serving:{tag}")
        assert (found.flavour, found.requirements, found.notes) == ("sparkml", (), ())
        assert found.engine is not None
        assert found.engine.title == "Spark 4.3.0 (python 3.11)"
        assert found.engine.from_source == ("pyspark",)
        assert found.engine.notes == (f"Spark {tag} is asked for: 4.3.0 on Python 3.11 runs instead",)


def test_the_nearest_says_so_and_the_exact_does_not() -> None:
    assert runs("sagemaker-scikit-learn:1.2-1-cpu-py3").notes == ()
    (note,) = runs("sagemaker-scikit-learn:1.0-1-cpu-py3").notes
    assert note == "scikit-learn 1.0 has no wheels for an installed Python: 1.1.3 on Python 3.11 runs instead"


def test_what_a_deep_learning_image_does_not_get_is_said() -> None:
    assert runs("pytorch-inference:2.13.0-cpu-py311").notes == ()
    assert runs("pytorch-inference:2.3-gpu-py311").notes == (
        "PyTorch 2.3 is asked for: 2.13.0 on Python 3.11 runs instead",
        "the image asks for gpu, and no CUDA device is present on this machine; the CPU build of PyTorch runs",
    )
    assert runs("huggingface-tensorflow-inference:2.6-transformers4.57-cpu-py38-ubuntu20.04").notes == (
        "the image is built on tensorflow; PyTorch 2.13.0 runs instead, and reads the weights of PyTorch",
    )


def test_an_algorithm_of_aws_has_no_version_to_be_near() -> None:
    runtime = runs("382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1")
    assert (runtime.flavour, runtime.notes) == ("linear_learner", ())
    assert runtime.requirements == ("numpy==2.4.6",)


def test_numpy_below_two_for_old_releases() -> None:
    assert "numpy<2" in runs("sagemaker-scikit-learn:1.2-1-cpu-py3").requirements
    assert "boto3" in runs("sagemaker-xgboost:1.7-1").requirements


def test_other_interpreters_are_searched_only_when_needed() -> None:
    def fail() -> list[Interpreter]:
        raise AssertionError

    assert runtime_of("sagemaker-xgboost:1.7-1", Interpreter("own", (3, 11)), fail).interpreter.path == "own"


@pytest.mark.parametrize("uri", ["mine:1", "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.30.0-lmi12.0.0-cu124"])
def test_other_images_are_refused_by_name(uri: str) -> None:
    with pytest.raises(CannotRun) as caught:
        runs(uri)
    assert caught.value.failure.kind == "unknown-image"
    assert uri in caught.value.failure.message


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sagemaker-chainer:5.0.0-cpu-py3", r"\(chainer 5\.0\.0 for cpu\) is not supported yet"),
        ("kmeans:1", "built-in algorithm kmeans, which is not supported"),
    ],
)
def test_a_refusal_says_what_it_recognised(name: str, told: str) -> None:
    with pytest.raises(CannotRun, match=told):
        runs(f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{name}")


def test_no_interpreter_fits() -> None:
    with pytest.raises(CannotRun, match=r"Python 3\.99"):
        runs("sagemaker-scikit-learn:1.2-1-cpu-py3", (3, 99))


def test_our_own_interpreter_is_found() -> None:
    assert own_interpreter().version == sys.version_info[:2]
    for found in find_interpreters():
        assert found.version >= (3, 9)


def test_every_image_of_the_sdk_runs_or_is_refused_by_name() -> None:
    table = Path(__file__).parents[1] / "core" / "image_uris.txt"
    for line in table.read_text().partition("\n-\n")[0].splitlines():
        uri = f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{line.split()[0]}"
        image = parse_image(uri)
        refused = None
        try:
            runtime = runs(uri)
        except CannotRun as error:
            refused = error.failure
        if refused is None:
            assert runtime.flavour.startswith(image.framework.replace("-", "_")), uri
            continue
        assert image.framework not in ("sklearn", "xgboost")
        assert refused.kind == "unknown-image"
        assert uri in refused.message
        assert image.framework in refused.message
