"""MLeap bundles in tests: written from a dictionary of files, and compared with what Spark made of the same rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from slipway_host.flavours import sparkml_pipeline, sparkml_rows
from slipway_host.flavours.sparkml_values import Refused, Vector

EXPECTED = Path(__file__).parent / "models" / "sparkml_expected.json"
"""What tests/models/make_sparkml.py wrote with seed 1 and 6 rows a case."""
EXPORTED = EXPECTED.with_name("mleap_sklearn_expected.json")
"""What tests/models/make_mleap_sklearn.py wrote."""


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def node(op: str, attributes: dict[str, Any], inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, str]:
    """model.json and node.json of one stage."""
    shape = {
        side: [{"name": name, "port": port} for port, name in ports.items()]
        for side, ports in (("inputs", inputs), ("outputs", outputs))
    }
    model = {"op": op, "attributes": attributes}
    return {"model.json": json.dumps(model), "node.json": json.dumps({"name": op, "shape": shape})}


def bundle(*nodes: dict[str, str]) -> dict[str, str]:
    """The files of a pipeline of these stages."""
    names = [f"stage{i}" for i in range(len(nodes))]
    files = {"bundle.json": json.dumps({"format": "json", "version": "0.20.0"})}
    files["root/model.json"] = json.dumps({"op": "pipeline", "attributes": {"nodes": {"type": "list", "string": names}}})
    for name, made in zip(names, nodes, strict=True):
        files |= {f"root/{name}.node/{path}": text for path, text in made.items()}
    return files


def differences(case: dict[str, Any], folder: Path) -> list[str]:
    """Where our result of a case is not Spark's, in words."""
    pipeline = sparkml_pipeline.read(str(write(folder, case["files"])))
    found = []
    for row, expected in zip(case["rows"], case["expected"], strict=True):
        for number, output in enumerate(case["outputs"]):
            wanted = None if expected is None else expected[number]
            got = _evaluated(pipeline, case, row, output)
            if not same(wanted, got):
                found.append(f"{case['name']}: {output['name']} of {row} is {wanted} in Spark, {got} here")
    return found


def _evaluated(pipeline: sparkml_pipeline.Pipeline, case: dict[str, Any], row: list[Any], output: dict[str, str]) -> Any:
    schema = sparkml_rows.schema_of({"input": case["input"], "output": output})
    columns = {
        column.name: Vector(len(value), None, value) if column.struct == "vector" else value
        for column, value in zip(schema.input, row, strict=True)
    }
    try:
        value = sparkml_rows.checked(schema.output, pipeline.evaluate(columns, schema.output.name))
    except Refused:
        return None
    return value.array() if isinstance(value, Vector) else value


def same(wanted: Any, got: Any) -> bool:
    """Equal; doubles but for the last digits, which depend on the order of a sum."""
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(same(a, b) for a, b in zip(wanted, got, strict=True))
    if isinstance(wanted, float) and isinstance(got, int | float):
        return (wanted != wanted and got != got) or math.isclose(wanted, got, rel_tol=1e-9, abs_tol=1e-12)
    return bool(wanted == got)
