"""Linear Learner's artifact, `model_algo-1`: what is in it, and the linear function it stands for.

A zip with `mx-mod-symbol.json` (a network of MXNet's: the data by a matrix, a bias, an output), `mx-mod-0000.params` (their
arrays), `additional-params.json` (what kind of predictor it is) and `manifest.json`. AWS publishes no format; this is what
files that its algorithm wrote hold (docs/decisions.md). Only a chain of known operators is read; any other is refused by name.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from typing import Any, NamedTuple

from .. import codecs, mxnet_arrays

FILE = "model_algo-1"
PARAMETERS = "additional-params.json"
SYMBOL = "mx-mod-symbol.json"
ARRAYS = "mx-mod-0000.params"
_MOST_JSON = 4 * 1024 * 1024
_MOST_ARRAYS = 1 << 30
IDENTITY, LOGISTIC, SOFTMAX = "identity", "logistic", "softmax"
BINARY, MULTICLASS, REGRESSOR = "binary_classifier", "multiclass_classifier", "regressor"
_OUTPUTS = {
    "LinearRegressionOutput": IDENTITY,
    "MAERegressionOutput": IDENTITY,
    "SVMOutput": IDENTITY,
    "LogisticRegressionOutput": LOGISTIC,
    "sigmoid": LOGISTIC,
    "SoftmaxOutput": SOFTMAX,
    "Softmax": SOFTMAX,
    "softmax": SOFTMAX,
    "SoftmaxActivation": SOFTMAX,
}
_SAME = ("identity", "_copy", "BlockGrad", "stop_gradient")
_ADD = ("broadcast_add", "broadcast_plus", "elemwise_add", "_plus", "_Plus", "_add")
_MOST_NODES = 10_000


class Refused(Exception):
    """The artifact cannot be served; the message says what is in the way."""


class Linear(NamedTuple):
    """`link(rows · weights + bias)`, in float32 as MXNet computes it."""

    weights: Any
    """Features by outputs."""
    bias: Any
    """One for each output."""
    link: str
    """IDENTITY, LOGISTIC or SOFTMAX."""
    predictor: str
    """BINARY, MULTICLASS or REGRESSOR."""
    threshold: float
    """BINARY alone: a score from there on is label 1."""

    @property
    def features(self) -> int:
        return int(self.weights.shape[0])

    def scores(self, sums: Any) -> Any:
        """Rows of scores, from rows of weighted sums."""
        np = codecs.numpy()
        sums = sums + self.bias
        if self.link == IDENTITY:
            return sums
        with np.errstate(over="ignore"):
            if self.link == LOGISTIC:
                return 1 / (1 + np.exp(-sums))
            powers = np.exp(sums - sums.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)


def read(path: str) -> Linear:
    """Raises Refused, OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            parameters = _json(archive, PARAMETERS)
            symbol = _json(archive, SYMBOL)
            arrays = {array.name: array.values() for array in mxnet_arrays.read(_member(archive, ARRAYS, _MOST_ARRAYS))}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"{FILE} is no zip archive that can be read ({error})") from error
    except ValueError as error:
        raise Refused(f"{ARRAYS} in {FILE} cannot be read: {error}") from error
    predictor, threshold = _predictor(parameters)
    weights, bias, link = _chain(symbol, arrays)
    if predictor == BINARY and weights.shape[1] != 1:
        raise Refused(f"it is a {predictor}, and its network has {weights.shape[1]} outputs")
    if predictor == MULTICLASS and weights.shape[1] < 2:
        raise Refused(f"it is a {predictor}, and its network has one output")
    return Linear(weights, bias, link, predictor, threshold)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Raises Refused, and what zipfile raises."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        held = ", ".join(sorted(archive.namelist())[:8]) or "nothing"
        raise Refused(f"{FILE} holds no {name} (it holds {held})") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"{name} in {FILE} is compressed in a way that AWS does not use")
    if info.file_size > most:
        raise Refused(f"{name} in {FILE} has {info.file_size:,} bytes; at most {most:,} are read")
    with archive.open(info) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise Refused(f"{name} in {FILE} has more than {most:,} bytes")
    return data


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    """An object. Raises Refused, and what zipfile raises."""
    try:
        value = json.load(io.BytesIO(_member(archive, name, _MOST_JSON)))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} in {FILE} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise Refused(f"{name} in {FILE} is no JSON object")
    return value


def _predictor(parameters: dict[str, Any]) -> tuple[str, float]:
    predictor = parameters.get("predictor_type")
    if predictor not in (BINARY, MULTICLASS, REGRESSOR):
        raise Refused(f"{PARAMETERS} says predictor_type {predictor!r}, which is none of Linear Learner's")
    threshold = parameters.get("threshold", 0.5)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
        if predictor == BINARY:
            raise Refused(f"{PARAMETERS} says threshold {threshold!r}, which is no number")
        threshold = 0.5
    return str(predictor), float(threshold)


class _Nodes:
    """The nodes of a symbol, each looked at with care: the file is the user's."""

    def __init__(self, symbol: dict[str, Any]) -> None:
        nodes, heads = symbol.get("nodes"), symbol.get("heads")
        if not isinstance(nodes, list) or not isinstance(heads, list) or len(nodes) > _MOST_NODES:
            raise Refused(f"{SYMBOL} has no list of nodes, or none of heads")
        self._nodes = nodes
        self.heads = [self._index(head) for head in heads]

    def _index(self, entry: Any) -> int:
        """Of `[node, output, version]`."""
        if not isinstance(entry, list) or not entry or type(entry[0]) is not int or not 0 <= entry[0] < len(self._nodes):
            raise Refused(f"{SYMBOL} points to a node that is not there")
        return int(entry[0])

    def get(self, index: int) -> tuple[str, str, list[int], dict[str, Any]]:
        """(operator, name, inputs, attributes). An input comes before its node, so following them ends."""
        node = self._nodes[index]
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, list):
            raise Refused(f"node {index} of {SYMBOL} is none")
        found = [self._index(entry) for entry in inputs]
        if any(each >= index for each in found):
            raise Refused(f"node {index} of {SYMBOL} depends on itself")
        attributes = node.get("attrs") or node.get("attr") or node.get("param") or {}
        return str(node.get("op")), str(node.get("name")), found, attributes if isinstance(attributes, dict) else {}


def _chain(symbol: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, Any, str]:
    """Weights (features by outputs), bias (outputs) and link of the first head that is a linear function of the data."""
    nodes = _Nodes(symbol)
    why = f"{SYMBOL} has no output"
    for head in nodes.heads:
        try:
            return _walk(nodes, head, arrays)
        except Refused as error:
            why = str(error)
    raise Refused(why)


def _walk(nodes: _Nodes, index: int, arrays: dict[str, Any]) -> tuple[Any, Any, str]:
    link, bias = "", None
    while True:
        operator, name, inputs, attributes = nodes.get(index)
        if operator in _SAME and inputs:
            index = inputs[0]
        elif inputs and not link and bias is None and (found := _output(operator, attributes)):
            link, index = found, inputs[0]
        elif operator in _ADD and len(inputs) == 2 and bias is None:
            bias, index = _array(nodes, inputs[1], arrays), inputs[0]
        elif operator == "dot" and len(inputs) == 2 and _is_data(nodes, inputs[0]):
            if "True" in (str(attributes.get("transpose_a")), str(attributes.get("transpose_b"))):
                raise Refused(f"the operator dot ({name}) of {SYMBOL} transposes, which Linear Learner's does not")
            return (*_fitted(_array(nodes, inputs[1], arrays), bias), link or IDENTITY)
        elif operator == "FullyConnected" and len(inputs) in (2, 3) and bias is None and _is_data(nodes, inputs[0]):
            own = _array(nodes, inputs[2], arrays) if len(inputs) == 3 else None
            return (*_fitted(_array(nodes, inputs[1], arrays).T, own), link or IDENTITY)
        else:
            raise Refused(f"its network has the operator {operator} ({name}) where slipway knows none, or not so")


def _output(operator: str, attributes: dict[str, Any]) -> str:
    if operator == "Activation":
        return LOGISTIC if attributes.get("act_type") == "sigmoid" else ""
    return _OUTPUTS.get(operator, "")


def _is_data(nodes: _Nodes, index: int) -> bool:
    operator, name, _, _ = nodes.get(index)
    return operator == "null" and name == "data"


def _array(nodes: _Nodes, index: int, arrays: dict[str, Any]) -> Any:
    operator, name, _, _ = nodes.get(index)
    found = arrays.get(f"arg:{name}") if operator == "null" else None
    if found is None:
        raise Refused(f"{ARRAYS} holds no {name} (it holds {', '.join(sorted(arrays)[:8]) or 'nothing'})")
    return found


def _fitted(weights: Any, bias: Any) -> tuple[Any, Any]:
    """As float32, the bias flat. Raises Refused for what does not fit."""
    np = codecs.numpy()
    if weights.ndim != 2 or not weights.size:
        raise Refused(f"its weights have the shape {weights.shape}, where features by outputs are expected")
    flat = np.zeros(weights.shape[1]) if bias is None else bias.reshape(-1)
    if len(flat) not in (1, weights.shape[1]):
        raise Refused(f"its bias has {len(flat)} numbers for {weights.shape[1]} outputs")
    return np.ascontiguousarray(weights, "float32"), flat.astype("float32")
