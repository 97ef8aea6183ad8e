"""``using()``: which transaction holds where, and what it does not reach."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from helpers import eventually
from pgtasks import Celery, chain, chord, group, using
from pgtasks.app import transactions
from pgtasks.contrib.testing.worker import start_worker
from pgtasks.exceptions import NotCommitted


@pytest.fixture
def connection(app: Celery) -> Any:
    with psycopg.connect(app.database.url) as connection:
        yield connection
        connection.rollback()


def test_blocks_nest_and_none_leaves_them(app, connection, confirm, witness):
    with psycopg.connect(app.database.url) as other, using(connection):
        confirm.delay(1)
        with using(other):
            kept = confirm.delay(2)
            with using(None):
                own = confirm.delay(3)
                assert witness.jobs() == [own.id]
        confirm.delay(4)
        other.commit()
        connection.rollback()

    assert witness.jobs() == sorted([own.id, kept.id])
    confirm.delay(5)
    assert len(witness.jobs()) == 3


def test_a_block_can_be_entered_again(connection, confirm, witness):
    lent = using(connection)
    with lent:
        with lent:
            confirm.delay()
        confirm.delay()
    with lent:
        confirm.delay()

    assert witness.jobs() == []
    connection.commit()
    assert len(witness.jobs()) == 3


def test_the_connection_of_a_call_comes_first(app, connection, confirm, witness):
    with psycopg.connect(app.database.url) as other, using(connection):
        confirm.apply_async((1,), connection=other)
        own = confirm.apply_async((2,), connection=None)
        other.commit()
        assert len(witness.jobs()) == 2
    assert own.id in witness.jobs()


def test_a_thread_is_outside(connection, confirm, witness):
    with using(connection):
        thread = threading.Thread(target=confirm.delay)
        thread.start()
        thread.join()

    assert len(witness.jobs()) == 1


def test_a_task_of_asyncio_that_outlives_the_block_is_outside(app, confirm, witness, run):
    async def main() -> None:
        left = asyncio.Event()

        async def later() -> None:
            await left.wait()
            await confirm.adelay("later")

        async with await psycopg.AsyncConnection.connect(app.database.url) as connection:
            async with using(connection):
                task = asyncio.create_task(later())
                await confirm.adelay("now")
            left.set()
            await task
            await connection.rollback()

    run(main())

    assert len(witness.jobs()) == 1


def test_a_generator_may_be_closed_in_another_context(connection, confirm, witness, run):
    async def fixture() -> Any:
        with using(connection):
            yield

    async def main() -> None:
        generator = fixture()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        await confirm.adelay()

    run(main())

    assert len(witness.jobs()) == 1


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(
    ("kind", "rows"),
    [("group", 3), ("chain", 1), ("chord", 3), ("nested", 5), ("chunks", 2), ("map", 1)],
)
def test_all_of_a_work_flow_is_in_the_transaction(
    kind, rows, end, app, connection, confirm, witness
):
    one = confirm.si(1)
    flow: Any = {
        "group": lambda: group(one, one, one),
        "chain": lambda: chain(one, one, one),
        "chord": lambda: chord([one, one], confirm.s()),
        "nested": lambda: chain(group(one, one), group(one, one), confirm.s(), one),
        "chunks": lambda: confirm.chunks([(1,), (2,), (3,)], 2),
        "map": lambda: confirm.map([1, 2]),
    }[kind]()
    with using(connection):
        flow.apply_async()
    flow.apply_async(connection=connection)

    assert witness.jobs() == []
    assert witness.connection.execute("select 1 from pgtasks.chords").fetchall() == []
    getattr(connection, end)()

    assert len(witness.jobs()) == (2 * rows if end == "commit" else 0)
    chords = witness.connection.execute("select 1 from pgtasks.chords").fetchall()
    assert bool(chords) == (end == "commit" and kind in ("chord", "nested"))


def test_a_committed_work_flow_runs(app, connection, confirm, desk, witness):
    with using(connection):
        body = chord([confirm.s(1), confirm.s(2)], confirm.s()).delay()
    connection.commit()
    desk(app).work_off()

    assert body.get(timeout=10) == [1, 2]


def test_many_thousand_jobs_are_in_the_transaction(connection, confirm, witness):
    with using(connection):
        results = confirm.delay_many((number,) for number in range(5000))
    assert witness.jobs() == []
    connection.commit()

    assert len(witness.jobs()) == len(results) == 5000


@pytest.mark.parametrize("joined", [False, True])
def test_ids_come_back_at_once_and_sets_of_results_are_not_waited_for(
    joined, connection, confirm, witness
):
    with using(connection):
        results = [confirm.delay_many([(1,), (2,)]), group(confirm.s(1), confirm.s(2))()]
    for result in results:
        assert all(result.results)
        with pytest.raises(NotCommitted):
            (result.join if joined else result.get)(timeout=60)


def test_a_wait_after_the_commit_ignores_the_next_transaction(
    app, connection, confirm, desk, witness
):
    result = confirm.apply_async(("done",), connection=connection)
    connection.commit()
    connection.execute("select 1")
    desk(app).work_off()

    assert result.get(timeout=10) == "done"


def test_a_job_that_was_rolled_back_is_not_blamed_on_the_next_transaction(
    connection, confirm, witness
):
    gone = confirm.apply_async((1,), connection=connection)
    connection.rollback()

    with pytest.raises(gone.TimeoutError):
        gone.get(timeout=0.05)


def test_another_thread_may_wait_for_what_is_committed_soon(
    app, connection, confirm, desk, witness
):
    result = confirm.apply_async(("soon",), connection=connection)
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(result.get(timeout=20)))
    thread.start()
    connection.commit()
    desk(app).work_off()
    thread.join()

    assert values == ["soon"]


def test_in_memory_and_eager_applications_ignore_the_connection(
    memory_app, connection, app, confirm
):
    @memory_app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.apply_async((1, 2), connection=object())
    with using(object()):
        add.delay(1, 2)
        app.conf.task_always_eager = True
        assert confirm.delay(3).get() == 3


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda app: object(), "lend a connection"),
        (lambda app: create_engine("sqlite://"), "lend a Connection, a Session"),
        (lambda app: sessionmaker(), "lend a Connection, a Session"),
        (lambda app: psycopg, "lend a connection"),
    ],
)
def test_what_has_no_transaction_is_refused_with_advice(make, advice, app, confirm):
    with using(make(app)), pytest.raises(TypeError, match=advice):
        confirm.delay()


def test_a_connection_to_another_system_is_refused(confirm):
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        using(connection),
        pytest.raises(TypeError, match="sqlite, not PostgreSQL"),
    ):
        confirm.delay()
    engine.dispose()


def test_an_alias_without_django_is_refused(confirm, monkeypatch):
    monkeypatch.delitem(sys.modules, "django.db", raising=False)

    with using("default"), pytest.raises(TypeError, match="Django is not loaded"):
        confirm.delay()


def test_a_connection_of_an_event_loop_wants_the_awaitable_call(app, confirm, run):
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(app.database.url) as connection:
            with using(connection), pytest.raises(TypeError, match="adelay"):
                confirm.delay()

    run(main())


def test_a_failed_transaction_stays_failed(connection, confirm):
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1 / 0")
    with using(connection), pytest.raises(psycopg.errors.InFailedSqlTransaction):
        confirm.delay()


def test_what_is_remembered_of_a_connection_is_bounded(connection, confirm, witness):
    connection.execute("select 1")
    for _ in range(3):
        results = confirm.delay_many([()] * 1500, connection=connection)
    lent = transactions._lent[connection]

    assert sum(map(len, lent.inserts)) == 1500
    with pytest.raises(NotCommitted):
        results[0].get(timeout=60)


def test_a_connection_that_is_dropped_is_forgotten(app, confirm, witness):
    connection = psycopg.connect(app.database.url)
    confirm.apply_async(connection=connection)
    connection.close()
    before = len(transactions._lent)
    del connection
    gc.collect()

    assert len(transactions._lent) < before


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_sleeping_worker_runs_the_job_after_the_commit(app, connection, confirm, witness):
    ran: list[float] = []

    @app.task(name="tests.note")
    def note() -> None:
        ran.append(time.monotonic())

    app.conf.worker_poll_interval = 30.0
    with start_worker(app, pool="threads", perform_ping_check=False):
        asleep = "select 1 from pgtasks.workers where asleep"
        eventually(lambda: witness.connection.execute(asleep).fetchall(), timeout=20)
        result = note.apply_async(connection=connection)
        assert not ran
        committed = time.monotonic()
        connection.commit()
        result.get(timeout=20, disable_sync_subtasks=False)

    assert 0 < ran[0] - committed < 10


@pytest.mark.parametrize(
    "make",
    [
        lambda one: chain(group(one, one), one),
        lambda one: chain(one, group(one, one), one),
        lambda one: group(one, chain(one, one), chord([one], one)),
        lambda one: chord(group(one, chain(one, one)), chain(one, one)),
        lambda one: one,
    ],
)
def test_a_work_flow_stays_out_if_told_so(make, connection, confirm, desk, app, witness):
    with using(connection):
        result = make(confirm.si(1)).apply_async(connection=None)
        assert witness.jobs()
    connection.rollback()
    desk(app).work_off()

    assert result.get(timeout=10)


def test_a_connection_of_kombus_is_none(app, connection, confirm, witness):
    with using(connection):
        confirm.apply_async(connection=app.connection())
        confirm.delay_many([()], connection=app.connection())
        chord([confirm.si()], confirm.si()).apply_async(connection=app.connection())
    assert witness.jobs() == []
    connection.commit()

    assert len(witness.jobs()) == 4
