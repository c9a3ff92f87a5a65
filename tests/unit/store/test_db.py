"""The writer's promises: groups, isolation of failures, durability, cancellation, bounds; on both databases."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from slipway.store import leases
from slipway.store.db import BadValue, Db, StoreBusy, StoreClosed, StoreUnavailable
from slipway.store.engines import ask_version
from slipway.store.engines import database_url as parse_url
from tests.deadlines import PATIENCE, Watch
from tests.postgres import Server


def put(name: str) -> Callable[[Connection], int]:
    def fn(connection: Connection) -> int:
        connection.execute(leases.leases.insert().values(name=name, holder="h", token=1, expires=0.0))
        return len(name)

    return fn


def names(connection: Connection) -> list[str]:
    return sorted(connection.execute(text("SELECT name FROM leases")).scalars())


class Gate:
    """Holds the writer thread inside a call until it is opened, so that what comes later arrives while it is busy."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE)


async def held(db: Db) -> tuple[Gate, asyncio.Task[None]]:
    gate = Gate()
    task = asyncio.create_task(db.write(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    return gate, task


async def test_a_write_is_there_for_the_next_read(db: Db) -> None:
    assert await db.write(put("one")) == 3
    assert await db.read(names) == ["one"]


async def test_what_arrives_while_the_writer_is_busy_commits_together(db: Db) -> None:
    threads: set[str] = set()
    commits: list[int] = []

    def watched(connection: Connection) -> None:
        threads.add(threading.current_thread().name)
        if not commits:
            commits.append(0)
            event.listen(connection.engine, "commit", lambda _: commits.append(1))

    gate, first = await held(db)
    rest = [asyncio.create_task(db.write(watched))] + [asyncio.create_task(db.write(put(f"n{i}"))) for i in range(20)]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(first, *rest)
    assert len(await db.read(names)) == 20
    assert sum(commits) == 1
    assert threads == {"store-writer"}


async def test_a_failing_call_undoes_itself_alone(db: Db) -> None:
    def failing(connection: Connection) -> None:
        put("bad")(connection)
        raise KeyError("mine")

    gate, first = await held(db)
    tasks = [asyncio.create_task(db.write(fn)) for fn in (put("a"), failing, put("b"))]
    await asyncio.sleep(0)
    gate.opened.set()
    _, a, bad, b = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert (a, b) == (1, 1)
    assert isinstance(bad, KeyError)
    assert await db.read(names) == ["a", "b"]


async def test_a_failing_call_alone_leaves_nothing(db: Db) -> None:
    def failing(connection: Connection) -> None:
        put("bad")(connection)
        raise StopIteration

    with pytest.raises(RuntimeError):
        await db.write(failing)
    assert await db.read(names) == []
    await db.write(put("good"))
    assert await db.read(names) == ["good"]


async def test_a_statement_that_fails_says_nothing_of_its_values(db: Db) -> None:
    def bad(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM nowhere WHERE a = :a"), {"a": "hunter2"})

    with pytest.raises(Exception, match="nowhere") as caught:
        await db.write(bad)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_swallowed_error_that_cost_the_transaction_is_not_acknowledged(db: Db, alone: bool) -> None:
    """PostgreSQL spoils the transaction on any error; SQLite on some (a full disk): here the call ends it itself."""

    def swallows(connection: Connection) -> None:
        put("lost")(connection)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("ROLLBACK")
        else:
            with pytest.raises(Exception, match="nowhere"):
                connection.exec_driver_sql("SELECT * FROM nowhere")

    gate, first = await held(db)
    tasks = [asyncio.create_task(db.write(swallows))]
    if not alone:
        tasks.append(asyncio.create_task(db.write(lambda c: None)))
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    with pytest.raises(StoreUnavailable):
        await tasks[0]
    await asyncio.gather(*tasks, return_exceptions=True)
    await db.write(put("next"))
    assert await db.read(names) == ["next"]


async def test_a_call_that_commits_fails_and_the_writer_lives(db: Db) -> None:
    with pytest.raises(Exception, match="transaction"):
        await db.write(lambda connection: connection.commit())
    await db.write(put("next"))
    assert await db.read(names) == ["next"]


async def test_cancelled_waiters_leave_no_trace_and_others_go_on(db: Db) -> None:
    gate, first = await held(db)
    doomed, kept = asyncio.create_task(db.write(put("doomed"))), asyncio.create_task(db.write(put("kept")))
    await asyncio.sleep(0)
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    gate.opened.set()
    await asyncio.gather(first, kept)
    assert await db.read(names) == ["kept"]


async def test_cancelling_during_the_call_is_safe(db: Db) -> None:
    gate, first = await held(db)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.opened.set()
    await db.write(put("after"))
    assert await db.read(names) == ["after"]


async def test_too_many_waiting_calls_are_refused(database_url: str) -> None:
    db = await Db.open(database_url, waiting=2)
    gate, first = await held(db)
    waiting = [asyncio.create_task(db.write(put(name))) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await db.write(put("c"))
    gate.opened.set()
    await asyncio.gather(first, *waiting)
    await db.close()


async def test_close_finishes_what_was_accepted(database_url: str) -> None:
    db = await Db.open(database_url)
    gate, first = await held(db)
    waiting = asyncio.create_task(db.write(put("accepted")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(db.close())
    gate.opened.set()
    await asyncio.gather(first, waiting, closing)
    for call in (db.write, db.read):
        with pytest.raises(StoreClosed):
            await call(names)
    await db.close()
    again = await Db.open(database_url)
    assert await again.read(names) == ["accepted"]
    await again.close()


async def test_a_read_sees_one_moment(db: Db) -> None:
    reading, written = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        reading.set()
        assert written.wait(PATIENCE)
        return before, names(connection)

    task = asyncio.create_task(db.read(twice))
    await asyncio.to_thread(reading.wait, 20)
    await db.write(put("meanwhile"))
    written.set()
    assert await task == ([], [])
    assert await db.read(names) == ["meanwhile"]


async def test_reads_cannot_write(db: Db) -> None:
    with pytest.raises(StoreUnavailable, match=r"readonly|read-only"):
        await db.read(put("no"))


def test_several_event_loops_share_a_store(database_url: str) -> None:
    async def opened() -> Db:
        return await Db.open(database_url)

    db = asyncio.run(opened())

    async def one(name: str) -> int:
        return await db.write(put(name))

    results: list[int] = []
    threads = [threading.Thread(target=lambda n=name: results.append(asyncio.run(one(n)))) for name in ("a", "bb", "ccc")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1, 2, 3]
    asyncio.run(db.close())


async def test_the_database_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    db = await Db.open(str(path))
    await db.write(put("x"))
    for file in (path, tmp_path / "s.db-wal", tmp_path / "s.db-shm"):
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    await db.close()


async def test_a_fresh_database_opens_quickly(tmp_path: Path) -> None:
    """Measured 10 to 30 ms; the best of three, for a busy machine."""
    took = []
    for n in range(3):
        began = Watch()
        db = await Db.open(str(tmp_path / f"{n}.db"))
        took.append(began.free)
        await db.close()
    assert min(took) < 0.1


async def test_a_full_disk_fails_the_group_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    db = await Db.open(str(path))
    await db.write(put("before"))
    pages = await db.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
    await db.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}").scalar_one())
    outcomes = await asyncio.gather(*(db.write(put(f"{n}" + "x" * 4000)) for n in range(20)), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome != 4001 and outcome != 4002]
    assert failed
    assert all(isinstance(outcome, StoreUnavailable) and "full" in str(outcome) for outcome in failed)
    kept = len(outcomes) - len(failed)
    assert len(await db.read(names)) == 1 + kept
    await db.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_postgresql_goes_and_comes_back(postgres_server: Server, postgres_url: str) -> None:
    db = await Db.open(postgres_url)
    await db.write(put("before"))
    await db.read(names)
    postgres_server.stop()
    try:
        for call in (db.write, db.read):
            with pytest.raises(StoreUnavailable):
                await call(names)
    finally:
        postgres_server.start()
    await db.write(put("after"))
    assert await db.read(names) == ["after", "before"]
    await db.close()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql://h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg"),
        ("sqlite:////a/b", "sqlite"),
        ("/a/b", "sqlite"),
    ],
)
def test_urls(given: str, driver: str) -> None:
    assert parse_url(given).drivername == driver


def test_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql"):
        parse_url("mysql://h/d")


async def test_no_database_in_memory() -> None:
    with pytest.raises(ValueError, match="file"):
        await Db.open(":memory:")


async def test_text_that_a_database_cannot_hold_is_the_callers_fault(db: Db) -> None:
    good = db.write(put("good"))
    try:
        answers = await asyncio.gather(good, db.write(put("nu\0ll")), return_exceptions=True)
    finally:
        kept = await db.read(names)
    if db.dialect == "postgresql":
        assert isinstance(answers[1], BadValue)
        assert kept == ["good"]
        with pytest.raises(BadValue):
            await db.read(lambda c: c.execute(leases.leases.select().where(leases.leases.c.name == "nu\0ll")).all())
    else:
        assert kept == ["good", "nu\0ll"]


def test_what_answers_is_told(database_url: str) -> None:
    assert re.fullmatch(r"(PostgreSQL|SQLite) \d+(\.\d+)+", ask_version(database_url))
    with pytest.raises(StoreUnavailable, match="refused"):
        ask_version("postgresql://nobody@127.0.0.1:1/none")


async def test_a_number_of_more_than_64_bits_is_a_bad_value(database_url: str) -> None:
    """In SQLite also where it is only compared with."""
    db = await Db.open(database_url)
    try:
        if db.dialect == "sqlite":
            with pytest.raises(BadValue):
                await db.read(lambda c: c.execute(text("SELECT 1 WHERE 1 < :n"), {"n": 2**70}).all())
        else:
            assert await db.read(lambda c: c.execute(text("SELECT 1 WHERE 1 < :n"), {"n": 2**70}).all())
    finally:
        await db.close()
