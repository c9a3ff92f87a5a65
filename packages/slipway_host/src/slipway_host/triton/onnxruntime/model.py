"""Triton's backend `onnxruntime`, as a backend in Python: nvidia-pytriton carries none. Runs model.onnx on the CPU.

Triton runs this file in a process for each instance of a model, with `triton_python_backend_utils` on its path. What the
configuration does not say (inputs, outputs) is read from the model.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

_TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bool)": "BOOL",
    "tensor(string)": "STRING",
    **{f"tensor({sign}int{bits})": f"{'U' if sign else ''}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _session(folder: str, name: str) -> Any:
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    return onnxruntime.InferenceSession(os.path.join(folder, name), options, providers=["CPUExecutionProvider"])


class TritonPythonModel:
    """One instance of one model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        known = config.as_dict()
        if known["input"] and known["output"]:
            return config
        session = _session(triton.get_model_dir(), known.get("default_model_filename") or "model.onnx")
        inputs, outputs = session.get_inputs(), session.get_outputs()
        dynamic = all(each.shape and not isinstance(each.shape[0], int) for each in (*inputs, *outputs))
        batched = known["max_batch_size"] > 0
        if not batched and not known["input"] and not known["output"] and dynamic:
            config.set_max_batch_size(4)  # Triton's default for models whose first dimension is free
            batched = True
        for given, add, tensors in (
            (known["input"], config.add_input, inputs),
            (known["output"], config.add_output, outputs),
        ):
            for tensor in [] if given else tensors:
                dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1 if batched else 0 :]]
                add({"name": tensor.name, "data_type": f"TYPE_{_TYPES[tensor.type]}", "dims": dims})
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = os.path.join(args["model_repository"], args["model_version"])
        self._session = _session(folder, config.get("default_model_filename") or "model.onnx")
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._batched = config.get("max_batch_size", 0) > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        inputs = [{each.name(): _values(each) for each in request.inputs()} for request in requests]
        wanted = [list(request.requested_output_names()) for request in requests]
        alike = len({_likeness(each) for each in inputs}) == 1 and wanted.count(wanted[0]) == len(wanted)
        if self._batched and len(requests) > 1 and alike:
            joined = {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
            try:
                found = self._session.run(wanted[0], joined)
            except Exception:  # noqa: BLE001  whatever it is: one by one, only the guilty fails
                return [self._one(*each) for each in zip(inputs, wanted)]
            ends = np.cumsum([len(next(iter(each.values()))) for each in inputs])[:-1]
            parts = zip(*(np.split(values, ends) for values in found))
            return [_response(wanted[0], list(part)) for part in parts]
        return [self._one(*each) for each in zip(inputs, wanted)]

    def _one(self, inputs: dict[str, Any], wanted: list[str]) -> Any:
        try:
            return _response(wanted, self._session.run(wanted, inputs))
        except Exception as error:  # noqa: BLE001  onnxruntime's errors have no common class; the caller gets them
            return triton.InferenceResponse(error=triton.TritonError(str(error)))


def _values(tensor: Any) -> Any:
    values = tensor.as_numpy()
    if values.dtype.kind != "O":
        return values
    texts = [each.decode() if isinstance(each, bytes) else each for each in values.ravel()]
    return np.array(texts, object).reshape(values.shape)


def _likeness(inputs: dict[str, Any]) -> Any:
    return tuple(sorted((name, values.shape[1:], str(values.dtype)) for name, values in inputs.items()))


def _response(names: list[str], values: list[Any]) -> Any:
    return triton.InferenceResponse([triton.Tensor(name, np.asarray(each)) for name, each in zip(names, values)])
