"""Dynamic batching: requests that are here at the same time are predicted in one call, where the model's handlers declare it.

Off unless SLIPWAY_MAX_BATCH_SIZE asks for it. Each request keeps its own input_fn and output_fn, types and errors; what a
handler's batch raises is tried again one by one, so that only the guilty request fails.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Protocol

from . import rows
from .context import Context, Together
from .contract import LoadError
from .slots import MEMBERS_MOST

if TYPE_CHECKING:
    from .service import Answer, Call

SIZE = "SLIPWAY_MAX_BATCH_SIZE"
DELAY = "SLIPWAY_MAX_BATCH_DELAY_MS"
MOST = MEMBERS_MOST
"""Requests of one batch."""
MOST_DELAY = 10_000
"""Milliseconds."""
DEFAULT_DELAY = 2

Requests = Sequence["tuple[Call, bytes]"]
Alone = Callable[[int], None]
"""Told which request of a batch is tried by itself next."""
Answers = Callable[[Requests, Alone], "list[Answer]"]


class Settings(NamedTuple):
    size: int
    """Requests of a batch at most; 1: no batches."""
    seconds: float
    """How long the oldest waits for others at most."""

    def of(self, answers: Answers | None) -> Batch:
        """A batch as set. Raises LoadError where no handler declares that it takes several requests."""
        if answers is None:
            raise LoadError(
                "model-fn-error",
                f"{SIZE} is {self.size}, but no handler of this model takes several requests in one call.",
                "define batch_predict_fn(inputs, model), which gets what input_fn returned for each request and returns a "
                f"list of as many predictions; or set predict_fn.batched = True if it predicts row by row; or remove {SIZE}",
            )
        return Batch(self, answers)


class Batch(NamedTuple):
    """What a worker needs to answer requests together."""

    settings: Settings
    answers: Answers
    """One for each request, in their order; never raises."""


def asked(environment: Mapping[str, str]) -> Settings | None:
    """What the model's environment asks for; None: nothing. Raises LoadError for what is no number, or out of bounds."""
    size = _number(environment, SIZE, 1, MOST)
    delay = _number(environment, DELAY, 0, MOST_DELAY)
    if size is None and delay is not None:
        raise LoadError("model-fn-error", f"{DELAY} is set and {SIZE} is not.", f"set {SIZE} to 2 or more, or remove {DELAY}")
    if size is None or size == 1:
        return None
    return Settings(size, (DEFAULT_DELAY if delay is None else delay) / 1000)


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    message = f"{name} is {text[:40]!r}; it must be a whole number between {least} and {most}."
    raise LoadError("model-fn-error", message, f"correct {name} in the model's Environment")


class WrongNumber(ValueError):
    """A handler answered more requests than it got, or fewer."""


class Steps(Protocol):
    """What a service does of each request by itself."""

    def context(self, call: Call) -> Context | None: ...

    def decode(self, call: Call, body: bytes, context: Context | None) -> Any:
        """The input; raises what its request is refused for."""

    def encode(self, call: Call, prediction: Any, context: Context | None) -> Answer:
        """Never raises."""

    def refusal(self, error: BaseException) -> Answer: ...


class Joined:
    """Requests predicted together. `join` makes one call of several inputs; inputs of different `kind`s are kept apart,
    and those whose kind is None are predicted singly."""

    def __init__(
        self,
        service: Steps,
        join: Callable[[list[Any], list[Context | None]], Sequence[Any]],
        kind: Callable[[Any], Hashable | None],
    ) -> None:
        self._service = service
        self._join = join
        self._kind = kind

    def answers(self, requests: Requests, alone: Alone) -> list[Answer]:
        service = self._service
        answers: dict[int, Answer] = {}
        inputs: dict[int, Any] = {}
        contexts = [service.context(call) for call, _ in requests]
        for index, (call, body) in enumerate(requests):
            try:
                inputs[index] = service.decode(call, body, contexts[index])
            except (Exception, SystemExit) as error:  # noqa: BLE001  user code
                answers[index] = service.refusal(error)
        for members in self._alike(inputs):
            self._predict(members, inputs, contexts, answers, requests, alone)
        return [answers[index] for index in range(len(requests))]

    def _alike(self, inputs: Mapping[int, Any]) -> list[list[int]]:
        """Indices of the inputs that go into one call each."""
        groups: dict[Hashable, list[int]] = {}
        for index, value in inputs.items():
            kind = self._kind(value)
            groups.setdefault(("alone", index) if kind is None else ("alike", kind), []).append(index)
        return list(groups.values())

    def _predict(
        self,
        members: list[int],
        inputs: Mapping[int, Any],
        contexts: list[Context | None],
        answers: dict[int, Answer],
        requests: Requests,
        alone: Alone,
    ) -> None:
        service = self._service
        try:
            found = self._join([inputs[index] for index in members], [contexts[index] for index in members])
        except (WrongNumber, rows.NotRows) as error:
            answers.update({index: service.refusal(error) for index in members})
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            if len(members) == 1:
                answers[members[0]] = service.refusal(error)
                return
            tell_retry(len(members), error)
            for index in members:
                alone(index)
                self._predict([index], inputs, contexts, answers, requests, alone)
            return
        for index, prediction in zip(members, found):
            answers[index] = service.encode(requests[index][0], prediction, contexts[index])


def tell_retry(count: int, error: BaseException) -> None:
    """A line in the log: one by one, the guilty fails again and tells its whole traceback."""
    reason = f"{type(error).__name__}: {error}"[:300]
    sys.stderr.write(f"[slipway] a batch of {count} requests failed ({reason}); each of them is tried by itself\n")
    sys.stderr.flush()


def of_lists(service: Steps, function: Callable[..., Any], model: Any, takes_context: bool) -> Joined:
    """By `batch_predict_fn(inputs, model[, context])`."""

    def join(inputs: list[Any], contexts: list[Context | None]) -> Sequence[Any]:
        context = [Together([each for each in contexts if each is not None])] if takes_context else []
        return checked(function(inputs, model, *context), len(inputs))

    return Joined(service, join, lambda _value: True)


def of_rows(service: Steps, function: Callable[..., Any], model: Any, takes_context: bool) -> Joined:
    """By `predict_fn(data, model[, context])`, called with the rows of several requests."""

    def join(inputs: list[Any], contexts: list[Context | None]) -> Sequence[Any]:
        context = [Together([each for each in contexts if each is not None])] if takes_context else []
        if len(inputs) == 1:
            return [function(inputs[0], model, *context)]
        return rows.split(function(rows.join(inputs), model, *context), [rows.count(each) for each in inputs])

    return Joined(service, join, rows.likeness)


def checked(result: Any, wanted: int) -> list[Any]:
    """What batch_predict_fn returned, as a list. Raises WrongNumber."""
    if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
        found = f"a {type(result).__name__}"
    else:
        values = list(result)
        if len(values) == wanted:
            return values
        found = f"{len(values)} predictions"
    raise WrongNumber(
        f"batch_predict_fn returned {found} for {wanted} requests; it must return a list with one prediction for each, in "
        "their order"
    )
