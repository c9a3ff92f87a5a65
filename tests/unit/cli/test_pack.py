"""`slipway pack`: what it writes, and what it finds wrong."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from slipway.cli.main import main
from tests.e2e.deployments import archive

SCRIPT = "def model_fn(model_dir):\n    return None\n"


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_what_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files alone, none of the caches, links as what they point to; the same files give the same bytes."""
    source = tree(
        tmp_path / "m", {"model.joblib": "x", "code/inference.py": SCRIPT, "code/__pycache__/a.pyc": "", ".DS_Store": ""}
    )
    (source / "linked").symlink_to(source / "model.joblib")
    (source / "loop").symlink_to(source)
    out = source / "model.tar.gz"
    assert main(["pack", str(source), "-o", str(out), "--framework", "sklearn"]) == 0
    assert "3 files" in capsys.readouterr().out
    assert names(out) == ["code/inference.py", "linked", "model.joblib"]
    with tarfile.open(out) as tar:
        assert {(entry.isreg(), entry.uid, entry.uname, entry.mode) for entry in tar} == {(True, 0, "", 0o644)}
    first = out.read_bytes()
    assert main(["pack", str(source), "-o", str(out)]) == 0
    assert (out.read_bytes() == first, [name for name in os.listdir(source) if name.startswith(".model")]) == (True, [])
    assert main(["pack", "--check", str(out)]) == 0
    assert "is in order" in capsys.readouterr().out


def test_scripts_at_the_top_go_into_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tree(tmp_path / "m", {"model.pth": "x", "inference.py": SCRIPT, "helper.py": "", "requirements.txt": "x==1"})
    out = tmp_path / "model.tar.gz"
    assert main(["pack", str(source), "-o", str(out)]) == 0
    assert names(out) == ["code/helper.py", "code/inference.py", "model.pth", "code/requirements.txt"]
    assert "must be code/inference.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "framework", "words"),
    [
        ({}, "", "nothing in it"),
        ({"m/code/inference.py": SCRIPT, "m/model.joblib": ""}, "", "one folder too deep, in m/"),
        ({"code/inference.py": "def f(:\n"}, "", "cannot be parsed (line 1)"),
        ({"code/inference.py": "x = 1\n", "requirements.txt": ""}, "", "move it into code/"),
        ({"code/inference.py": "import os\n"}, "sklearn", "defines no model_fn"),
        (
            {"code/inference.py": SCRIPT + "def transform_fn(a, b, c, d): 0\ndef predict_fn(a, b): 0\n"},
            "",
            "exclude each other",
        ),
        ({"code/inference.py": SCRIPT + "def predict_fn(a, b, c): 0\n"}, "sklearn", "predict_fn (line 3) takes 3 arguments"),
        ({"code/inference.py": SCRIPT + "def predict_fn(a, b, c, d): 0\n"}, "", "called with 2 or 3"),
        ({"code/inference.py": SCRIPT, "code/requirements.txt": "./../../etc"}, "", "requirements.txt"),
        ({"a.joblib": "", "b.pkl": ""}, "sklearn", "2 *.joblib or *.pkl files"),
        ({"weights.bin": ""}, "pytorch", "no *.pt or *.pth file"),
        ({".hidden": "", "deep/xgboost-model": ""}, "xgboost", "no model file at the top"),
        ({"xgboost-model": "", "README.md": ""}, "xgboost", "README.md lies at the top and is no model"),
        ({"weights.bin": ""}, "huggingface", "no config.json at the top"),
        ({"a": "", "bert/config.json": "{}"}, "huggingface", "but bert/config.json"),
        ({"config.json": "{}", "tokenizer.json": ""}, "huggingface", "no file of weights"),
        ({"config.json": "{", "model.safetensors": ""}, "huggingface", "config.json is no JSON"),
        ({"saved_model.pb": "", "code/inference.py": "x = 1\n"}, "tensorflow", "saved_model.pb lies at the top"),
        ({"a": "", "latest/saved_model.pb": ""}, "tensorflow", "saved_model.pb lies in latest/"),
        ({"model.keras": ""}, "tensorflow", "no <version>/saved_model.pb, but model.keras"),
        ({"model.zip": ""}, "sparkml", "no bundle.json at the top, but model.zip"),
        ({"model-symbol.json": ""}, "mxnet", "no model-0000.params, model-shapes.json at the top"),
        ({"mx-mod-symbol.json": ""}, "linear-learner", "There is no model_algo-1 at the top"),
    ],
)
def test_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], framework: str, words: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tree(source, files)
    assert main(["pack", str(source), "-o", str(tmp_path / "out.tar.gz"), "--framework", framework]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.tar.gz").exists()
    if files:
        (tmp_path / "made.tar.gz").write_bytes(archive(files))
        assert main(["pack", "--check", str(tmp_path / "made.tar.gz"), "--framework", framework]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT + "def predict_fn(data, model, context): 0\n",
        SCRIPT + "def predict_fn(*args): 0\n",
        SCRIPT + "def predict_fn(data, model=None): 0\n",
        SCRIPT + "async def transform_fn(model, data, content_type, accept): 0\n",
    ],
)
def test_what_is_right(tmp_path: Path, text: str) -> None:
    source = tree(tmp_path / "m", {"code/inference.py": text})
    assert main(["pack", str(source), "--check"]) == 0


@pytest.mark.parametrize(
    ("files", "framework", "hint"),
    [
        ({"xgboost-model": ""}, "xgboost", ""),
        ({"a.json": "", "b.json": ""}, "xgboost", "each is loaded, and answers are their mean"),
        ({"code/inference.py": SCRIPT, "notes.txt": ""}, "xgboost", ""),
        ({"config.json": '{"architectures": ["X"]}', "model.safetensors": "", "vocab.txt": ""}, "huggingface", ""),
        ({"config.json": "{}", "model.safetensors": "", "tokenizer.json": ""}, "huggingface", "set HF_TASK"),
        ({"config.json": '{"architectures": ["X"]}', "pytorch_model.bin": ""}, "huggingface", "There is no tokenizer"),
        ({"1/saved_model.pb": ""}, "tensorflow", ""),
        ({"half/2/saved_model.pb": "", "code/inference.py": "x = 1\n"}, "tensorflow", ""),
        ({"bundle.json": "", "root/a": ""}, "sparkml", ""),
        ({"metadata/part-0": "", "stages/0/a": ""}, "sparkml", ""),
        ({"model.joblib": ""}, "scikit-learn", ""),
        ({"model.pt": ""}, "pytorch:2.3", ""),
        ({"model-symbol.json": "", "model-0000.params": "", "model-shapes.json": ""}, "mxnet", "it may be empty"),
        ({"code/inference.py": "x = 1\n"}, "mxnet", ""),
        ({"model_algo-1": ""}, "linear-learner", ""),
    ],
)
def test_what_a_framework_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], framework: str, hint: str
) -> None:
    source = tree(tmp_path / "m", files)
    assert main(["pack", str(source), "--check", "--framework", framework]) == 0
    told = capsys.readouterr().err
    assert hint in told
    assert bool(told) == bool(hint)


def test_hostile_and_broken_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"PK\3\4 a zip")
    assert main(["pack", "--check", str(broken)]) == 1
    assert "not a tar archive" in capsys.readouterr().err
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    broken.write_bytes(out.getvalue())
    assert main(["pack", "--check", str(broken)]) == 1
    assert "link" in capsys.readouterr().err


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(tmp_path / "none")]) == 2
    assert main(["pack", str(tmp_path), "--framework", "cobol"]) == 2
    assert "no framework 'cobol': choose from sklearn" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(archive({"a": ""}))
    assert main(["pack", str(tmp_path / "file")]) == 2
    assert "slipway pack --check" in capsys.readouterr().err
