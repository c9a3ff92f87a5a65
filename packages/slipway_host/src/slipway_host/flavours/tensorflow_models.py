"""SavedModels, asked as through TensorFlow Serving's REST interface: rows (`instances`), columns (`inputs`), signatures."""

from __future__ import annotations

import base64
import os
from typing import Any

from ..contract import LoadError, Place, listing


class Refused(Exception):
    """An error of TensorFlow Serving's: `status` and the text of its "error"."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def tensorflow() -> Any:
    """The environment's tensorflow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf  # noqa: PLC0415  costs seconds, and this is what wraps it

    return tf


class SavedModel:
    """One version of one model."""

    def __init__(self, name: str, version: int, folder: str) -> None:
        """Raises what tensorflow raises."""
        self.name = name
        self.version = version
        self._loaded = tensorflow().saved_model.load(folder)

    def answer(self, request: Any) -> dict[str, Any]:
        """`{"predictions": …}` to rows, `{"outputs": …}` to columns. Raises Refused."""
        if not isinstance(request, dict):
            raise Refused(400, 'JSON Value is not an object: send {"instances": …} or {"inputs": …}.')
        signature = self._signature(str(request.get("signature_name") or "serving_default"))
        specs = dict(signature.structured_input_signature[1])
        if ("instances" in request) == ("inputs" in request):
            raise Refused(400, 'Missing or doubled: one of "instances" and "inputs" must be given.')
        rows = "instances" in request
        columns = _columns(request["instances"], specs) if rows else _named(request["inputs"], specs)
        found = signature(**{name: _tensor(name, value, specs[name]) for name, value in columns.items()})
        outputs = {name: tensor.numpy() for name, tensor in found.items()}
        if not rows:
            values = {name: _plain(array.tolist()) for name, array in outputs.items()}
            return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
        return {"predictions": _by_row(outputs, len(request["instances"]))}

    def _signature(self, name: str) -> Any:
        known = self._loaded.signatures
        if name not in known:
            raise Refused(
                400, f'Serving signature name: "{name}" not found in signature def; there are {", ".join(known) or "none"}'
            )
        return known[name]


def _columns(instances: Any, specs: dict[str, Any]) -> dict[str, Any]:
    """Rows as one list for each input."""
    if not isinstance(instances, list) or not instances:
        raise Refused(400, 'The value of "instances" must be a list that is not empty.')
    if all(isinstance(row, dict) and not _is_b64(row) for row in instances):
        return _known({name: [row.get(name) for row in instances] for name in instances[0]}, specs)
    if len(specs) != 1:
        raise Refused(400, f"instances must be objects with the inputs {', '.join(sorted(specs))}")
    return {next(iter(specs)): instances}


def _named(inputs: Any, specs: dict[str, Any]) -> dict[str, Any]:
    if isinstance(inputs, dict) and not _is_b64(inputs):
        return _known(inputs, specs)
    if len(specs) != 1:
        raise Refused(400, f"inputs must be an object with {', '.join(sorted(specs))}")
    return {next(iter(specs)): inputs}


def _known(columns: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    if set(columns) != set(specs):
        raise Refused(400, f"The model takes the inputs {', '.join(sorted(specs))}, not {', '.join(sorted(columns))}.")
    return columns


def _tensor(name: str, value: Any, spec: Any) -> Any:
    try:
        tensor = tensorflow().constant(_bytes(value), dtype=spec.dtype)
    except (TypeError, ValueError) as error:
        raise Refused(400, f"Input {name} cannot be read as {spec.dtype.name}: {error}") from error
    if not spec.shape.is_compatible_with(tensor.shape):
        raise Refused(400, f"Input {name} has the shape {tuple(tensor.shape)}; the model takes {spec.shape}.")
    return tensor


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _bytes(value: Any) -> Any:
    """With `{"b64": …}` objects as bytes."""
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if _is_b64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (TypeError, ValueError) as error:
            raise Refused(400, f"Unable to base64 decode: {error}") from None
    return value


def _plain(value: Any) -> Any:
    """Bytes as text, or as `{"b64": …}` where they are none."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _by_row(outputs: dict[str, Any], count: int) -> list[Any]:
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != count:
            raise Refused(400, f"Output {name} has no row for each of the {count} instances; send the request as inputs.")
    values = {name: _plain(array.tolist()) for name, array in outputs.items()}
    if len(values) == 1:
        rows: list[Any] = next(iter(values.values()))
        return rows
    return [{name: column[index] for name, column in values.items()} for index in range(count)]


class Models:
    """All models of an archive. The newest version of each is loaded at once, an older one when it is first asked for."""

    def __init__(self, place: Place) -> None:
        """Raises LoadError, and what tensorflow raises."""
        self._folders = find(place)
        self._loaded: dict[tuple[str, int], SavedModel] = {}
        for name, versions in self._folders.items():
            place.stage = f"loading {os.path.relpath(versions[max(versions)], place.model_dir)}/saved_model.pb"
            self.model(name, "")

    @property
    def names(self) -> list[str]:
        return list(self._folders)

    def versions(self, name: str) -> list[int]:
        return sorted(self._folders.get(name, ()), reverse=True)

    def model(self, name: str, version: str) -> SavedModel:
        """Raises Refused (404), and what tensorflow raises."""
        versions = self._folders.get(name, {})
        wanted = int(version) if version.isdigit() and len(version) < 20 else max(versions, default=-1)
        if wanted not in versions or (version and not version.isdigit()):
            which = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise Refused(404, f"Servable not found for request: {which}")
        loaded = self._loaded.get((name, wanted))
        if loaded is None:
            loaded = self._loaded[name, wanted] = SavedModel(name, wanted, versions[wanted])
        return loaded


def find(place: Place) -> dict[str, dict[int, str]]:
    """Name → version → folder, of every `[<name>/]<digits>/saved_model.pb`. Raises LoadError."""
    found: dict[str, dict[int, str]] = {}
    for folder, inner, names in os.walk(place.model_dir):
        inner[:] = sorted(name for name in inner if name not in ("code", "variables", "assets"))
        version = os.path.basename(folder)
        if not version.isdigit() or not {"saved_model.pb", "saved_model.pbtxt"} & set(names):
            continue
        parent = os.path.dirname(folder)
        name = "model" if os.path.samefile(parent, place.model_dir) else os.path.basename(parent)
        found.setdefault(name, {})[int(version)] = folder
    if found:
        return found
    mend = "export with model.export('export/1') or tf.saved_model.save, and pack: `tar -czf model.tar.gz -C export .`"
    there = "saved_model.pb is there, but not in a folder whose name is a number" if _anywhere(place.model_dir) else ""
    raise LoadError(
        "no-model",
        "There is no <version>/saved_model.pb in the model archive: " + (there or f"it holds {listing(place.model_dir)}") + ".",
        mend,
    )


def _anywhere(folder: str) -> bool:
    return any("saved_model.pb" in names for _, _, names in os.walk(folder))
