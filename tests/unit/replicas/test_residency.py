"""The models of one replica: shared loads, room made in order, failures that leave nothing; a fake container."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.core.models import FAILED, INVALID, LOADED, MISSING, ModelEvent, ModelLoad
from slipway.core.replicas import Artifact
from slipway.replicas import residency
from slipway.replicas.artifacts import Artifacts, Holding
from slipway.replicas.failures import cannot
from slipway.replicas.model_container import Counted, ModelContainer, Reply
from slipway.replicas.residency import House, Residency
from slipway.replicas.unpack import Bounds
from tests.deadlines import PATIENCE
from tests.unit.replicas.fakes import ObjectService, archive, make_spec


class Container:
    """Counts and measures as our host does; a clock that every use moves on."""

    def __init__(self, sizes: dict[str, int] | None = None, room: int = 1 << 60, *, ours: bool = True) -> None:
        self.ours = ours
        self.sizes = sizes or {}
        self.room = room
        self.models: dict[str, Counted] = {}
        self.loads: list[str] = []
        self.gate: asyncio.Event | None = None
        self.now = 1000.0
        self.refuse: dict[str, Reply] = {}

    def tick(self) -> float:
        self.now += 10.0
        return self.now

    def use(self, hash: str, *, busy: bool = False) -> None:
        self.models[hash] = Counted(self.models[hash].bytes, self.models[hash].uses + 1, self.tick(), busy)

    async def load(self, hash: str, url: str) -> Reply:
        self.loads.append(hash)
        if self.gate is not None:
            await self.gate.wait()
        if hash in self.refuse:
            return self.refuse[hash]
        if hash in self.models:
            return Reply(409)
        if len(self.models) >= self.room:
            return Reply(507, "no room")
        self.models[hash] = Counted(self.sizes.get(hash, 1), 0, self.now, False)
        return Reply(200, "", self.sizes.get(hash, 1))

    async def unload(self, hash: str) -> Reply:
        return Reply(200 if self.models.pop(hash, None) else 404)

    async def has(self, hash: str) -> bool:
        return hash in self.models

    async def listed(self) -> dict[str, Counted]:
        return dict(self.models)

    def close(self) -> None:
        """Nothing to close."""


class Shelf:
    """Artifacts without a disk cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held = 0
        (folder / "tree").mkdir(exist_ok=True)
        self.fail: Exception | None = None

    async def hold(self, artifacts: Any, progress: Any, timeout: float) -> Holding:
        if self.fail is not None:
            raise self.fail
        self.held += 1

        def release() -> None:
            self.held -= 1

        return Holding(str(self.folder / "tree"), release, 0)

    async def discard(self, artifacts: Any) -> None:
        """Nothing is kept."""


def order(name: str, **more: Any) -> ModelLoad:
    return ModelLoad("i-1", name, name, Artifact("/opt/ml/models/x", f"s3://b/{name}", "/b", name, 1), **more)


def make(
    folder: Path,
    container: Container,
    budget: int = 0,
    seconds: float = 30.0,
    pinned: Callable[[], Sequence[str]] = lambda: (),
) -> tuple[Residency, Shelf, list[ModelEvent]]:
    house = House(make_spec(), str(folder / "models"), "/opt/ml/models", "unix:/w0.sock", "frames", budget, seconds)
    shelf, events = Shelf(folder), list[ModelEvent]()
    made = Residency(
        house,
        cast("ModelContainer", container),
        cast("Artifacts", shelf),
        events.append,
        pinned=pinned,
        clock=lambda: container.now,
    )
    return made, shelf, events


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what a fake has seen can only be looked at
            await asyncio.sleep(0.001)


async def test_all_who_ask_share_one_load_and_others_are_not_held_up(tmp_path: Path) -> None:
    container = Container()
    container.gate = asyncio.Event()
    made, shelf, events = make(tmp_path, container)
    asking = [asyncio.create_task(made.load(order("a"))) for _ in range(5)]
    await eventually(lambda: bool(container.loads))
    asking[0].cancel()
    other = asyncio.create_task(made.load(order("b")))
    await eventually(lambda: len(container.loads) == 2)
    container.gate.set()
    assert {(await each).state for each in [*asking[1:], other]} == {LOADED}
    assert sorted(container.loads) == ["a", "b"]
    assert [event.kind for event in events].count("loaded") == 2
    await made.close()
    assert shelf.held == 0


async def test_a_full_container_gives_up_the_least_recently_used(tmp_path: Path) -> None:
    """A container that is not ours: gateways tell of its uses, it says 507 itself."""
    container = Container(room=2, ours=False)
    made, _, _ = make(tmp_path, container)
    await made.load(order("a"))
    container.tick()
    await made.load(order("b"))
    container.tick()
    assert (await made.load(order("c", uses={"a": (0.0, 0), "b": (5.0, 0)}))).state == LOADED
    assert set(container.models) == {"a", "c"}
    container.tick()
    assert (await made.load(order("d", uses={"a": (1.0, 1), "c": (0.0, 0)}))).state == LOADED
    assert set(container.models) == {"a", "d"}  # a is in use
    container.refuse["e"] = Reply(507, "never")
    container.tick()
    await made.load(order("a", uses={"a": (0.0, 0)}))
    answer = await made.load(order("e"))
    assert (answer.state, answer.status) == (FAILED, 507)
    await made.close()


async def test_pinned_models_stay_and_too_large_ones_are_refused(tmp_path: Path) -> None:
    container = Container({"a": 5, "b": 5, "c": 5, "huge": 50})
    pins = ["a"]
    made, shelf, _ = make(tmp_path, container, budget=10, pinned=lambda: pins)
    await made.load(order("a"))
    container.use("a")
    await made.load(order("b"))
    container.use("b")
    assert (await made.load(order("c"))).state == LOADED
    assert set(container.models) == {"a", "c"}
    container.use("c")
    answer = await made.load(order("huge"))
    assert (answer.state, answer.status) == (FAILED, 507)
    assert "huge" not in container.models
    assert shelf.held == len(container.models)
    await made.unload("a", "disabled")
    assert "a" in container.models
    pins.clear()
    container.now += 10.0
    await made.unload("a", "disabled")
    assert "a" not in container.models
    await made.close()


async def test_nobody_goes_for_a_model_that_is_too_large_by_itself(tmp_path: Path) -> None:
    container = Container()
    made, _, _ = make(tmp_path, container, budget=100)
    for name in ("a", "b", "c"):
        await made.load(order(name))
        container.use(name)
    container.refuse["huge"] = Reply(507, "Out of memory while running model_fn.", alone=True)
    answer = await made.load(order("huge"))
    assert (answer.state, answer.status) == (FAILED, 507)
    assert set(container.models) == {"a", "b", "c"}
    assert container.loads.count("huge") == 1
    await made.close()


async def test_failures_leave_nothing_and_the_next_try_is_a_new_one(tmp_path: Path) -> None:
    container = Container()
    made, shelf, _ = make(tmp_path, container)
    container.refuse["a"] = Reply(500, "syntax error")
    answer = await made.load(order("a"))
    assert (answer.state, answer.status, answer.message) == (FAILED, 500, "syntax error")
    for kind, state in (("fetch-missing", MISSING), ("not-an-archive", INVALID), ("disk-full", FAILED)):
        shelf.fail = cannot(kind, "so it is")
        assert (await made.load(order("a"))).state == state
    shelf.fail = None
    elsewhere = tmp_path / "impatient"
    elsewhere.mkdir()
    impatient, other, _ = make(elsewhere, container, seconds=0.2)
    container.gate = asyncio.Event()
    slow = await impatient.load(order("b"))
    assert (slow.state, slow.status) == (FAILED, 504)
    assert other.held == 0
    await impatient.close()
    container.gate = None
    container.refuse.clear()
    assert (await made.load(order("a"))).state == LOADED
    assert shelf.held == 1
    await made.close()


async def test_a_model_whose_process_ended_is_loaded_again(tmp_path: Path) -> None:
    container = Container()
    made, shelf, _ = make(tmp_path, container)
    await made.load(order("a"))
    del container.models["a"]
    assert (await made.load(order("a"))).state == LOADED
    assert container.loads == ["a", "a"]
    seen = await made.seen()
    assert [(past.target, past.why) for past in seen.evictions] == [("a", "gone")]
    assert shelf.held == 1
    await made.close()


async def test_a_newer_version_takes_the_place_of_the_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "_REPLACED_LOOK", 0.005)
    container = Container()
    made, _, _ = make(tmp_path, container)
    await made.load(order("old"))
    container.use("old", busy=True)
    await made.load(ModelLoad("i-1", "old", "new", order("new").artifact))
    await asyncio.sleep(0.05)
    assert set(container.models) == {"old", "new"}  # somebody still waits for the old one's answer
    container.use("old")
    await eventually(lambda: "old" not in container.models)
    assert (await made.seen()).evictions[-1].why == "replaced"
    await made.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.integers(4, 9))
async def test_evictions_are_those_of_a_reference_lru(tmp_path: Path, asked: list[int], budget: int) -> None:
    sizes = {f"m{number}": 1 + number % 4 for number in range(8)}
    container = Container(sizes)
    made, _, _ = make(tmp_path, container, budget)
    for name in sizes:
        made._book._sizes[name] = sizes[name]
    held: OrderedDict[str, int] = OrderedDict()
    gone: list[str] = []
    for number in asked:
        name = f"m{number}"
        if name in held:
            held.move_to_end(name)
        else:
            while held and sum(held.values()) + sizes[name] > budget:
                gone.append(held.popitem(last=False)[0])
            held[name] = sizes[name]
        assert (await made.load(order(name))).state == LOADED
        container.use(name)
    assert [past.target for past in (await made.seen()).evictions] == gone
    assert set(container.models) == set(held)
    await made.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ObjectService]:
    service = ObjectService(tmp_path / "objects.sock")
    await service.start()
    yield service
    await service.stop()


async def test_files_appear_by_their_hash_and_stay_in_the_disk_cache(tmp_path: Path, service: ObjectService) -> None:
    artifacts = Artifacts(str(tmp_path / "artifacts"), f"unix:{service.path}", "localhost", Bounds(10**9, 1000, 200))
    artifacts.open()
    container = Container()
    house = House(make_spec(), str(tmp_path / "models"), "/opt/ml/models", "unix:/w0.sock", "frames", 0)
    made = Residency(house, cast("ModelContainer", container), artifacts, lambda event: None)
    artifact = service.put("a.tar.gz", archive({"words.txt": b"hello"}))
    load = ModelLoad("i-1", "a.tar.gz", "f" * 32, artifact)
    assert (await made.load(load)).state == LOADED
    file = tmp_path / "models" / ("f" * 32) / "model" / "words.txt"
    assert file.read_text() == "hello"
    await made.unload("f" * 32, "asked")
    assert not file.exists()
    assert (await made.load(load)).state == LOADED
    assert len(service.requests) == 1
    await made.unload("f" * 32, "disabled", files=True)
    assert (await made.load(load)).state == LOADED
    assert len(service.requests) == 2
    await made.close()
    await artifacts.close()
