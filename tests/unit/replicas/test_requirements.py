from __future__ import annotations

from pathlib import Path

import pytest

from slipway.replicas.failures import CannotRun
from slipway.replicas.requirements import Wanted, find_requirements, read_requirements


def read(folder: Path, text: str, **environment: str) -> Wanted:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "requirements.txt").write_text(text)
    return read_requirements(str(folder / "code" / "requirements.txt"), environment)


def test_names_versions_comments_and_continuations(tmp_path: Path) -> None:
    wanted = read(tmp_path, "# all\nnumpy\nPandas_Thing[extra] >=2,<3 ; python_version>'3'\nscipy \\\n ==1.0  # why\n\n")
    assert wanted.lines == ["numpy", "Pandas_Thing[extra] >=2,<3 ; python_version>'3'", "scipy  ==1.0"]


def test_indexes_and_variables_of_the_container(tmp_path: Path) -> None:
    wanted = read(tmp_path, "--extra-index-url https://u:${TOKEN}@index.example/simple\n-i=https://i.example\nx\n", TOKEN="t")
    assert wanted.options == ["--extra-index-url", "https://u:t@index.example/simple", "--index-url", "https://i.example"]


def test_vendored_wheels_and_nested_files(tmp_path: Path) -> None:
    (tmp_path / "code" / "wheels").mkdir(parents=True)
    wheel = tmp_path / "code" / "wheels" / "tiny_thing-1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    (tmp_path / "code" / "more.txt").write_text("more\n")
    (tmp_path / "code" / "limits.txt").write_text("more<2\n")
    wanted = read(
        tmp_path, "--no-index\n--find-links wheels\n./wheels/tiny_thing-1.0-py3-none-any.whl\n-r more.txt\n-c limits.txt\n"
    )
    assert wanted.lines == [str(wheel), "more"]
    assert wanted.constraints == ["more<2"]
    assert wanted.options == ["--no-index", "--find-links", str(tmp_path / "code" / "wheels")]
    assert str(wheel) in wanted.vendored


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-e .", "not supported"),
        ("--editable=.", "not supported"),
        ("--no-binary :all:", "not supported"),
        ("--config-settings a=b", "not supported"),
        ("-r /etc/passwd", "out of the model"),
        ("-r ../../secret.txt", "out of the model"),
        ("-r missing.txt", "no such file"),
        ("-r requirements.txt", "include each other"),
        ("--find-links /etc", "out of the model"),
        ("--find-links file:///etc", "out of the model"),
        ("/etc/x.whl", "out of the model"),
        ("file:///etc/x.whl", "out of the model"),
        ("./setup", "no such file"),
        (".", "only wheels"),
        ("git+https://example.com/x", "not the name"),
        ("https://example.com/x.tar.gz", "not the name"),
        ("x @ file:///etc/passwd", "must begin with https"),
        ("x @ git+ssh://example.com/x", "must begin with https"),
        ("--index-url file:///etc", "index's address"),
        ("-i ftp://example.com", "index's address"),
        ("x==${SECRET}", "variable"),
        ("!!", "not the name"),
    ],
)
def test_what_is_refused(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(CannotRun) as caught:
        read(tmp_path, line + "\n")
    assert caught.value.failure.kind == "requirements"
    assert why in caught.value.failure.message


def test_a_password_stays_out_of_the_message(tmp_path: Path) -> None:
    with pytest.raises(CannotRun) as caught:
        read(tmp_path, "-e https://user:hunter2@example.com/x\n")
    assert "hunter2" not in str(caught.value)


def test_size_and_encoding(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="bytes"):
        read(tmp_path, "x\n" * 200_000)
    (tmp_path / "code" / "requirements.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotRun, match="UTF-8"):
        read_requirements(str(tmp_path / "code" / "requirements.txt"), {})


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    model, code = tmp_path / "model", tmp_path / "code"
    (model / "code").mkdir(parents=True)
    code.mkdir()
    assert find_requirements(str(code), str(model)) is None
    (model / "code" / "requirements.txt").write_text("")
    assert find_requirements(None, str(model)) == str(model / "code" / "requirements.txt")
    (code / "requirements.txt").write_text("")
    assert find_requirements(str(code), str(model)) == str(code / "requirements.txt")
