"""An MLeap bundle as a list of stages, and one row's way through them. No JVM, no package: rows are small."""

from __future__ import annotations

import math
from typing import Any, Callable, NamedTuple

from ..contract import LoadError
from . import sparkml_features, sparkml_models, sparkml_text
from .sparkml_bundle import DEEPEST, MOST_STAGES, Attributes, Files, Source, Step, broken, entry_name
from .sparkml_values import Refused

OPS: dict[str, Callable[[Source], Step]] = {
    **sparkml_features.OPS,
    **sparkml_text.OPS,
    **sparkml_models.OPS,
}
"""What can be evaluated: each is compared with Spark's own result (tests/e2e/test_sparkml.py)."""


class Stage(NamedTuple):
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    step: Step


class Pipeline:
    """`evaluate` answers with a column's value."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages

    def evaluate(self, columns: dict[str, Any], output: str) -> Any:
        """The value of column `output` for a row. Raises Refused."""
        for stage in self.stages:
            try:
                values = [columns[name] for name in stage.inputs]
            except KeyError as error:
                raise Refused(
                    f"stage {stage.name} needs the column {error.args[0]!r}, which the schema does not have"
                ) from error
            try:
                result = stage.step(*values)
            except Refused as error:
                raise Refused(f"{error} (stage {stage.name})") from error
            if len(stage.outputs) == 1:
                columns[stage.outputs[0]] = result
            else:
                columns.update(zip(stage.outputs, result))
        if output not in columns:
            raise Refused(f"there is no column {output!r}; there are {', '.join(columns)}"[:2000])
        return columns[output]


def read(path: str) -> Pipeline:
    """The bundle at `path`, a folder or a zip. Raises LoadError."""
    files = Files(path)
    info = files.json("bundle.json")
    if info.get("format") != "json":
        raise LoadError(
            "no-model",
            f"The MLeap bundle is in the format {str(info.get('format'))[:40]!r}; only json can be evaluated here.",
            "export it as JSON: BundleFile with .format(SerializationFormat.Json), or from Python serializeToBundle"
            "('jar:file:/tmp/model.zip', …), whose default is JSON",
        )
    reading = _Reading(files)
    reading.collect("root", 0)
    return Pipeline(reading.stages)


class _Reading:
    """The stages that were found, pipelines opened."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.stages: list[Stage] = []
        self.nodes = 0

    def collect(self, folder: str, depth: int) -> None:
        """Raises LoadError."""
        self.nodes += 1
        if self.nodes > MOST_STAGES or depth > DEEPEST:
            raise broken(f"it has more than {MOST_STAGES} stages, or pipelines nested deeper than {DEEPEST}")
        model = self.files.json(f"{folder}/model.json")
        op = model.get("op")
        attributes = Attributes(model.get("attributes"), f"{folder}/model.json", str(op)[:80])
        if op == "pipeline":
            for name in attributes.words("nodes"):
                self.collect(f"{folder}/{entry_name(name, attributes.where)}.node", depth + 1)
            return
        if not isinstance(op, str) or op not in OPS:
            raise LoadError(
                "no-model",
                f"The pipeline has a stage {str(op)[:80]!r} ({folder[:200]}), a transformer that is not supported.",
                f"leave it out, save the pipeline with Spark itself (PipelineModel.save), or use {', '.join(sorted(OPS))}",
            )
        node = self.files.json(f"{folder}/node.json")
        inputs, outputs = _ports(node, "inputs", folder), _ports(node, "outputs", folder)
        step = OPS[op](Source(self.files, folder, attributes, inputs, outputs))
        name = str(node.get("name") or folder.rpartition("/")[2])[:200]
        self.stages.append(Stage(name, op, tuple(inputs.values()), tuple(outputs.values()), step))


def _ports(node: dict[str, Any], side: str, folder: str) -> dict[str, str]:
    """Port → column, numbered ports in the order of their numbers. Raises LoadError."""
    shape = node.get("shape")
    sockets = shape.get(side) if isinstance(shape, dict) else None
    found: dict[str, str] = {}
    for socket in sockets if isinstance(sockets, list) else [None]:
        port, name = (socket.get("port"), socket.get("name")) if isinstance(socket, dict) else (None, None)
        if not isinstance(port, str) or not isinstance(name, str) or port in found:
            raise broken(f"{folder}/node.json: the {side} of its shape are no ports with names")
        found[port] = name

    def number(port: str) -> float:
        digits = port[len(port.rstrip("0123456789")) :]
        return int(digits) if 0 < len(digits) < 9 else math.inf

    return {port: found[port] for port in sorted(found, key=number)}
