"""Settlements are one transaction; one that breaks it breaks no other, and what nobody can store ends as a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from slipway.control.settling import commit, holding, store_errors
from slipway.core.asynchronous import Staged
from slipway.link.channel import LinkError
from slipway.store.db import StoreError, StoreUnavailable


class Store:
    """Words are texts: `!` breaks a transaction, whatever is in it."""

    def __init__(self, error: type[Exception] = RuntimeError) -> None:
        self.tried: list[list[str]] = []
        self.error = error
        self.told: list[str] = []

    async def write(self, words: Sequence[str]) -> list[str]:
        self.tried.append(list(words))
        if any("!" in word for word in words):
            raise self.error("broken")
        return list(words)

    def committed(self, done: list[str]) -> list[bool]:
        self.told += done
        return ["void" not in word for word in done]


def mended(word: str) -> str:
    return word.replace("!", "?")


async def test_all_in_one_transaction() -> None:
    store = Store()
    assert await commit(["a", "void", "b"], store.write, store.committed, mended) == (True, False, True)
    assert store.tried == [["a", "void", "b"]]


async def test_one_that_breaks_it_breaks_no_other(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    assert await commit(["a", "b!", "void"], store.write, store.committed, mended) == (True, True, False)
    assert store.tried == [["a", "b!", "void"], ["a"], ["b!"], ["b?"], ["void"]]
    assert store.told == ["a", "b?", "void"]
    assert "settlement-failed" in caplog.text


async def test_what_cannot_even_fail_is_left_to_its_lease() -> None:
    store = Store()
    assert await commit(["a!"], store.write, store.committed, lambda word: word) == (False,)
    assert store.tried == [["a!"]]


async def test_a_store_that_is_away_is_asked_once() -> None:
    store = Store(StoreUnavailable)
    with pytest.raises(LinkError, match="broken"), store_errors():
        await commit(["a", "b!"], store.write, store.committed, mended)
    assert len(store.tried) == 1


async def test_what_follows_a_commit_is_no_part_of_it() -> None:
    """What was written is not written again because telling of it failed."""
    store = Store()

    def broken(done: list[str]) -> list[bool]:
        raise ValueError("metrics")

    with pytest.raises(ValueError, match="metrics"):
        await commit(["a", "b"], store.write, broken, mended)
    assert len(store.tried) == 1


class Shelf:
    def __init__(self) -> None:
        self.held: list[Sequence[Staged]] = []

    @asynccontextmanager
    async def holding(self, staged: Sequence[Staged]) -> AsyncIterator[Sequence[Staged]]:
        self.held.append(staged)
        yield staged[1:]
        self.held.remove(staged)

    def retire(self, blobs: Sequence[str]) -> None: ...


async def test_blobs_are_held_and_those_that_are_gone_named() -> None:
    shelf = Shelf()
    inline = Staged("b", "k", 1, "e", "", data=b"1")
    blobs = [Staged("b", name, 1, "e", "", segments=((name, 0, 1),)) for name in "xy"]
    async with holding(shelf, blobs) as gone:
        assert gone == blobs[1:]
        assert shelf.held == [blobs]
    assert shelf.held == []
    async with holding(shelf, [inline]) as gone:
        assert (gone, shelf.held) == ((), []), "rows need no holding"
    async with holding(None, blobs) as gone:
        assert gone == (), "an external store's"


def test_a_peer_hears_of_the_store_s_errors() -> None:
    with pytest.raises(LinkError) as caught, store_errors():
        raise StoreError("full")
    assert (caught.value.kind, caught.value.message) == ("store", "full")
