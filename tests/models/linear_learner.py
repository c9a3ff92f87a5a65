"""`model_algo-1` of given weights, as AWS's Linear Learner writes it: the layout of files that it trained, by struct alone."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

OUTPUTS = {"binary_classifier": "LogisticRegressionOutput", "multiclass_classifier": "SoftmaxOutput", "regressor": ""}
LOSSES = {"binary_classifier": "logistic", "multiclass_classifier": "softmax_loss", "regressor": "squared_loss"}
Rows = Sequence[Sequence[float]]


def artifact(weights: Rows, bias: Sequence[float], predictor: str, threshold: float = 0.5, **members: bytes | None) -> bytes:
    """`weights`: features by outputs. `members` replace the zip's (by name, `-` and `.` as `_`); None leaves one out."""
    files = {
        "additional-params.json": json.dumps(parameters(predictor, threshold)).encode(),
        "mx-mod-symbol.json": json.dumps(
            symbol(len(weights), len(bias), OUTPUTS[predictor] or "LinearRegressionOutput"), indent=2
        ).encode(),
        "manifest.json": b'{"additional-params.json": "json", "mx-mod": "mxnet_module", "version": 1}',
        "mx-mod-0000.params": params({"arg:fc0_weight": weights, "arg:fc0_bias": [bias]}),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            replaced = members.get(name.replace("-", "_").replace(".", "_"), content)
            if replaced is not None:
                archive.writestr(name, replaced)
    return out.getvalue()


def parameters(predictor: str, threshold: float) -> dict[str, Any]:
    """additional-params.json."""
    metrics = {
        "eps_insensitive_loss_type": None, "class_weights": None, "huber_delta": None, "quantile": None,
        "loss_insensitivity": None, "positive_example_weight_mult": 1.0, "accuracy_top_k": 3, "threshold": threshold,
        "f_beta": 1.0, "margin": None,
    }  # fmt: skip
    loss = LOSSES[predictor]
    return {"threshold": threshold, "loss_type": loss, "metrics_params": metrics, "predictor_type": predictor}


def symbol(features: int, outputs: int, output: str) -> dict[str, Any]:
    """mx-mod-symbol.json: the data by the weights, the bias, and MXNet's operator `output` with its label."""
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "fc0_weight", "attrs": {"__shape__": f"({features}, {outputs})"}, "inputs": []},
        {"op": "dot", "name": "dot0", "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "null", "name": "fc0_bias", "attrs": {"__lr_mult__": "10.0", "__shape__": f"(1, {outputs})"}, "inputs": []},
        {"op": "broadcast_add", "name": "broadcast_plus0", "inputs": [[2, 0, 0], [3, 0, 0]]},
        {"op": "null", "name": "out_label", "inputs": []},
        {"op": output, "name": f"{output.lower()}0", "inputs": [[4, 0, 0], [5, 0, 0]]},
    ]
    return {
        "nodes": nodes,
        "arg_nodes": [0, 1, 3, 5],
        "node_row_ptr": list(range(8)),
        "heads": [[6, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10301]},
    }


def params(arrays: Mapping[str, Rows]) -> bytes:
    """MXNet's file of float32 matrices."""
    out = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for rows in arrays.values():
        numbers = [number for row in rows for number in row]
        out.append(struct.pack("<IiiqqIii", 0xF993FAC9, 0, 2, len(rows), len(rows[0]), 1, 0, 0))
        out.append(struct.pack(f"<{len(numbers)}f", *numbers))
    out.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        out.append(struct.pack("<Q", len(name)) + name.encode())
    return b"".join(out)
