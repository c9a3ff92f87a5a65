"""What is known of a replica's models: who is in use, who is pinned now, and what the next one is expected to take."""

from __future__ import annotations

from slipway.core.models import LOADED, ModelLoad
from slipway.core.replicas import Artifact
from slipway.replicas.model_book import FRESH_SECONDS, HeldModel, ModelBook
from slipway.replicas.model_container import Counted


class Times:
    def __init__(self) -> None:
        self.now = 100.0
        self.pins: list[str] = []
        self.book = ModelBook(lambda: self.pins, lambda: self.now)

    def hold(self, target: str, bytes: int, hash: str = "") -> HeldModel:
        name = hash or target
        model = HeldModel(ModelLoad("i-1", target, name, Artifact("/x", f"s3://b/{target}", "/u", '"e"', 1)), bytes=bytes)
        self.book.models[name] = model
        return model


def test_a_model_is_in_use_until_who_asked_for_it_had_time_to_come() -> None:
    times = Times()
    model = times.hold("a", 5)
    assert times.book.residents() == []  # it is not loaded yet
    times.book.arrived(model)
    assert times.book.residents()[0].busy
    times.now += FRESH_SECONDS + 0.1
    assert not times.book.residents()[0].busy
    times.book.note({"a": (0.0, 2), "elsewhere": (0.0, 1)})
    assert times.book.any_in_use()
    times.book.count("a", model, Counted(7, 3, times.now, False))
    assert (model.bytes, model.uses, times.book.any_in_use()) == (7, 3, False)


def test_pins_are_those_of_now() -> None:
    times = Times()
    for name in ("a", "b"):
        times.book.arrived(times.hold(name, 5))
    times.pins.append("a")
    assert [each.pinned for each in times.book.residents()] == [True, False]
    assert not times.book.only_pinned(times.book.models.values())
    times.pins.append("b")
    assert times.book.only_pinned(times.book.models.values())
    assert [row.pinned for row in times.book.seen()] == [True, True]
    times.pins.clear()
    assert not any(each.pinned for each in times.book.residents())


def test_a_model_is_expected_to_take_what_it_took_else_what_others_take_and_no_less_than_its_files() -> None:
    times = Times()
    assert times.book.expected("a", 40) == 40
    for name, size in (("b", 100), ("c", 300)):
        times.book.arrived(times.hold(name, size))
    assert times.book.expected("a", 40) == 200
    assert times.book.expected("a", 900) == 900
    gone = times.hold("a", 70)
    times.book.went(gone, "memory")
    del times.book.models["a"]
    assert times.book.expected("a", 900) == 70
    assert [(past.target, past.bytes, past.why) for past in times.book.evictions] == [("a", 70, "memory")]


def test_what_is_let_in_counts_as_taken_and_older_versions_are_told_once() -> None:
    times = Times()
    old, new = times.hold("a", 5, "old"), times.hold("a", 6, "new")
    times.book.arrived(old)
    new.admitted = True
    other = times.hold("b", 1)
    assert times.book.taken(other) == 11
    assert (times.book.loaded, times.book.bytes) == (1, 5)
    times.book.arrived(new)
    assert times.book.replaced_by(new) == [old]
    assert times.book.replaced_by(new) == []
    assert {row.hash: row.state for row in times.book.seen()} == {"old": LOADED, "new": LOADED, "b": "downloading"}
