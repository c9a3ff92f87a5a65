"""XGBoost's algorithm mode: no script; the files of the archive are the model (containers.md 3.7)."""

from __future__ import annotations

import json
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import codecs, recordio
from ..context import Context
from ..contract import LoadError, Place
from ..service import Answer, Call, Service, failure
from . import xgboost_matrix, xgboost_selection

if TYPE_CHECKING:
    from ..batching import Answers

LIBSVM = "text/libsvm"
MAX_BODY = 6 * 1024 * 1024
MOST_BODY = 20 * 1024 * 1024
_CSV_TYPES = ("csv", codecs.CSV)
_LIBSVM_TYPES = ("libsvm", LIBSVM, "text/x-libsvm")
_RECORDIO = recordio.CONTENT_TYPE
_ACCEPTS = (codecs.JSON, "application/jsonlines", _RECORDIO, codecs.CSV)
_MATRIX = {"csv": xgboost_matrix.from_csv, "libsvm": xgboost_matrix.from_libsvm}
_VOTES = ("multi:softmax", "binary:hinge")


class _Model(NamedTuple):
    booster: Any
    pickled: bool


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def load(place: Place) -> Service:
    """Raises LoadError."""
    entries = os.listdir(place.model_dir) if os.path.isdir(place.model_dir) else []
    names = []
    for name in entries:
        if name.startswith("."):
            sys.stderr.write(f"[slipway] {name} begins with a dot and is not loaded\n")
        elif os.path.isfile(os.path.join(place.model_dir, name)):
            names.append(name)
    if not names:
        raise LoadError(
            "no-model",
            "There is no model file at the top of the model archive"
            + (f"; it holds {', '.join(sorted(entries)[:10])}." if entries else "; it is empty."),
            "save the model with Booster.save_model and put that file at the top of model.tar.gz, "
            "or set SAGEMAKER_PROGRAM to a script with a model_fn",
        )
    ensemble = place.environment.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true").lower() == "true"
    return AlgorithmService(place, [_load_file(place, name) for name in (names if ensemble else names[:1])])


def _load_file(place: Place, name: str) -> _Model:
    place.stage = f"loading {name}"
    path = os.path.join(place.model_dir, name)
    try:
        with open(path, "rb") as file:
            loaded = pickle.load(file)  # noqa: S301  the user's own model, in the user's sandbox
        return _Model(loaded.get_booster() if hasattr(loaded, "get_booster") else loaded, True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  not a pickle of this version: the native format is tried
        unpickling = error
    booster = xgboost_matrix.xgboost().Booster()
    try:
        booster.load_model(path)
    except Exception as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LoadError(
            "pickle-version",
            f"{name} is no XGBoost model that version {xgboost_matrix.xgboost().__version__} reads: as a pickle "
            f"({type(unpickling).__name__}: {str(unpickling)[:200]}), nor in XGBoost's own format ({detail[:300]}).",
            "save it with Booster.save_model('xgboost-model.json'); keep every other file out of the archive's top, since "
            "each file there is loaded as a model; or choose the framework_version that wrote it",
        ) from error
    return _Model(booster, False)


class AlgorithmService(Service):
    default_content_type = LIBSVM

    def __init__(self, place: Place, models: list[_Model]) -> None:
        super().__init__(place)
        self.default_accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.CSV
        self._models = models
        self._objective, classes = xgboost_matrix.objective(models[0].booster)
        wanted = place.environment.get("SAGEMAKER_INFERENCE_OUTPUT", "")
        self._selection = xgboost_selection.Selection(wanted, self._objective, classes) if wanted else None
        self._joined = xgboost_matrix.version() < (1, 2)
        self._batch = place.environment.get("SAGEMAKER_BATCH", "").lower() == "true"
        limit = place.environment.get("MAX_CONTENT_LENGTH", "")
        self._limit = min(int(limit), MOST_BODY) if limit.isdigit() else MAX_BODY

    def execution_parameters(self) -> Answer | None:
        values: dict[str, Any] = {"MaxConcurrentTransforms": os.cpu_count() or 1, "BatchStrategy": "MULTI_RECORD"}
        values["MaxPayloadInMB"] = self._limit // 1024**2
        return 200, self.heads.of(codecs.JSON), json.dumps(values).encode()

    def invoke(self, call: Call, body: bytes) -> Answer:
        try:
            prediction = self._predict(*self.decode(call, body, None))
        except (Exception, SystemExit) as error:  # noqa: BLE001  a framework's or a pickled class's
            return self.refusal(error)
        return self.encode(call, prediction, None)

    def decode(self, call: Call, body: bytes, _context: Context | None) -> tuple[Any, str]:
        """The matrix, and what kind of text it came as. Raises _Refused."""
        if not body:
            raise _Refused(204, "")
        if len(body) > self._limit:
            raise _Refused(413, f"The body has {len(body)} bytes; this container takes {self._limit}.")
        kind = content_kind(call.content_type)
        return _matrix(body, kind), kind

    def encode(self, call: Call, prediction: Any, _context: Context | None) -> Answer:
        try:
            content_type, answer = self._encode(prediction, call.accept)
            return 200, self.heads.of(content_type), answer if isinstance(answer, bytes) else answer.encode()
        except (Exception, SystemExit) as error:  # noqa: BLE001  see invoke
            return self.refusal(error)

    def refusal(self, error: BaseException) -> Answer:
        if not isinstance(error, _Refused):
            return failure(error)
        if error.status == 204:
            return 204, b"", b""
        return error.status, self.heads.of("text/plain; charset=utf-8"), str(error).encode()

    def context(self, _call: Call) -> None:
        """No script: nobody takes one."""

    def together(self) -> Answers | None:
        """The rows of requests of one content type."""
        from .. import batching, rows  # noqa: PLC0415  few models need it

        def join(inputs: list[Any], _contexts: Any) -> list[Any]:
            matrices = [matrix for matrix, _ in inputs]
            predicted = self._predict(rows.join(matrices), inputs[0][1])
            return rows.split(predicted, [rows.count(matrix) for matrix in matrices])

        def kind(found: tuple[Any, str]) -> Any:
            like = rows.likeness(found[0])
            return None if like is None else (found[1], like)

        return batching.Joined(self, join, kind).answers

    def _predict(self, matrix: Any, kind: str) -> Any:
        try:
            answers = [_predict_one(model, matrix, kind) for model in self._models]
        except MemoryError:
            raise
        except Exception as error:
            raise _Refused(400, f"Unable to evaluate payload provided: {error}") from error
        if len(answers) == 1:
            return answers[0]
        np = codecs.numpy()
        if self._objective in _VOTES:
            return _vote(np.array(answers))
        return np.mean(answers, axis=0)

    def _encode(self, prediction: Any, accept: str) -> tuple[str, str | bytes]:
        kind = self._accepted(accept)
        if self._selection is not None:
            return self._selection.encode(prediction, kind, self._batch)
        head = "text/csv; charset=utf-8" if kind == codecs.CSV else kind
        if self._batch:  # whatever was asked for, as in the image
            return head, "\n".join(map(str, prediction.tolist())) + "\n"
        if kind == codecs.JSON:
            return head, json.dumps({"predictions": [{"score": score} for score in prediction.tolist()]})
        if kind != codecs.CSV:
            raise _Refused(500, f"Accept type {kind} needs SAGEMAKER_INFERENCE_OUTPUT, or else is not supported.")
        if self._joined:
            return head, ",".join(map(str, prediction.tolist()))
        return head, codecs.to_csv(prediction)

    def _accepted(self, accept: str) -> str:
        """The first type of the list that there is, in small letters. Raises _Refused 406."""
        for item in accept.split(","):
            kind = codecs.media_type(item)
            if kind in ("", codecs.ANY):
                return codecs.media_type(self.default_accept)
            if kind in _ACCEPTS:
                return kind
        raise _Refused(406, f"Accept type {accept} is not supported. Please use supported accept types: {list(_ACCEPTS)}.")


def content_kind(content_type: str) -> str:
    """`csv`, `libsvm` or `recordio-protobuf`. Raises _Refused 415."""
    kind = codecs.media_type(content_type)
    if kind in _LIBSVM_TYPES:
        return "libsvm"
    if kind in _CSV_TYPES:
        for part in content_type.split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "label_size" and value.strip() != "1":
                raise _Refused(415, f"{content_type}: the parameter label_size must be 1.")
        return "csv"
    if kind in ("recordio-protobuf", _RECORDIO):
        return "recordio-protobuf"
    raise _Refused(415, f"Content type {content_type} is not supported. Please use text/csv, text/libsvm or {_RECORDIO}.")


def _matrix(body: bytes, kind: str) -> Any:
    """Raises _Refused 415 for a body that is not of its kind."""
    try:
        if kind not in _MATRIX:
            return xgboost_matrix.from_recordio(body)
        return _MATRIX[kind](body.decode("utf-8-sig").strip())
    except MemoryError:
        raise
    except Exception as error:
        raise _Refused(415, f"The body cannot be read as {kind}: {error}") from error


def _predict_one(model: _Model, matrix: Any, kind: str) -> Any:
    if model.pickled:
        _check_features(matrix.num_col(), xgboost_matrix.features(model.booster), kind)
    return xgboost_matrix.predict(model.booster, matrix)


def _check_features(found: int, trained: int, kind: str) -> None:
    """What the image asks of a pickled model's input alone; a label's column may be missing. Raises ValueError."""
    if kind == "libsvm":
        if found > trained + 1:
            raise ValueError(
                f"Feature size of libsvm inference data {found} is larger than feature size of trained model {trained}."
            )
    elif trained not in (found, found + 1):
        raise ValueError(
            f"Feature size of {kind} inference data {found} is not consistent with feature size of trained model {trained}."
        )


def _vote(answers: Any) -> Any:
    """The most frequent label of each row; of equals, the smallest."""
    np = codecs.numpy()
    labels = np.unique(answers)
    counts = np.array([(answers == label).sum(axis=0) for label in labels])
    return labels[counts.argmax(axis=0)]
