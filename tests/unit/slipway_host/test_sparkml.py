"""SparkML (containers.md 3.10): the dialect of the container, MLeap bundles against Spark's results, hostile bundles."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_host.contract import LoadError
from slipway_host.flavours import sparkml_pipeline, sparkml_rows, sparkml_text
from slipway_host.flavours.sparkml_values import Refused, Vector, java_double, parse_double, parse_integer
from tests.sparkml import EXPECTED, EXPORTED, bundle, differences, node, write

from .running import Host, ask

SPARK: dict[str, Any] = json.loads(EXPECTED.read_text())
SKLEARN: dict[str, Any] = json.loads(EXPORTED.read_text())
CSV, JSON, LINES, TEXT_LINES = "text/csv", "application/json", "application/jsonlines", "application/jsonlines;data=text"


def tensor(*values: float) -> dict[str, Any]:
    return {"double": list(values), "shape": {"dimensions": [{"size": len(values), "name": ""}]}, "type": "tensor"}


SHAPES = {"input_shapes": {"type": "list", "data_shape": [{"base": "scalar"}, {"base": "scalar"}]}}
ASSEMBLER = node("vector_assembler", SHAPES, {"input0": "x", "input1": "y"}, {"output": "features"})
LINEAR = node(
    "linear_regression", {"coefficients": tensor(2.0, -1.0), "intercept": {"double": 0.5}},
    {"features": "features"}, {"prediction": "prediction"},
)  # fmt: skip
TOKENIZER = node("tokenizer", {}, {"input": "text"}, {"output": "words"})
COLUMNS = [{"name": "x", "type": "double"}, {"name": "y", "type": "int"}, {"name": "text", "type": "string"}]


def schema(output: str = "prediction", kind: str = "double", struct: str = "basic") -> str:
    return json.dumps({"input": COLUMNS, "output": {"name": output, "type": kind, "struct": struct}})


@pytest.fixture
def served(host: Host) -> Callable[..., Host]:
    def start(**environment: str) -> Host:
        write(host.model, bundle(ASSEMBLER, LINEAR, TOKENIZER))
        return host.start({"SAGEMAKER_SPARKML_SCHEMA": schema(), **environment}, flavour="sparkml")

    return start


@pytest.fixture(scope="module")
def container() -> Iterator[Host]:
    """One for the tests that only ask."""
    folder = Path(tempfile.mkdtemp(prefix="sh"))
    running = Host(folder)
    write(running.model, bundle(ASSEMBLER, LINEAR, TOKENIZER))
    yield running.start({"SAGEMAKER_SPARKML_SCHEMA": schema()}, flavour="sparkml")
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


# ---- against Spark


@pytest.mark.parametrize("case", [*SPARK["cases"], *SKLEARN["cases"]], ids=lambda case: case["name"])
def test_as_spark_and_scikit_learn_compute_it(case: dict[str, Any], tmp_path: Path) -> None:
    assert differences(case, tmp_path) == []


def test_every_transformer_is_compared() -> None:
    cases = [*SPARK["cases"], *SKLEARN["cases"]]
    assert set(sparkml_pipeline.OPS) == {op for case in cases for op in case["ops"]}
    assert all(any(row is not None for row in case["expected"]) for case in cases)
    by_spark = {op for case in SPARK["cases"] for op in case["ops"]}
    assert set(sparkml_pipeline.OPS) - by_spark == {"sklearn_binarizer"}


def test_words_of_bundles_of_spark_2_are_hashed_as_it_did() -> None:
    for word, number in SPARK["old_hashes"].items():
        found = sparkml_text._hash_1(word.encode())
        assert (found - (1 << 32) if found >> 31 else found) == number, word


# ---- the dialect


def test_requests_and_answers(container: Host) -> None:
    host = container
    reply = host.invoke("1.5,2,a B\n9,9,z", CSV)
    assert (reply.status, reply.text, reply.headers["content-type"]) == (200, "1.5", CSV)
    reply = host.invoke('{"data": [3.0, 1, "a b"]}', JSON, "*/*")
    assert (reply.status, reply.text) == (200, "5.5")
    reply = host.invoke('{"data": [0.0, 1, ""]}', f"{JSON}; charset=utf-8", LINES)
    assert (reply.text, reply.headers["content-type"]) == ("-0.5", LINES)
    own = json.loads(schema("features", "double", "vector"))
    request = json.dumps({"schema": own, "data": [1e-5, 2, "a b"]})
    assert host.invoke(request, JSON).text == "1.0E-5,2.0"
    assert host.invoke(request, JSON, LINES).text == '{"features":[1.0E-5,2.0]}'
    own = json.loads(schema("words", "string", "array"))
    request = json.dumps({"schema": own, "data": [1, 2, 'Say "Hi"']})
    assert host.invoke(request, JSON, TEXT_LINES).text == '{"source":"say \\"hi\\""}'
    assert host.invoke(request, JSON, LINES).text == '{"features":["say","\\"hi\\""]}'
    reply = host.invoke('{"data": [1, 2, "a"]}\n{"data": [[2, 2, "b"], [3, 2, "c"]]}\n', LINES)
    assert (reply.status, reply.text) == (200, "[[0.5], [2.5], [4.5]]")


def test_the_environment_decides_the_default_accept(served: Callable[..., Host]) -> None:
    host = served(SAGEMAKER_SPARKML_SCHEMA=schema("words", "string", "array"), SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT=TEXT_LINES)
    assert host.invoke("1,2,A b", CSV).text == '{"source":"a b"}'
    assert host.invoke("1,2,A b", CSV, CSV).text == "a,b"


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "words"),
    [
        ("1", "application/xml", "", 415, "Content type application/xml is not supported"),
        ("1,2,a", "", "", 415, "Content type none"),
        ("", CSV, "", 204, ""),
        ("", JSON, "", 204, ""),
        ("1,2,a", CSV, JSON, 400, "Accept value passed via request or environment variable is not valid"),
        ("1,2,a", CSV, "text/csv; header=no", 400, "Accept value passed"),
        ("1,2.0,a", CSV, "", 400, 'For input string: "2.0" (column y)'),
        ("one,2,a", CSV, "", 400, 'For input string: "one" (column x)'),
        (",2,a", CSV, "", 400, "empty String (column x)"),
        ("1,99999999999,a", CSV, "", 400, 'For input string: "99999999999"'),
        ("1,2", CSV, "", 400, "Index: 2, Size: 2"),
        ("\n\n", CSV, "", 400, "Index: 0, Size: 0"),
        (b"\xff,2,a", CSV, "", 400, "utf-8"),
        ('{"data": [1, 2', JSON, "", 400, "it is no JSON"),
        ('{"rows": [1]}', JSON, "", 400, "The request must be"),
        ('{"data": [null, 2, "a"]}', JSON, "", 400, "the value is null (column x)"),
        ('{"data": [1.0, 2.5, "a"]}', JSON, "", 400, 'For input string: "2.5"'),
        ("[" * 100_000, JSON, "", 400, ""),
        ('{"schema": {"input": []}, "data": []}', JSON, "", 400, "The schema must be"),
        ('{"data": [1, 2, "a"]}\n\n{"data": [1, 2, "a"]}', LINES, "", 400, "it is no JSON"),
    ],
)
def test_refusals(container: Host, body: str | bytes, content_type: str, accept: str, status: int, words: str) -> None:
    reply = container.invoke(body, content_type, accept)
    assert reply.status == status, reply.text
    assert words in reply.text


@pytest.mark.parametrize(
    ("columns", "output", "data", "words"),
    [
        (
            [("v", "double", "vector")],
            ("v", "double", "vector"),
            [[1, 2]],
            "java.lang.Integer cannot be cast to java.lang.Double",
        ),
        ([("v", "int", "vector")], ("v", "int", "vector"), [[1]], "Only Double type is supported for vector"),
        ([("v", "double", "vector")], ("v", "double", "vector"), [1.0], "Input val is not a list but struct passed is vector"),
        (
            [("a", "string", "array")],
            ("a", "string", "array"),
            [["x", 1]],
            "java.lang.Integer cannot be cast to java.lang.String",
        ),
        ([("a", "short", "array")], ("a", "short", "array"), [[1]], "java.lang.Integer cannot be cast to java.lang.Short"),
        ([("x", "double", "")], ("x", "int", ""), [1.0], "The column x is a double; the schema's output says int"),
        ([("x", "double", "")], ("x", "double", "vector"), [1.0], "the schema's output says vector"),
        ([("x", "double", "")], ("nowhere", "double", ""), [1.0], "there is no column 'nowhere'; there are x"),
        ([("x", "decimal", "")], ("x", "double", ""), [1.0], "Data type passed in the request is wrong"),
        ([("x", "double", "matrix")], ("x", "double", ""), [1.0], "The struct of column x is 'matrix'"),
        ([("b", "byte", "")], ("b", "byte", ""), [128], 'For input string: "128"'),
    ],
)
def test_types(columns: list[tuple[str, str, str]], output: tuple[str, str, str], data: list[Any], words: str) -> None:
    keys = ("name", "type", "struct")
    request = {"input": [dict(zip(keys, c, strict=True)) for c in columns], "output": dict(zip(keys, output, strict=True))}
    with pytest.raises(Refused) as caught:
        evaluate(request, data)
    assert words in str(caught.value)


def evaluate(request: dict[str, Any], data: list[Any]) -> Any:
    found = sparkml_rows.schema_of(request)
    value = sparkml_pipeline.Pipeline([]).evaluate(sparkml_rows.columns(found, data), found.output.name)
    return sparkml_rows.checked(found.output, value)


def test_execution_parameters_and_a_schema_that_is_none(served: Callable[..., Host]) -> None:
    host = served(SAGEMAKER_SPARKML_SCHEMA="{not json")
    reply = host.invoke("1,2,a", CSV)
    assert (reply.status, "SAGEMAKER_SPARKML_SCHEMA cannot be used" in reply.text) == (400, True)
    own = json.dumps({"schema": json.loads(schema()), "data": [1, 2, "a"]})
    assert host.invoke(own, JSON).text == "0.5"
    parameters = json.loads(ask(host.worker(), "GET", "/execution-parameters").body)
    assert {**parameters, "MaxConcurrentTransforms": 1} == {
        "MaxConcurrentTransforms": 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 5,
    }  # fmt: skip


# ---- numbers as Java has them


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0"), (0.001, "0.001"), (1e-4, "1.0E-4"), (1e7, "1.0E7"), (9999999.0, "9999999.0"), (-1.5e300, "-1.5E300"),
     (float("inf"), "Infinity"), (float("nan"), "NaN"), (-0.0, "-0.0"), (123456789.125, "1.23456789125E8")],
)  # fmt: skip
def test_doubles_as_java_writes_them(value: float, text: str) -> None:
    assert java_double(value) == text


@given(st.floats())
def test_doubles_survive_java(value: float) -> None:
    assert repr(parse_double(java_double(value))) == repr(value)


@pytest.mark.parametrize(("text", "value"), [(" 1.5 ", 1.5), ("1e3d", 1000.0), (".5f", 0.5), ("-Infinity", float("-inf"))])
def test_doubles_as_java_reads_them(text: str, value: float) -> None:
    assert parse_double(text) == value


@pytest.mark.parametrize("text", ["", " ", "inf", "1_000", "0x10", "1,5", "1e", "٣"])
def test_what_java_takes_for_no_double(text: str) -> None:
    with pytest.raises(Refused):
        parse_double(text)


@pytest.mark.parametrize(("text", "bits"), [("128", 8), ("-32769", 16), ("1.0", 32), (" 1", 32), ("9" * 5000, 64), ("", 32)])
def test_what_java_takes_for_no_integer(text: str, bits: int) -> None:
    with pytest.raises(Refused):
        parse_integer(text, bits)


# ---- bundles


def failure(folder: Path) -> str:
    with pytest.raises(LoadError) as caught:
        sparkml_pipeline.read(str(folder))
    assert caught.value.kind == "no-model"
    return f"{caught.value} | {caught.value.mend}"


def test_a_zip_is_read_as_it_is(host: Host) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in bundle(ASSEMBLER, LINEAR, TOKENIZER).items():
            archive.writestr(path, text)
    (host.model / "pipeline.zip").write_bytes(packed.getvalue())
    host.start({"SAGEMAKER_SPARKML_SCHEMA": schema()}, flavour="sparkml")
    assert host.invoke("1.5,2,a", CSV).text == "1.5"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "There is no MLeap bundle at the top of the model archive; it holds code/."),
        ({"deep/bundle.json": "{}"}, "tar -czf model.tar.gz -C deep ."),
        ({"a.zip": "no zip"}, "a.zip is no zip file"),
    ],
)
def test_archives_without_a_bundle(host: Host, files: dict[str, str], words: str) -> None:
    write(host.model, files)
    report = host.fails(flavour="sparkml")
    assert words in report["message"] + report["mend"], report


def test_a_transformer_that_is_not_supported_is_named(host: Host) -> None:
    write(host.model, bundle(ASSEMBLER, node("word_to_vector", {}, {"input": "text"}, {"output": "o"})))
    report = host.fails(flavour="sparkml")
    assert "'word_to_vector' (root/stage1.node), a transformer that is not supported" in report["message"]
    assert "PipelineModel.save" in report["mend"]


PIPELINE = '{"op": "pipeline", "attributes": {"nodes": {"type": "list", "string": ["NAME"]}}}'


def nested(depth: int) -> dict[str, str]:
    files = {"bundle.json": '{"format": "json"}'}
    folder = "root"
    for _ in range(depth):
        files[f"{folder}/model.json"] = PIPELINE.replace("NAME", "p")
        folder += "/p.node"
    files[f"{folder}/model.json"] = '{"op": "pipeline", "attributes": {"nodes": {"type": "list"}}}'
    return files


def wide(depth: int) -> dict[str, str]:
    """A hundred times the same pipeline in each pipeline."""
    names = json.dumps(["p"] * 100)
    files = nested(depth)
    return {path: text.replace('["p"]', names) for path, text in files.items()}


def tree(*lines: str) -> dict[str, str]:
    made = node("decision_tree_regression", {"num_features": {"long": 2}}, {"features": "f"}, {"prediction": "p"})
    return bundle(made | {"tree.json": "\n".join(lines)})


SPLIT = '{"type": "internal", "split": {"type": "continuous", "featureIndex": 1, "threshold": 0.5}}'
LEAF = '{"type": "leaf", "values": [1.0]}'


def changed(attributes: dict[str, Any], op: str = "linear_regression") -> dict[str, str]:
    ports = ({"features": "f"}, {"prediction": "p"}) if "regression" in op else ({"input": "f"}, {"output": "p"})
    return bundle(node(op, attributes, *ports))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"bundle.json": '{"format": "protobuf"}'}, "format 'protobuf'; only json can be evaluated here"),
        ({"bundle.json": "[1]"}, "bundle.json holds no JSON object"),
        ({"bundle.json": "[" * 200_000}, "bundle.json is no JSON"),
        ({"bundle.json": '{"format": "json"}'}, "there is no root/model.json"),
        (nested(30), "nested deeper than 20"),
        (wide(3), "more than 5000 stages"),
        (
            {**nested(0), "root/model.json": PIPELINE.replace("NAME", "../../x")},
            "names '../../x', which cannot be a folder of it",
        ),
        ({**nested(0), "root/model.json": PIPELINE.replace("NAME", "/etc")}, "names '/etc'"),
        (tree(SPLIT, LEAF), "ends before its tree does"),
        (tree(LEAF, LEAF), "goes on behind its tree"),
        (tree(*[SPLIT] * 1200), "deeper than 1000"),
        (tree(SPLIT.replace("1,", "2,"), LEAF, LEAF), "splits by feature 2, where there are 2"),
        (tree('{"type": "leaf", "values": [1.0, 2.0]}'), "there must be 1 numbers"),
        (tree("nonsense"), "a line that is no JSON"),
        (changed({"intercept": {}}), "attribute coefficients is missing"),
        (changed({"coefficients": tensor(1.0), "intercept": {"double": "1"}}), "attribute intercept holds '1'"),
        (changed({"coefficients": tensor(1.0), "intercept": {"double": 10**400}}), "beyond every double"),
        (changed({"coefficients": {"type": "graph"}, "intercept": {}}), "attribute coefficients is no list|tensor"),
        (changed({"principal_components": tensor(1.0)}, "pca"), "is no matrix"),
        (changed({"degree": {"long": 9}, "input_size": {"long": 900}}, "polynomial_expansion"), "gives more than"),
        (changed({"splits": {"type": "list", "double": [1.0, 0.0, 2.0]}}, "bucketizer"), "do not ascend"),
        (changed({"p_norm": {}}, "normalizer"), "p_norm is 0.0"),
        (changed({"regex": {"string": "\\p{L}+"}, "match_gaps": {}}, "regex_tokenizer"), "the escape \\p"),
        (changed({"regex": {"string": "[a-z&&[^b]]"}, "match_gaps": {}}, "regex_tokenizer"), "is not supported"),
        (changed({"regex": {"string": "(a"}, "match_gaps": {}}, "regex_tokenizer"), "is not supported"),
        (changed({"regex": {"string": "a++"}, "match_gaps": {}}, "regex_tokenizer"), "possessive"),
        (changed({"regex": {"string": "(?i)a"}, "match_gaps": {}}, "regex_tokenizer"), "a special group"),
        (changed({"labels": {"type": "list"}, "handle_invalid": {"string": "guess"}}, "string_indexer"), "handle_invalid"),
        (bundle(TOKENIZER | {"node.json": '{"shape": {"inputs": 3}}'}), "no ports with names"),
        (bundle(TOKENIZER | {"node.json": '{"shape": {"inputs": [], "outputs": []}}'}), "0 columns in"),
    ],
)  # fmt: skip
def test_broken_and_hostile_bundles(files: dict[str, str], words: str, tmp_path: Path) -> None:
    assert words in failure(write(tmp_path, files))


def test_a_zip_that_says_less_than_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    text = json.dumps({"format": "json", "name": " " * 100_000})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", text)
    monkeypatch.setattr("slipway_host.flavours.sparkml_bundle.MOST_BYTES", 1000)
    assert "it has more than" in failure(path)
    path.write_bytes(path.read_bytes().replace(len(text).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "cannot be taken out of the zip" in failure(path)


def test_categories_of_a_tree(tmp_path: Path) -> None:
    split = '{"type": "internal", "split": {"type": "categorical", "featureIndex": 0, "isLeft": false, "categories": [1.0]}}'
    files = tree(split, LEAF, LEAF.replace("1.0", "2.0"))
    pipeline = sparkml_pipeline.read(str(write(tmp_path, files)))
    assert pipeline.evaluate({"f": Vector(2, None, [1.0, 0.0])}, "p") == 2.0
    assert pipeline.evaluate({"f": Vector(2, [1], [5.0])}, "p") == 1.0
