"""Pipelines that Spark saved itself, evaluated by Spark: pyspark with a JVM of the worker's own, started once and kept warm.

Rows go over as one JSON text and come back as one; Spark's plan works on all rows of a request at once.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from .. import crew, memory
from ..contract import LoadError, Place
from .sparkml_rows import SCHEMA, Column, Reader, Schema
from .sparkml_values import Refused, Vector

ROW = "__slipway_row"
PIPELINES = ("org.apache.spark.ml.PipelineModel", "pyspark.ml.pipeline.PipelineModel")
_KEPT_SCHEMAS = 16
_INFINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def pyspark() -> Any:
    """The environment's pyspark, with its session and machine learning."""
    import pyspark as package  # noqa: PLC0415  optional, and this is the module that wraps it
    import pyspark.ml.linalg  # noqa: PLC0415
    import pyspark.ml.pipeline  # noqa: PLC0415
    import pyspark.sql.types  # noqa: PLC0415

    return package


def load(place: Place) -> SparkModel:
    """Raises LoadError, and what Spark raises."""
    kind = _class(place.model_dir)
    if kind not in PIPELINES:
        raise LoadError(
            "no-model",
            f"The model archive holds a {kind.rpartition('.')[2][:80]} that Spark saved, and no PipelineModel.",
            "save the whole pipeline: Pipeline(stages=[…]).fit(rows).save(path)",
        )
    place.stage = "starting Spark"
    session = _session(pyspark())
    place.stage = "loading the PipelineModel"
    try:
        path = f"file://{os.path.realpath(place.model_dir)}"
        if kind == PIPELINES[0]:
            model = SparkModel(session, session._jvm.org.apache.spark.ml.PipelineModel.load(path), None)
        else:  # it has stages in Python
            model = SparkModel(session, None, pyspark().ml.pipeline.PipelineModel.load(path))
    except Exception as error:
        raise LoadError(
            "no-model",
            f"Spark {session.version} cannot load the PipelineModel: {_words(error)}.",
            "save it with a version of Spark that this one reads, or export it as an MLeap bundle",
        ) from error
    schema = Reader(place.environment.get(SCHEMA)).schema
    if schema is not None:
        _warm(model, schema)
    return model


def _warm(model: SparkModel, schema: Schema) -> None:
    """A first row, which takes Spark seconds, before anybody waits for it. What it is answered does not matter."""
    neutral = {"boolean": False, "string": "", "double": 0.0, "float": 0.0}
    row: dict[str, Any] = {}
    for column in schema.input:
        row[column.name] = neutral.get(column.type, 0) if column.struct == "basic" else []
    with contextlib.suppress(Refused):
        list(model(schema, [row]))


def _class(folder: str) -> str:
    """What Spark's metadata say the model is. Raises LoadError."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "metadata", "part-*"))):
        try:
            with open(path, encoding="utf-8") as file:
                line = file.readline(1 << 20)
            if line.strip():
                return str(json.loads(line)["class"])
        except (OSError, ValueError, KeyError, TypeError):
            break
    raise LoadError(
        "no-model",
        "The model archive has a folder metadata/ without the description that Spark writes into it.",
        "pack the whole folder that PipelineModel.save wrote: metadata/ and stages/ at the top of model.tar.gz",
    )


def _session(package: Any) -> Any:
    """One JVM, reached over loopback with a secret of its own, that ends with this process."""
    limit = memory.limit()
    megabytes = max(512, limit // 2 >> 20) if limit else 1024
    settings = {
        "spark.driver.memory": f"{megabytes}m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.codegen.wholeStage": "false",  # compiling takes longer than a few rows do
        "spark.sql.warehouse.dir": "/tmp/spark-warehouse",  # noqa: S108  nothing is written; the model's folder is read-only
    }
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = package.sql.SparkSession.builder.master("local[*]").appName("slipway")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


class SparkModel:
    """Evaluates rows: call it. One of `java` (a pipeline in the JVM) and `python` is there."""

    def __init__(self, session: Any, java: Any, python: Any) -> None:
        self._session = session
        self._jvm = session._jvm
        self._java = java
        self._python = python
        self._readers: dict[tuple[Column, ...], Any] = {}
        self._network_error = _network_error()

    def __call__(self, schema: Schema, rows: list[dict[str, Any]]) -> Iterator[Any]:
        """The output of each row. Raises Refused. When the JVM is gone this process ends, so that another worker comes."""
        try:
            return iter(self._all(schema, rows))
        except Refused:
            raise
        except Exception as error:
            process = getattr(self._session.sparkContext._gateway, "proc", None)
            if isinstance(error, self._network_error) or (process is not None and process.poll() is not None):
                sys.stderr.write(f"[slipway] the worker's JVM has ended ({type(error).__name__}); the worker follows it\n")
                crew.leave(1)
            raise Refused(_words(error)) from error

    def _all(self, schema: Schema, rows: list[dict[str, Any]]) -> list[Any]:
        output = schema.output
        made = self._transform(self._frame(schema.input, rows))
        names = list(made.columns())
        if output.name not in names:
            raise Refused(f"there is no column {output.name!r}; there are {', '.join(names)}"[:2000])
        if ROW not in names:  # a stage that selects columns: which row is whose can be known of one alone
            if len(rows) > 1:
                return [value for row in rows for value in self._all(schema, [row])]
            lines = self._collected(self._picked(made, output))
            return [_value(output, line) for line in lines] or _skipped()
        found: dict[int, Any] = {}
        for line in self._collected(self._picked(made, output, ROW)):
            found[line["row"]] = _value(output, line)
        if len(found) < len(rows):
            _skipped()
        return [found[number] for number in range(len(rows))]

    def _transform(self, frame: Any) -> Any:
        if self._java is not None:
            return self._java.transform(frame)
        return self._python.transform(pyspark().sql.DataFrame(frame, self._session))._jdf

    def _picked(self, frame: Any, output: Column, row: str = "") -> Any:
        expressions = [f"`{_quoted(output.name)}` AS value"] + ([f"`{row}` AS row"] if row else [])
        return frame.selectExpr(self._array(self._jvm.java.lang.String, expressions))

    def _collected(self, frame: Any) -> list[dict[str, Any]]:
        text = self._jvm.java.lang.String.join("\n", frame.toJSON().collectAsList())
        return [json.loads(line) for line in text.split("\n") if line]

    def _frame(self, columns: tuple[Column, ...], rows: list[dict[str, Any]]) -> Any:
        """Rows as a data frame: one text, which Spark takes apart."""
        text = json.dumps([{ROW: number, **row} for number, row in enumerate(rows)], default=_plain)
        encoder = self._jvm.org.apache.spark.sql.Encoders.STRING()
        strings = self._session._jsparkSession.createDataset(self._jvm.java.util.Collections.singletonList(text), encoder)
        reader = self._readers.get(columns)
        if reader is None:
            functions = self._jvm.org.apache.spark.sql.functions
            options = self._jvm.java.util.HashMap()
            reader = functions.inline(functions.from_json(functions.col("value"), _types(columns), options))
            if len(self._readers) >= _KEPT_SCHEMAS:
                self._readers.clear()
            self._readers[columns] = reader
        return strings.select(self._array(self._jvm.org.apache.spark.sql.Column, [reader]))

    def _array(self, kind: Any, values: list[Any]) -> Any:
        array = self._session.sparkContext._gateway.new_array(kind, len(values))
        for i, value in enumerate(values):
            array[i] = value
        return array


def _network_error() -> type[Exception]:
    from py4j.protocol import Py4JNetworkError  # noqa: PLC0415  optional, and this is the module that wraps it

    found: type[Exception] = Py4JNetworkError
    return found


def _skipped() -> list[Any]:
    raise Refused("next on empty iterator (handleInvalid is skip, and a row was left out)")


def _quoted(name: str) -> str:
    return name.replace("`", "``")


def _plain(value: Any) -> Any:
    if isinstance(value, Vector):
        return {"type": 1, "values": value.array()}
    raise TypeError(f"{type(value).__name__} in a row")


def _types(columns: tuple[Column, ...]) -> str:
    """The schema of a row as Spark's JSON."""
    types = pyspark().sql.types
    names = {"boolean": types.BooleanType(), "byte": types.ByteType(), "short": types.ShortType(), "int": types.IntegerType(),
             "long": types.LongType(), "float": types.FloatType(), "double": types.DoubleType(),
             "string": types.StringType()}  # fmt: skip
    fields = [types.StructField(ROW, types.LongType())]
    for column in columns:
        kind = names[column.type]
        if column.struct == "vector":
            kind = pyspark().ml.linalg.VectorUDT()
        elif column.struct == "array":
            kind = types.ArrayType(kind)
        fields.append(types.StructField(column.name, kind))
    text: str = types.ArrayType(types.StructType(fields)).json()
    return text


def _value(output: Column, line: dict[str, Any]) -> Any:
    """One row's output as our evaluator has it. Raises Refused for null."""
    value = line.get("value")
    if value is None:
        raise Refused(f"the column {output.name} is null")
    if isinstance(value, dict):
        numbers = [_number(item) for item in value.get("values", [])]
        return Vector(value.get("size", len(numbers)), value.get("indices") if value.get("type") == 0 else None, numbers)
    if output.type in ("double", "float"):
        return [_number(item) for item in value] if isinstance(value, list) else _number(value)
    return value


def _number(value: Any) -> Any:
    return _INFINITE.get(value, value) if isinstance(value, str) else value


def _words(error: BaseException) -> str:
    """The first line of the cause at the bottom of an exception of the JVM."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:
        return str(error).strip()[:2000] or type(error).__name__
    for _ in range(20):
        cause = java.getCause()
        if cause is None:
            break
        java = cause
    text = str(java.getMessage() or java.getClass().getName())
    return (text.strip().splitlines() or [""])[0][:2000]
